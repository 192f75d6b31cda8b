"""A program is known by the file that runs, whatever it is called: ways to read a secret that a live Falco recorded.

`data/programs.jsonl.gz` holds, case by case, the program starts and the opens of one secret, on a host (`H_`) and in a
container (`C_`).
"""

import gzip
import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

from falco.event import Event
from falco.ruleset import shipped

RECORDED = Path(__file__).with_name("data") / "programs.jsonl.gz"
RULE = "Kubernetes service account token read"

UNSEEN = {
    "sh_c_id": "it reads nothing",
    "curl": "it reads nothing",
    "o_uring": "the engine sees no io_uring",
    "o_handle": "open_by_handle_at is an event of its own",
    "bb_copy_arg": "the program failed to start",
    "chroot": "the path is that inside of the chroot",
    "ldso_comm": "it reads another file",
    "py_m_pypath": "only the opened module shows where it comes from",
    "preload": "only the opened library shows it",
    **dict.fromkeys(
        ("prctl", "o_dirfd", "o_dirfd_opath", "o_openat2", "o_mmap", "o_opath", "o_chdir", "o_fchdir"),
        "a program of the volume, unknown and not dropped, may read its own identity",
    ),
    **dict.fromkeys(
        ("sec_symlink", "sec_hard", "sec_cd_link", "sec_dirlink", "sec_cdP_link", "sec_proccwd"),
        "only device and inode tell which file it is",
    ),
}
"""Cases that the rule cannot see by one event, and why."""


@cache
def events() -> dict[str, list[dict[str, Any]]]:
    found = defaultdict(list)
    for line in gzip.decompress(RECORDED.read_bytes()).splitlines():
        event = json.loads(line)
        fields = {"evt.num": 1, "evt.is_open_read": True, "proc.tty": 0} | event["output_fields"]
        found[event["case"]].append(fields)
    return found


def is_seen(case: str) -> bool:
    return any(shipped().fires(RULE, Event(fields)) for fields in events()[case])


def test_a_secret_is_read_by_a_tool_unless_it_is_listed_with_its_reason() -> None:
    assert {case for case in events() if not is_seen(case)} == {case for case in events() if case[2:] in UNSEEN}
