"""F10: a daemon of a web shell on a host, and thousands of alerts between the two steps of the attack."""

import json
from collections.abc import Iterator

from sidecar.incidents.falco_event import rfc3339

SECOND = 1_000_000_000
BEGAN = 1_795_579_811 * SECOND

SHELL, DAEMON, OTHER = 100, 101, 200


def attack(between: int, *, by_another_service: bool = False) -> Iterator[bytes]:
    """A web shell, a daemon that it detaches, so many alerts of the shell (or of another service), and a theft."""
    yield _alert("Process detached", "lineage", 50, "php-fpm", [(1, "systemd")], -60 * SECOND)
    yield _alert("Web server started a shell or tool", "web_shell", SHELL, "sh", [(50, "php-fpm"), (1, "systemd")], 0)
    shell = [(SHELL, "sh"), (50, "php-fpm"), (1, "systemd")]
    yield _alert("Process detached", "lineage", DAEMON, "setsid", shell, SECOND, sid=SHELL)
    if by_another_service:
        shell = [(OTHER, "sh"), (51, "java"), (1, "systemd")]
    for number in range(between):
        at = 2 * SECOND + number * 1000
        yield _alert("Network tool in container", "network", 10_000 + number, "curl", shell, at, sid=shell[0][0])
    yield _alert("Cloud metadata asked", "credential", DAEMON, "evil", [(1, "systemd")], 60 * SECOND, sid=DAEMON)


def _alert(rule: str, group: str, pid: int, name: str, above: list[tuple[int, str]], at: int, *, sid: int = 1) -> bytes:
    start = BEGAN + (SECOND if pid == DAEMON else at) - 500
    fields = {
        "container.id": "",
        "evt.type": "execve",
        "proc.name": name,
        "proc.cmdline": f"{name} {pid}",
        "proc.exepath": "/bin/x",
        "proc.pid": pid,
        "proc.pid.ts": start,
        "proc.vpid": pid,
        "proc.ppid": above[0][0],
        "proc.pname": above[0][1],
        "proc.sid": sid,
        "proc.tty": 0,
        "user.name": "www",
    }
    fields |= {f"proc.aname[{depth}]": each for depth, (_, each) in enumerate(above, 1)}
    fields |= {f"proc.apid[{depth}]": each for depth, (each, _) in enumerate(above[1:], 2)}
    tags = ["host", f"webrce_{group}"]
    return json.dumps(
        {
            "hostname": "node-1",
            "priority": "Notice",
            "rule": rule,
            "tags": tags,
            "time": rfc3339(BEGAN + at),
            "output_fields": fields,
        }
    ).encode()
