"""The promises about delivery, at full length: `make soak`, or `make soak SHORT=1`.

Each check kills, loads or cuts off a real service; it prints what it measured, and the last line counts.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from conftest import Running, fed, spec
from correlation.test_flood import flood
from delivery.test_crash import killed_at_random_points
from service.test_supervisor import free_port
from support import falcosidekick, host_flood
from support.crash import (
    Victim,
    curl_sends,
    killing,
    raw_alerts_over_kills,
)
from support.damage import damages
from support.floods import evidence_after_flood_and_kill, fill_the_volume, incidents_beside_a_flood
from support.mixed import mixed_troubles
from support.outage import disk_full_and_sink_down, second_steps_after_an_outage
from support.receiver_troubles import kills_of_everything, raw_alerts_over_failures
from support.slow_disk import answers_beside_a_foreign_lock, answers_on_a_slow_disk, posted
from support.waiting import wait_until

from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.delivery.outbox import MAX_UNMARKED
from sidecar.delivery.quota import ALLOWED
from sidecar.model import RANK, REPORTS
from sidecar.rules.loading import SHIPPED, load
from sidecar.rules.spec import AlertSpec
from sidecar.settings.schema import Settings
from sidecar.yamlfile.typed import build

RULES = load([SHIPPED / "correlation"])
WEB_RCE = next(rule for rule in RULES if rule.id == "web-application-rce")


BATCH = 5_000
"""Alerts sent to one service while it is killed repeatedly."""


def worker_kills(folder: Path, *, short: bool) -> tuple[bool, str]:
    """Kill the worker repeatedly with SIGKILL while curl sends alerts, with the parent and without."""
    kills = 20 if short else 100
    killed = seen = lost = 0
    started = time.monotonic()
    while killed < kills:
        place = folder / str(seen)
        place.mkdir()
        victim = Victim(place, free_port())
        curl = curl_sends(place, victim.port, BATCH)
        killer = killing(victim, curl, after=0.3)
        curl.wait()
        killer.join()
        victim.stop()
        killed += killer.kills  # type: ignore[attr-defined]
        seen += BATCH
        lost += BATCH - len(victim.remembered())
    rate = seen / (time.monotonic() - started)
    control = _control(folder / "control")
    summary = f"{killed} kills, {seen} alerts, {rate:.0f}/s with all restarts: {lost} lost; without the parent {control:.0%} lost"
    return lost == 0 and control > 0.1, summary


def _control(folder: Path) -> float:
    """The share of alerts that is lost when the same service has no parent and is restarted after each kill."""
    folder.mkdir()
    victim = Victim(folder, free_port(), FALCO_CORRELATOR_SUPERVISOR="false")
    count = 6000
    curl = curl_sends(folder, victim.port, count)
    while curl.poll() is None:
        time.sleep(0.3)
        victim.process.kill()
        victim.process.wait()
        victim.start()
    victim.stop()
    return 1 - len(victim.remembered()) / count


def raw_alerts(folder: Path, *, short: bool) -> tuple[bool, str]:
    """F5: kill -9 of the worker while thousands of raw alerts wait, with a state file and without."""
    count, kills = (4_000, 4) if short else (14_216, 29)
    summaries = []
    passed = True
    for with_state in (True, False):
        place = folder / str(with_state)
        place.mkdir()
        with falcosidekick.running() as sidekick:
            settings = {"FALCO_CORRELATOR_PASS_THROUGH__QUEUE_SIZE": "100000"}
            victim = Victim(place, free_port(), sidekick=sidekick.url, with_state=with_state, **settings)
            judged = raw_alerts_over_kills(victim, sidekick, count=count, kills=kills)
        passed &= judged.lost == 0 and judged.in_order and judged.repeated <= 2 * kills
        kept = "in a file" if with_state else "in memory"
        summaries.append(f"{kept}: {judged.lost} lost, {judged.repeated} repeated, in order {judged.in_order}")
    return passed, f"{count} alerts, {kills} kills; {'; '.join(summaries)}"


def random_kills(folder: Path, *, short: bool) -> tuple[bool, str]:
    """Kill -9 of everything at seeded points."""
    kills = 30 if short else 100
    lost, renamed = killed_at_random_points(folder, WEB_RCE, kills=kills, seed=7)
    return (lost, renamed) == (0, 0), f"{kills} kills: {lost} escalations lost, {renamed} sent under another key"


def outage(folder: Path, *, short: bool) -> tuple[bool, str]:
    """Notifications wait for a sink that is down; each incident's are delivered in its order when it is back."""
    count = 2_000 if short else 10_000
    with falcosidekick.running() as sidekick:
        sidekick.behave = lambda _: 503
        settings = {
            "http": {"port": 0},
            "admin": {"port": 0},
            "state": {"path": str(folder / "state.db")},
            "pass_through": {"mode": "none"},
            "sinks": {"falcosidekick": {"url": sidekick.url}},
        }
        service = Running(build(Settings, settings, "soak"), RULES)
        for number in range(count):
            for body in alerts(WEB_RCE, _rising(f"c{number}", rises=number % 10 == 0)):
                service.post(body)
        time.sleep(0.1)
        sidekick.behave = lambda _: None
        started = time.monotonic()
        waiting = count + count // 10  # beside reports about the service itself
        wait_until(lambda: len(_of_incidents(sidekick)) >= waiting, 180)
        took = time.monotonic() - started
        service.close()
    fields = _of_incidents(sidekick)
    arrived = {each["container.name"] for each in fields}
    steps: dict[str, list[str]] = {}
    for each in fields:
        steps.setdefault(each["incident.id"], []).append(each["incident.severity"])
    in_order = all(found == sorted(found, key=RANK.__getitem__) for found in steps.values())
    passed = len(arrived) == count and len(fields) == waiting and in_order and took <= 60
    return passed, f"{len(fields)} of {waiting} delivered {took:.0f} s after the sink was back, in order: {in_order}"


