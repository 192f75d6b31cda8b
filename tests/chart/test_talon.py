"""The example rules for Falco Talon: what Talon would accept, what they match of the incidents that we really send."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import DATA, Play, spec
from support import fast_yaml, talon
from support.waiting import wait_until

from sidecar.incidents.falco_event import to_event
from sidecar.model import Notification, Report, Where
from sidecar.rules.rule import CorrelationRule

RESPONSE = Path(__file__).parents[2] / "charts/falco-correlator/response"
FILE: list[dict[str, Any]] = fast_yaml.load((RESPONSE / "talon-rules.yaml").read_text())
ACTIONS = {each["action"]: each for each in FILE if "action" in each}
RULES = {each["rule"]: each for each in FILE if "rule" in each}

STEPS = {
    "critical": [
        "kubernetes:label",
        "kubernetes:networkpolicy",
        "kubernetes:sysdig",
        "kubernetes:tcpdump",
        "kubernetes:log",
        "kubernetes:script",
        "kubernetes:terminate",
    ],
    "high": ["kubernetes:label", "kubernetes:sysdig", "kubernetes:tcpdump", "kubernetes:log", "kubernetes:script"],
    "medium": ["kubernetes:sysdig", "kubernetes:log"],
}

CRITICAL = (
    spec("nginx > sh", "web_shell"),
    spec("nginx > sh > curl", "network", at="1s"),
    spec("nginx > sh > cat", "credential", at="2s"),
)


def events(notes: list[Notification]) -> dict[str, dict[str, Any]]:
    return {note.severity: to_event(note) for note in notes}


def answered(event: dict[str, Any]) -> list[str]:
    """The actionners of the rules that match."""
    matching = [rule for rule in RULES.values() if talon.matches(rule, event)]
    return [ACTIONS[each["action"]]["actionner"] for rule in matching for each in rule["actions"]]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_is_a_dry_run(rule: dict[str, Any]) -> None:
    assert rule["dry_run"] == "true"


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_what_a_rule_matches_is_written_as_talon_demands(rule: dict[str, Any]) -> None:
    match = rule["match"]

    assert set(rule) <= {"rule", "description", "continue", "dry_run", "match", "actions", "notifiers"}
    assert set(match) <= {"rules", "priority", "source", "tags", "output_fields"}
    assert talon.PRIORITY.fullmatch(match["priority"])
    assert all(talon.TAG.fullmatch(tag) for line in match["tags"] for tag in line.replace(" ", "").split(","))
    assert all(talon.FIELD.fullmatch(word) for line in match["output_fields"] for word in line.split(", "))
    assert rule["continue"] in ("true", "false")


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_an_action_has_only_parameters_that_its_actionner_takes(action: dict[str, Any]) -> None:
    known = talon.PARAMETERS[action["actionner"]]

    assert set(action) <= {
        *("action", "actionner", "description", "continue", "ignore_errors", "parameters", "output"),
        "additional_contexts",
    }
    assert all(type(value) is known[name] for name, value in action.get("parameters", {}).items())
    assert {action.get(name, "true") for name in ("continue", "ignore_errors")} <= {"true", "false"}
    if "output" in action:
        assert set(action["output"]["parameters"]) <= talon.OUTPUTS[action["output"]["target"]]
    assert "output" in action or action["actionner"] not in talon.NEEDS_OUTPUT


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_no_shared_action_has_a_list_which_talon_would_wrap_into_another(action: dict[str, Any]) -> None:
    assert not [name for name, value in action.get("parameters", {}).items() if isinstance(value, list)]


def test_parameters_at_a_rules_own_action_are_known_too() -> None:
    for rule in RULES.values():
        for each in rule["actions"]:
            known = talon.PARAMETERS[ACTIONS[each["action"]]["actionner"]]
            assert all(type(value) is known[name] for name, value in each.get("parameters", {}).items())


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_no_action_ends_a_rule_before_its_last(rule: dict[str, Any]) -> None:
    *before, _ = [ACTIONS[each["action"]] for each in rule["actions"]]
    ending = [each["action"] for each in before if each["actionner"] in talon.ENDS_THE_RULE]

    assert [name for name in ending if ACTIONS[name].get("continue") != "true"] == []
    assert [each["action"] for each in before if each.get("ignore_errors") != "true"] == []


def test_each_severity_of_a_real_incident_is_answered_by_its_steps_in_order(play: Play) -> None:
    received = events(play(*CRITICAL))

    assert answered(received["critical"]) == STEPS["critical"]
    assert answered(received["medium"]) == STEPS["medium"]


def test_an_interactive_incident_is_answered_as_high(play: Play) -> None:
    received = events(
        play(spec("nginx > sh", "web_shell", "interactive"), spec("nginx > sh > curl", "network", at="1s"))
    )

    assert answered(received["high"]) == STEPS["high"]


def test_what_is_needed_for_every_action_is_in_the_incident(play: Play) -> None:
    event = events(play(*CRITICAL))["critical"]
    keys = {
        found[1]
        for rule in RULES.values()
        for line in rule["match"]["output_fields"]
        for word in line.split(", ")
        if (found := talon.FIELD.fullmatch(word))
    }
    variables = set(re.findall(r"\$\{(\w+)\}", ACTIONS["Kill the shell"]["parameters"]["script"]))

    assert keys | set(talon.REQUIRED_FIELDS) <= set(event["output_fields"])
    assert variables == {"PROC_VPID", "CONTAINER_NAME"}
    assert event["output_fields"]["proc.vpid"].isdigit()


def test_nothing_is_done_on_a_host_or_in_falcos_own_namespace(play: Play) -> None:
    event = events(play(*CRITICAL))["critical"]
    for name, value in (("container.id", "host"), ("k8s.ns.name", "kube-system"), ("k8s.ns.name", "falco")):
        assert answered({**event, "output_fields": {**event["output_fields"], name: value}}) == []


def test_reports_of_our_own_are_not_answered() -> None:
    where = Where("node-1", "abc", "app", "", "shop", "app-1")

    assert answered(to_event(Report("Correlator degraded", "high", "no alert has come", where, 1))) == []


def test_raw_alerts_are_not_answered() -> None:
    raw = [json.loads(line) for line in (DATA / "stock_alerts.jsonl").read_bytes().splitlines()]

    assert [event for event in raw if event.get("rule") and answered({"tags": [], **event})] == []


def test_the_quarantine_policies_select_the_label_that_the_action_and_the_triage_set(rule: CorrelationRule) -> None:
    ingress, egress = yaml.safe_load_all((RESPONSE / "quarantine.yaml").read_text())
    label = ACTIONS["Quarantine the pod"]["parameters"]["labels"]

    assert label == {"quarantine": "true"}
    assert '"matchLabels":{"quarantine":"true"}' in rule.written.triage[0].pod
    for policy, direction in ((ingress, "Ingress"), (egress, "Egress")):
        assert (policy["kind"], policy["apiVersion"]) == ("NetworkPolicy", "networking.k8s.io/v1")
        assert policy["spec"]["podSelector"] == {"matchLabels": label}
        assert policy["spec"]["policyTypes"] == [direction]
        assert policy["spec"][direction.lower()] == []


def killed(tmp_path: Path, command: list[str], **fields: str) -> bool:
    """Whether the script, run on a process, ends it."""
    victim = subprocess.Popen(command, stdin=subprocess.PIPE)
    wait_until(lambda: Path(f"/proc/{victim.pid}/cmdline").read_bytes().startswith(command[0].encode() + b"\0"))
    script = ACTIONS["Kill the shell"]["parameters"]["script"]
    values = {"proc.vpid": victim.pid, "container.name": "app", **fields}
    mounts = tmp_path / "mountinfo"  # as the kubelet's mount of the termination log looks in a container
    mounts.write_text(
        "1 2 8:1 /var/lib/kubelet/pods/1b2c/containers/app/0a1b2c3d /dev/termination-log rw - ext4 /dev/sda rw\n"
    )
    here = talon.expanded(script, values).replace("/proc/self/mountinfo", str(mounts))
    subprocess.run(["sh", "-c", here], check=False)
    try:
        return victim.wait(0.5) == -9
    except subprocess.TimeoutExpired:
        return False
    finally:
        victim.kill()
        victim.communicate()


@pytest.mark.slow
def test_the_script_kills_a_shell(tmp_path: Path) -> None:
    assert killed(tmp_path, ["sh"])


@pytest.mark.slow
def test_the_script_kills_nothing_in_another_container(tmp_path: Path) -> None:
    assert not killed(tmp_path, ["sh"], **{"container.name": "proxy"})


@pytest.mark.slow
def test_the_script_leaves_another_process_with_that_number_alone(tmp_path: Path) -> None:
    assert not killed(tmp_path, ["sleep", "5"])


@pytest.mark.slow
def test_the_script_does_nothing_without_a_number(tmp_path: Path) -> None:
    assert not killed(tmp_path, ["sh"], **{"proc.vpid": ""})


@pytest.mark.slow
def test_nothing_of_the_attackers_text_reaches_the_script(tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    assert killed(tmp_path, ["sh"], **{"proc.cmdline": f"; touch {trap}", "proc.name": f"$(touch {trap})"})
    assert not trap.exists()
