"""Processes whose ancestors no longer lead to the service, or lead too far: each kind with varied pids and times.

Covers: `correlation.orphans`, `correlation.membership`, `correlation.memory.inits`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from conftest import Clock, fed
from hypothesis import given
from hypothesis import strategies as st
from support.rules import RULES

from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents.falco_event import rfc3339
from sidecar.model import RANK

BEGIN = 1_795_489_388_000_000_000
SECOND = 1_000_000_000
MILLISECOND = 1_000_000
VISIBLE = 6
"""Ancestors that an alert of Falco alone shows."""


@dataclass
class Proc:
    pid: int
    name: str
    parent: "Proc | None"
    start: int
    sid: int
    pgid: int
    uid: int = 33
    vpid: int = 0
    file: str = ""

    def ancestors(self) -> "Iterator[Proc]":
        above = self.parent
        while above is not None:
            yield above
            above = above.parent


@dataclass
class Place:
    """A container, or a host, in which processes start one after the other."""

    first_pid: int = 1000
    is_host: bool = False
    starts: bool = True
    """Whether alerts show when processes started."""
    gap: int = 1
    init: str = "tini"
    service: str = "php-fpm"
    now: int = BEGIN
    alerts: list[tuple[int, bytes]] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        if self.is_host:
            self.root = self.reaper = Proc(1, "systemd", None, BEGIN - 9000 * SECOND, 1, 1, uid=0, vpid=1)
        else:
            self.root = Proc(self.first_pid, "containerd-shim", None, BEGIN - 9000 * SECOND, self.first_pid, 0, uid=0)
            self.reaper = self.fork(self.root, self.init, uid=0)
            self.reaper.vpid, self.reaper.sid, self.reaper.pgid = 1, 1, self.reaper.pid
        is_service_first = self.init == self.service
        self.master = self.reaper if is_service_first else self.fork(self.reaper, self.service, uid=0)
        self.worker = self.fork(self.master, self.service, uid=33)
        for each in (self.reaper, self.master, self.worker):
            each.start = BEGIN - 3600 * SECOND
        self.now = BEGIN

    def fork(self, parent: Proc, name: str, *, ms: int = 2, setsid: bool = False, uid: int | None = None) -> Proc:
        self.now += ms * MILLISECOND
        self.count += self.gap
        pid = self.first_pid + self.count
        vpid = pid if self.is_host else self.count + 1
        sid, pgid = (vpid if not self.is_host else pid, pid) if setsid else (parent.sid, parent.pgid)
        return Proc(pid, name, parent, self.now, sid, pgid, parent.uid if uid is None else uid, vpid)

    def orphaned(self, process: Proc) -> Proc:
        """The process after its parent ended."""
        process.parent = self.reaper
        return process

    def tells(self, process: Proc, *tags: str, shown: dict[str, Any] | None = None) -> None:
        """Falco's alerts about an exec of a process, as its parents are now."""
        above = [*process.ancestors()][:VISIBLE]
        fields: dict[str, Any] = {
            "container.id": "host" if self.is_host else "c0ffeec0ffee",
            "evt.type": "execve",
            "proc.pid": process.pid,
            "proc.vpid": process.vpid,
            "proc.name": process.name,
            "proc.cmdline": f"{process.name} x",
            "proc.sid": process.sid,
            "proc.pgid": process.pgid,
            "proc.tty": 0,
            "user.uid": process.uid,
        }
        if self.starts:
            fields["proc.pid.ts"] = process.start
        for step, each in enumerate(above, 1):
            fields[f"proc.aname[{step}]"] = each.name
            fields["proc.ppid" if step == 1 else f"proc.apid[{step}]"] = each.pid
        if above:
            fields["proc.pvpid"] = above[0].vpid
            fields |= {"proc.ppid.ts": above[0].start} if self.starts else {}
        for tag in tags or ("lineage",):
            body = {
                "hostname": "node-1",
                "priority": "Notice",
                "rule": f"{tag} by tag",
                "tags": [f"webrce_{tag}"],
                "time": rfc3339(self.now + MILLISECOND),
                "output_fields": fields | (shown or {}),
            }
            self.alerts.append((self.now, msgspec.json.encode(body)))

    def passes(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)

    def web_shell(self) -> Proc:
        """The service starts a shell."""
        shell = self.fork(self.worker, "sh")
        self.tells(shell, "web_shell")
        return shell

    def goes_on(self, parent: Proc) -> None:
        """The attack goes on below a process: it asks for credentials over the network."""
        curl = self.fork(parent, "curl")
        self.tells(curl, "network", "credential")


