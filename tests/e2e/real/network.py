"""What the services meet in the namespace: the attacker's server, metadata, mail; addresses that are not ours."""

import ctypes
import os
import re
import select
import socket
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from falco.event import OWN_ADDRESS

ATTACKER = "203.0.113.9"
METADATA = "169.254.169.254"
MIRROR = "10.96.7.7"
"""Something inside: a repository, an API."""

ASKED = "asked.log"
"""What was asked of all servers, in their folder."""

DESK = "desk"
"""The socket at which reverse shells are waited for, in the same folder."""

CLONE_NEWNET = 0x40000000


def unshare() -> None:
    """Take this process, and what it starts, to a network of its own, where the attacker's address answers."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "replace", f"{OWN_ADDRESS}/32", "dev", "lo"], check=True)
    for host in (ATTACKER, METADATA, MIRROR):
        route = ["ip", "route", "replace", "local", host, "dev", "lo", "src", OWN_ADDRESS, "table", "local"]
        subprocess.run(route, check=True)


class Web(ThreadingHTTPServer):
    """Gives what is in a folder, takes what is posted, answers as a metadata service does."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str, folder: Path, port: int = 80) -> None:
        super().__init__((address, port), _Handler)
        self.folder = folder
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self._note(self.path)
        file = self.server.folder / path.lstrip("/")
        if file.is_file():
            self._answer(file.read_bytes())
        elif "security-credentials/" in path:
            self._answer(b'{"AccessKeyId":"ASIATEST","SecretAccessKey":"none","Token":"none"}')
        else:
            self._answer(b"web-role\n")

    def do_PUT(self) -> None:
        self._take()

    def do_POST(self) -> None:
        self._take()

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._note(f"{self.path} {body[:2000].decode(errors='replace')}")
        self._answer(b"ok\n")

    def _note(self, text: str) -> None:
        with (self.server.folder / ASKED).open("a") as asked:
            asked.write(text + "\n")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing."""


class Mail(socketserver.ThreadingTCPServer):
    """Takes mail and forgets it."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 2525), _Smtp)
        self.taken = 0
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Smtp(socketserver.StreamRequestHandler):
    server: Mail

    def handle(self) -> None:
        self.wfile.write(b"220 mail\r\n")
        for line in self.rfile:
            word = line[:4].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                while self.rfile.readline() not in (b".\r\n", b".\n", b""):
                    pass
                self.server.taken += 1
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            if word == b"QUIT":
                return


class Desk(socketserver.ThreadingUnixStreamServer):
    """Listens for reverse shells in place of who asks at a unix socket, since a program that listens is a server.

    Who connects is told a port in eight digits, then "+" when a shell has come, then all it says.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder / DESK), _Desk)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Desk(socketserver.BaseRequestHandler):
    request: socket.socket

    def handle(self) -> None:
        with socket.create_server((ATTACKER, 0), backlog=8) as server:
            self.request.sendall(b"%08d" % server.getsockname()[1])
            if server not in select.select([server, self.request], [], [], 300)[0]:
                return
            shell, _ = server.accept()
        with shell:
            self.request.sendall(b"+")
            threading.Thread(target=_pass_on, args=(self.request, shell), daemon=True).start()
            _pass_on(shell, self.request)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while said := source.recv(65536):
            sink.sendall(said)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def await_desk(folder: Path, seconds: float = 60) -> None:
    """Wait until the servers are there."""
    deadline = time.monotonic() + seconds
    while not (folder / DESK).exists() and time.monotonic() < deadline:
        time.sleep(0.1)


class Listener:
    """The attacker's end of a reverse shell; `folder` is that of his servers."""

    def __init__(self, folder: Path) -> None:
        self._shell = socket.socket(socket.AF_UNIX)
        self._shell.connect(str(folder / DESK))
        self.port = int(self._shell.recv(8, socket.MSG_WAITALL))
        self.heard = ""

    def talk(self, lines: list[str], seconds: float = 30) -> bool:
        """Wait for the shell, type each line when the last was answered, keep what it says; whether a shell came."""
        if not self.accept(seconds):
            return False
        for line in lines:
            self.type(line)
        self._hear()
        return True

    def accept(self, seconds: float = 30) -> bool:
        """Wait for the shell; whether it came."""
        return bool(select.select([self._shell], [], [], seconds)[0]) and self._shell.recv(1) == b"+"

    def type(self, line: str) -> None:
        """Type a line and keep what is said."""
        with suppress(OSError):
            self._shell.sendall(line.encode() + b"\n")
            self._hear()

    def _hear(self, longest: float = 4, quiet: float = 1) -> None:
        """Listen until it is quiet."""
        deadline = time.monotonic() + longest
        while time.monotonic() < deadline and select.select([self._shell], [], [], quiet)[0]:
            try:
                said = self._shell.recv(65536)
            except OSError:
                return
            if not said:
                return
            self.heard += said.decode(errors="replace")

    def close(self) -> None:
        """Stop waiting."""
        self._shell.close()


def heard(pattern: str, text: str) -> bool:
    """Whether a proof is in what came back."""
    return bool(re.search(pattern, text))


def main() -> None:
    """Serve a folder to the attacked: a process of its own, since what plays must not look like a server itself."""
    folder = Path(sys.argv[1])
    servers = [Web(address, folder) for address in (ATTACKER, METADATA, MIRROR)]
    Mail()
    Desk(folder)
    threading.Event().wait()
    del servers


if __name__ == "__main__":
    main()
