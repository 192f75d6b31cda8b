"""Command lines, settings and files that are wrong in all ways that people and programs find."""

import random
from typing import Any

import yaml

from sidecar.settings.loading import variables

WORDS = (
    "run demo replay check test new-rule doctor schema incidents list show export why help completion version --help "
    "-h -o --output -c --config --state --url --since --watch --explain --rules -r -e --expectations --falco-rules -f "
    "--mode --limit --sort --order --severity -s --status --find --json --print-config --once --port --admin-port "
    "--group -g --from --scope json yaml table wide text jsonl shipped none http grpc tap critical open last asc bash "
    "9999999h 7d soon -1 0 99999 99999999999999999999 1e9 NaN nowhere . / /dev/null /proc/self/mem /etc - -- --- = "
    "--state=nowhere --url=http:// --url=http://127.0.0.1:9 http://[ http://127.0.0.1:9/x ftp://x file:///etc/passwd "
    "[x] * ' \" $HOME ~ ☃ \u202e \x1b[2J a/b ../../.. rule settings programs expectation 5dba 00 zzzz x.yaml"
)
"""What command lines are made of, between blanks."""

ODD: tuple[object, ...] = (
    *(None, True, False, 0, -1, 1, 65536, 10**30, 1.5, float("inf"), float("nan"), "", " ", "x", "5", "5s", "-5s"),
    *("9" * 400 + "h", "/nowhere/x", "/", "/dev/null", "http://", "http://h:99999", "https://h", "unix:", "a\nb", "\0"),
    *("\u202e", "☃", [], [1], [[]], {}, {"x": 1}, {"": ""}, [None], ["x"] * 3, "shipped", "none", "${X}", "{x}", "*"),
)


def command_line(chance: random.Random) -> list[str]:
    """A few words in no order; `run` and `demo` are kept from serving by an option that does not exist."""
    words = [chance.choice(WORDS.split(" ")) for _ in range(chance.randint(0, 6))]
    if chance.random() < 0.3:
        words.append("".join(chance.choice("abcdef-=/ .\\\"'é☃") for _ in range(chance.randint(1, 12))))
    words = [word.replace("\0", "") for word in words]
    serving = next((word for word in words if not word.startswith("-")), "") in ("run", "demo")
    return [*words, "--no-such-option"] if serving else words


def settings_text(chance: random.Random) -> str:
    """Settings of which some have values, names or shapes that are wrong, or text that is not YAML at all."""
    data: Any = {"sinks": {"stdout": {"enabled": True}}, "http": {"port": 0}, "admin": {"port": 0}}
    for _ in range(chance.randint(1, 5)):
        path = chance.choice(sorted(variables().values())).split(".")
        if chance.random() < 0.3:
            path[-1] = _misspelt(path[-1], chance)
        if chance.random() < 0.1:
            path = path[:1]
        section = data
        for key in path[:-1]:
            if not isinstance(section.get(key), dict):
                section[key] = {}
            section = section[key]
        section[path[-1]] = chance.choice(ODD)
    text = yaml.safe_dump(data, allow_unicode=True)
    return _damaged(text, chance) if chance.random() < 0.3 else text


def any_text(chance: random.Random, *good: str) -> bytes:
    """A good file of some kind, damaged; or bytes of no kind."""
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randbytes(chance.randint(0, 2000))
    text = _damaged(chance.choice(good), chance)
    return text.encode("utf-16") if kind == 1 else text.encode("utf-8", "surrogatepass")


def _misspelt(word: str, chance: random.Random) -> str:
    at = chance.randrange(len(word))
    return chance.choice((word[:at] + word[at + 1 :], word + "s", word.upper(), word[::-1], f"{word} ", "x"))


def _damaged(text: str, chance: random.Random) -> str:
    """A text with a few characters lost, doubled, or replaced, as a slip of an editor does it."""
    characters = list(text)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(max(len(characters), 1))
        change = chance.randrange(4)
        if change == 0:
            del characters[at : at + chance.randint(1, 20)]
        elif change == 1:
            characters.insert(at, chance.choice("\t:{}[]&*!|>'\"%@`#-,?\n\0\ufeff\u2603"))
        elif change == 2:
            characters[at : at + 30] *= 2
        else:
            del characters[at:]
    return "".join(characters)
