"""JSON Schema of the files that people write, so that an editor completes keys and marks mistakes while typing."""

from typing import Any

import msgspec

from sidecar.meaning.tables import Tables
from sidecar.rules.spec import RuleFile
from sidecar.settings.schema import Settings
from sidecar.yamlfile.typed import Duration

KINDS = {"rule": RuleFile, "settings": Settings, "programs": Tables}


def of(kind: str) -> dict[str, Any]:
    """The schema of a `rule`, `settings` or `programs` file."""
    schema = msgspec.json.schema(KINDS[kind], schema_hook=_own)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _own(kind: type) -> dict[str, Any]:
    if kind is Duration:
        return {"type": "string", "pattern": "^[0-9]{1,9}(ms|s|m|h)$", "examples": ["500ms", "15m"]}
    raise NotImplementedError(kind)  # pragma: no cover - msgspec's protocol for types it does not know
