"""A lazy pattern does what a compiled one does."""

import re

from sidecar.text.lazy_pattern import LazyPattern


def test_its_methods_are_those_of_the_compiled_pattern() -> None:
    lazy, compiled = LazyPattern("(a)(b)?", re.IGNORECASE), re.compile("(a)(b)?", re.IGNORECASE)

    for name in ("search", "match", "fullmatch"):
        assert getattr(lazy, name)("AB")[0] == getattr(compiled, name)("AB")[0]
        assert getattr(lazy, name)("x") is None
    assert lazy.split("1a2") == compiled.split("1a2")
    assert lazy.pattern == compiled.pattern


def test_nothing_is_compiled_before_the_first_use() -> None:
    assert LazyPattern("(").pattern == "("
