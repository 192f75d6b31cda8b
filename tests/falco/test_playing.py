"""Plays without a live engine: what the processes of a scenario look like in the alerts."""

from typing import Any

from e2e import tree
from falco import playing
from falco.ruleset import shipped


def events(*chains: list[str], container: bool = True) -> list[dict[str, Any]]:
    scenario = tree.Scenario("x", container, None, None, frozenset(), list(chains))
    return [fields for _, fields in playing.Player(scenario).play()]


def test_a_program_that_becomes_another_keeps_its_pid() -> None:
    _, shell, client = events(["node app.js", "sh -c 'exec curl x'", "[becomes] curl x"])

    assert (shell["proc.name"], client["proc.name"]) == ("sh", "curl")
    assert shell["proc.pid"] == client["proc.pid"]
    assert client["proc.aname[1]"] == "node"


def test_one_that_forks_twice_is_adopted_by_the_first_process() -> None:
    *_, client = events(["tini", "php-fpm", "[detached] curl x"])

    assert client["proc.aname[1]"] == "tini"


def test_what_a_process_calls_itself_is_its_name_and_not_its_file() -> None:
    (event,) = events(["[exe=/tmp/x,name=perl] x"])

    assert (event["proc.name"], event["proc.exepath"]) == ("perl", "/tmp/x")


def test_a_program_that_listens_shows_the_address() -> None:
    *_, plain, socket, lost = events(["node app.js", "listens 8080", "listens /run/x", "listens ?"])

    assert (plain["fd.sport"], socket["fd.name"], lost["fd.name"]) == (8080, "/run/x", "")


def test_a_watched_play_begins_with_a_sign_of_watching() -> None:
    scenario = tree.Scenario("x", True, None, None, frozenset(), [["nginx", "sh -c id"]], watched=True)
    first, *_ = playing.alerts(scenario, shipped())

    assert first["rule"] == "Program listens on a port"
    assert "falco-correlator-canary" in first["output_fields"]["proc.cmdline"]
