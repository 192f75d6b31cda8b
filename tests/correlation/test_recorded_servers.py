"""Every server and non-server whose `listen` a live Falco recorded is decided: service or job."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from falco.event import Event
from falco.ruleset import shipped

from sidecar.alerts import decode
from sidecar.correlation.memory.container import Container
from sidecar.correlation.memory.process import Process
from sidecar.correlation.memory.servers import SERVING_TAG, Servers
from sidecar.correlation.serving import service_above
from sidecar.meaning.command_summary import summary
from sidecar.model import Alert

RECORDED = Path(__file__).parents[1] / "data" / "meaning" / "listens.jsonl"
RULE = "Program listens on a port"
JOBS = {
    "N_node_inspect": "a debugger listens off the main thread",
    "N_node_inspect_any": "a debugger listens off the main thread",
    "N_py_mp": "unix sockets and port 0",
    "N_py_httptest": "port 0",
    "N_nc_l": "a tool",
    "N_nc_l_lo": "a tool",
    "N_rsyncd": "a tool",
    "N_socat_l": "a tool",
    "N_sshd_L": "it lets people in",
    "N_tmux": "a unix socket",
    "N_ssh_agent": "a unix socket",
    "N_go_test": "port 0",
}
"""Cases that are not services, with the reason; all others of the recording are."""


def cases() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in RECORDED.read_text().splitlines():
        event = json.loads(line)
        found[event["case"]].append({"evt.num": 1, **event["output_fields"]})
    return found


def is_service(events: list[dict[str, Any]]) -> bool:
    """Whether a shell below the program that listened last is below a service; the host was watched from the start."""
    servers = Servers()
    servers.watch("", 1)
    last = events[-1]
    for fields in events:
        if RULE in shipped().fired(Event(fields)):
            text = {name: str(value) for name, value in fields.items() if value is not None}
            servers.record(Alert(2, "", RULE, (SERVING_TAG,), decode.from_strings(text)))
    server = Process(
        last["proc.pid"],
        last["proc.name"],
        last["proc.pid.ts"],
        1,
        0,
        0,
        file=last["proc.exepath"],
        command=summary(last["proc.cmdline"]),
    )
    shell = Process(2**22, "sh", 0, server.pid, 0, 0, file="/usr/bin/dash")
    container = Container("", last["container.id"], 1.0, lambda: 0.0)
    return bool(service_above(container, [shell, server], servers, 3)[0])


@pytest.mark.parametrize(("case", "events"), cases().items())
def test_a_recorded_listener_is_decided(case: str, events: list[dict[str, Any]]) -> None:
    assert is_service(events) == (case not in JOBS)


def test_every_exception_was_recorded() -> None:
    assert JOBS.keys() <= cases().keys()
