"""Reads YAML and JSON that others define: Falco's settings and rules, Helm values, what kubectl prints.

Unlike our own files they may have several documents, anchors, and duplicate keys. Each value keeps its line, also in
YAML that is text within YAML, as in a ConfigMap.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sidecar.errors import ConfigError
from sidecar.yamlfile.typed import yaml_problem

MAX_BYTES = 8 * 1024 * 1024

MAX_DEPTH = 100
"""Levels of nesting; PyYAML calls itself for each."""

MAX_ALIASES = 200
"""In one file: merge keys multiply what they stand for."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Key = str | int


class Document(NamedTuple):
    """One document: what it holds, its nodes for their lines, and the lines of the file before it."""

    data: Any
    node: yaml.Node | None
    above: int = 0

    def line(self, *keys: Key) -> int:
        """The line of a value, or of the deepest part of the way to it that there is."""
        node, number = self.node, self.node.start_mark.line + 1 if self.node else 1
        for key in keys:
            found = _inner(node, key)
            if found is None:
                break
            number, node = found
        return self.above + number

    def part(self, *keys: Key) -> "Document":
        """The part below these keys, which must be there, with its lines in the whole."""
        data, node = self.data, self.node
        for key in keys:
            data = data[key]
            found = _inner(node, key)
            node = found[1] if found else None
        return Document(data, node, self.above)

    def text(self, where: str, *keys: Key) -> "Document":
        """The YAML in the text below these keys. Raises ConfigError."""
        part = self.part(*keys)
        is_block = isinstance(part.node, yaml.ScalarNode) and part.node.style in ("|", ">")
        start = part.node.start_mark.line + (1 if is_block else 0) if part.node else 0
        inner = documents(str(part.data).encode(), where)
        document = inner[0] if inner else Document(None, None)
        return document._replace(above=self.above + start if is_block else self.line(*keys) - 1)


def read(path: Path) -> list[Document]:
    """The documents of a file. Raises ConfigError with file and line if it cannot be read or is not YAML."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise ConfigError(str(path), ["is a directory; name the files in it"]) from None
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from None
    return documents(data, str(path))


def documents(data: bytes, where: str) -> list[Document]:
    """The documents in YAML or JSON text; `where` names it. Raises ConfigError."""
    if len(data) > MAX_BYTES:
        raise ConfigError(where, [f"is larger than {MAX_BYTES} bytes"])
    try:
        _refuse_bombs(data)
        return list(_documents(data))
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:  # TypeError: a key that is a list
        raise ConfigError(where, [f"is not YAML: {yaml_problem(error)}"]) from None


def _documents(data: bytes) -> Iterator[Document]:
    loader = _Loader(data)
    try:
        while loader.check_node():
            node = loader.get_node()
            yield Document(loader.construct_document(node), node)
    finally:
        loader.dispose()


def _refuse_bombs(data: bytes) -> None:
    depth = aliases = 0
    for event in yaml.parse(data, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        aliases += isinstance(event, yaml.AliasEvent)
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        if aliases > MAX_ALIASES:
            raise ValueError(f"more than {MAX_ALIASES} aliases")


def _inner(node: yaml.Node | None, key: Key) -> tuple[int, yaml.Node] | None:
    """Line and node of what a mapping or a list holds under a key."""
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key].start_mark.line + 1, node.value[key]
    if isinstance(node, yaml.MappingNode):
        for name, value in reversed(node.value):  # of duplicates, the last one counts
            if name.value == str(key):
                return name.start_mark.line + 1, value
    return None
