"""Expands short stories to the alerts that Falco would send, for the tests inside rule files and for our own.

`tini > php-fpm > php-fpm#1 > sh` names a process from the container's first one down (on a host, from what init
started). The same words are the same process; `#1` distinguishes siblings. `setsid=job` gives a process a label, and
`python3=job` is then the same process after it has become python3, wherever it is in the tree by then. A path that
begins with a container runtime (`containerd-shim > bash`) entered the container from outside. Pids and start times are
derived from the paths.
"""

from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

import msgspec

from sidecar.correlation.memory.inits import is_runtime
from sidecar.incidents.falco_event import rfc3339
from sidecar.rules.rule import CorrelationRule
from sidecar.rules.spec import AlertSpec

BEGIN = 1_795_489_388_000_000_000
"""The start of every story: a time of the recordings, in nanoseconds."""

HOUR = 3_600_000_000_000


def alerts(
    rule: CorrelationRule, specs: Sequence[AlertSpec], whole: Sequence[AlertSpec] | None = None
) -> Iterator[bytes]:
    """The JSON alerts of a story in order; an alert with several groups becomes one alert for each, of one event.

    `whole` is the complete story if `specs` are a part of it: it determines when each process started.
    """
    started: dict[int, int] = {}
    born: dict[str, int] = {}
    in_order = sorted(whole or specs, key=lambda spec: spec.at)
    for spec in in_order:
        born.setdefault(_identities(spec)[-1], len(born))
    for spec in in_order:
        started.setdefault(_tree(spec, born)[-1][1], BEGIN + spec.at)
    for spec in specs:
        for name, tags in _falco_rules(rule, spec):
            yield msgspec.json.encode(_alert(spec, name, tags, started, born))


def _falco_rules(rule: CorrelationRule, spec: AlertSpec) -> Iterator[tuple[str, list[str]]]:
    if spec.rule:
        yield spec.rule, []
    for group in spec.detect:
        written = rule.written.groups[group]
        yield (f"{group} by tag", written.tags[:1]) if written.tags else ((written.rules or written.stock)[0], [])
    if not spec.rule and not spec.detect:
        yield "lineage by tag", rule.written.lineage.tags


def _alert(
    spec: AlertSpec, name: str, tags: list[str], started: dict[int, int], born: dict[str, int]
) -> dict[str, Any]:
    fields = _process_fields(spec, started, born)
    return {
        "hostname": "node-1",
        "output": f"{name} | {fields['proc.cmdline']}",
        "output_fields": {**_place(spec), **fields, **spec.fields},
        "priority": "Notice",
        "rule": name,
        "source": "syscall",
        "tags": tags,
        "time": rfc3339(BEGIN + spec.at),
    }


def _place(spec: AlertSpec) -> dict[str, Any]:
    if spec.host:
        return {"container.id": "host"}
    return {
        "container.id": f"{crc32(spec.container.encode()):08x}c0de",
        "container.name": spec.container,
        "container.image.repository": f"registry.example/{spec.container}",
        "k8s.ns.name": "shop",
        "k8s.pod.name": f"{spec.container}-7d9f",
    }


def _words(spec: AlertSpec) -> list[str]:
    """The processes of a path, outermost first."""
    words = [word.strip() for word in spec.process.split(">")]
    if spec.host:
        return ["systemd", *words]
    return words if is_runtime(words[0]) else ["containerd-shim", *words]


def _identities(spec: AlertSpec) -> list[str]:
    """A text for each process of a path that identifies it among all others."""
    words = _words(spec)
    place = "host" if spec.host else spec.container
    labels = [word.partition("=")[2] for word in words]
    return [f"{place}|{label or '>'.join(words[: depth + 1])}" for depth, label in enumerate(labels)]


def _tree(spec: AlertSpec, born: dict[str, int]) -> list[tuple[str, int, int]]:
    """Name, host pid and pid inside the container of each process, outermost first."""
    words = _words(spec)
    is_entered = is_runtime(spec.process.split(">")[0].strip())
    tree = []
    for depth, (word, identity) in enumerate(zip(words, _identities(spec), strict=True)):
        pid = 1 if word == "systemd" and depth == 0 else _pid(identity, born)
        if spec.host:
            vpid = pid
        elif depth == 1 and not is_entered:
            vpid = 1  # the container's first process, below the runtime that `_words` puts in front
        else:
            vpid = pid % 1000 + 2
        tree.append((word.partition("=")[0].partition("#")[0], pid, vpid))
    return tree


def _process_fields(spec: AlertSpec, started: dict[int, int], born: dict[str, int]) -> dict[str, Any]:
    *above, (name, pid, vpid) = _tree(spec, born)
    parent = above[-1] if above else ("", 0, 0)
    fields: dict[str, Any] = {
        "evt.type": "execve",
        "proc.name": name,
        "proc.cmdline": name,
        "proc.pid": pid,
        "proc.pid.ts": started.get(pid, BEGIN - HOUR),
        "proc.vpid": vpid,
        "proc.ppid": parent[1],
        "proc.ppid.ts": started.get(parent[1], BEGIN - HOUR),
        "proc.pvpid": parent[2],
        "proc.sid": 1,
        "proc.tty": 0,
        "user.name": "www-data",
    }
    for step, (name_above, pid_above, _) in enumerate(reversed(above), 1):
        fields[f"proc.aname[{step}]"] = name_above
        if step > 1:
            fields[f"proc.apid[{step}]"] = pid_above
    return fields


def _pid(identity: str, born: dict[str, int]) -> int:
    """A pid that does not change when a story gets more alerts; later processes get larger ones."""
    number = crc32(identity.encode())
    return 2_000_000 + born[identity] * 1000 + number % 1000 if identity in born else 1000 + number % 1_000_000
