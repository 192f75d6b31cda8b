"""The code that an interpreter or a shell runs: a file, a module, or code in its command line.

Falco joins arguments with blanks, so one that holds blanks is several words here; that bends what comes after it only.
Of ancestors only a summary is remembered (`command_summary`).
"""

from collections.abc import Sequence

from msgspec import Struct

from sidecar.text.lazy_pattern import LazyPattern


class Syntax(Struct, frozen=True):
    """How an interpreter's command line names code: letters of short options, and whole long options."""

    inline: str
    """Short options whose value is code."""
    valued: str = ""
    """Short options that have a value."""
    attached: str = ""
    """Short options whose value, if any, is attached."""
    loads: str = ""
    """Short options whose value is a file of code to load besides."""
    script: str = ""
    """Short options whose value is the script."""
    module: str = ""
    long_inline: frozenset[str] = frozenset()
    long_valued: frozenset[str] = frozenset()
    long_loads: frozenset[str] = frozenset()
    commands: frozenset[str] = frozenset()
    """First words that stand before a script."""
    code_commands: frozenset[str] = frozenset()
    """First words that stand before code."""


_PYTHON = Syntax("c", valued="XWQ", module="m", long_valued=frozenset(("--check-hash-based-pycs",)))
_NODE = Syntax(
    "ep",
    loads="r",
    attached="C",
    long_inline=frozenset(("--eval", "--print")),
    long_loads=frozenset(("--require", "--import", "--loader", "--experimental-loader", "--preload")),
    long_valued=frozenset(
        ("--conditions", "--env-file", "--title", "--input-type", "--inspect-port", "--stack-trace-limit")
    ),
    commands=frozenset(("run",)),
    code_commands=frozenset(("eval",)),
)
_SYNTAXES = {
    "python": _PYTHON,
    "pypy": _PYTHON,
    "perl": Syntax("eE", valued="I", attached="MmxiFDdV"),
    "ruby": Syntax("e", valued="ICEKT", loads="r", attached="WxFi"),
    "php": Syntax(
        "rBRE", valued="dctzS", script="fF", long_inline=frozenset(("--run",)), long_valued=frozenset(("--define",))
    ),
    "lua": Syntax("e", valued="l"),
    "node": _NODE,
    "nodejs": _NODE,
    "bun": _NODE,
    "deno": _NODE,
    "expect": Syntax("c"),
    "Rscript": Syntax("e"),
    "R": Syntax("e", script="f"),
    "julia": Syntax("eE", valued="Jp", loads="L", long_inline=frozenset(("--eval", "--print"))),
    "groovy": Syntax("e", valued="cD"),
    "jrunscript": Syntax("e", valued="lJ", script="f", long_valued=frozenset(("-cp", "-classpath"))),
    "jshell": Syntax(""),
    "tclsh": Syntax(""),
}
SHELL = Syntax(
    "c",
    valued="oO",
    long_valued=frozenset(("--rcfile", "--init-file", "+o", "+O")),
    long_inline=frozenset(("--command",)),
)
_NAMED = LazyPattern("|".join(sorted(_SYNTAXES, key=len, reverse=True)))


class Code(Struct, frozen=True):
    """The code that a command line names. `loads` are files of code to load besides; "" and () where there is none."""

    script: str = ""
    module: str = ""
    is_inline: bool = False
    loads: tuple[str, ...] = ()


def code(words: Sequence[str], names: Sequence[str]) -> Code:
    """What the words of a command line name as code to the interpreter of the first of these names that is known."""
    if "sh" in names:
        return _Reading(words, SHELL).code()
    found = next(filter(None, map(_NAMED.match, names)), None)
    return _Reading(words, _SYNTAXES[found[0]] if found else _PYTHON).code()


_CLASS_PATHS = frozenset(("-cp", "-classpath", "--class-path", "-jar"))


def java_code(words: Sequence[str]) -> tuple[str, ...]:
    """Where a Java command line has code from: archives, folders of its class path, agents; "." where it names none."""
    found: list[str] = []
    for at, word in enumerate(words):
        option, equals, value = word.partition("=")
        if word.startswith("-javaagent:"):
            found.append(word.removeprefix("-javaagent:").partition("=")[0])
        elif option in _CLASS_PATHS:
            value = value if equals else next(iter(words[at + 1 : at + 2]), "")
            found += value.split(":")
        if word == "-jar":
            break
    return tuple(found) or (".",)


class _Reading:
    """Reads a command line from left to right, up to the word that names the code."""

    def __init__(self, words: Sequence[str], syntax: Syntax) -> None:
        self._words = words
        self._syntax = syntax
        self._at = 0
        self._loads: list[str] = []

    def code(self) -> Code:
        """The code that it names."""
        words = self._words
        if words and words[0] in self._syntax.code_commands:
            return Code(is_inline=True)
        if words and words[0] in self._syntax.commands:
            self._at = 1
        while self._at < len(words):
            word = self._next()
            if word == "--":
                return Code(self._next(), loads=tuple(self._loads))
            is_operand = word == "-" or (word[:1] != "-" and word not in self._syntax.long_valued)
            found = Code(word) if is_operand else self._long(word) if self._is_long(word) else self._short(word[1:])
            if found is not None:
                return Code(found.script, found.module, found.is_inline, tuple(self._loads))
        return Code(loads=tuple(self._loads))

    def _next(self) -> str:
        self._at += 1
        return self._words[self._at - 1] if self._at <= len(self._words) else ""

    def _is_long(self, word: str) -> bool:
        return word.startswith("--") or word in self._syntax.long_valued

    def _long(self, word: str) -> Code | None:
        option, equals, value = word.partition("=")
        if option in self._syntax.long_inline:
            return Code(is_inline=True)
        if option in self._syntax.long_loads:
            self._loads.append(value if equals else self._next())
        elif option in self._syntax.long_valued and not equals:
            self._next()
        return None

    def _short(self, letters: str) -> Code | None:
        """The code that a word of short options names; None if the words after it decide."""
        syntax = self._syntax
        known = (*syntax.inline, *syntax.module, *syntax.script, *syntax.loads, *syntax.attached, *syntax.valued)
        at = next((at for at, letter in enumerate(letters) if letter in known), None)
        if at is None:
            return None
        letter, value = letters[at], letters[at + 1 :]
        if letter in syntax.inline:
            return Code(is_inline=True)
        if letter in syntax.attached:
            return None
        value = value or self._next()
        if letter in syntax.loads:
            self._loads.append(value)
        return Code(value) if letter in syntax.script else Code(module=value) if letter in syntax.module else None
