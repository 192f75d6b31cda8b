"""Servers and jobs that run before Falco starts: does our plugin know which of them serve?

`python -m e2e.older_servers --falco FILE --lineage liblineage.so` starts one server of each kind that this machine has,
and jobs that serve nothing, then Falco with the plugin, then lets each start a shell. Printed: what the ancestors of the
shell hold by `lineage.packed`. Needs root, and a folder with gunicorn, uvicorn and flask in `--python`.
"""

import argparse
import http.client
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from click import echo
from e2e.engine import PLUGIN, Engine

from sidecar.alerts.ancestry import decode

FIRST_PORT = 18001

Recipe = tuple[str, str, list[str]]
"""The name of a file, its text, and a command; PORT and FOLDER are filled in."""

SHELL = "/bin/sh -c 'id >/dev/null; true'"
"""What each of them starts."""

PYTHON = f"""
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        os.system("{SHELL}")
        self.send_response(200); self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""

RENAMED = 'import ctypes; ctypes.CDLL(None).prctl(15, b"cron", 0, 0, 0)\n' + PYTHON

WSGI = f"""
import os
def app(environ, start):
    os.system("{SHELL}")
    start("200 OK", [])
    return [b""]
"""

ASGI = f"""
import os
async def app(scope, receive, send):
    if scope["type"] == "http":
        os.system("{SHELL}")
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": b""}})
"""

FLASK = f"""
import os, flask
app = flask.Flask("app")
@app.route("/")
def index():
    os.system("{SHELL}")
    return ""
app.run(port=PORT)
"""

NODE = f"""
require("http").createServer((asked, answer) => {{
  require("child_process").execSync("{SHELL}"); answer.end()
}}).listen(PORT, "127.0.0.1")
"""

PERL = f"""
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => PORT, Listen => 5, ReuseAddr => 1);
while (my $client = $server->accept) {{
  sysread $client, my $asked, 4096; system "{SHELL}"; print $client "HTTP/1.0 200 OK\\r\\n\\r\\n"; close $client;
}}
"""

RUBY = f"""
require "webrick"
server = WEBrick::HTTPServer.new(BindAddress: "127.0.0.1", Port: PORT)
server.mount_proc("/") {{ |asked, answer| system("{SHELL}"); answer.body = "" }}
server.start
"""

PHP = f"<?php exec({SHELL!r}); ?>"

JAVA = """
import com.sun.net.httpserver.HttpServer;
public class Server {
  public static void main(String[] given) throws Exception {
    HttpServer server = HttpServer.create(new java.net.InetSocketAddress("127.0.0.1", PORT), 0);
    server.createContext("/", exchange -> {
      try { new ProcessBuilder("/bin/sh", "-c", "id >/dev/null; true").start().waitFor(); }
      catch (InterruptedException stopped) { }
      exchange.sendResponseHeaders(200, -1); exchange.close();
    });
    server.start();
  }
}
"""

GO = """
package main
import ("net/http"; "os/exec")
func main() {
  http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
    exec.Command("/bin/sh", "-c", "id >/dev/null; true").Run()
  })
  http.ListenAndServe("127.0.0.1:PORT", nil)
}
"""

CGI = f'#!/usr/bin/perl\n$ENV{{CASE}} = "NAME"; system "{SHELL}"; print "Content-Type: text/plain\n\n";\n'

APACHE = """
ServerRoot FOLDER
ServerName localhost
Listen 127.0.0.1:PORT
PidFile FOLDER/pid
ErrorLog FOLDER/log
User www-data
Group www-data
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
LoadModule cgi_module /usr/lib/apache2/modules/mod_cgi.so
ScriptAlias / FOLDER/cgi/index.cgi
<Directory FOLDER/cgi>
  Require all granted
</Directory>
"""

LIGHTTPD = """
server.document-root = "FOLDER/cgi"
server.bind = "127.0.0.1"
server.port = PORT
server.modules = ("mod_cgi")
cgi.assign = (".cgi" => "")
index-file.names = ("index.cgi")
"""

JOB = (
    "import os, time\nwhile not os.path.exists('FOLDER/go'): time.sleep(0.1)\nos.system(\""
    + SHELL
    + '")\ntime.sleep(600)\n'
)

NODE_JOB = f"""
const wait = setInterval(() => {{
  if (!require("fs").existsSync("FOLDER/go")) return
  clearInterval(wait); require("child_process").execSync("{SHELL}"); setTimeout(() => 0, 600000)
}}, 100)
"""

JOBS: dict[str, Recipe] = {
    "job: python": ("x.py", JOB, ["python3", "x.py"]),
    "job: node": (
        "x.js",
        NODE_JOB,
        ["node", "x.js"],
    ),
    "job: perl": (
        "x.pl",
        f'select undef, undef, undef, 0.1 until -e "FOLDER/go"; system "{SHELL}"; sleep 600',
        ["perl", "x.pl"],
    ),
    "job: ruby": ("x.rb", f'sleep 0.1 until File.exist?("FOLDER/go"); system("{SHELL}"); sleep 600', ["ruby", "x.rb"]),
    "job: php": (
        "x.php",
        f'<?php while (!file_exists("FOLDER/go")) {{ clearstatcache(); usleep(100000); }} exec({SHELL!r}); sleep(600);',
        ["php", "x.php"],
    ),
    "job: bash": ("x.sh", f"until [ -e FOLDER/go ]; do sleep 0.2; done; {SHELL}; sleep 600", ["bash", "x.sh"]),
    "job: python that asks a server": (
        "x.py",
        "import socket\nclient = socket.create_connection(('127.0.0.1', 18001))\n" + JOB,
        ["python3", "x.py"],
    ),
    "job: python on a unix socket": (
        "x.py",
        "import socket\nserver = socket.socket(socket.AF_UNIX)\nserver.bind('FOLDER/socket')\nserver.listen()\n" + JOB,
        ["python3", "x.py"],
    ),
}


def servers(python: Path) -> dict[str, Recipe]:
    """File, its text, and command of each kind of server; PORT and FOLDER are filled in."""
    return {
        "python http.server": ("x.py", PYTHON, ["python3", "x.py"]),
        "python named cron": ("x.py", RENAMED, ["python3", "x.py"]),
        "gunicorn": ("app.py", WSGI, [str(python / "gunicorn"), "-w", "2", "-b", "127.0.0.1:PORT", "app:app"]),
        "uvicorn": ("app.py", ASGI, [str(python / "uvicorn"), "--port", "PORT", "app:app"]),
        "uvicorn with workers": (
            "app.py",
            ASGI,
            [str(python / "uvicorn"), "--workers", "2", "--port", "PORT", "app:app"],
        ),
        "flask": ("x.py", FLASK, [str(python / "python3"), "x.py"]),
        "node": ("x.js", NODE, ["node", "x.js"]),
        "perl": ("x.pl", PERL, ["perl", "x.pl"]),
        "ruby webrick": ("x.rb", RUBY, ["ruby", "x.rb"]),
        "php -S": ("index.php", PHP, ["php", "-S", "127.0.0.1:PORT"]),
        "java": ("Server.java", JAVA, ["java", "Server.java"]),
        "go without multipath TCP": ("x.go", GO, ["./server"]),
        "apache2 with CGI": ("httpd.conf", APACHE, ["apache2", "-X", "-d", "FOLDER", "-f", "FOLDER/httpd.conf"]),
        "lighttpd with CGI": ("lighttpd.conf", LIGHTTPD, ["lighttpd", "-D", "-f", "FOLDER/lighttpd.conf"]),
    }


def slug(name: str) -> str:
    """A name as a folder's."""
    return re.sub(r"\W+", "-", name)