def _of_incidents(sidekick: falcosidekick.Falcosidekick) -> list[dict[str, Any]]:
    return [event["output_fields"] for event in list(sidekick.events) if event["rule"] not in REPORTS]


def _rising(container: str, *, rises: bool) -> list[AlertSpec]:
    story = [
        spec("tini > nginx > sh", "web_shell", container=container),
        spec("tini > nginx > sh > curl", "network", at="1s", container=container),
    ]
    return [*story, spec("tini > nginx > sh > cat", "credential", at="2s", container=container)] if rises else story


def load_test(folder: Path, *, short: bool) -> tuple[bool, str]:
    """2,000 alerts a second, then 10,000 more than that within five seconds, while the sink hangs.

    Every other alert is a web shell in a container of its own, and must be in the state file afterwards, but for the
    oldest where the budget is used up.
    """
    seconds = 15 if short else 60
    with falcosidekick.running() as sidekick:
        sidekick.behave = lambda _: hung()
        victim = Victim(folder, free_port(), FALCO_CORRELATOR_SINKS__FALCOSIDEKICK__URL=sidekick.url)
        steady = posted(victim.port, _half_relevant(0, 2000 * seconds), 2000)
        burst = posted(victim.port, _half_relevant(2000 * seconds, 20_000), 4000)
        victim.stop()
    count = 2000 * seconds + 20_000
    kept = {int(place.rpartition("/")[2], 16) for place in victim.remembered()}
    beyond_budget = {number for number in range(1, count, 2) if number < min(kept)}  # the oldest may have to go
    lost = count // 2 - len(kept) - len(beyond_budget)
    passed = (
        lost == 0 and len(kept) >= 60_000 * seconds // 60 and steady.over(0.99) <= 0.01 and burst.over(0.99) <= 0.01
    )
    return passed, f"{count} alerts, answers {steady}, in a burst {burst}, {lost} lost"


def hung() -> int:
    """A sink that answers late, and then no."""
    time.sleep(5)
    return 503


def _half_relevant(start: int, count: int) -> Iterator[bytes]:
    for number in range(start, start + count):
        body = flood(number, f"{number:012x}")
        yield body if number % 2 else body.replace(b"web_shell", b"anything_else")


