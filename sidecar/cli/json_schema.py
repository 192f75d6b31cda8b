"""JSON Schemas of the files that users write, with which an editor completes keys and marks mistakes."""

from typing import Any

import msgspec

from sidecar.expectations.spec import ExpectationFile
from sidecar.meaning.tables import Tables
from sidecar.rules.spec import RuleFile
from sidecar.settings.schema import Settings
from sidecar.yamlfile.typed import DURATION, Duration

KINDS = {"rule": RuleFile, "settings": Settings, "programs": Tables, "expectation": ExpectationFile}


def for_kind(kind: str) -> dict[str, Any]:
    """The schema of a `rule`, `settings`, `programs` or `expectation` file."""
    schema = msgspec.json.schema(KINDS[kind], schema_hook=_schema_of_duration)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _schema_of_duration(kind: type) -> dict[str, Any]:
    if kind is Duration:
        return {"type": "string", "pattern": f"^{DURATION}$", "examples": ["500ms", "15m"]}
    raise NotImplementedError(kind)  # pragma: no cover - msgspec's protocol for types it does not know
