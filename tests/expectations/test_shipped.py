"""The shipped catalogue: a product's own work is silent, and attacks on it are reported.

Covers: `cli.testing.expectation_tests`.
"""

from pathlib import Path

import pytest

from sidecar.cli.testing import expectation_tests
from sidecar.expectations import loading
from sidecar.rules.rule import CorrelationRule
from sidecar.service.worker import SHIPPED_EXPECTATIONS

FILES = sorted(SHIPPED_EXPECTATIONS.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_the_stories_of_a_product_come_to_what_they_say(file: Path, rule: CorrelationRule) -> None:
    assert [str(result) for result in expectation_tests.run([file], [rule]) if result.why] == []


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_a_product_has_its_own_work_and_three_attacks_as_stories_and_says_where_it_is_documented(file: Path) -> None:
    written = loading.read(file)

    assert written.silent
    assert len(written.attacks) >= 3
    assert written.sources


def test_all_files_load_together() -> None:
    assert loading.load([SHIPPED_EXPECTATIONS])
