"""Documents and messages use plain English: none of the phrases in tests/data/words_to_avoid.txt."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "bench/*.md", "falco_rules/**/*.md", "charts/**/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)
CHART = ROOT / "charts" / "falco-correlator"
CHART_TEXTS = [
    CHART / "values.yaml",
    *sorted((CHART / "templates").glob("*")),
    *sorted((CHART / "overlays").glob("*.yaml")),
    *sorted((CHART / "dashboards").glob("*.json")),
]

MODULES = sorted(path for path in (ROOT / "sidecar").rglob("*.py") if "_proto" not in path.parts)


class Phrase(NamedTuple):
    """A phrase to avoid and what to write instead."""

    pattern: re.Pattern[str]
    better: str


def phrases() -> list[Phrase]:
    lines = (ROOT / "tests/data/words_to_avoid.txt").read_text().splitlines()
    pairs = [re.split(r"\t+", line) for line in lines if line and not line.startswith("#")]
    return [
        Phrase(re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])", re.IGNORECASE), better) for pattern, better in pairs
    ]


PHRASES = phrases()
ANY_PHRASE = re.compile("|".join(phrase.pattern.pattern for phrase in PHRASES), re.IGNORECASE)
"""All at once: looking for each in each line takes five times as long."""


def without_code(markdown: str) -> str:
    """The prose of a Markdown file: blocks and quoted code are blanked, so that lines keep their numbers."""
    blocks = re.sub(r"^```.*?^```", lambda found: "\n" * found[0].count("\n"), markdown, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", blocks)


def found(text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        for phrase in PHRASES if ANY_PHRASE.search(line) else ():
            if hit := phrase.pattern.search(line):
                yield f"line {number}: {hit[0]!r} (better: {phrase.better}): {line.strip()[:120]}"


def test_documents_use_plain_english() -> None:
    assert {path: hits for path in DOCUMENTS if (hits := list(found(without_code(path.read_text()))))} == {}


def test_texts_of_the_chart_use_plain_english() -> None:
    texts = {path: path.read_text() for path in CHART_TEXTS if path.is_file()}

    assert {path: hits for path, text in texts.items() if (hits := list(found(text)))} == {}


def prose(path: Path) -> Iterator[str]:
    """Docstrings, messages and help of a module: every text of three words or more, with its place."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") >= 2:
            for hit in found(without_code(node.value)):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {hit}"


def test_modules_use_plain_english() -> None:
    assert [hit for path in MODULES for hit in prose(path)] == []


def test_a_phrase_is_found_as_a_whole_word_and_with_its_line() -> None:
    hits = [line.split(": ")[:2] for line in found("there is no sink\nit was told\nthe theme\nThis is no alert")]

    assert [number for number, _ in hits] == ["line 2", "line 4"]
