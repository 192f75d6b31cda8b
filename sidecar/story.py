"""Stories in short form become the alerts that Falco would send: for the tests inside rule files, and for our own.

`tini > php-fpm > php-fpm#1 > sh` names a process from the container's first one down; the same words are the same
process, `#1` tells siblings apart. Pids and start times follow from the words, so that stories need no numbers.
"""

from collections.abc import Iterable, Iterator
from typing import Any
from zlib import crc32

import msgspec

from sidecar.incident import rfc3339
from sidecar.lineage import is_runtime
from sidecar.rules import AlertSpec, CorrelationRule

BEGIN = 1_795_489_388_000_000_000
"""When stories begin: a time of the recordings, in nanoseconds."""


def alerts(rule: CorrelationRule, specs: Iterable[AlertSpec]) -> Iterator[bytes]:
    """The JSON alerts of a story in order; an alert with several groups becomes one alert for each, of one event."""
    for spec in specs:
        for name, tags in _falco_rules(rule, spec):
            yield msgspec.json.encode(_alert(spec, name, tags))


def _falco_rules(rule: CorrelationRule, spec: AlertSpec) -> Iterator[tuple[str, list[str]]]:
    if spec.rule:
        yield spec.rule, []
    for group in spec.detect:
        written = rule.written.groups[group]
        yield (f"{group} by tag", written.tags[:1]) if written.tags else (written.rules[0], [])


def _alert(spec: AlertSpec, name: str, tags: list[str]) -> dict[str, Any]:
    time = BEGIN + int(spec.at)
    fields = _process_fields(spec)
    return {
        "hostname": "node-1",
        "output": f"{name} | {fields['proc.cmdline']}",
        "output_fields": {**_place(spec), **fields, **spec.fields},
        "priority": "Notice",
        "rule": name,
        "source": "syscall",
        "tags": tags,
        "time": rfc3339(time),
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


def _process_fields(spec: AlertSpec) -> dict[str, Any]:
    words = [word.strip() for word in spec.process.split(">")]
    outside = ["systemd"] if spec.host else [] if is_runtime(words[0]) else ["containerd-shim"]
    words = outside + words
    pids = [_pid(spec, words[: end + 1]) for end in range(len(words))]
    names = [word.partition("#")[0] for word in words]
    vpids = [1 if depth == 1 and outside and not spec.host else pid % 1000 + 2 for depth, pid in enumerate(pids)]
    fields: dict[str, Any] = {
        "evt.type": "execve",
        "proc.name": names[-1],
        "proc.cmdline": names[-1],
        "proc.pid": pids[-1],
        "proc.vpid": vpids[-1],
        "proc.ppid": pids[-2] if len(pids) > 1 else 0,
        "proc.pvpid": vpids[-2] if len(pids) > 1 else 0,
        "proc.sid": 1,
        "proc.tty": 0,
        "user.name": "www-data",
    }
    for step, (name, pid) in enumerate(zip(reversed(names[:-1]), reversed(pids[:-1]), strict=True), 1):
        fields[f"proc.aname[{step}]"] = name
        if step > 1:
            fields[f"proc.apid[{step}]"] = pid
    return fields


def _pid(spec: AlertSpec, words: list[str]) -> int:
    place = "host" if spec.host else spec.container
    return 1 if words == ["systemd"] else 1000 + crc32(f"{place}|{'>'.join(words)}".encode()) % 4_000_000
