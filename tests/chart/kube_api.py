"""As much of a Kubernetes API server as helm's `lookup` asks for: discovery of kinds, and Secrets to be read."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VERSION = {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
KINDS = {
    "v1": ("Secret", "ConfigMap", "Service", "ServiceAccount", "ResourceQuota", "Pod"),
    "apps/v1": ("DaemonSet", "Deployment"),
}
APPS_V1 = {"groupVersion": "apps/v1", "version": "v1"}
APPS = {"name": "apps", "versions": [APPS_V1], "preferredVersion": APPS_V1}


@contextmanager
def running(secrets: dict[str, dict[str, str]]) -> Iterator[str]:
    """Serve these Secrets (`namespace/name` to data in base64); gives the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(secrets))
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.05), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _kinds(group: str) -> dict[str, Any]:
    resources = [
        {"name": f"{kind.lower()}s", "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": ["get"]}
        for kind in KINDS[group]
    ]
    return {"kind": "APIResourceList", "groupVersion": group, "resources": resources}


def _answer(path: str, secrets: dict[str, dict[str, str]]) -> tuple[int, Any]:
    known = {
        "/version": VERSION,
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [APPS]},
        "/api/v1": _kinds("v1"),
        "/apis/apps/v1": _kinds("apps/v1"),
    }
    if path in known:
        return 200, known[path]
    parts = path.removeprefix("/api/v1/namespaces/").split("/")
    if len(parts) == 3 and parts[1] == "secrets" and f"{parts[0]}/{parts[2]}" in secrets:
        about = {"name": parts[2], "namespace": parts[0]}
        return 200, {"kind": "Secret", "apiVersion": "v1", "metadata": about, "data": secrets[f"{parts[0]}/{parts[2]}"]}
    return 404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


def _handler(secrets: dict[str, dict[str, str]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, said = _answer(self.path.partition("?")[0], secrets)
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
