"""Renders the chart with real helm, once for each set of values, and says what helm said when it refuses."""

import base64
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from chart_docs import CHART, ROOT
from chart_tools import HELM, helm

CI_FILES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
SNAPSHOTS = ROOT / "tests" / "chart" / "snapshots"

Object = dict[str, Any]


class Refused(Exception):
    """Helm refused, with these words."""


def call(major: int, *arguments: str) -> str:
    """What helm prints; raises Refused. That it follows our symbolic links, it tells on stderr each time."""
    done = subprocess.run([helm(major), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        raise Refused("\n".join(line for line in lines if "symbolic link" not in line))
    return done.stdout


@cache
def text(major: int, name: str, *sets: str, chart: Path = CHART) -> str:
    """The objects of a values file of ci/ with `--set` options, as text."""
    values = ("--values", str(CHART / "ci" / f"{name}-values.yaml"))
    options = tuple(part for each in sets for part in ("--set", each))
    return call(major, "template", "falco-correlator", str(chart), "--namespace", "falco", *values, *options)


def objects(name: str, *sets: str, major: int = 4, chart: Path = CHART) -> list[Object]:
    """The same as objects; the caller must not change them."""
    return [each for each in yaml.safe_load_all(text(major, name, *sets, chart=chart)) if each]


def one(kind: str, name: str, *sets: str) -> Object:
    """The only object of this kind whose hook is not a test."""
    (found,) = (each for each in objects(name, *sets) if each["kind"] == kind and not _is_test(each))
    return found


def pod(name: str, *sets: str) -> Object:
    """The pod template of the DaemonSet or Deployment."""
    (found,) = (each for each in objects(name, *sets) if each["kind"] in ("DaemonSet", "Deployment"))
    template: Object = found["spec"]["template"]
    return template


def helm_test(name: str, *sets: str) -> Object | None:
    """The pod of `helm test`, if there is one."""
    return next((each for each in objects(name, *sets) if _is_test(each)), None)


def _is_test(each: Object) -> bool:
    return (each["metadata"].get("annotations") or {}).get("helm.sh/hook") == "test"


def refusal(*sets: str, major: int = 4, values: Path | None = None) -> str:
    """What helm says against values that it must not take."""
    options = [part for each in sets for part in ("--set", each)] + (["--values", str(values)] if values else [])
    try:
        call(major, "template", "falco-correlator", str(CHART), "--namespace", "falco", *options)
    except Refused as error:
        return str(error)
    raise AssertionError(f"helm takes {sets or values}")


def notes(name: str, *sets: str, release: str = "falco-correlator") -> str:
    """What a person reads after `helm install`."""
    options = [part for each in sets for part in ("--set", each)]
    values = ["--values", str(CHART / "ci" / f"{name}-values.yaml")]
    whole = call(4, "install", release, str(CHART), "--namespace", "falco", "--dry-run=client", *values, *options)
    return whole.partition("\nNOTES:\n")[2]


def snapshot(major: int, name: str) -> str:
    """The objects as they are compared: what stands in files of its own is named, what is random is left out."""
    found = []
    for each in (each for each in yaml.safe_load_all(text(major, name)) if each):
        _shorten(each)
        found.append(each)
    found.sort(key=lambda each: (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]))
    return yaml.safe_dump_all(found, sort_keys=True, width=120)


def _shorten(each: Object) -> None:
    for key in each.get("data") or {}:
        if key.endswith(("canary_rules.yaml", "_rules.yaml", ".json")):
            each["data"][key] = f"(the file {key})"
        if each["kind"] == "Secret" and re.fullmatch(r"/\w{40}", base64.b64decode(each["data"][key]).decode()):
            each["data"][key] = "(made by chance)"
    if each["metadata"]["name"].endswith("-falco-values"):
        each["data"] = {key: f"(the file overlays/{key})" for key in each["data"]}
    if each["kind"] == "Rulesfile":
        each["spec"]["inlineRules"] = f"({len(each['spec']['inlineRules'])} entries)"
    if _is_test(each):
        each["spec"]["containers"][0]["args"] = ["(files/helm_test.py)"]


def main() -> None:
    """`make snapshots`: write them anew, to be reviewed as a diff."""
    SNAPSHOTS.mkdir(exist_ok=True)
    for name in CI_FILES:
        (SNAPSHOTS / f"{name}.yaml").write_text(snapshot(max(HELM), name))


if __name__ == "__main__":
    main()
