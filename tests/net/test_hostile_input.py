"""Nothing that can be written to a port, a stream or a file stops the service, or is passed over in silence."""

from collections.abc import Callable

import pytest
from support import fuzz_targets, hostile_corpus
from support.hostile_corpus import CORPUS

TARGETS: dict[str, Callable[[bytes], None]] = {**fuzz_targets.TARGETS, "json": fuzz_targets.json}


@pytest.mark.parametrize("kind", CORPUS)
def test_every_kept_bad_input_is_survived_within_a_second(kind: str) -> None:
    for name, data in [*CORPUS[kind](), *hostile_corpus.crashes(kind)]:
        try:
            fuzz_targets.timed(TARGETS[kind], data)
        except Exception as error:
            raise AssertionError(name) from error


def test_there_are_more_than_500_of_them() -> None:
    assert sum(len({data for _, data in make()}) for make in CORPUS.values()) > 500
