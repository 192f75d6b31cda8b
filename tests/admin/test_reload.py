"""Changed rules and settings are taken up while the service runs, and refused where they are wrong.

Covers: `admin.reload`.
"""

import asyncio
import json
import logging
import os
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Running, spec
from support.crash import Victim
from support.rules import WEB_RCE
from support.waiting import wait_until

from sidecar.admin import reload
from sidecar.admin.reload import Configuration, Reloader
from sidecar.cli.testing.stories import alerts
from sidecar.errors import ConfigError
from sidecar.rules.loading import SHIPPED
from sidecar.rules.rule import CorrelationRule
from sidecar.settings.schema import Settings
from sidecar.settings.section import Reloaded, changes, leaves, take_over

RULE = (SHIPPED / "correlation" / "web_application_rce.yaml").read_text()
SHELL, CURL, TOKEN = alerts(
    WEB_RCE,
    [
        spec("php-fpm > sh", "web_shell", at="0s"),
        spec("php-fpm > sh > curl", "network", at="1s"),
        spec("php-fpm > sh > cat", "credential", at="2s"),
    ],
)


class Source:
    """Settings and rules in memory, and the file that stands for them."""

    def __init__(self, file: Path, rules: list[CorrelationRule]) -> None:
        self.file, self.rules = file, rules
        self.settings, self.loads = Settings(), 0
        self.problem = ""
        file.write_text("1")

    def load(self) -> tuple[Settings, list[CorrelationRule], None]:
        self.loads += 1
        if self.problem:
            raise ConfigError(str(self.file), [self.problem])
        return self.settings, self.rules, None


@pytest.fixture
def source(tmp_path: Path, rules: list[CorrelationRule]) -> Source:
    return Source(tmp_path / "rule.yaml", rules)


def reloading(source: Source, act: Callable[[Reloader], None]) -> tuple[Reloader, list[Settings]]:
    """A reloader after an act, and what it has applied."""
    applied: list[Settings] = []

    async def run() -> Reloader:
        configuration = Configuration(source.load, lambda _: [source.file])
        reloader = Reloader(Settings(), source.rules, lambda settings, _rules, _expected: applied.append(settings))
        reloader.watch(configuration)
        act(reloader)
        await asyncio.sleep(0)
        await reloader.stop()
        return reloader

    return asyncio.run(run()), applied


def test_a_file_that_stays_as_it_is_is_not_read_again(source: Source) -> None:
    def look(reloader: Reloader) -> None:
        for _ in range(3):
            reloader.check()

    reloader, applied = reloading(source, look)

    assert (source.loads, applied, reloader.counts) == (0, [], {})


def test_a_changed_file_is_read_once_it_no_longer_changes(source: Source) -> None:
    def change(reloader: Reloader) -> None:
        source.file.write_text("22")
        reloader.check()
        assert source.loads == 0
        source.file.write_text("333")
        reloader.check()
        assert reloader._task is None
        reloader.check()

    reloader, applied = reloading(source, change)

    assert (source.loads, len(applied), reloader.counts) == (1, 1, {"success": 1})


