"""A run of `make e2e-real` is judged by whose alerts and notifications are whose."""

from collections import Counter

import pytest
from e2e.judge import Note
from e2e.real import __main__ as command
from e2e.real.attacks import ATTACKS, case, is_told
from e2e.real.places import container_id
from e2e.real.runs import PLACES, planned
from e2e.real.services import SERVICES
from e2e.real.verdicts import ELSEWHERE, Owners, notes_by_run, outcome, per_hour


def test_without_falco_it_says_that_it_is_skipped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["e2e.real"])
    command.main()
    assert capsys.readouterr().out.startswith("SKIPPED: no Falco given")


def test_an_alert_of_a_container_is_of_the_run_in_it() -> None:
    owners = Owners(["shop"])
    assert owners.of_alert({"output_fields": {"container.id": container_id("shop")[:12]}}) == "shop"


def test_an_alert_on_the_host_is_of_the_run_whose_cgroup_it_is_in() -> None:
    owners = Owners(["shop"])
    groups = f"cpu=/ cpuacct=/falco-correlator-e2e/{container_id('shop')[:6]}-shop"
    assert owners.of_alert({"output_fields": {"container.id": "host", "thread.cgroups": groups}}) == "shop"


def test_other_work_on_this_machine_is_of_no_run() -> None:
    fields = {"container.id": "host", "thread.cgroups": "cpuacct=/", "proc.pid": 7}
    assert Owners(["shop"]).of_alert({"output_fields": fields}) == ELSEWHERE


def test_a_notification_on_the_host_is_of_the_run_whose_process_it_names() -> None:
    owners = Owners(["shop"], {"71": [(0, "shop")]})
    fields = {"incident.id": "i", "incident.severity": "Medium", "incident.next": "2. End it: sh 71:1795870584"}
    notes = notes_by_run([{"rule": "Shell Execution Detected", "output_fields": fields}], owners)
    assert [note for note, _ in notes["shop"]] == [Note("medium", "Shell Execution Detected", "i")]


def test_a_notification_is_of_the_run_that_had_the_pid_at_its_time() -> None:
    owners = Owners(["shop", "cron"], {"71": [(5e9, "shop"), (90e9, "cron")]})
    fields = {"incident.id": "i", "incident.severity": "Medium", "incident.next": "sh 71:1795870584"}
    sent = {"rule": "Shell Execution Detected", "time": "1970-01-01T00:00:06.5Z", "output_fields": fields}
    assert [*notes_by_run([sent], owners)] == ["shop"]


def test_the_worst_case_counts() -> None:
    assert outcome([Note("critical", "Full", "i"), Note("medium", "Shell", "i")]) == "Full"


def test_two_incidents_for_one_attack_are_wrong() -> None:
    assert outcome([Note("medium", "Shell", "i"), Note("medium", "Shell", "j")]) == "Shell in 2 incidents"


def test_alerts_are_told_per_hour() -> None:
    assert [*per_hour(Counter({"Network utility": 3}), 60)] == ["         180  Network utility"]


def test_every_attack_must_be_told_somewhere() -> None:
    assert [attack.name for attack in ATTACKS if case(attack.container) == "silence"] == []


def test_an_equally_severe_case_of_some_groups_is_right_as_well() -> None:
    told = [name for name in ("Shell Execution Detected", "silence") if is_told("WSN", name)]
    assert told == ["Shell Execution Detected"]


def test_at_least_sixty_attacks_are_planned() -> None:
    plan = [*planned(3, [*SERVICES])]
    assert len(plan) >= 60
    assert {run.where for run in plan} == {*PLACES}
    assert len({run.name for run in plan}) == len(plan)
