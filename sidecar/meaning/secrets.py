"""Which files are secrets, and which commands reach for one."""

import re

from sidecar.meaning.program import Program
from sidecar.meaning.tables import base_name, current
from sidecar.model import Fields
from sidecar.text.lazy_pattern import LazyPattern

EXECS = frozenset(("execve", "execveat"))
LINKS = frozenset(("symlink", "symlinkat", "link", "linkat"))

_OWN_TOKEN = LazyPattern(
    r"(/proc/(self|thread-self)/root|\.)?/+(var/+)?run/+secrets/.*(token|/azure/|/eks\.amazonaws\.com/).*"
    r"|/var/run/secrets/.*token.*"
)
_PATHS = (
    r"/(?:run/secrets/(kubernetes[.]io|eks[.]amazonaws[.]com|pods[.]eks[.]amazonaws[.]com|azure|tokens|workload)[^\s;|&<>\"'`]*token"
    r"|etc/g?shadow-?(?![\w.])|proc/(\d+|[*])/environ\b"
    r"|[.](?:aws/(credentials|sso|cli)\b|azure/|config/gcloud/|kube/config\b"
    r"|ssh/id_[a-z0-9]+\b(?![.]pub)|(git-credentials|netrc|pgpass|npmrc|pypirc|dockercfg|vault-token)\b|docker/config[.]json\b))"
)
_ENVIRONMENT_FILE = r"(?<![\w*?-])[.]env([.](local|prod|production|staging|dev|development))?(?=[\s;|&<>\"'`)]|$)"
_paths = LazyPattern(_PATHS)
_environment_file = LazyPattern(_ENVIRONMENT_FILE)
_ANY_FILE = f"{_PATHS}|{_ENVIRONMENT_FILE}"
_ASKS_FOR_SECRET = LazyPattern(
    r"(?:^|[\s/])(gcloud auth (application-default )?print-(access|identity)-token|az account get-access-token"
    r"|kubectl( -\S+( (?!get |describe )\S+)?)* (get|describe) secrets?|vault (kv get|read|print token))\b"
)
"""Command lines of clouds and clusters that print a secret."""

_SEPARATOR = LazyPattern(r"[;|&`\n()]+")
_PREFIX = LazyPattern(
    r"\w+=.*|sudo|env|exec|nice|timeout|nohup|setsid|xargs|command|then|do|else|if|while|!|\{|[0-9.]+[smh]?|-c"
)
"""Words that stand before a command."""
_REDIRECTED = rf"<\s*[\"']?[^\s;|&<>]*?({_ANY_FILE})"
_SENT = rf"(@|-T ?|--upload-file[ =]|--post-file[ =]|--body-file[ =])[\"']?[^\s;|&<>]*?({_ANY_FILE})"
"""Both are compiled, and kept by `re`, for the first command that names a secret, not at each start."""
_LINKED_TOOL = LazyPattern(r"\bln (?:-\w+ )*(\S+) (\S+?)(?=[;&|\s]|$)")
_COPIERS = frozenset(("cp", "mv", "install"))
"""Their last argument is what they write."""


def is_own_token(name: str) -> bool:
    """Whether a file is a token of the workload that opens it: a projected token below `/run/secrets`."""
    return "secrets/" in name and bool(_OWN_TOKEN.fullmatch(name))


def is_secret(name: str) -> bool:
    """Whether the name of a file is that of a secret."""
    return is_own_token(name) or _names_secret(name)


def _names_secret(text: str) -> bool:
    """Whether the path of a secret is in a text; parts that such a path has are looked for first, at a tenth."""
    if ("/." in text or "/run/secrets/" in text or "shadow" in text or "/environ" in text) and _paths.search(text):
        return True
    return ".env" in text and bool(_environment_file.search(text))


def is_identified(fields: Fields) -> bool:
    """Whether an event shows which file it is about by more than its name."""
    return bool(fields.device and fields.inode)


def may_name_secret(fields: Fields) -> bool:
    """Whether the command line or the link has a secret's name: a quick look before `names_secret`."""
    kind = fields.evt_type
    command = fields.cmdline or ""
    return kind in LINKS or (kind in EXECS and (_names_secret(command) or _asks_for_secret(command)))


def names_secret(fields: Fields, run: Program) -> bool:
    """Whether a shell or a tool is started to read a secret's file or to ask for a secret, or makes a link to one."""
    kind = fields.evt_type or ""
    if kind in LINKS:
        return _names_secret(fields.file or "")
    if not may_name_secret(fields):
        return False
    if _asks_for_secret(fields.cmdline or ""):
        return True
    if "shell" in run.kinds:
        text = " ".join(run.words)
        for tool, link in _LINKED_TOOL.findall(text):
            if current().file_readers.has_file(tool):
                text = text.replace(f"{link} ", f"{tool} ")
        return run.has_inline_code and any(map(_reads_secret, _SEPARATOR.split(text)))
    return "interpreter" not in run.kinds and _reads_secret(" ".join((run.name, *run.words)))


def _asks_for_secret(command: str) -> bool:
    """Whether a command line of a cloud or cluster is to print a secret."""
    return ("token" in command or "secret" in command or "vault " in command) and bool(_ASKS_FOR_SECRET.search(command))


def _reads_secret(command: str) -> bool:
    """Whether one simple command of a shell has a secret's file read, copied, sent or linked to."""
    if not _names_secret(command):
        return False
    if re.search(_REDIRECTED, command):
        return True
    words = [word for word in command.split() if not _PREFIX.fullmatch(word)]
    while len(words) > 1 and words[0].startswith("-"):
        del words[0]
    if not words:
        return False
    name = base_name(words[0])
    if name in _COPIERS:
        words = words[:-1]
    read = any(map(_names_secret, [f" {word}" for word in words[1:]]))
    tables = current()
    if tables.http_clients.has_file(name) or tables.network_utilities.has_file(name):
        return bool(re.search(_SENT, command))
    return read and (name in (".", "source") or tables.file_readers.has_file(name))
