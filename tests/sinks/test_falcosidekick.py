"""Our strict Falcosidekick answers as the real one did."""

import json
from typing import Any

from conftest import DATA
from support.falcosidekick import Panicked, Refused, handle

VECTORS = json.loads((DATA / "falcosidekick_contract_vectors.json").read_text())["vectors"]


def answered(body: bytes) -> tuple[int | str, dict[str, Any] | None]:
    """The status, and what is forwarded."""
    try:
        forwarded = handle(body)
    except Refused:
        return 400, None
    except Panicked:
        return "connection_dropped", None
    return 200, {**forwarded, "uuid": "<random uuid4>"} if forwarded else forwarded


def test_it_answers_each_recorded_request_as_the_real_one_did() -> None:
    for vector in VECTORS:
        expected = (vector["status"], vector["forwarded"])
        assert answered(vector["body"].encode()) == expected, vector["name"]


def test_there_are_67_of_them() -> None:
    assert len(VECTORS) == 67
