"""House rules that no linter knows: sizes, module docstrings, names, and what may be in the repository."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(p for p in (ROOT / "sidecar").rglob("*.py") if "_proto" not in p.parts)
LONGEST_MODULE, LONGEST_FUNCTION = 300, 40


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def functions(path: Path) -> list[tuple[str, int]]:
    """Name and length (without the docstring) of each function."""
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            document = ast.get_docstring(node, clean=False)
            found.append((node.name, lines - (document.count("\n") + 1 if document else 0)))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_why_it_exists_and_stays_readable(path: Path) -> None:
    text = path.read_text()

    assert ast.get_docstring(parsed(path)) or not text
    assert text.count("\n") <= LONGEST_MODULE
    assert [(name, lines) for name, lines in functions(path) if lines > LONGEST_FUNCTION] == []


def test_the_typical_function_has_at_most_eight_lines() -> None:
    lengths = sorted(lines for path in MODULES for _, lines in functions(path))

    assert lengths[len(lengths) // 2] <= 8
    assert lengths[len(lengths) * 9 // 10] <= 20


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name]


def test_no_file_names_a_machine_path_or_a_package_registry() -> None:
    forbidden = re.compile(r"/work/|/root/\.pyenv|(?:index|extra-index)-url|registry\.npmjs|pypi\.org/simple")
    texts = {path: path.read_text(errors="replace") for path in tracked() if path.name != "test_house.py"}

    assert [str(path) for path, text in texts.items() if forbidden.search(text)] == []


def test_no_file_is_large_and_there_is_no_lock_file() -> None:
    assert [str(path) for path in tracked() if path.stat().st_size > 1_000_000 or path.suffix == ".lock"] == []