def full_disk(folder: Path, *, short: bool) -> tuple[bool, str]:
    """F1 and F2: the disk is full while the sink is down and more than a queue is pending."""
    incidents = 500 if short else 2900
    lost, again, dropped = disk_full_and_sink_down(folder / "state.db", incidents=incidents, room=1000)
    return (lost, again) == (0, 0), f"{incidents} incidents: {lost} lost, {again} sent again, {dropped} dropped"


def slow_disk(folder: Path, *, short: bool) -> tuple[bool, str]:
    """F16: each sync of the disk takes two seconds while incidents are decided."""
    count = 100 if short else 1000
    answers, lost = answers_on_a_slow_disk(folder, WEB_RCE, count=count, rate=100)
    is_prompt = answers.over(0.99) < 0.05 and answers.over(1) < 1
    return lost == 0 and is_prompt, f"{3 * count} alerts, answers {answers}, {lost} incidents lost"


def foreign_lock(folder: Path, *, short: bool) -> tuple[bool, str]:
    """F16: another program holds the write lock of the state file for 20 seconds."""
    count = 100 if short else 700
    answers, lost = answers_beside_a_foreign_lock(folder, WEB_RCE, count=count, rate=100)
    is_prompt = answers.over(0.99) < 0.05 and answers.over(1) < 1
    return lost == 0 and is_prompt, f"{3 * count} alerts, answers {answers}, {lost} incidents lost"


def failing_receiver(folder: Path, *, short: bool) -> tuple[bool, str]:
    """F16: Falcosidekick answers with a failure, or closes connections, for a while."""
    lost = raw_alerts_over_failures(folder, count=60, seconds=3 if short else 20)
    return not any(lost.values()), f"60 raw alerts each: {lost} lost"


def all_killed_with_raw_alerts(folder: Path, *, short: bool) -> tuple[bool, str]:
    """Kill -9 of both processes with raw alerts and critical incidents on their way."""
    kills = 10 if short else 84
    found = kills_of_everything(folder, WEB_RCE, kills=kills, seed=3)
    passed = (found.raw_lost, found.incidents_lost) == (0, 0) and found.in_order
    return passed, (
        f"{kills} kills, {found.incidents} incidents, {found.raw} raw alerts: {found.incidents_lost} incidents and "
        f"{found.raw_lost} raw alerts lost, in order {found.in_order}"
    )


def evidence(folder: Path, *, short: bool) -> tuple[bool, str]:
    """F8: a web shell, a flood of its own alerts, kill -9 of everything, and then its theft."""
    count = 5_000 if short else 52_000
    found = evidence_after_flood_and_kill(folder, WEB_RCE, alerts_between=count)
    return found, f"{count} alerts between web shell and theft: {'critical' if found else 'medium'}"


def incident_flood(folder: Path, *, short: bool) -> tuple[bool, str]:
    """F7: thousands of incidents of one container, beside an earlier and a later one of others."""
    roots = 2_000 if short else 21_000
    found = incidents_beside_a_flood(folder, WEB_RCE, roots=roots)
    passed = found.old_one_is_shown and found.delivered_after <= 5 and found.messages_of_flood <= 2 * ALLOWED + 10
    return passed, (
        f"{roots} incidents of one container: {found.messages_of_flood} messages, another's critical incident "
        f"delivered {found.delivered_after:.1f} s later, an earlier one {'' if found.old_one_is_shown else 'not '}shown"
    )


def volume(folder: Path, *, short: bool) -> tuple[bool, str]:
    """F6: long texts of control characters, and incidents that no sink takes."""
    count = 8_000 if short else 50_000
    found = fill_the_volume(folder, detections=count, incidents=count)
    told = sorted(each.partition(" use ")[0].rpartition(" ")[2] for each in found.reports)
    return found.largest < 256 << 20, (
        f"{count} detections and {count} incidents: {found.largest >> 20} MiB at most, told of {', '.join(told)}"
    )


