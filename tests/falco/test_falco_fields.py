"""The fields that we ask of Falco stand in one place, and what is made of it is current."""

from pathlib import Path

import falco_fields
import pytest
from click.testing import CliRunner
from falco.ruleset import shipped

from sidecar.alerts import decode
from sidecar.cli.main import main
from sidecar.model import ASKED, FALLBACKS, PACKED, Fields

FILES = dict(falco_fields.files())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_fields_asked_of_falco_are_current(path: Path) -> None:
    assert path.read_text() == FILES[path], "run: make docs"


@pytest.mark.parametrize("path", falco_fields.LISTS, ids=lambda path: path.name)
def test_each_file_that_configures_falco_holds_one_list(path: Path) -> None:
    assert len(falco_fields.EXTRA.findall(path.read_text())) == 1


def test_the_output_of_every_rule_is_made() -> None:
    found = [match["rule"] for match in falco_fields.OUTPUT.finditer(falco_fields.RULES.read_text())]
    assert found == list(shipped().rules)


def test_a_field_that_is_read_is_asked_for_unless_it_is_a_fallback() -> None:
    names = dict(zip(Fields.__struct_fields__, Fields.__struct_encode_fields__, strict=True))
    assert decode.KEYS - set(ASKED) == {PACKED, *(names[fallback] for fallback, _ in FALLBACKS)}
    assert "fd.rip" not in ASKED


def test_doctor_asks_for_each_of_them(tmp_path: Path) -> None:
    (tmp_path / "falco.yaml").write_text("json_output: true\n")
    told = CliRunner().invoke(main, ["doctor", str(tmp_path / "falco.yaml")]).output
    assert [name for name in ASKED if f'"{name}"' not in told] == []
