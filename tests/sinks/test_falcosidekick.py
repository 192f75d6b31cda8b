"""Our strict Falcosidekick answers as the real one did."""

import json
from typing import Any

import pytest
from conftest import DATA
from support.falcosidekick import Panicked, Refused, handle

VECTORS = json.loads((DATA / "falcosidekick_contract_vectors.json").read_text())["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_it_answers_each_recorded_request_as_the_real_one_did(vector: dict[str, Any]) -> None:
    status: int | str
    try:
        status, forwarded = 200, handle(vector["body"].encode())
    except Refused:
        status, forwarded = 400, None
    except Panicked:
        status, forwarded = "connection_dropped", None
    if forwarded:
        forwarded["uuid"] = "<random uuid4>"

    assert (status, forwarded) == (vector["status"], vector["forwarded"])


def test_there_are_67_of_them() -> None:
    assert len(VECTORS) == 67
