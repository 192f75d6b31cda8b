"""SDKs and tools at tokens and metadata services, dropped programs, links to secrets: what a live Falco recorded, decided.

`data/readers.jsonl.gz` holds the events case by case. Each case is put below a web shell and goes through the rules and the
correlation: what counts for no group there is the workload's own doing.
"""

import gzip
import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from falco.event import Event
from falco.ruleset import shipped

from sidecar.correlation.pipeline import Pipeline
from sidecar.rules import loading

RECORDED = Path(__file__).with_name("data") / "readers.jsonl.gz"
SILENT: frozenset[str] = frozenset()
CREDENTIAL = frozenset(("credential",))
BOTH = frozenset(("credential", "network"))

OWN = ("boto_imds", "boto_wi", "boto_rel", "gauth", "node_imds", "node_wi", "go_imds", "go_wi")
TOOLS = ("cat", "cat_eks", "cat_data", "cat_run", "cd", "devtcp", "pyc_boto")
WANTED = {
    **{f"Q_sdk_{name}": SILENT for name in OWN},
    **{f"Q_tool_{name}": CREDENTIAL for name in TOOLS},
    **{f"Q_tool_{name}": BOTH for name in ("curl", "curl_dec", "wget", "pyc")},
    **{f"Q_drop_{name}": BOTH for name in ("py", "py_boto", "py_rel", "memfd", "cp_nb")},
    "Q_drop_go_tok": CREDENTIAL,
    "Q_drop_go": BOTH,
    "Q_drop_gosdk": BOTH,
    "Q_drop_ldso": CREDENTIAL,
    "Q_py_open_token": CREDENTIAL,
    "Q_stdin_py_boto": CREDENTIAL,
    "Q_nodee": BOTH,
    **{
        f"ln_{name}": CREDENTIAL
        for name in ("sym", "cdsym", "pysym", "hard", "cp", "glob", "bb", "bb2", "rel", "slash")
    },
    **{f"cu_{name}": SILENT for name in ("before_stat", "chown", "chmod", "touch", "tac", "append_open", "mv", "read")},
}
"""What each case must count for."""

UNDECIDABLE = {
    "Q_nb_ok": "a program of a volume, neither dropped nor of the image, may ask for its identity",
    "Q_nb_refused": "as above",
    "Q_b_refused": "as above",
    "Q_nb_unreach": "as above",
    "Q_uring_conn": "the engine sees no io_uring",
}
"""Cases that no engine shows, with the reason: they count for nothing."""


@cache
def events() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in gzip.decompress(RECORDED.read_bytes()).splitlines():
        event = json.loads(line)
        found[event["case"]].append(event)
    return found


def below_a_web_shell(event: dict[str, Any]) -> dict[str, Any]:
    """The fields of an event as if a shell below a PHP server had started its process."""
    own = event["output_fields"]
    kind = "connect" if "fd.sip" in own else "openat" if "fd.name" in own else "execve"
    return {
        "evt.num": 1,
        "evt.type": kind,
        "evt.rawres": 0,
        "evt.is_open_read": kind == "openat",
        "container.id": "0123456789ab",
        "proc.tty": 0,
        "proc.cmdline": f"{own.get('proc.name', '')} {own.get('proc.args', '')}".strip(),
        "proc.args": own.get("proc.cmdline", "").partition(" ")[2],
        "fd.typechar": "4",
        **own,
        "proc.pid": 50,
        "proc.ppid": 20,
        "proc.apid[2]": 10,
        "proc.pname": "sh",
        "proc.pexepath": "/usr/bin/dash",
        "proc.aname[1]": "sh",
        "proc.aname[2]": "php-fpm",
        "proc.aexepath[2]": "/usr/sbin/php-fpm8.2",
    }


def alert(rule: str, tags: list[str], time: str, fields: dict[str, Any]) -> bytes:
    return json.dumps({"rule": rule, "tags": tags, "hostname": "h", "time": time, "output_fields": fields}).encode()


def groups(case: str) -> frozenset[str]:
    """The groups that a case counts for, beside the shell above it."""
    pipeline = Pipeline(loading.load([loading.SHIPPED / "correlation"]), lambda: 0.0)
    first = below_a_web_shell({"output_fields": {}}) | {
        "proc.pid": 20,
        "proc.ppid": 10,
        "proc.apid[2]": 5,
        "proc.name": "sh",
    }
    first |= {
        "proc.pname": "php-fpm",
        "proc.aname[1]": "php-fpm",
        "proc.pexepath": "/usr/sbin/php-fpm8.2",
        "proc.cmdline": "sh",
    }
    pipeline.process_json(alert("R", ["webrce_web_shell"], events()[case][0]["time"], first))
    notes = []
    for event in events()[case]:
        fields = below_a_web_shell(event)
        for rule in shipped().fired(Event(fields)):
            if "webrce_web_shell" not in shipped().rules[rule]["tags"]:
                body = alert(rule, shipped().rules[rule]["tags"], event["time"], fields)
                notes += [*pipeline.process_json(body)[1], *pipeline.flush()]
    seen = {group for note in notes for group in note.groups}  # type: ignore[union-attr]
    return frozenset(seen - {"web_shell", "interactive"})


@pytest.mark.parametrize("case", WANTED)
def test_recorded_case_counts_for(case: str) -> None:
    assert groups(case) == WANTED[case]


@pytest.mark.parametrize("case", UNDECIDABLE)
def test_what_no_engine_shows_counts_for_nothing(case: str) -> None:
    assert groups(case) == SILENT


def test_every_case_is_decided() -> None:
    assert {case for case in events() if not case.startswith("st_")} == {*WANTED, *UNDECIDABLE}
