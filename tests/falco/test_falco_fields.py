"""The fields that we ask of Falco stand in one place, and what is made of it is current."""

import re
from collections.abc import Iterable
from pathlib import Path

import falco_fields
import pytest
from click.testing import CliRunner
from falco.ruleset import CHAINS, chain, shipped

from sidecar.alerts import decode
from sidecar.alerts.ancestry import GUESS, GUESSED
from sidecar.cli.main import main
from sidecar.model import APPENDED, ASKED, FALLBACKS, PACKED, Fields

FILES = dict(falco_fields.files())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_fields_asked_of_falco_are_current(path: Path) -> None:
    assert path.read_text() == FILES[path], "run: make docs"


@pytest.mark.parametrize("path", falco_fields.LISTS, ids=lambda path: path.name)
def test_each_file_that_configures_falco_holds_one_list(path: Path) -> None:
    assert len(falco_fields.EXTRA.findall(path.read_text())) == 1


def test_the_output_of_every_rule_is_made() -> None:
    found = [match["rule"] for path in falco_fields.RULES for match in falco_fields.OUTPUT.finditer(path.read_text())]
    assert sorted(found) == sorted([*shipped().rules, *(name for path in CHAINS for name in chain(path).rules)])


def test_a_field_that_is_read_is_asked_for_unless_it_is_a_fallback() -> None:
    names = dict(zip(Fields.__struct_fields__, Fields.__struct_encode_fields__, strict=True))
    fallbacks = {names[fallback] for fallback, _ in FALLBACKS}
    assert decode.KEYS - {*ASKED, *GUESSED} == {*fallbacks, PACKED}
    assert {"proc.aname[1]", "proc.aexepath[1]"} <= GUESSED, "the same as proc.pname and proc.pexepath"
    assert set(ASKED) - {*APPENDED, *GUESSED} == {"proc.pname", "proc.pexepath"}
    assert "fd.rip" not in ASKED


def test_doctor_asks_for_each_of_them(tmp_path: Path) -> None:
    (tmp_path / "falco.yaml").write_text("json_output: true\n")
    report = CliRunner().invoke(main, ["doctor", str(tmp_path / "falco.yaml")]).output
    assert [name for name in APPENDED if f'"{name}"' not in report] == []
    assert f'{PACKED}: "{GUESS}"' in report


def clash(names: Iterable[str]) -> list[str]:
    """The names that Elasticsearch refuses beside another: a value cannot have a value below it."""
    return [name for name in names if any(other.startswith(f"{name}.") for other in names)]


@pytest.mark.parametrize("name", list(shipped().rules))
def test_no_field_of_an_output_is_the_beginning_of_another(name: str) -> None:
    shown = re.findall(r"%([a-z][\w.]+(?:\[\d\])?)", shipped().rules[name]["output"])
    assert clash({*shown, *APPENDED, PACKED}) == []


def test_an_alert_with_the_packed_field_alone_is_the_same_as_one_with_all_fields() -> None:
    whole = {
        "proc.pid": 900,
        "proc.pid.ts": 1_795_844_493_157_637_161,
        "proc.ppid": 801,
        "proc.ppid.ts": 1_795_844_493_130_178_631,
        "proc.apid[2]": 800,
        "proc.vpid": 12,
        "proc.sid": 4072,
        "proc.tty": 0,
        "user.loginuid": -1,
        "proc.name": "sh",
        "proc.exepath": "/usr/bin/dash",
        "proc.pname": "nginx",
        "proc.pexepath": "/usr/sbin/nginx",
        "proc.aname[2]": "tini",
        "proc.aexepath[2]": "/usr/bin/tini",
    }
    values = {**whole, "proc.aname[1]": "nginx", "proc.aexepath[1]": "/usr/sbin/nginx"}
    packed = re.sub(r"%([\w.]+(?:\[\d\])?)", lambda field: str(values.get(field[1], "<NA>")), GUESS)
    alone = decode.from_strings({PACKED: packed})

    assert alone == decode.from_strings({name: str(value) for name, value in whole.items()})
