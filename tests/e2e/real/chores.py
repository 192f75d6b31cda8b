"""Timers, reloads, backups, packages, test suites: what surrounds services on a normal day."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from e2e.real.network import MIRROR
from e2e.real.places import IMAGE, Place
from e2e.real.services import POSTGRES, TOOLS, VENV, Service

PYTHON = [str(VENV / "python")]
WORKSTATION = "work-station"
"""The place on this host where people build, test and install."""

CRONTAB = f"""
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin
* * * * * root tar czf FOLDER/files/etc-$(date +\\%H\\%M).tgz /etc/hosts /etc/cron.d && find FOLDER/files -mmin +30 -delete
* * * * * root curl -fsS http://{MIRROR}/health >/dev/null || echo down
* * * * * root cd / && run-parts --report /etc/cron.hourly
* * * * * root php -r 'echo date("c");' | gzip > FOLDER/files/report.gz
* * * * * www-data test -x /usr/bin/php && php FOLDER/www/index.php >/dev/null
* * * * * root curl -s -T FOLDER/files/report.gz http://{MIRROR}/backup/report.gz
* * * * * root cat /var/run/secrets/kubernetes.io/serviceaccount/token | wc -c
* * * * * root python3 -c 'import subprocess; subprocess.run(["df", "-h"], stdout=subprocess.DEVNULL)'
"""

LOOP = f"""#!/bin/sh
while :; do
  curl -fsS -H "Authorization: Bearer $(cat /var/run/secrets/kubernetes.io/serviceaccount/token)" http://{MIRROR}/ping
  python3 -c 'import os; print(os.getpid())'
  sleep 5
