"""An index of Elasticsearch as far as its mapping goes: what dynamic mapping makes of documents, and what it refuses.

After its documentation (dynamic field mapping; limits of mappings). OpenSearch is the same in all of this.
"""

import re
from typing import Any

DATE = re.compile(
    r"\d{4}(-\d\d(-\d\d(T(\d\d(:\d\d(:\d\d([.,]\d{1,9})?)?)?)?(Z|[+-]\d\d:?(\d\d)?)?)?)?)?|\d{4}/\d\d/\d\d"
)
"""Text that dynamic mapping takes for a date: `strict_date_optional_time`, or `yyyy/MM/dd`."""

MAX_FIELDS = 1000
MAX_DEPTH = 20


class Refused(Exception):
    """The document is not indexed: status 400, with this reason."""


class Index:
    """`mapping` is the type of each field, by its path: object, text, long, float, boolean or date."""

    def __init__(self) -> None:
        self.mapping: dict[str, str] = {}
        self.documents: list[dict[str, Any]] = []

    def add(self, document: dict[str, Any]) -> None:
        """Index a document. Raises Refused, and then the mapping is as before."""
        mapping = dict(self.mapping)
        _object(mapping, "", document)
        if len(mapping) > MAX_FIELDS:
            raise Refused(f"Limit of total fields [{MAX_FIELDS}] has been exceeded")
        self.mapping = mapping
        self.documents.append(document)

    def answer(self, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body for a document that is posted to `_doc`."""
        try:
            self.add(document)
        except Refused as refused:
            return 400, {"error": {"type": "document_parsing_exception", "reason": str(refused)}, "status": 400}
        return 201, {"result": "created"}


def _object(mapping: dict[str, str], path: str, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if not name.strip() or not all(part.strip() for part in name.split(".")):
            raise Refused(f"field name [{name}] cannot contain only whitespace, start or end with a dot")
        parts = name.split(".")
        above = path
        for part in parts[:-1]:
            above = f"{above}.{part}" if above else part
            _claim(mapping, above, "object")
        full = f"{path}.{name}" if path else name
        if full.count(".") >= MAX_DEPTH:
            raise Refused(f"Limit of mapping depth [{MAX_DEPTH}] has been exceeded")
        for each in value if isinstance(value, list) else [value]:
            _value(mapping, full, each)


def _value(mapping: dict[str, str], path: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, dict):
        _claim(mapping, path, "object")
        _object(mapping, path, value)
        return
    known = mapping.setdefault(path, _type(value))
    if not _fits(known, value):
        raise Refused(f"failed to parse field [{path}] of type [{known}]")


def _claim(mapping: dict[str, str], path: str, wanted: str) -> None:
    if mapping.setdefault(path, wanted) != wanted:
        raise Refused(f"object mapping for [{path}] tried to parse field as object, but found a concrete value")


def _type(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "long"
    if isinstance(value, float):
        return "float"
    text = str(value)  # Elasticsearch looks for a date only in text that has one of these characters
    return "date" if re.search("[-:/]", text) and DATE.fullmatch(text) else "text"


def _fits(known: str, value: object) -> bool:
    text = str(value)
    if known in ("long", "float"):
        number = re.fullmatch(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", text)
        return not isinstance(value, bool) and bool(number) and (known == "float" or abs(float(text)) < 2**63)
    if known == "boolean":
        return isinstance(value, bool) or text in ("true", "false", "")
    if known == "date":
        return (isinstance(value, int) and not isinstance(value, bool)) or bool(DATE.fullmatch(text))
    return known == "text"