@st.composite
def places(draw: st.DrawFn, *, is_host: bool = False, init: str = "tini", service: str = "php-fpm") -> Place:
    first = draw(st.sampled_from([1000, 30_000, 4_000_000]))
    return Place(first, is_host, draw(st.booleans()), draw(st.integers(1, 2)), init, service)


def worst(bodies: Iterable[bytes]) -> int:
    """The rank of the strongest notification; 0 for none."""
    return max((RANK[note.severity] for note in fed(Pipeline(RULES, Clock()), bodies)), default=0)


CRITICAL, SILENT = RANK["critical"], 0


def outcome(place: Place) -> int:
    return worst(body for _, body in place.alerts)


def chain(place: Place, parent: Proc, count: int) -> Proc:
    """Processes of which no alert is about, each below the last."""
    for _ in range(count):
        parent = place.fork(parent, "sh")
    return parent


@given(places(), st.integers(0, 4), st.booleans())
def test_silent_generations_below_an_orphan_hide_nothing(place: Place, generations: int, detached: bool) -> None:
    shell = place.web_shell()
    agent = place.orphaned(place.fork(shell, "agent", setsid=detached))
    place.passes(2)
    place.goes_on(chain(place, agent, generations))

    assert outcome(place) == CRITICAL


@given(places(), st.integers(1, 4))
def test_what_a_daemon_older_than_the_shell_does_is_its_own(place: Place, generations: int) -> None:
    daemon = place.fork(place.reaper, "agent", setsid=True)
    place.passes(60)
    place.web_shell()
    place.goes_on(chain(place, daemon, generations))

    assert outcome(place) == SILENT


@given(places(), st.integers(5, 14), st.integers(0, 1))
def test_nested_subshells_hide_nothing_however_deep(place: Place, depth: int, shallow_steps: int) -> None:
    shell = place.web_shell()
    if shallow_steps:
        place.tells(place.fork(shell, "curl"), "network")
    place.goes_on(chain(place, shell, depth))

    assert outcome(place) == CRITICAL


@given(places(), st.integers(7, 14))
def test_a_deep_process_makes_no_session_foreign(place: Place, depth: int) -> None:
    shell = place.web_shell()
    job = place.orphaned(place.fork(shell, "job", setsid=True))
    place.tells(place.fork(chain(place, job, depth), "curl"), "network")
    place.goes_on(place.orphaned(place.fork(job, "sh")))

    assert outcome(place) == CRITICAL


@given(places(), st.integers(0, 10))
def test_an_administrator_s_session_stays_apart_however_deep(place: Place, depth: int) -> None:
    place.web_shell()
    bash = place.fork(place.root, "bash", setsid=True, uid=0)
    bash.vpid += 1
    place.goes_on(chain(place, bash, depth))

    assert outcome(place) == SILENT


@given(places(is_host=True), st.integers(0, 2), st.integers(1, 60), st.integers(0, 1), st.booleans())
def test_on_a_host_what_detaches_itself_right_after_a_shell_is_the_shell_s(
    place: Place, dead: int, ms: int, silent: int, shown: bool
) -> None:
    """`setsid cmd &`, `(setsid cmd &)`, `setsid -f cmd`, and a double fork: up to two processes that no alert shows."""
    place.gap = 1
    parent = chain(place, place.web_shell(), dead)
    job = place.fork(parent, "sh", ms=ms, setsid=True)
    job.parent = place.reaper if shown else None
    place.passes(1)
    place.goes_on(chain(place, job, silent))

    assert outcome(place) == CRITICAL


@given(places(is_host=True), st.integers(1, 60), st.integers(0, 1))
def test_on_a_host_what_an_administrator_detaches_at_the_same_moment_is_not_the_shell_s(
    place: Place, ms: int, silent: int
) -> None:
    place.gap = 1
    place.web_shell()
    script = place.fork(place.reaper, "script", ms=ms, setsid=True, uid=0)
    place.passes(1)
    place.goes_on(chain(place, script, silent))

    assert outcome(place) == SILENT


