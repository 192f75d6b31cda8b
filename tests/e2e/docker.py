"""A stand-in for the Docker engine: it tells Falco's container plugin the address of every container that plays."""

import json
import re
import threading
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

CREATED = "2026-01-01T00:00:00Z"


class Docker(ThreadingMixIn, UnixStreamServer):
    """Answers at a unix socket what the plugin asks: the list of containers, and each of them."""

    daemon_threads = True

    def __init__(self, path: Path, containers: Iterable[str], address: str) -> None:
        """Serve full container ids, all with one address."""
        super().__init__(str(path), _Handler)
        self.containers = {each: _inspected(each, address) for each in containers}
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


def _inspected(container: str, address: str) -> Mapping[str, Any]:
    networks = {"bridge": {"IPAddress": address, "NetworkID": "n", "EndpointID": "e"}}
    return {
        "Id": container,
        "Name": f"/{container[:12]}",
        "Created": CREATED,
        "Image": "sha256:0",
        "State": {"Status": "running", "Running": True, "Pid": 1, "StartedAt": CREATED},
        "Config": {"Image": "registry.example/shop/app:1.0", "Labels": {}, "Env": []},
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {"IPAddress": address, "Networks": networks, "Ports": {}},
        "Mounts": [],
    }


class _Handler(BaseHTTPRequestHandler):
    server: Docker

    def do_HEAD(self) -> None:
        self._answer({})

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        found = re.search(r"/containers/(\w+)/json$", path)
        if path.endswith("/events"):
            threading.Event().wait()
        elif path.endswith("/containers/json"):
            self._answer([{"Id": each, "State": "running", "Image": "app"} for each in self.server.containers])
        elif found and found[1] in self.server.containers:
            self._answer(self.server.containers[found[1]])
        else:
            self._answer({"message": "no such thing"}, 200 if path.endswith("/_ping") else 404)

    def _answer(self, what: object, status: int = 200) -> None:
        body = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def address_string(self) -> str:
        return "plugin"

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing."""
