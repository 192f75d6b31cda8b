"""Line numbers in a YAML file for paths such as `tests[0].alerts[2].detect`."""

import re
from pathlib import Path

import yaml

_PATH = re.compile(r"[A-Za-z0-9_.\[\]-]+(?=: )")


def line(file: Path, path: str) -> int:
    """The line of the deepest part of a path that the file has; 0 if it has none or cannot be read."""
    try:
        node = yaml.compose(file.read_text(), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return 0
    deepest = 0
    while node is not None and path:
        node, number, path = _step(node, path)
        deepest = number or deepest
    return deepest


def located(file: Path, problem: str) -> str:
    """A problem `path: what is wrong` after its file and line, which editors recognise: `rule.yaml:12: path: ...`."""
    path = _PATH.match(problem)
    number = line(file, path[0]) if path else 0
    return f"{file}:{number}: {problem}" if number else f"{file}: {problem}"


def _step(node: yaml.Node, path: str) -> tuple[yaml.Node | None, int, str]:
    """The node one step down, its line, and the rest of the path."""
    if isinstance(node, yaml.SequenceNode) and (index := re.match(r"\[(\d+)\]", path)):
        if int(index[1]) < len(node.value):
            inner = node.value[int(index[1])]
            return inner, inner.start_mark.line + 1, path[index.end() :].removeprefix(".")
    elif isinstance(node, yaml.MappingNode):
        keys = [pair for pair in node.value if re.match(re.escape(str(pair[0].value)) + r"(?=[.\[]|$)", path)]
        if keys:
            key, inner = max(keys, key=lambda pair: len(pair[0].value))
            return inner, key.start_mark.line + 1, path[len(key.value) :].removeprefix(".")
    return None, 0, ""
