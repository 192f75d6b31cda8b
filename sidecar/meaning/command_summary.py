"""An ancestor's command line in a few words: the script, module, archive or class that it runs, with the subcommand.

That much says what an ancestor is, and is short enough to be remembered for every process; arguments behind it, which
may hold secrets, are not. The command line of the process itself is read more exactly (`interpreted_code`).
"""

from functools import lru_cache
from itertools import islice

from sidecar.model import Fields
from sidecar.text.lazy_pattern import LazyPattern

MAX_CHARS = 4096
"""Characters of a command line that are looked at."""

MAX_SCRIPT_CHARS = 160

_TAKE_A_VALUE = frozenset(
    (
        *("-X", "-W", "-I", "-S", "-C", "-r", "-cp", "-classpath", "--class-path", "--module-path"),
        *("--require", "--import", "--loader", "--experimental-loader", "--check-hash-based-pycs"),
        *("--add-opens", "--add-exports", "--add-modules", "--prefix", "--cwd"),
    )
)
_NAME_THE_SCRIPT = frozenset(("-jar", "-m", "--module", "-f", "-file"))
_RUN_CODE = frozenset(("-c", "-e", "-E", "--eval", "--print", "-p", "-pe", "-ne", "--run"))
_SUBCOMMAND = LazyPattern(r"[a-z][a-z0-9:_-]{0,30}")
_WORDS_BEHIND = 6

CODE = "-c"
"""Stands for code from the command line."""


@lru_cache(maxsize=4096)
def summary(cmdline: str) -> str:
    """Script and subcommand of a command line as Falco gives it: the process's name, then its arguments.

    `node /usr/local/bin/npm ci` gives `/usr/local/bin/npm ci`, `java -cp x.jar org.example.Main` gives
    `org.example.Main`, code from the command line gives CODE.
    """
    words = cmdline[:MAX_CHARS].split()
    at = 1
    while at < len(words) and words[at].startswith("-"):
        word = words[at]
        if word in _NAME_THE_SCRIPT:
            at += 1
            break
        if word in _RUN_CODE:
            return CODE
        at += 2 if word in _TAKE_A_VALUE else 1
    if at >= len(words):
        return ""
    script = words[at][:MAX_SCRIPT_CHARS]
    behind = (word for word in islice(words, at + 1, at + 1 + _WORDS_BEHIND) if _SUBCOMMAND.fullmatch(word))
    return f"{script} {next(behind, '')}".rstrip()


def summarise_commands(fields: Fields) -> None:
    """Replace the command lines of the ancestors of an alert by their summaries, in place."""
    fields.pcmdline = summary(fields.pcmdline or "") or None
    fields.acmdline2 = summary(fields.acmdline2 or "") or None
    fields.acmdline3 = summary(fields.acmdline3 or "") or None
    fields.acmdline4 = summary(fields.acmdline4 or "") or None
