"""`make e2e` without what it needs says so in a clear word, and fails nothing."""

import pytest
from e2e import __main__ as command


def test_without_falco_it_says_that_it_is_skipped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["e2e"])
    command.main()
    assert capsys.readouterr().out.startswith("SKIPPED: no Falco given")


def test_a_falco_that_is_not_there_is_no_failure_either(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["e2e", "--falco", "/nowhere/falco"])
    command.main()
    assert capsys.readouterr().out.startswith("SKIPPED: ")