done
"""

TIMERS = {
    "cron": Service(
        "cron",
        {"crontab": CRONTAB, "www/index.php": "<?php echo 'cron';"},
        [["sh", "-c", "cp FOLDER/crontab /etc/cron.d/shop && chmod 644 /etc/cron.d/shop && exec cron -f"]],
        lambda running, command: "",
        ["cron"],
        is_web=False,
    ),
    "loop": Service("loop", {"loop.sh": LOOP}, [["sh", "FOLDER/loop.sh"]], lambda running, command: "", is_web=False),
}

LOGROTATE = """FOLDER/run/*.log {
  size 1
  rotate 2
  missingok
  copytruncate
  sharedscripts
  postrotate
    COMMAND
  endscript
}
"""


def _rotated(command: str) -> list[str]:
    conf = LOGROTATE.replace("COMMAND", command)
    line = f"printf '%s' '{conf}' > FOLDER/files/rotate.conf; logrotate -f -s FOLDER/files/rotate.state FOLDER/files/rotate.conf"
    return ["sh", "-c", line]


def _dump(line: str) -> list[str]:
    return ["sh", "-c", line]


BY_SERVICE: dict[str, dict[str, list[str]]] = {
    "apache-php": {
        "graceful": ["apache2", "-d", "FOLDER", "-f", "FOLDER/httpd.conf", "-k", "graceful"],
        "logrotate": _rotated("[ ! -f FOLDER/run/apache.pid ] || kill -USR1 $(cat FOLDER/run/apache.pid)"),
    },
    "nginx-fpm": {
        "reload": ["nginx", "-c", "FOLDER/nginx.conf", "-s", "reload"],
        "reload of php-fpm": ["sh", "-c", "kill -USR2 $(cat FOLDER/run/fpm.pid)"],
        "logrotate": _rotated("[ ! -f FOLDER/run/nginx.pid ] || kill -USR1 $(cat FOLDER/run/nginx.pid)"),
    },
    "gunicorn-flask": {"logrotate": _rotated("true")},
    "supervisor-gunicorn": {
        "restart": ["supervisorctl", "-c", "FOLDER/supervisord.conf", "restart", "shop"],
        "status": ["supervisorctl", "-c", "FOLDER/supervisord.conf", "status"],
    },
    "postgres": {
        "dump": _dump("pg_dump -h 127.0.0.1 -p PORT -U postgres postgres | gzip > FOLDER/files/dump.sql.gz"),
        "archive": _dump(
            "psql -h 127.0.0.1 -p PORT -U postgres -qc 'create table if not exists a(b int); insert into a values (1); "
            "select pg_switch_wal()'"
        ),
        "export": _dump(
            "psql -h 127.0.0.1 -p PORT -U postgres -qc \"copy (select 1) to program 'gzip > FOLDER/files/one.gz'\""
        ),
        "ready": _dump("pg_isready -h 127.0.0.1 -p PORT"),
        "base backup": _dump(
            f"rm -rf FOLDER/files/base; {POSTGRES}/pg_basebackup -h 127.0.0.1 -p PORT -U postgres -D FOLDER/files/base -X none"
        ),
    },
    "redis": {
        "ping": ["redis-cli", "-p", "PORT", "ping"],
        "write": ["redis-cli", "-p", "PORT", "set", "basket", "1"],
        "save": ["redis-cli", "-p", "PORT", "bgsave"],
        "rewrite": ["redis-cli", "-p", "PORT", "bgrewriteaof"],
    },
}
"""By service: a task and its command, run as an administrator or a probe does."""

TESTS = """
import http.server, subprocess, threading, urllib.request

def test_a_page():
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.handle_request).start()
    assert urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/").status == 200

def test_curl():
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.handle_request).start()
    subprocess.run(f"curl -fsS http://127.0.0.1:{server.server_port}/", shell=True, check=True)

def test_tools():
    assert subprocess.getoutput("echo dGVzdA== | base64 -d") == "test"
    subprocess.run(["sh", "-c", "git --version && cat /etc/hostname"], check=True)
"""

PACKAGE_JSON = """{"name": "shop", "version": "1.0.0", "scripts": {
  "build": "node build.js && gzip -c build.js | wc -c", "test": "node --test"}}
"""

NODE_TEST = """
const { test } = require("node:test"), { execSync } = require("child_process"), http = require("http")
test("a server under test", (t, done) => {
  const server = http.createServer((asked, answer) => answer.end("ok")).listen(0, "127.0.0.1", () => {
    require("child_process").exec(`curl -fsS http://127.0.0.1:${server.address().port}/`, () => { server.close(); done() })
  })
})
test("tools", () => { execSync("git --version"); execSync("cat package.json | wc -l") })
"""

DEV_SERVER = """
const { execSync } = require("child_process")
execSync("git rev-parse --is-inside-work-tree || true", { stdio: "pipe" })
require("http").createServer((asked, answer) => answer.end(execSync("date"))).listen(+process.argv[2], "127.0.0.1")
setTimeout(() => process.exit(), 3000)
"""

POSTINST = """#!/bin/sh
set -e
if [ "$1" = configure ]; then
  ldconfig
  mkdir -p /var/lib/falco-correlator-e2e
  find /var/lib/falco-correlator-e2e -type f -delete
  sed -n 1p /etc/hosts | base64 >/dev/null
  (sh -c 'cat /etc/passwd | wc -l') >/dev/null
  perl -e 'print "configured\\n"'
fi
"""


def _prepare(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in {
        "test_shop.py": TESTS,
        "package.json": PACKAGE_JSON,
        "shop.test.js": NODE_TEST,
        "build.js": 'require("child_process").execSync("uname -a")',
        "dev.js": DEV_SERVER,
        "deb/DEBIAN/control": "Package: falco-correlator-e2e\nVersion: 1\nArchitecture: all\nMaintainer: e2e <e2e@example.test>\n"
        "Description: nothing\n",
        "deb/DEBIAN/postinst": POSTINST,
        "deb/usr/share/falco-correlator-e2e/file": "nothing\n",
    }.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "deb/DEBIAN/postinst").chmod(0o755)
    (folder / "deb/DEBIAN").chmod(0o755)
    subprocess.run(["dpkg-deb", "--build", "deb", "x.deb"], cwd=folder, check=True, capture_output=True)


def on_a_workstation() -> Iterator[tuple[str, Callable[[], object]]]:
    """Builds, tests, installs and development servers of people on this host."""
    folder = IMAGE / WORKSTATION
    _prepare(folder)
    place = Place(WORKSTATION)
    lines = {
        "pytest": f"{VENV}/pytest -q -p no:cacheprovider {folder}/test_shop.py",
        "npm test": "npm test --silent",
        "npm run build": "npm run --silent build",
        "development server": "node dev.js 18090 & sleep 1; curl -s http://127.0.0.1:18090/; wait",
        "development server of flask": f"timeout 4 {VENV}/flask --app flask_app run --debug --port 18091",
        "package install": "dpkg -i x.deb; dpkg -r falco-correlator-e2e",
        "sudo": "sudo -n sh -c 'cat /etc/shadow | wc -l; curl -s http://10.96.7.7/'",
        "make": "printf 'all:\\n\\tsh -c date; curl -s http://10.96.7.7/ >/dev/null\\n' | make -f -",
        "git": "git init -q . ; git add -A; git -c user.name=x -c user.email=x@example.test commit -qm x",
        "node version": f'{TOOLS}/node24/node_modules/node/bin/node -e \'require("child_process").execSync("date")\'',
    }
    (folder / "flask_app.py").write_text(
        "import subprocess\nfrom flask import Flask\napp = Flask('x')\nsubprocess.getoutput('git --version')\n"
    )
    for task, line in lines.items():
        for terminal in (True, False):
            words = ["bash", "-c", f"cd {folder} && {line}"]
            yield (
                f"{WORKSTATION}: {task}",
                lambda words=words, terminal=terminal: place.enter(words, terminal=terminal),  # type: ignore[misc]
            )