@given(places(is_host=True), st.integers(2, 600), st.integers(9, 500))
def test_on_a_host_what_systemd_starts_later_is_its_own(place: Place, seconds: int, processes: int) -> None:
    place.web_shell()
    place.passes(seconds)
    place.count += processes
    place.goes_on(place.fork(place.reaper, "backup.sh", setsid=True))

    assert outcome(place) == SILENT


@given(places(), st.booleans(), st.integers(0, 2))
def test_a_job_handed_over_to_at_belongs_to_who_handed_it_over(place: Place, on_host: bool, silent: int) -> None:
    place = Place(place.first_pid, starts=place.starts, is_host=on_host)
    daemon = place.fork(place.reaper, "atd", setsid=True, uid=0)
    shell = place.web_shell()
    place.tells(place.fork(shell, "at", uid=1))
    place.passes(1)
    job = place.fork(place.fork(daemon, "atd"), "sh", uid=33)
    place.goes_on(chain(place, job, silent))

    assert outcome(place) == CRITICAL


@given(places(), st.sampled_from(["another user", "before"]))
def test_other_jobs_of_the_same_daemon_stay_apart(place: Place, why: str) -> None:
    daemon = place.fork(place.reaper, "atd", setsid=True, uid=0)
    shell = place.web_shell()
    early = place.fork(place.fork(daemon, "atd"), "sh", uid=33)
    place.passes(1)
    place.tells(early)
    place.tells(place.fork(shell, "at", uid=1))
    place.passes(1)
    late = place.fork(place.fork(daemon, "atd"), "sh", uid=1000)
    place.goes_on(early if why == "before" else late)

    assert outcome(place) == SILENT


@given(places())
def test_an_administrator_s_command_makes_no_habit(place: Place) -> None:
    bash = place.fork(place.root, "bash", setsid=True, uid=0)
    place.goes_on(bash)
    place.passes(60)
    shell = place.web_shell()
    place.goes_on(place.orphaned(place.fork(shell, "sh")))

    assert outcome(place) == CRITICAL


@given(places(init="entry.sh"), st.integers(1, 8))
def test_what_an_entry_script_does_again_and_again_is_its_own(place: Place, rounds: int) -> None:
    for number in range(rounds):
        curl = place.fork(place.reaper, "curl")
        place.tells(curl, "network", shown={"proc.cmdline": f"curl http://config/health?ts={number}"})
        place.passes(60)
    place.web_shell()
    place.passes(60)
    curl = place.fork(place.reaper, "curl")
    place.tells(curl, "network", "credential", shown={"proc.cmdline": "curl http://169.254.169.254/?ts=99"})

    assert outcome(place) == SILENT


@given(places())
def test_a_health_check_with_changing_numbers_is_a_habit(place: Place) -> None:
    for number in range(3):
        curl = place.fork(place.reaper, "curl")
        place.tells(curl, "network", shown={"proc.cmdline": f"curl http://config/health?ts={number}"})
        place.passes(60)
        if not number:
            place.web_shell()

    assert outcome(place) == SILENT


@given(places(), st.integers(0, 1))
def test_an_exec_from_outside_of_which_no_ancestor_is_shown_stays_apart(place: Place, seconds: int) -> None:
    place.web_shell()
    place.passes(seconds)
    for tag in ("network", "credential"):
        curl = place.fork(place.root, "curl", setsid=True, uid=0)
        curl.parent = None
        place.tells(curl, tag, shown={"proc.pvpid": 0})

    assert outcome(place) == SILENT


@given(places(), st.sampled_from(["runc", "containerd-shim"]), st.integers(4, 9))
def test_a_faked_first_process_takes_no_orphans_away(place: Place, name: str, depth: int) -> None:
    place.tells(place.reaper)
    shell = place.web_shell()
    fake = place.fork(chain(place, shell, depth), name)
    first = place.fork(fake, "unshare")
    first.vpid = 1
    place.tells(first, shown={"proc.pvpid": 0})
    place.goes_on(place.orphaned(place.fork(shell, "sh", setsid=True)))

    assert outcome(place) == CRITICAL


