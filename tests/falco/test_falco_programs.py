"""The macros that know a program by its file are made from the lists of names, and hold for exactly those."""

import falco_programs
import pytest
from falco.condition import compiled
from falco.event import Event
from falco.ruleset import shipped
from hypothesis import given
from hypothesis import strategies as st
from support import fast_yaml

TABLE = fast_yaml.load(falco_programs.TABLE.read_text())
NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9.+-]{0,20}", fullmatch=True), min_size=1, max_size=60, unique=True)


def test_the_rules_file_is_current() -> None:
    text = falco_programs.RULES.read_text()
    assert text == falco_programs.programs(falco_programs.lists(text, TABLE)), "run: make docs"


def test_every_list_of_the_rules_that_the_table_has_is_made_from_it() -> None:
    made = set(falco_programs.LIST.findall(falco_programs.RULES.read_text()))
    assert made == set(falco_programs.LISTS)


def plain(kind: str) -> list[str]:
    """The names of a kind, of each pattern the shortest that it describes."""
    return [name.replace("*", "") for name in TABLE[kind]["files"] if not name.startswith("*")]


@pytest.mark.parametrize("name", sorted({*plain("runtimes")} - {"flask", "mojo", "starman", "bundle"}))  # scripts
def test_the_rules_see_what_each_runtime_of_the_table_starts(name: str) -> None:
    runtime = {"proc.aexepath[1]": f"/opt/x/{name}", "proc.aname[1]": name}
    assert shipped().macros["webrce_below_service"](Event(runtime)), f"webrce_below_service does not know {name}"


@pytest.mark.parametrize("name", plain("interpreters"))
def test_the_rules_know_each_interpreter_of_the_table_by_its_file(name: str) -> None:
    assert shipped().macros["webrce_interpreter"](Event({"proc.exepath": f"/opt/x/{name}", "proc.name": "x"})), (
        f"webrce_interpreter does not know {name}"
    )


@given(NAMES, st.from_regex(r"[a-z][a-z0-9.+-]{0,20}", fullmatch=True))
def test_they_hold_for_the_names_and_for_no_other(names: list[str], other: str) -> None:
    checks = [compiled(check, {}, {}) for check in falco_programs.conditions(names, "proc.exepath")]

    def holds(path: str) -> bool:
        return any(check(Event({"proc.exepath": path})) for check in checks)

    assert all(holds(f"/usr/bin/{name}") and holds(f"/sbin/{name}") for name in names)
    assert holds(f"/bin/{other}") == (other in names)
    assert holds(f"/opt/{names[0]}/{other}x") == (f"{other}x" in names)


@given(NAMES)
def test_no_value_is_longer_than_the_engine_accepts(names: list[str]) -> None:
    values = [check.partition('"')[2][:-1] for check in falco_programs.conditions(names, "proc.aexepath[2]")]
    assert max(map(len, values)) <= falco_programs.LONGEST_VALUE


@pytest.mark.parametrize("whose", falco_programs.FIELDS)
def test_the_rules_have_a_macro_for_each_generation(whose: str) -> None:
    assert f"_by_{whose} # made" in falco_programs.RULES.read_text()
