r"""Text that an attacker may have written, made harmless for the place where it is shown: one function for each output.

Raw text is what is kept; these stand at the outputs only. A character that cannot be seen, or steers what shows it, is
written as the escape that Python and JSON know (`\x1b`, `\u202e`), so a reader still sees what was there.
"""

import json
import re
from typing import Any

_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Printable by Unicode, and yet nothing is seen; variation selectors besides."""

_MARKUP = re.compile(
    r"<(?=[!@#]|[A-Za-z][A-Za-z0-9+.-]{1,15}:)"  # Slack: <!channel>, <@U1>, <#C1>, <http://x|y>
    r"|(?<=\])\("  # Markdown: [y](http://x)
    r"|@(?=(?:here|channel|everyone|all)\b)",  # Discord, Mattermost, Rocket.Chat
    re.IGNORECASE,
)


def terminal(text: str) -> str:
    """For a terminal: no control, direction or invisible character, no line break."""
    return text if text.isascii() and text.isprintable() else "".join(map(_shown, text))


def event(text: str) -> str:
    """For a field of an event: as on a terminal, and nothing that a chat takes for a mention or a link."""
    return _MARKUP.sub(_hex, terminal(text))


def sentence(text: str) -> str:
    """For the `output` of an event, which chats show as text of their own: as a field, and no code quotes."""
    return event(text).replace("`", "\\x60")


def ascii_json(value: Any, indent: int | None = None) -> str:
    r"""JSON in ASCII, any other character as `\uXXXX`: harmless on any terminal. One line if not `indent`."""
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(value, default=str, indent=indent, separators=separators).replace("\x7f", "\\u007f")


def _shown(character: str) -> str:
    if character.isprintable() and character not in _INVISIBLE and not "\ufe00" <= character <= "\ufe0f":
        return character if not "\U000e0100" <= character <= "\U000e01ef" else _code(character)
    return _code(character)


def _code(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _hex(found: re.Match[str]) -> str:
    return f"\\x{ord(found[0]):02x}"
