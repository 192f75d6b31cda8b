"""The `helm test`: four synthetic alerts must become one incident in /metrics; in mode grpc Falco must answer.

It runs in our own image with nothing but the standard library. The incident names the test's own pod, so that whoever
responds to it automatically hits nothing else.
"""

import json
import os
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

GROUPS = {"web_shell": "sh", "shell_technique": "python3", "network": "curl", "credential": "cat"}

PATIENCE = float(os.environ.get("PATIENCE", "60"))


def main() -> None:
    """Exit with a sentence unless the correlator does what it is for."""
    if os.environ.get("ALERTS_URL"):
        before = _until(lambda: _metric('notifications_total{severity="critical"}'), lambda _: True)
        _until(_post_all, bool)
        _until(lambda: _metric('notifications_total{severity="critical"}'), lambda now: now > before)
        _say("four alerts became one critical incident")
    else:
        _until(lambda: _metric("grpc_connected"), lambda connected: connected == 1)
        _say("Falco answers over gRPC")


def _until(look: Callable[[], float], enough: Callable[[float], bool]) -> float:
    """What `look` gives once that is enough; the correlator may still be starting."""
    last: float | OSError | None = None
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            last = found = look()
            if enough(found):
                return found
        except OSError as error:
            last = error
        time.sleep(0.2)
    sys.exit(f"not within {PATIENCE:.0f} s; last seen: {last}")


def _metric(name: str) -> float:
    with urllib.request.urlopen(os.environ["METRICS_URL"], timeout=5) as answer:  # noqa: S310 - our own Service
        for line in answer.read().decode().splitlines():
            if line.startswith(f"falco_correlator_{name} "):
                return float(line.rpartition(" ")[2])
    sys.exit(f"/metrics has no falco_correlator_{name}")


def _post_all() -> bool:
    path = Path(os.environ["SECRET_PATH_FILE"]).read_text().strip() if "SECRET_PATH_FILE" in os.environ else "/"
    now, container = time.time_ns(), os.urandom(6).hex()
    for number, group in enumerate(GROUPS):
        body = json.dumps(_alert(group, number, now, container)).encode()
        request = urllib.request.Request(os.environ["ALERTS_URL"] + path, body, {"Content-Type": "application/json"})  # noqa: S310 - as above
        urllib.request.urlopen(request, timeout=5, context=_tls()).close()  # noqa: S310 - as above
    return True


def _tls() -> ssl.SSLContext | None:
    folder = os.environ.get("TLS_FOLDER")
    if not folder:
        return None
    context = ssl.create_default_context(cafile=f"{folder}/ca.crt")
    context.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
    return context


def _alert(group: str, number: int, now: int, container: str) -> dict[str, object]:
    shell = number == 0
    lineage = ["php-fpm", "nginx"] if shell else ["sh", "php-fpm", "nginx"]
    pids = [11, 10] if shell else [100, 11, 10]
    fields: dict[str, object] = {
        "container.id": container,
        "container.name": "falco-correlator-helm-test",
        "k8s.ns.name": os.environ.get("POD_NAMESPACE", "default"),
        "k8s.pod.name": os.environ.get("POD_NAME", "falco-correlator-helm-test"),
        "evt.type": "execve",
        "proc.name": GROUPS[group],
        "proc.cmdline": f"{GROUPS[group]} falco-correlator-helm-test",
        "proc.pid": 100 + number,
        "proc.pid.ts": now + number,
        "proc.vpid": 100 + number,
        "proc.ppid": pids[0],
        "proc.pvpid": pids[0],
        "proc.sid": 10,
        "proc.tty": 0,
        **{f"proc.aname[{depth}]": name for depth, name in enumerate(lineage, 1)},
        **{f"proc.apid[{depth}]": pid for depth, pid in enumerate(pids, 1) if depth > 1},
    }
    stamp = datetime.fromtimestamp((now + number) // 1_000_000_000, UTC)
    return {
        "hostname": os.environ.get("NODE_NAME", "helm-test"),
        "output": f"helm test: {group}",
        "output_fields": fields,
        "priority": "Notice",
        "rule": f"Falco Correlator helm test {group}",
        "source": "syscall",
        "tags": [f"webrce_{group}"],
        "time": f"{stamp:%Y-%m-%dT%H:%M:%S}.{(now + number) % 1_000_000_000:09d}Z",
    }


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - what `helm test --logs` shows


if __name__ == "__main__":
    main()