@given(places(init="apache2", service="apache2"))
def test_an_administrator_s_job_that_the_web_server_adopts_is_no_web_shell(place: Place) -> None:
    """`kubectl exec pod -- sh -c "(setsid job &)"` where the web server is the first process."""
    place.web_shell()
    place.passes(1)
    bash = place.fork(place.root, "sh", setsid=True, uid=0)
    job = place.orphaned(place.fork(place.fork(bash, "sh"), "setsid"))
    place.tells(job, "web_shell", "lineage")
    job.name, job.sid, job.pgid = "sh", job.vpid, job.pid
    place.tells(job, "web_shell")
    place.passes(1)
    place.goes_on(job)

    assert outcome(place) == SILENT


@given(places(init="apache2", service="apache2"))
def test_a_web_shell_s_job_that_the_web_server_adopts_still_is_one(place: Place) -> None:
    shell = place.web_shell()
    job = place.orphaned(place.fork(place.fork(shell, "sh"), "setsid"))
    place.tells(job, "web_shell", "lineage")
    job.name, job.sid, job.pgid = "sh", job.vpid, job.pid
    place.goes_on(job)

    assert outcome(place) == CRITICAL


@given(places(init="apache2", service="apache2"))
def test_a_daemon_that_the_web_server_adopts_goes_on_with_the_web_shell(place: Place) -> None:
    """Two forks with `setsid` between, and none of them started a program: the group is of one that nobody saw."""
    shell = place.web_shell()
    leader = place.fork(shell, "sh", setsid=True)
    job = place.orphaned(place.fork(leader, "cat"))
    job.pgid = leader.pid
    place.goes_on(job)

    assert outcome(place) == CRITICAL


@given(places(), st.sampled_from(["perl", "python3", "ruby"]))
def test_a_program_below_a_web_server_is_not_the_web_server_itself(place: Place, name: str) -> None:
    agent = place.fork(place.worker, name)
    place.tells(place.fork(agent, "sh"), "web_shell")
    place.tells(agent, "network", "credential", shown={"evt.type": "connect"})

    assert outcome(place) == CRITICAL


@pytest.mark.parametrize("own_start", [0, None])
def test_an_orphan_whose_fork_was_lost_still_has_descendants(own_start: int | None) -> None:
    place = Place()
    shell = place.web_shell()
    orphan = place.orphaned(place.fork(shell, "setsid"))
    place.tells(orphan, "shell_technique", shown={"proc.pid.ts": own_start, "proc.sid": -1})
    place.passes(1)
    place.tells(place.fork(place.fork(orphan, "bash"), "find"), "credential")

    assert outcome(place) == CRITICAL


@pytest.mark.parametrize("is_host", [True, False])
@pytest.mark.parametrize("by_others", [True, False])
def test_a_flood_of_processes_does_not_push_out_what_an_attack_hangs_on(is_host: bool, by_others: bool) -> None:
    place = Place(is_host=is_host)
    exporter = place.fork(place.reaper, "exporter", setsid=True)
    shell = place.web_shell()
    job = place.fork(shell, "setsid", setsid=True)
    place.tells(job)
    for _ in range(9000):
        noise = place.fork(exporter if by_others else shell, "curl", ms=0)
        place.tells(noise, "network")
    place.count += 100
    place.orphaned(job).name = "sh"
    place.passes(60)
    place.tells(place.fork(job, "curl"), "network", "credential")

    assert outcome(place) == CRITICAL


@given(places(), st.integers(901, 3000))
def test_the_evidence_of_one_living_shell_outlasts_the_window(place: Place, pause: int) -> None:
    shell = place.web_shell()
    place.tells(place.fork(shell, "curl"), "network")
    place.passes(pause)
    place.tells(place.fork(shell, "cat"), "credential")

    assert outcome(place) == CRITICAL


@given(places(), st.integers(930, 3000))
def test_the_evidence_of_an_earlier_shell_does_not(place: Place, pause: int) -> None:
    place.tells(place.fork(place.web_shell(), "curl"), "network")
    place.passes(pause)
    place.tells(place.fork(place.web_shell(), "cat"), "credential")

    assert outcome(place) == RANK["medium"]


@given(places(), st.integers(1000, 90_000), st.permutations(range(4)))
def test_a_clock_that_steps_forward_and_back_hides_nothing(place: Place, step: int, order: list[int]) -> None:
    shell = place.web_shell()
    place.passes(step)
    place.tells(place.fork(shell, "curl"), "network")
    place.passes(60 - step)
    place.tells(place.fork(shell, "cat"), "credential")
    place.tells(place.fork(shell, "wget"), "network")

    assert worst(place.alerts[at][1] for at in order) == CRITICAL
