"""SDKs and tools at tokens and metadata services, dropped programs, links to secrets: what a live Falco recorded, decided.

`data/readers.jsonl.gz` holds the events case by case. Each case is put below a web shell and goes through the rules and the
correlation: what counts for no group there is the workload's own doing.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from falco.event import Event
from falco.ruleset import shipped

from sidecar.correlation.pipeline import Pipeline
from sidecar.rules import loading

DATA = Path(__file__).with_name("data")
RECORDED = DATA / "readers.jsonl.gz"
OPENED = DATA / "opened.jsonl.gz"
"""With every file that was opened: modules, libraries, links to a token."""

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
def events(path: Path = RECORDED) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in gzip.decompress(path.read_bytes()).splitlines():
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


def groups(*cases: list[dict[str, Any]]) -> frozenset[str]:
    """The groups that the last of these cases counts for, after the others, beside the shell above it."""
    pipeline = Pipeline(loading.load([loading.SHIPPED / "correlation"]), lambda: 0.0)
    for case in cases[:-1]:
        list(raised(pipeline, case, 40))
    shell = below_a_web_shell({"output_fields": {}}) | {"proc.pid": 20, "proc.ppid": 10, "proc.apid[2]": 5}
    shell |= {"proc.name": "sh", "proc.pname": "php-fpm", "proc.aname[1]": "php-fpm", "proc.cmdline": "sh"}
    shell |= {"proc.pexepath": "/usr/sbin/php-fpm8.2"}
    pipeline.process_json(alert("R", ["webrce_web_shell"], cases[-1][0]["time"], shell))
    seen = {group for note in raised(pipeline, cases[-1], 50) for group in note.groups}
    return frozenset(seen - {"web_shell", "interactive"})


def raised(pipeline: Pipeline, case: list[dict[str, Any]], pid: int) -> Iterator[Any]:
    """The notifications that the events of a case lead to."""
    for event in case:
        fields = below_a_web_shell(event) | {"proc.pid": pid}
        for rule in shipped().fired(Event(fields)):
            if "webrce_web_shell" not in shipped().rules[rule]["tags"]:
                body = alert(rule, shipped().rules[rule]["tags"], event["time"], fields)
                yield from [*pipeline.process_json(body)[1], *pipeline.flush()]


@pytest.mark.parametrize("case", WANTED)
def test_recorded_case_counts_for(case: str) -> None:
    assert groups(events()[case]) == WANTED[case]


@pytest.mark.parametrize("case", UNDECIDABLE)
def test_what_no_engine_shows_counts_for_nothing(case: str) -> None:
    assert groups(events()[case]) == SILENT


def test_every_case_is_decided() -> None:
    assert {case for case in events() if not case.startswith("st_")} == {*WANTED, *UNDECIDABLE}


@pytest.mark.parametrize("case", ["py_m_cwd", "py_pythonstartup_site", "preload", "ldso_tmp", "node_r", "perl_script"])
def test_opened_code_tells_what_a_program_runs(case: str) -> None:
    assert groups(events(OPENED)[case]) == CREDENTIAL


@pytest.mark.parametrize("case", ["sec_symlink", "sec_hard", "sec_dirlink", "sec_cd_link", "sec_cdP_link"])
def test_a_token_is_known_by_its_inode_once_it_was_read_by_name(case: str) -> None:
    assert groups(events(OPENED)["direct"], events(OPENED)[case]) == CREDENTIAL
