"""What is kept of an alert holds no secret and has an end, in every text field there is."""

import json
from typing import get_args

import msgspec
import pytest
from conftest import DATA
from support.packed import Seen, packed

from sidecar.alerts.decode import TEXTS, envelope, from_strings
from sidecar.alerts.truncate import FILES, MASKED, NOT_MASKED, mask_and_truncate
from sidecar.correlation.pipeline import Pipeline
from sidecar.model import MAX_COMMAND_CHARS, MAX_NAME_CHARS, MAX_PACKED_CHARS, Fields
from sidecar.text.redaction.redactor import Redactor

STOCK = json.loads((DATA / "stock_alerts.jsonl").read_bytes().splitlines()[3])
FALCO_NAMES = {field.name: field.encode_name for field in msgspec.structs.fields(Fields)}
SECRET = "ghp_" + "aB3dE6gH9j" * 4
LONG = ("cmdline", "file", *FILES)

redact = Redactor("a key")


def kept(**texts: str | int) -> Fields:
    """What is kept of the stock alert with these texts."""
    named = {FALCO_NAMES[name]: text for name, text in texts.items()}
    body = json.dumps({**STOCK, "output_fields": {**STOCK["output_fields"], **named}}).encode()
    fields = envelope(body).alert().fields
    mask_and_truncate(fields, redact)
    return fields


def test_every_text_field_is_masked_or_declared_harmless_with_a_reason() -> None:
    texts = {field.name for field in msgspec.structs.fields(Fields) if str in get_args(field.type)}

    assert texts == {*MASKED, *NOT_MASKED, "packed", *(name for name in TEXTS if name.startswith("fallback_"))}
    assert all(NOT_MASKED.values())


@pytest.mark.parametrize("name", MASKED)
def test_a_secret_is_masked_in_every_field_that_is_not_declared_harmless(name: str) -> None:
    assert SECRET[:12] not in (getattr(kept(**{name: f"x {SECRET}"}), name) or SECRET)


@pytest.mark.parametrize("name", MASKED)
def test_a_secret_that_came_over_grpc_is_masked_too(name: str) -> None:
    fields = from_strings({FALCO_NAMES[name]: f"x {SECRET}"})
    mask_and_truncate(fields, redact)

    assert SECRET[:12] not in (getattr(fields, name) or SECRET)


def test_a_secret_that_came_in_a_fallback_is_masked_where_it_is_moved_to() -> None:
    assert SECRET[:12] not in (kept(file="", fallback_file=f"x {SECRET}").file or SECRET)


@pytest.mark.parametrize("name", NOT_MASKED)
def test_what_is_declared_harmless_stays_as_it_came(name: str) -> None:
    assert getattr(kept(**{name: "a-text"}), name) == "a-text"


@pytest.mark.parametrize("name", MASKED)
def test_a_token_that_the_cut_goes_through_is_masked_as_a_whole(name: str) -> None:
    limit = MAX_COMMAND_CHARS if name in LONG else MAX_NAME_CHARS
    for shown in (1, 11, 19, 39):
        text = getattr(kept(**{name: "x" * (limit - shown - 1) + " " + SECRET}), name)
        assert len(text) <= limit
        assert "ghp" not in text


def test_a_password_in_a_url_whose_end_is_cut_off_is_masked() -> None:
    line = "psql " + "x" * (MAX_COMMAND_CHARS - 60) + " postgres://shop:" + "Tr0ub4dor" * 6 + "@db/shop"

    assert "Tr0" not in (kept(cmdline=line).cmdline or "Tr0")


@pytest.mark.parametrize("name", [*MASKED, *NOT_MASKED])
def test_a_huge_text_is_cut(name: str) -> None:
    limit = MAX_COMMAND_CHARS if name in LONG else MAX_NAME_CHARS

    assert len(getattr(kept(**{name: "y " * 50_000}), name)) == limit
    assert len(getattr(kept(**{name: "\u00e9 " * 50_000}), name)) == limit // 2


def test_padding_hides_no_detection(pipeline: Pipeline) -> None:
    texts = {"proc.cmdline": "bash -i " + "x" * 1_000_000, "user.name": "u" * 5_000}
    pipeline.process_json(json.dumps({**STOCK, "output_fields": {**STOCK["output_fields"], **texts}}).encode())

    assert pipeline.detections == 1


def test_absent_texts_are_harmless_also_after_the_memory_of_texts_was_cleared() -> None:
    small = Redactor("a key")
    for number in range(5_000):
        small(f"sleep {number}")
    fields = Fields()
    mask_and_truncate(fields, small)

    assert None in small.harmless
    assert fields == Fields()


def test_a_secret_in_a_file_of_the_packed_field_is_masked_and_nothing_else_changes() -> None:
    own, shell = Seen(9, 2, f"/tmp/{SECRET}/x"), Seen(8, 1, "/usr/bin/dash", "sh")
    text = packed(own, [shell])
    masked = kept(pid=9, packed=text).packed or ""

    assert SECRET[:12] not in masked
    assert masked.rpartition("|/tmp/")[0] == text.rpartition("|/tmp/")[0]


def test_a_packed_field_with_sixteen_ancestors_of_the_longest_names_is_kept_whole() -> None:
    above = [Seen(10**6 + n, 10**18 + n, "/" + "d" * 254, "n" * 15, ports="80,443") for n in range(16)]
    text = packed(above[-1], above)

    assert len(text) <= MAX_PACKED_CHARS
    assert kept(pid=9, packed=text).packed == text


def test_a_packed_field_that_is_too_long_is_cut_behind_the_numbers() -> None:
    text = packed(Seen(9, 2, "/a" * 500_000), [Seen(8, 1, "/usr/bin/dash", "sh")])

    assert len(kept(pid=9, packed=text).packed or "") == MAX_PACKED_CHARS
