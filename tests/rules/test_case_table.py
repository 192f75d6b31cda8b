"""The case table, exhaustively, from the bytes that Falco posts to the bytes that Falcosidekick gets."""

from collections import Counter, defaultdict
from itertools import permutations, product
from typing import Any

import pytest
from conftest import Serving, spec
from support.falcosidekick import Falcosidekick

from sidecar.cli.testing.stories import alerts
from sidecar.rules.rule import CorrelationRule

GROUPS = ("web_shell", "shell_technique", "network", "credential", "interactive")

NOTHING = None
FULL = ("critical", "Full Web Application Compromise")
CREDENTIAL_I = ("high", "Web Shell with Credential Theft (interactive)")
NETWORK_I = ("high", "Web Shell with Network Activity (interactive)")
CREDENTIAL = ("medium", "Web Shell with Credential Theft")
NETWORK = ("medium", "Web Shell with Network Activity")
SHELL = ("medium", "Shell Execution Detected")

# Read off the table of the design by hand: with W, for (S, N, C, I).
ORACLE = {
    (0, 0, 0, 0): NOTHING, (0, 0, 0, 1): NOTHING,
    (0, 0, 1, 0): CREDENTIAL, (0, 0, 1, 1): CREDENTIAL_I,
    (0, 1, 0, 0): NETWORK, (0, 1, 0, 1): NETWORK_I,
    (0, 1, 1, 0): FULL, (0, 1, 1, 1): FULL,
    (1, 0, 0, 0): SHELL, (1, 0, 0, 1): SHELL,
    (1, 0, 1, 0): FULL, (1, 0, 1, 1): FULL,
    (1, 1, 0, 0): NETWORK, (1, 1, 0, 1): NETWORK_I,
    (1, 1, 1, 0): FULL, (1, 1, 1, 1): FULL,
}  # fmt: skip

RANK = {"medium": 1, "high": 2, "critical": 3}
STATES = list(product((0, 1), repeat=5))
ORDERS = list(permutations(GROUPS))


def oracle(groups: set[str]) -> tuple[str, str] | None:
    if "web_shell" not in groups:
        return NOTHING
    return ORACLE[tuple(int(group in groups) for group in GROUPS[1:])]  # type: ignore[index]


def expected_notifications(order: tuple[str, ...]) -> list[tuple[str, str]]:
    """Each step up in severity while the groups arrive one after another."""
    notes: list[tuple[str, str]] = []
    for count in range(1, 6):
        case = oracle(set(order[:count]))
        if case and (not notes or RANK[case[0]] > RANK[notes[-1][0]]):
            notes.append(case)
    return notes


def sent(
    serving: Serving, sidekick: Falcosidekick, rule: CorrelationRule, stories: dict[str, tuple[str, ...]]
) -> dict[str, list[dict[str, Any]]]:
    """Post each story (groups in order, one a second) from a container of its own; notifications by container."""
    with serving({"sinks": {"falcosidekick": {"url": sidekick.url}}, "pass_through": {"mode": "none"}}) as service:
        for name, groups in stories.items():
            story = [
                spec("tini > nginx > sh > tool", group, at=f"{second}s", container=name)
                if group != "web_shell"
                else spec("tini > nginx > sh", group, at=f"{second}s", container=name)
                for second, group in enumerate(groups)
            ]
            for body in alerts(rule, story):
                assert service.post(body) == 200
    by_container = defaultdict(list)
    for event in sidekick.events:
        by_container[event["output_fields"]["container.name"]].append(event)
    return by_container


def cases(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(e["output_fields"]["incident.severity"], e["output_fields"]["incident.case"]) for e in events]


def test_the_oracle_counts_18_silent_5_medium_3_high_and_6_critical_states() -> None:
    found = Counter(
        case[0] if (case := oracle({g for g, on in zip(GROUPS, state, strict=True) if on})) else "nothing"
        for state in STATES
    )

    assert found == {"nothing": 18, "medium": 5, "high": 3, "critical": 6}


@pytest.mark.slow
def test_all_32_states_end_in_their_case(serving: Serving, sidekick: Falcosidekick, rule: CorrelationRule) -> None:
    stories = {
        "".join(map(str, state)): tuple(g for g, on in zip(GROUPS, state, strict=True) if on) for state in STATES
    }
    events = sent(serving, sidekick, rule, stories)

    for name, groups in stories.items():
        wanted = oracle(set(groups))
        assert next(reversed(cases(events[name])), NOTHING) == wanted or _better_row_was_silent(
            cases(events[name]), wanted
        )


def _better_row_was_silent(got: list[tuple[str, str]], wanted: tuple[str, str] | None) -> bool:
    # W+S, then N: the same severity, so the case changed without a word.
    return wanted is not None and bool(got) and got[-1] == SHELL and wanted == NETWORK


@pytest.mark.slow
def test_all_120_orders_notify_once_a_step_under_one_incident(
    serving: Serving, sidekick: Falcosidekick, rule: CorrelationRule
) -> None:
    stories = {f"order-{number}": order for number, order in enumerate(ORDERS)}
    events = sent(serving, sidekick, rule, stories)

    ladders: Counter[tuple[str, ...]] = Counter()
    for name, order in stories.items():
        got = events[name]
        assert cases(got) == expected_notifications(order)
        assert len({event["output_fields"]["incident.id"] for event in got}) == 1
        assert [event["output_fields"]["incident.step"] for event in got] == [str(i + 1) for i in range(len(got))]
        ladders[tuple(severity for severity, _ in cases(got))] += 1

    assert ladders == {
        ("critical",): 50,
        ("medium", "critical"): 28,
        ("high", "critical"): 22,
        ("medium", "high", "critical"): 20,
    }


@pytest.mark.slow
def test_every_notification_is_accepted_by_falcosidekick_uncut(
    serving: Serving, sidekick: Falcosidekick, rule: CorrelationRule
) -> None:
    sent(serving, sidekick, rule, {"all": GROUPS})

    assert sidekick.refused == 0
    assert not any("[...]" in str(event) for event in sidekick.events)
    assert sidekick.keys == [
        f"{event['output_fields']['incident.id']}:{event['output_fields']['incident.severity']}:falcosidekick"
        for event in sidekick.events
    ]
