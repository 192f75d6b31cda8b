"""The documentation is true: commands on its pages run and say what is shown, settings load, references are current."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import click
import msgspec
import pytest
import reference
from conftest import DATA
from support import fast_yaml
from support.certificates import make_ca

from sidecar.cli.main import main
from sidecar.rules.loading import SHIPPED
from sidecar.settings import loading
from sidecar.settings.schema import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
BIN = Path(sys.executable).parent


class Block(NamedTuple):
    """A fenced block: language, the title that names its file, and what is in it."""

    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', page.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(*each) for each in found]


def is_run(page: Path) -> bool:
    return any(block.language == "sh" for block in blocks(page))


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder as a reader has it: recorded alerts, Falco's settings, a settings file."""
    (tmp_path / "alerts.jsonl").write_bytes((DATA / "stock_alerts.jsonl").read_bytes())
    (tmp_path / "falco.yaml").write_bytes((SHIPPED / "config.d" / "falco-0.44.yaml").read_bytes())
    (tmp_path / "falco-correlator.yaml").write_text("sinks: {stdout: {enabled: true}}\n")
    return tmp_path


def ran(script: str, folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "COLUMNS": "100", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if is_run(page)], ids=lambda page: page.name)
def test_following_a_page_word_by_word_gives_what_the_page_shows(page: Path, desk: Path) -> None:
    """Blocks marked `sh` are run in turn, a block with a title is written to that file; `text` is what was printed."""
    listed = blocks(page)
    for block, after in zip(listed, [*listed[1:], Block("", "", "")], strict=True):
        if block.title:
            (desk / block.title).write_text(block.text)
        if block.language == "sh":
            code, output = ran(block.text, desk)
            if after.language == "text":
                assert output == after.text
            else:
                assert code == 0, output


@pytest.mark.slow
def test_the_page_on_rules_ends_with_a_rule_of_ones_own_that_is_tested(desk: Path) -> None:
    """The page's rule, and the one that it lets propose, give incidents in the running engine."""
    page = DOCS / "write-a-rule.md"
    test_following_a_page_word_by_word_gives_what_the_page_shows(page, desk)

    assert ran("falco-correlator test crypto-mining.yaml from-my-alerts.yaml", desk)[0] == 0
    assert "No incident." not in ran("falco-correlator replay -r from-my-alerts.yaml alerts.jsonl", desk)[1]


def settings_files() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in blocks(page):
            if block.text.startswith("# falco-correlator.yaml"):
                yield page.name, block.text


@pytest.mark.parametrize(
    ("page", "text"),
    [pytest.param(*each, marks=[pytest.mark.slow] if "/tls/tls.crt" in each[1] else []) for each in settings_files()],
)
def test_each_settings_file_on_a_page_would_start_the_service(page: str, text: str, tmp_path: Path) -> None:
    if "/tls/tls.crt" in text:
        ca = make_ca(tmp_path)
        pair = ca.issue("x")
        for name, file in (("tls.crt", pair.cert), ("tls.key", pair.key), ("ca.crt", ca.cert)):
            text = text.replace(f"/etc/falco-correlator/tls/{name}", str(file))
    (tmp_path / "falco-correlator.yaml").write_text(text)

    assert loading.load(tmp_path / "falco-correlator.yaml", {}).sinks.falcosidekick.url


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_yaml_on_a_page_is_yaml(page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml":
            assert fast_yaml.load(block.text)


def chart_values(values: Any, path: str = "") -> Iterator[str]:
    """Every value of the chart by its path: `rules.local`."""
    yield path
    if isinstance(values, dict):
        for key, below in values.items():
            yield from chart_values(below, f"{path}.{key}".lstrip("."))


@cache
def known_metrics() -> set[str]:
    return set(re.findall(r"`(falco_correlator_\w+)`", reference.metrics_page()))


@cache
def known_settings() -> set[str]:
    values = fast_yaml.load((ROOT / "charts/falco-correlator/values.yaml").read_text())
    return {*loading.variables().values(), "sinks.grpc.tls", "http.tls", "sinks.grpc", *chart_values(values)}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "upgrading.md"], ids=lambda page: page.name)
def test_a_page_names_only_metrics_settings_and_commands_that_exist(page: Path) -> None:
    text = page.read_text()
    sections = "|".join(each.name for each in msgspec.structs.fields(Settings))
    named = set(re.findall(rf"`((?:{sections})\.[a-z_.]+)[`:]", text))
    commands = set(
        re.findall(r"falco-correlator (run|demo|replay|check|test|doctor|schema|version|[a-z]+-rule)\b", text)
    )

    assert set(re.findall(r"falco_correlator_\w+", text)) - known_metrics() == set()
    assert named - known_settings() - {"state.db", "canary_rules.yaml"} == set()
    assert commands <= set(main.list_commands(click.Context(main)))


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_that_of_the_code(name: str) -> None:
    assert (DOCS / "reference" / name).read_text() == reference.PAGES[name](), "run: make docs"


def test_every_setting_says_what_it_means() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (.*) \| (.*) \|$", reference.settings_page(), re.MULTILINE)

    assert {name for name, _, _ in rows} == set(loading.variables().values())
    assert [name for name, _, meaning in rows if not meaning.strip()] == []


def test_every_page_is_in_the_navigation() -> None:
    listed = (ROOT / "mkdocs.yml").read_text()
    pages = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")]

    assert [page for page in pages if page not in listed] == []


@pytest.mark.parametrize("drawing", sorted((DOCS / "images").glob("*.svg")), ids=lambda path: path.name)
def test_a_drawing_has_a_title_both_themes_and_nothing_from_elsewhere(drawing: Path) -> None:
    text = drawing.read_text()
    root = ET.fromstring(text)  # noqa: S314 - our own file

    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert "prefers-color-scheme:dark" in text
    assert "<script" not in text
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []


@pytest.mark.slow
def test_the_site_is_built_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [BIN / "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    pages = list((tmp_path / "site").rglob("*.html"))
    loaded = re.compile(r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//|<link[^>]+href=\"(?:https?:)?//")

    assert done.returncode == 0, done.stderr
    assert len(pages) > 15
    assert [str(page) for page in pages if loaded.search(page.read_text())] == []