def host_memory(_: Path, *, short: bool) -> tuple[bool, str]:
    """F10: 9,000 alerts between a daemon's start and its theft, of its own shell and of another service."""
    del short
    cases = []
    for other in (False, True):
        pipeline = Pipeline(RULES, lambda: 0.0)
        cases += [fed(pipeline, host_flood.attack(9000, by_another_service=other))[-1].case]
    passed = cases == ["Full Web Application Compromise", "Web Shell with Credential Theft"]
    return passed, f"9,000 alerts of its shell: {cases[0]}; of another service: {cases[1]}"


def mixed(folder: Path, *, short: bool) -> tuple[bool, str]:
    """Kills, full and slow disks and an outage of the sink in the middle of attacks, beside a flood."""
    found = mixed_troubles(folder, WEB_RCE, rounds=12 if short else 120, seed=16)
    passed = found.lost == 0 and found.overtaken == 0 and found.repeated <= (MAX_UNMARKED + 1) * found.crashes
    return passed, (
        f"{found.attacks} attacks, {found.crashes} kills, {found.flooded} alerts of a flood: {found.lost} lost, "
        f"{found.overtaken} early, {found.repeated} repeated, {found.sent_of_flood} messages sent for the flood"
    )


def overtaking(folder: Path, *, short: bool) -> tuple[bool, str]:
    """F9: second steps that are decided while the first ones wait in the file."""
    pending, steps = (500, 100) if short else (4000, 500)
    path = folder / "state.db"
    lost, again, early = second_steps_after_an_outage(path, pending=pending, steps=steps, room=1000)
    return (lost, again, early) == (0, 0, 0), f"{steps} second steps: {early} early, {lost} lost, {again} sent again"


def damaged(folder: Path, *, short: bool) -> tuple[bool, str]:
    """F3: random damages of a real state file."""
    outcomes = damages(folder, 50 if short else 500, seed=11)
    return set(outcomes) <= {"starts", "refused"}, ", ".join(f"{count} {what}" for what, count in outcomes.items())


OTHERS = {
    "F4 a start that cannot succeed": ("tests/storage/test_state.py", "tests/service/test_supervisor.py"),
    "F6 the volume": ("tests/storage/test_budgets.py",),
    "F7 one container's flood": ("tests/delivery/test_quota.py", "tests/delivery/test_sink_queue.py"),
    "F8, F10 floods and evidence": ("tests/correlation/test_flood.py",),
    "F11 the journal": ("tests/sources/test_journal.py",),
    "F12 redaction": ("tests/text",),
    "F13, F14, F15 field cases": ("tests/falco/test_field_cases.py",),
    "F16 pass-through, settings, web pages": (
        "tests/delivery/test_pass_through.py",
        "tests/settings/test_loading.py",
        "tests/net/test_hostile_input.py",
    ),
}
"""Faults that need no long run: their tests."""


def other_faults(_: Path, *, short: bool) -> tuple[bool, str]:
    """F4, F6 to F8, F10 to F16, by their tests."""
    del short
    failed = []
    for fault, tests in OTHERS.items():
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *tests], capture_output=True, text=True, check=False
        )
        print(f"       {fault}: {run.stdout.strip().splitlines()[-1]}", flush=True)
        if run.returncode:
            print(run.stdout[-3000:], flush=True)
        OF_FAULT[fault] = run.stdout.strip().splitlines()[-1].split(" in ")[0]
        failed += [fault] if run.returncode else []
    return (
        not failed,
        f"{len(OTHERS) - len(failed)} of {len(OTHERS)} sets of tests pass{': not ' if failed else ''}{', '.join(failed)}",
    )


