"""House rules that no linter knows: sizes, module docstrings, names, and what may be in the repository."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(p for p in (ROOT / "sidecar").rglob("*.py") if "_proto" not in p.parts)
LONGEST_MODULE = 400
LONGEST_FUNCTION = 40
MOST_MODULES = 10
"""In one folder, beside its docstring."""

of_the_repository = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a source distribution, without git")


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


def test_a_module_says_why_it_exists() -> None:
    assert [path for path in MODULES if path.read_text() and not ast.get_docstring(parsed(path))] == []


def test_modules_and_functions_stay_readable() -> None:
    assert [path for path in MODULES if path.read_text().count("\n") > LONGEST_MODULE] == []
    lengths = [(path.name, name, lines) for path in MODULES for name, lines in functions(path)]
    assert [each for each in lengths if each[2] > LONGEST_FUNCTION] == []


def folders() -> list[Path]:
    return sorted({path.parent for path in MODULES if path.parent != ROOT / "sidecar"})


def test_a_room_says_what_belongs_there_and_holds_at_most_ten_modules() -> None:
    documents = {folder: ast.get_docstring(parsed(folder / "__init__.py")) or "" for folder in folders()}

    assert [folder for folder, text in documents.items() if "Belongs here:" not in text] == []
    assert [folder for folder in documents if len(list(folder.glob("[!_]*.py"))) > MOST_MODULES] == []


def test_the_tests_of_a_room_stand_in_a_folder_of_its_name() -> None:
    rooms = {path.relative_to(ROOT / "sidecar").parts[0] for path in folders()}
    others = {"chart", "data", "e2e", "falco", "golden", "image", "project", "stories", "support"}
    tests = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}

    assert {path.relative_to(ROOT / "tests").parts[0] for path in tests if path != ROOT / "tests"} <= rooms | others
    assert rooms <= {path.relative_to(ROOT / "tests").parts[0] for path in tests if path != ROOT / "tests"}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name]


@of_the_repository
def test_no_file_names_a_machine_path_or_a_package_registry() -> None:
    forbidden = re.compile(r"/work/|/root/\.pyenv|(?:index|extra-index)-url|registry\.npmjs|pypi\.org/simple")
    texts = {path: path.read_text(errors="replace") for path in tracked() if path.name != "test_house.py"}

    assert [str(path) for path, text in texts.items() if forbidden.search(text)] == []


def is_foreign_lock(path: Path) -> bool:
    """Whether this is a lock file, other than that of the plugin, which names no host."""
    return path.suffix == ".lock" and path != ROOT / "plugin" / "Cargo.lock"


@of_the_repository
def test_no_file_is_large_and_there_is_no_lock_file() -> None:
    assert [str(path) for path in tracked() if path.stat().st_size > 1_000_000 or is_foreign_lock(path)] == []


def test_every_module_has_tests_of_its_name_or_is_named_by_those_that_cover_it() -> None:
    documents = [ast.get_docstring(parsed(path)) or "" for path in (ROOT / "tests").rglob("test_*.py")]
    covered = {name for text in documents for name in re.findall(r"`([\w.]+)`", text.partition("Covers:")[2])}
    missing = []
    for path in MODULES:
        place = path.relative_to(ROOT / "sidecar")
        own = ROOT / "tests" / place.parent / f"test_{place.name}"
        name = ".".join(place.with_suffix("").parts)
        if not place.name.startswith("__") and not own.exists() and name not in covered:
            missing.append(name)

    assert missing == []


CLOCK = re.compile(r"\btime\.(?:monotonic|perf_counter|process_time|sleep)\b|\basyncio\.sleep\((?!0\))")
MAY_USE_CLOCKS = {
    "support/waiting.py": "polls until a deadline, for all others",
    "support/cost.py": "measures CPU time, as a multiple of the machine's own speed",
    "support/stock_client.py": "is a client that asks at its own pace, in a process of its own",
    "support/crash.py": "kills a worker after a random life, and is a receiver that is slow",
    "support/slow_disk.py": "measures answers on a slow disk, at a rate",
    "support/mixed.py": "kills workers slower than a crash loop, and sends at a pace",
    "support/damage.py": "a start that hangs is one of the outcomes",
    "sources/test_grpc.py": "a pause has a shortest length, which a slow machine only makes longer",
    "chart/cluster.py": "the deadline is that of the chart's startup probe",
    "e2e/engine.py": "waits for a live Falco",
    "e2e/__main__.py": "plays under a live Falco",
    "e2e/player.py": "plays under a live Falco",
    "e2e/older_servers.py": "plays under a live Falco",
    "support/floods.py": "measures how long others wait during a flood, and how large files get",
    "support/receiver_troubles.py": "a receiver fails for as long as the soak says",
    **dict.fromkeys(
        (
            f"e2e/real/{name}.py"
            for name in (
                *(
                    "__main__",
                    "attacks",
                    "load",
                    "network",
                    "places",
                    "restarts",
                    "runs",
                    "services",
                    "watchers",
                    "work",
                ),
            )
        ),
        "attacks real services under a live Falco",
    ),
}
"""Files of the tests that look at the time or sleep, and why. All others wait with `wait_until` or turn a clock."""


def test_no_test_sleeps_or_looks_at_the_time() -> None:
    folder = ROOT / "tests"
    texts = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.py")}
    found = {name for name, text in texts.items() if CLOCK.search(text)} - {"project/test_house.py"}

    assert found - set(MAY_USE_CLOCKS) == set()
    assert set(MAY_USE_CLOCKS) - found == set(), "no longer needed"
