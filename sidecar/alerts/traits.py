"""What the fields of one alert say about its process without the help of a Falco rule: today, interactive shells."""

from collections.abc import Callable

from sidecar.model import Fields

SHELLS = frozenset(("sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "csh", "tcsh", "rbash"))

_TAKE_AN_ARGUMENT = frozenset(("--rcfile", "--init-file", "-o", "-O", "+o", "+O"))


def interactive_shell(fields: Fields, first_tty: int) -> bool:
    """A shell with a terminal of its own, or with its own `-i` flag.

    `first_tty` is the terminal of the container's first process (0 none): in a container that was given a terminal
    every process has that one, and it says nothing.
    """
    if fields.name not in SHELLS and (not fields.exepath or fields.exepath.rpartition("/")[2] not in SHELLS):
        return False
    return (fields.tty or 0) not in (0, first_tty) or has_interactive_flag(fields.cmdline or "")


def has_interactive_flag(cmdline: str) -> bool:
    """Whether a shell's own options hold `-i`: in `-i`, `-li`, `-ic`, `--login -i`; not in `-c "grep -i x"`."""
    words = iter(cmdline.split()[1:])
    for word in words:
        if word in _TAKE_AN_ARGUMENT:
            next(words, None)
        elif word == "--" or word[:1] not in ("-", "+"):
            return False
        elif word[:1] == "-" and word[:2] != "--":
            if "i" in word:
                return True
            if "c" in word:
                return False
    return False


TRAITS: dict[str, Callable[[Fields, int], bool]] = {"interactive_shell": interactive_shell}
"""The traits that a correlation rule may name."""