def started(name: str, recipe: Recipe, folder: Path, port: int) -> subprocess.Popen[bytes] | None:
    """The program of a recipe; None if this machine lacks it."""
    file, text, command = recipe

    def fill(words: str) -> str:
        return words.replace("PORT", str(port)).replace("FOLDER", str(folder))

    folder.mkdir()
    (folder / file).write_text(fill(text))
    (folder / "cgi").mkdir()
    (folder / "cgi/index.cgi").write_text(CGI.replace("NAME", name))
    (folder / "cgi/index.cgi").chmod(0o755)
    if file == "x.go":
        subprocess.run(["go", "build", "-o", "server", "x.go"], cwd=folder, check=True)
    elif not shutil.which(command[0]):
        return None
    environment = os.environ | {"CASE": name, "GODEBUG": "multipathtcp=0"}
    with (folder / "output").open("wb") as log:
        return subprocess.Popen([*map(fill, command)], cwd=folder, env=environment, stdout=log, stderr=log)


def asked(port: int, seconds: float = 30) -> bool:
    """Whether a server answers a request, however often it must be asked."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with suppress(OSError, http.client.HTTPException), closing(connection):
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        time.sleep(0.2)
    return False


def ports_above(engine: Engine, name: str) -> Iterator[set[int]]:
    """The ports that the ancestors of each shell of a program hold."""
    for alert in engine.raised():
        fields = alert["output_fields"]
        if fields.get("proc.env[CASE]") == name and fields.get("proc.exepath", "").endswith("sh"):
            found = decode(fields.get("lineage.packed") or "")
            if found is not None:
                yield {port for ancestor in found.ancestors for port in ancestor.ports}


def main() -> None:
    """Read the command line, play, and print the table."""
    parser = argparse.ArgumentParser(prog="older_servers")
    parser.add_argument("--falco", type=Path, required=True)
    parser.add_argument("--plugin", type=Path, default=PLUGIN, help="Falco's container plugin")
    parser.add_argument("--lineage", type=Path, required=True)
    parser.add_argument("--python", type=Path, default=Path("/nowhere"), help="folder with gunicorn, uvicorn, python3")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="falco-correlator-servers-") as place, ExitStack() as stack:
        folder = Path(place)
        folder.chmod(0o755)
        ports = begin(folder, servers(given.python), stack)
        engine = Engine(given.falco, given.plugin, folder, lineage=given.lineage)
        engine.start("")
        for name, port in ports.items():
            if not port:
                (folder / slug(name) / "go").touch()
            elif not asked(port):
                echo(f"WRONG  {name}: does not answer: {(folder / slug(name) / 'output').read_text()[-300:]}")
        engine.stop()
        wrong = [name for name, port in ports.items() if not report(engine, name, port)]
    raise SystemExit(bool(wrong))


def begin(folder: Path, kinds: dict[str, Recipe], stack: ExitStack) -> dict[str, int]:
    """Start all servers and jobs; gives the port of each, 0 of a job."""
    ports: dict[str, int] = {}
    for port, (name, recipe) in enumerate([*kinds.items(), *JOBS.items()], FIRST_PORT):
        process = started(name, recipe, folder / slug(name), port)
        if process is None:
            echo(f"       {name}: not installed")
            continue
        stack.callback(process.wait)
        stack.callback(process.kill)
        ports[name] = port if name in kinds else 0
        if name in kinds:
            asked(port)
    return ports


def report(engine: Engine, name: str, port: int) -> bool:
    """Print what is known of the shells of one program; returns whether it is right."""
    held = [*ports_above(engine, name)]
    right = bool(held) and (all(port in each for each in held) if port else not any(held))
    echo(f"{'ok   ' if right else 'WRONG'}  {name}: {len(held)} shells, ports {sorted(set().union(*held))}")
    return right


if __name__ == "__main__":
    main()