def test_a_swapped_symbolic_link_is_a_change(source: Source, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rule.yaml").write_text("same")
    (tmp_path / "..data").symlink_to(tmp_path / "one")
    source.file = tmp_path / "..data" / "rule.yaml"

    def swap(reloader: Reloader) -> None:
        (tmp_path / "new").symlink_to(tmp_path / "two")
        (tmp_path / "new").rename(tmp_path / "..data")
        reloader.check()
        reloader.check()

    assert reloading(source, swap)[0].counts == {"success": 1}


def test_what_is_wrong_is_refused_with_its_reason_and_shown_until_it_is_mended(source: Source) -> None:
    source.problem = "groups: no such group"
    refused, applied = reloading(source, Reloader.reload)
    source.problem = ""
    mended, _ = reloading(source, Reloader.reload)

    assert (applied, refused.counts) == ([], {"failure": 1})
    assert refused.in_force.refused == f"{source.file}: groups: no such group"
    assert refused.in_force.rules == mended.in_force.rules
    assert mended.in_force.refused == ""


def test_settings_that_need_a_restart_are_named(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    source.settings.http.port = 1
    source.settings.cluster = "new"
    with caplog.at_level(logging.WARNING):
        reloader, _ = reloading(source, Reloader.reload)

    assert reloader.in_force.needs_restart == ("http.port",)
    assert "these settings take effect after a restart" in caplog.text


def test_every_setting_is_either_taken_over_or_named() -> None:
    marked = {".".join(leaf.keys) for leaf in leaves(Settings()) if leaf.has(Reloaded)}
    live, new = Settings(), Settings(cluster="x", log_level="debug", url="http://x")
    new.admin.links = {"a": "http://a"}
    new.http.port = 99
    take_over(live, new)

    assert marked >= {"cluster", "url", "rules", "coalesce", "log_level", "admin.pages", "redaction.patterns"}
    assert [*changes(live, new)] == [("http.port", False)]


class Served:
    """A real service, with its rules in a folder as kubelet mounts a ConfigMap: links through `..data`."""

    def __init__(self, folder: Path) -> None:
        self.mount = folder / "rules"
        self.mount.mkdir()
        self.revision = 0
        self.write(RULE)
        (self.mount / "rule.yaml").symlink_to("..data/rule.yaml")
        self.config = folder / "config.yaml"
        self.config.write_text(f"cluster: one\nrules: ['{self.mount}']\n")
        with_admin = {"FALCO_CORRELATOR_ADMIN__ENABLED": "true", "FALCO_CORRELATOR_ADMIN__PORT": "0"}
        self.victim = Victim(folder, 0, with_state=False, FALCO_CORRELATOR_CONFIG=str(self.config), **with_admin)
        self.http, self.admin = (self.logged("ready")[-1][name] for name in ("http_port", "admin_port"))

    def write(self, text: str) -> None:
        """Change the rule as kubelet does: a new folder, and `..data` renamed over the old link."""
        self.revision += 1
        version = self.mount / f"..{self.revision}"
        version.mkdir()
        (version / "rule.yaml").write_text(text)
        (self.mount / "..new").symlink_to(version.name)
        (self.mount / "..new").rename(self.mount / "..data")

    def logged(self, message: str) -> list[dict[str, object]]:
        lines = (self.victim.folder / "log.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["message"] == message]

    def post(self, body: bytes) -> None:
        urllib.request.urlopen(f"http://127.0.0.1:{self.http}/", body).read()

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}") as answer:
            return str(answer.read().decode())

    def incidents(self, count: int) -> list[dict[str, object]]:
        wait_until(lambda: self.victim.sink.exists() and self.victim.sink.read_text().count("\n") >= count)
        return [json.loads(line)["output_fields"] for line in self.victim.sink.read_text().splitlines()]


@pytest.mark.slow
def test_a_configmap_that_is_swapped_is_taken_up_and_the_open_incident_goes_on(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.post(SHELL)
    served.post(CURL)
    served.incidents(1)
    worker = served.victim.worker()
    served.write(
        RULE.replace("case: Full Web Application Compromise", "case: All of it").replace(
            "name: Full Web Application Compromise", "name: All of it"
        )
    )
    wait_until(lambda: bool(served.logged("rules and settings were reloaded")))
    served.post(TOKEN)
    first, second = served.incidents(2)
    in_force = served.get("/metrics")
    same = served.victim.worker() == worker
    served.victim.stop()

    assert (first["incident.id"], first["incident.case"]) == (second["incident.id"], "Web Shell with Network Activity")
    assert second["incident.case"] == "All of it"
    assert 'falco_correlator_config_reloads_total{result="success"} 1.0' in in_force
    assert same


@pytest.mark.slow
def test_a_bad_rule_is_refused_with_its_reason_and_the_old_one_stays(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.write(RULE.replace("when: web_shell and", "when: web_shel and", 1))
    refused = "the change was refused, the old rules and settings stay in force"
    wait_until(lambda: bool(served.logged(refused)))
    for body in (SHELL, CURL):
        served.post(body)
    (incident,) = served.incidents(1)
    metrics, page = served.get("/metrics"), json.loads(served.get("/api/v1/rules"))
    served.victim.stop()

    assert "unknown group" in str(served.logged(refused)[0]["reason"])
    assert incident["incident.severity"] == "medium"
    assert "falco_correlator_config_refused 1.0" in metrics
    assert "unknown group" in page["refused"]


@pytest.mark.slow
def test_sighup_to_the_supervisor_reloads_settings_at_once(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.config.write_text(
        served.config.read_text().replace("cluster: one", "cluster: two\nhttp: {max_connections: 10}")
    )
    os.kill(served.victim.process.pid, signal.SIGHUP)
    wait_until(lambda: bool(served.logged("rules and settings were reloaded")))
    for body in (SHELL, CURL):
        served.post(body)
    (incident,) = served.incidents(1)
    served.victim.stop()

    assert incident["incident.cluster"] == "two"


def _hung_up(victim: Victim) -> bool:
    os.kill(victim.process.pid, signal.SIGHUP)
    return True


@pytest.mark.slow
def test_sighup_while_the_worker_starts_ends_nothing(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.victim.kill_worker()
    wait_until(lambda: _hung_up(served.victim) and served.victim.starts() == 2)
    died = served.logged("worker died, starting another")
    served.victim.stop()

    assert len(died) == 1


@pytest.mark.slow
def test_a_service_without_files_needs_no_watch(serving: Callable[..., Running]) -> None:
    with serving({"sinks": {"stdout": {"enabled": True}}}) as service:  # type: ignore[attr-defined]
        assert service.service.reloader.in_force.rules
        assert service.metric("config_refused") == 0.0
    assert reload.CHECK_SECONDS <= 5
