"""Killed at any point: nothing decided is lost, nothing is sent twice, and evidence counts on."""

import json
import random
import urllib.request
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
from conftest import spec
from correlation.test_oracle import disturbed, machines
from hypothesis import given
from hypothesis import strategies as st
from service.test_supervisor import free_port
from support.crash import Victim

from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.delivery.outbox import Outbox
from sidecar.incidents.falco_event import to_json
from sidecar.model import RANK, Alert, Notification, Outgoing, delivery_key
from sidecar.rules.loading import SHIPPED, load
from sidecar.rules.rule import CorrelationRule
from sidecar.storage.state import State

RULES = load([SHIPPED / "correlation"])


class Life:
    """The pure part of the service on a state file, from a start to a kill."""

    def __init__(self, path: Path) -> None:
        import msgspec

        self.state = State(path, keep=1e9)
        self.sent: list[str] = []
        self.pipeline = Pipeline(RULES, lambda: 0.0, None, Outbox(self.state, []).remember)
        due = [
            message
            for name, body in self.state.recall()
            for message in self.pipeline.restore(name, msgspec.json.decode(body, type=Alert))
        ]
        self.decide([*due, *self.pipeline.flush()])

    def decide(self, due: list[object]) -> None:
        notes = [message for message in due if isinstance(message, Notification)]
        self.state.decide(Outgoing(delivery_key(note, "s"), to_json(note)) for note in notes)

    def feed(self, bodies: list[bytes]) -> None:
        for body in bodies:
            self.decide(list(self.pipeline.process_json(body)[1]))

    def kill(self, *, deliver: bool) -> None:
        for row in self.state.pending("s") if deliver else []:
            self.sent.append(row.key)
            self.state.delivered(row.key)
        self.state.close()


def finals(keys: list[str]) -> dict[str, int]:
    """The strongest severity of each incident."""
    strongest: dict[str, int] = {}
    for key in keys:
        incident, severity, _ = key.split(":")
        strongest[incident] = max(strongest.get(incident, 0), RANK[severity])
    return strongest


@pytest.mark.slow
@given(st.integers(0, 2**32), st.integers(1, 40), st.lists(st.floats(0, 1), max_size=3))
def test_any_stream_shuffled_doubled_cut_and_played_again_gives_the_same_incidents_and_no_extra_notification(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: int, cuts: list[float]
) -> None:
    pair = machines(seed, steps)
    evidence = pair[0].alerts + pair[1].alerts
    in_order = [alert.body for alert in sorted(evidence, key=lambda alert: alert.time)]
    arriving = [alert.body for alert in disturbed(evidence, random.Random(seed), loss=0)]
    whole = Life(tmp_path_factory.mktemp("whole") / "state.db")
    whole.feed(in_order)
    whole.decide(list(whole.pipeline.flush()))
    whole.kill(deliver=True)

    path, sent = tmp_path_factory.mktemp("cut") / "state.db", []
    for cut in [*cuts, 1.0]:
        life = Life(path)
        life.feed(arriving[: int(cut * len(arriving))])  # from the beginning each time: a journal that was lost
        if cut == 1.0:
            life.decide(list(life.pipeline.flush()))
        life.kill(deliver=True)
        sent += life.sent

    assert finals(whole.sent) == finals(sent)
    assert not [key for key, times in Counter(sent).items() if times > 1]


def attacks(rule: CorrelationRule, number: int) -> list[bytes]:
    """Eight containers in which evidence adds up to critical, sent in turns."""
    steps = []
    for container in range(8):
        name = f"c{number}-{container}"
        steps.append(
            [
                spec("tini > nginx > sh", "web_shell", container=name),
                spec("tini > nginx > sh > curl", "network", at="1s", container=name),
                spec("tini > nginx > sh > cat", "credential", at="2s", container=name),
            ]
        )
    return [body for turn in zip(*steps, strict=True) for each in turn for body in alerts(rule, [each])]


@pytest.mark.slow
def test_killed_at_random_points_every_escalation_arrives_once_by_its_key(
    tmp_path: Path, rule: CorrelationRule
) -> None:
    judged = killed_at_random_points(tmp_path, rule, kills=8, seed=1)

    assert judged == (0, 0)


def killed_at_random_points(folder: Path, rule: CorrelationRule, *, kills: int, seed: int) -> tuple[int, int]:
    """Kill both processes while alerts come in; gives how many escalations were lost, and how many were sent again.

    A kill between send and mark sends the same bytes under the same key again: a receiver that goes by the key sees
    one. Anything else would be a second notification, but for a line that a kill cut short: it comes again as a whole.
    """
    rng = random.Random(seed)
    victim = Victim(folder, free_port())
    expected, numbers = set(), count()
    while kills:
        number = next(numbers)
        bodies = attacks(rule, number)
        expected |= {f"c{number}-{container}" for container in range(8)}
        stop_at = rng.randrange(len(bodies))
        for index, body in enumerate(bodies):
            if index == stop_at:
                victim.kill_all()
                victim.start()
                kills -= 1
            urllib.request.urlopen(f"http://127.0.0.1:{victim.port}/", body).read()
    victim.stop()
    distinct = set(victim.sink.read_bytes().splitlines())
    distinct -= {line for line in distinct if any(other.startswith(line) and other != line for other in distinct)}
    events = [json.loads(line)["output_fields"] for line in distinct]
    critical = {fields["container.name"] for fields in events if fields["incident.severity"] == "critical"}
    keys = {(fields["incident.id"], fields["incident.severity"]) for fields in events}
    return len(expected - critical), len(distinct) - len(keys)
