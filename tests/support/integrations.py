"""The demo's incident through the real Falcosidekick and the real Alertmanager, set up as docs/integrations.md says."""

import contextlib
import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from conftest import fed, needs
from service.test_supervisor import free_port
from support import real_falcosidekick
from support.real_falcosidekick import Receivers
from support.rules import RULES
from support.waiting import wait_until

from sidecar.cli.demo import recording
from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents.falco_event import Origin, to_json

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"

ORIGIN = Origin("prod-eu", "https://falco.example.com")


def blocks(first_line: str) -> list[str]:
    """The YAML blocks of the page whose first line begins like that."""
    found = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in found if block.startswith(first_line)]


class Captured(NamedTuple):
    """What was sent, what the receivers got, and the alerts in Alertmanager at the end."""

    steps: list[dict[str, Any]]
    receivers: Receivers
    alerts: list[dict[str, Any]]


def alertmanager_settings(receivers: Receivers) -> str:
    """The page's configuration, with receivers on loopback and without its pauses."""
    (text,) = blocks("# alertmanager.yml")
    text = re.sub(r"group_(wait|interval): \w+", r"group_\1: 1s", text)
    text = text.replace("https://hooks.slack.com/services/XXXX", f"{receivers.url}/am-slack")
    urls = {"pagerduty_url": f"{receivers.url}/am-pagerduty", "opsgenie_api_url": f"{receivers.url}/am-opsgenie/"}
    return f"{yaml.safe_dump({'global': urls})}{text}"


@contextlib.contextmanager
def alertmanager(folder: Path, receivers: Receivers) -> Iterator[str]:
    """The real Alertmanager; gives its address."""
    file, address = folder / "alertmanager.yml", f"127.0.0.1:{free_port()}"
    file.write_text(alertmanager_settings(receivers))
    command = [needs("prometheus-alertmanager"), f"--config.file={file}", f"--storage.path={folder / 'am'}"]
    options = [f"--web.listen-address={address}", "--cluster.listen-address="]
    with (folder / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
    try:
        wait_until(lambda: _get(f"http://{address}/-/ready"))
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def demo(folder: Path) -> Iterator[Captured]:
    """Both steps of the incident, one after the other, until Alertmanager has notified of each."""
    real_falcosidekick.binary()
    receivers = Receivers(folder)
    steps = [to_json(note, ORIGIN) for note in fed(Pipeline(RULES, lambda: 0.0), recording(time.time_ns()))]
    with contextlib.closing(receivers), alertmanager(folder, receivers) as address:
        settings = real_falcosidekick.outputs(receivers)
        for block in blocks("# falcosidekick.yaml"):
            for output, own in yaml.safe_load(block).items():
                settings[output] |= own
        settings["slack"]["webhookurl"] = f"{receivers.url}/slack"
        settings["alertmanager"]["hostport"] = address
        with real_falcosidekick.running(folder, settings, receivers) as real:
            for number, step in enumerate(steps, 1):
                assert real.post(step) == 200
                real.wait_for(number, "slack", "alertmanager", "elasticsearch", "discord", "pagerduty", "opsgenie")
                wait_until(partial(_has_notified, receivers, number))
            alerts = json.loads(_get(f"{address}/api/v2/alerts") or "[]")
        yield Captured([json.loads(step) for step in steps], receivers, alerts)


def _has_notified(receivers: Receivers, count: int) -> bool:
    """Whether Alertmanager has notified all its receivers so many times; Opsgenie gets two updates besides."""
    keys = [body for body in receivers.bodies["am-opsgenie"] if "alias" in body]
    return min(len(keys), len(receivers.bodies["am-slack"]), len(receivers.bodies["am-pagerduty"])) >= count


def _get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - ours, on loopback
            text: str = answer.read().decode()
            return text
    except OSError:
        return ""
