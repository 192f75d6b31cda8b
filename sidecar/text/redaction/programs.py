"""The options in which well-known programs take a password: `mysql -psecret`, `curl -u user:secret`.

A single letter says nothing by itself (`docker run -p 8080:80`), so the program that a command line runs decides.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Program(NamedTuple):
    """How a program takes its password: in an option's next word, glued to an option, or behind a sign in a word."""

    options: tuple[str, ...] = ()
    glued: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    """Options whose word holds user and password, after one of `signs`."""
    signs: str = ":"


_SQL = Program(glued=("-p",))
_OWN = Program(options=("-p",), glued=("-p",))
_LDAP = Program(options=("-w",), glued=("-w",))
_ARCHIVE = Program(options=("-P",), glued=("-P",))

PROGRAMS = {
    **dict.fromkeys(("mysql", "mysqldump", "mysqladmin", "mysqlimport", "mysqlshow", "mysqlcheck", "mysqlsh"), _SQL),
    **dict.fromkeys(
        ("mariadb", "mariadb-dump", "mariadb-admin", "mytop", "xtrabackup", "7z", "7za", "7zz", "rar"), _SQL
    ),
    **dict.fromkeys(("sshpass", "mongo", "mongosh", "mongodump", "evil-winrm", "netexec", "crackmapexec"), _OWN),
    **dict.fromkeys(("ldapsearch", "ldapmodify", "ldapadd", "ldapwhoami", "ldapdelete", "ldappasswd"), _LDAP),
    **dict.fromkeys(("zip", "unzip", "sqlcmd", "bcp", "mosquitto_pub", "mosquitto_sub", "ipmitool"), _ARCHIVE),
    "redis-cli": Program(options=("-a", "--pass")),
    "docker": Program(options=("-p",)),
    "podman": Program(options=("-p",)),
    "helm": Program(options=("-p",)),
    "curl": Program(users=("-u", "--user", "-U", "--proxy-user"), glued=("-u",)),
    "smbclient": Program(users=("-U", "--user"), signs="%"),
    "rpcclient": Program(users=("-U", "--user"), signs="%"),
    "lftp": Program(users=("-u", "--user"), signs=","),
    "openssl": Program(options=("-k", "-K"), users=("-passin", "-passout", "-pass"), signs=":"),
    "useradd": Program(options=("-p",)),
    "usermod": Program(options=("-p",)),
    "xfreerdp": Program(glued=("/p:",)),
    "snmpwalk": Program(options=("-c", "-A", "-X")),
}
"""By the file name of the program."""

_ONLY_WITH = {"docker": "login", "podman": "login", "helm": "login"}
_WORD = re.compile(r"\S+")


def may_hold_passwords(text: str) -> bool:
    """Whether one of the programs is named at all: a quick look before `passwords`."""
    words = text.replace("/", " ").replace('"', " ").replace("'", " ").split()
    return not PROGRAMS.keys().isdisjoint(words)


def passwords(text: str) -> Iterator[tuple[int, int]]:
    """Where the passwords of the programs of a command line stand: begin and end of each."""
    program, expected = None, ""
    for found in _WORD.finditer(text):
        word, start = _bare(found)
        at = -1
        if expected and program is not None:
            at, expected = (0 if expected == "word" else _behind(word, program.signs)), ""
        elif (named := _program(word, text)) is not None and not (program and word[:1] == "-"):
            program = named
        elif word[:1] in "|;&" or word[-1:] == ";":
            program = None
        elif program is not None:
            expected = "word" if word in program.options else "user" if word in program.users else ""
            at = -1 if expected else _glued(word, program)
        if 0 <= at < len(word):
            yield start + at, start + len(word)


def _program(word: str, text: str) -> Program | None:
    name = word.rpartition("/")[2]
    return PROGRAMS.get(name) if _ONLY_WITH.get(name, "") in text else None


def _bare(found: re.Match[str]) -> tuple[str, int]:
    """A word without the quotes around it, and where it begins."""
    word = found[0]
    left = len(word) - len(word.lstrip("\"'"))
    return word.strip("\"'"), found.start() + left


def _glued(word: str, program: Program) -> int:
    """Where the password begins in a word such as `-psecret`, -1 if this is none."""
    for option in program.glued:
        if word.startswith(option) and len(word) > len(option) + 1:
            return _behind(word, program.signs) if program.users else len(option)
    return -1


def _behind(word: str, signs: str) -> int:
    """Where the password begins in a word such as `user:secret`, -1 if it has none."""
    at = word.find(signs)
    return at + 1 if at >= 0 else -1
