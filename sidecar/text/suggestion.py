"""Suggestions for a misspelt name."""

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known word that is most like `word`, "" if none is; `cutoff` is the least similarity, from 0 to 1."""
    import difflib  # noqa: PLC0415 - it costs every start, and is needed where something is wrong

    return next(iter(difflib.get_close_matches(word, list(known), 1, cutoff)), "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'X'?` to be appended to a message about `word`; "" if no known word is like it."""
    close = nearest(word, known)
    return f", did you mean {close!r}?" if close else ""