CHECKS: dict[str, Callable[..., tuple[bool, str]]] = {
    "a worker that is killed loses no alert": worker_kills,
    "a worker that is killed loses no raw alert": raw_alerts,
    "a service that is killed loses no escalation": random_kills,
    "notifications arrive after an outage of the sink": outage,
    "a full disk and a sink that is down lose and repeat nothing": full_disk,
    "no answer waits for a slow disk": slow_disk,
    "no second step overtakes its first": overtaking,
    "a damaged state file never prevents a start without a reason": damaged,
    "no answer waits for a foreign lock": foreign_lock,
    "a receiver that fails for a while gets every raw alert": failing_receiver,
    "nothing is lost when both processes are killed": all_killed_with_raw_alerts,
    "evidence outlives a flood and a kill": evidence,
    "incidents of others pass a flood": incident_flood,
    "the volume is never full": volume,
    "on a host nothing pushes a daemon out": host_memory,
    "kills, disks, outages and floods, mixed": mixed,
    "answers are quick while the sink hangs": load_test,
    "all other faults keep mended": other_faults,
}


OF_FAULT: dict[str, str] = {}
"""What was found of each check, and of each set of tests in OTHERS."""

BEFORE = (
    (
        "F1",
        "500 messages sent 137 times each and going on",
        "a full disk and a sink that is down lose and repeat nothing",
    ),
    (
        "F2",
        "1,051 of 2,050 incidents lost, none reported",
        "a full disk and a sink that is down lose and repeat nothing",
    ),
    ("F3", "5 of 25 damages: crash loop", "a damaged state file never prevents a start without a reason"),
    ("F4", "crash loop, Falco waits for ever", "F4 a start that cannot succeed"),
    ("F5", "2,614 of 28,431 raw alerts lost in 58 kills", "a worker that is killed loses no raw alert"),
    (
        "F5",
        "25,183 of 25,584 raw alerts lost in 84 kills of everything",
        "nothing is lost when both processes are killed",
    ),
    ("F6", "491 MiB in a volume of 256 MiB", "the volume is never full"),
    ("F7", "10,000 messages, another's critical after 6 min", "incidents of others pass a flood"),
    ("F8", "medium after 52,000 alerts and a kill", "evidence outlives a flood and a kill"),
    ("F9", "428 of 500 second steps early", "no second step overtakes its first"),
    ("F10", "medium after 9,000 alerts", "on a host nothing pushes a daemon out"),
    ("F11", "a file lost in two rotations", "F11 the journal"),
    ("F12", "41 of 135 secrets leak, 2.5 % false masks", "F12 redaction"),
    ("F13", "names steer membership", "F13, F14, F15 field cases"),
    ("F14", "false critical of an entry script", "F13, F14, F15 field cases"),
    ("F15", "nothing after 16 silent minutes", "F13, F14, F15 field cases"),
    ("F16", "60 of 60 raw alerts gone", "a receiver that fails for a while gets every raw alert"),
    ("F16", "answers of 5 to 20 s beside a foreign lock", "no answer waits for a foreign lock"),
    ("F16", "CR LF and absurd numbers taken, forged by web pages", "F16 pass-through, settings, web pages"),
    ("F16", "an answer takes 4.0 s with a slow disk", "no answer waits for a slow disk"),
    ("all", "", "kills, disks, outages and floods, mixed"),
)
"""Each fault: what was measured at a90b08f, and the check that repeats it."""


def print_table() -> None:
    """What each fault was, and what was found now."""
    print()
    for fault, before, check in BEFORE:
        print(f"| {fault} | {before} | {OF_FAULT.get(check, 'not run')} |", flush=True)


def main() -> int:
    """Run all checks; the exit code is the number that failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="less than ten minutes in all")
    parser.add_argument("--only", action="append", help="a part of the name of a check; may be repeated")
    arguments = parser.parse_args()
    short = arguments.short
    checks = {name: each for name, each in CHECKS.items() if any(part in name for part in arguments.only or [""])}
    sys.setswitchinterval(0.0005)  # the fake sink and the service share this process
    failed = 0
    for name, check in checks.items():
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            try:
                passed, summary = check(Path(folder), short=short)
            except Exception as error:  # the other checks are worth running
                passed, summary = False, f"{type(error).__name__}: {error}"
        failed += not passed
        OF_FAULT[name] = ("" if passed else "FAILED: ") + summary
        print(f"{'ok    ' if passed else 'FAILED'} {name} ({time.monotonic() - started:.0f} s): {summary}", flush=True)
    print_table()
    print(f"{len(checks) - failed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(main())
