"""What an interpreter was started with, as its command line says."""

import pytest

from sidecar.meaning.command_summary import summarise_commands, summary
from sidecar.model import Fields


@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [
        ("node /usr/local/bin/npm ci", "/usr/local/bin/npm ci"),
        ("python3 -X dev -m flask --app x.py run -p 80", "flask run"),
        ("java -Xmx1g -cp a.jar:b.jar org.example.Main serve", "org.example.Main serve"),
        ("java -jar /opt/agent.jar", "/opt/agent.jar"),
        ("python3 -c import(os)", "-c"),
        ("node", ""),
        ("ruby /app/run.rb --token=secret", "/app/run.rb"),
    ],
)
def test_script_and_subcommand_are_kept_of(cmdline: str, expected: str) -> None:
    assert summary(cmdline) == expected


def test_the_ancestors_command_lines_are_replaced_by_their_summaries() -> None:
    fields = Fields(pcmdline="node /app/server.js --password=x", acmdline2="sh", acmdline4="npm start")
    summarise_commands(fields)

    assert (fields.pcmdline, fields.acmdline2, fields.acmdline4) == ("/app/server.js", None, "start")
