"""What `doctor` found, printed: what is wrong, where, and what to do."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sidecar.cli.checking import documents, running
from sidecar.cli.checking.documents import Found
from sidecar.cli.doctor import Finding, Mode
from sidecar.cli.options import emit
from sidecar.errors import ConfigError
from sidecar.settings.section import is_url
from sidecar.text import escape

STDIN = "-"

HERE = ("/etc/falco/falco.yaml", "http://127.0.0.1:8765", "http://127.0.0.1:2812")
"""Where Falco and the correlator usually are on a machine."""


def run(sources: Sequence[str], mode: Mode | None, output: str) -> bool:
    """Examine files and addresses, and print the result. Returns whether something is wrong.

    Raises:
        ConfigError: a file cannot be read, or is of no kind that is known.
    """
    found = [(source, each) for source in sources or _here() for each in _examined(source, mode)]
    if output == "table":
        for source, each in found:
            _print(source, each)
    else:
        emit(_plain(found), output)
    return any(finding.grave for _, each in found for finding in each.findings)


def _here() -> list[str]:
    """The usual places that exist on this machine."""
    files = [source for source in HERE if not is_url(source) and Path(source).is_file()]
    answering = [source for source in HERE if is_url(source) and running.examined(source).kind != "address"]
    if not files and not answering:
        raise ConfigError("doctor", [f"found none of {', '.join(HERE)}; name a file or an address"])
    return [*files, *answering]


def _examined(source: str, mode: Mode | None) -> list[Found]:
    if is_url(source):
        return [running.examined(source)]
    if source == STDIN:
        return documents.examined_bytes(sys.stdin.buffer.read(), "standard input", mode)
    return documents.examined(Path(source), mode)


def _print(source: str, found: Found) -> None:
    for finding in sorted(found.findings, key=lambda finding: not finding.grave):
        click.echo(escape.terminal(f"{'WRONG ' if finding.grave else 'advice'} {finding.where}: {_what(finding)}"))
        for line in finding.lines.splitlines():
            click.echo(f"         {escape.terminal(line)}")
    for note in found.notes:
        click.echo(escape.terminal(f"note   {note}"))
    grave = sum(finding.grave for finding in found.findings)
    mode = f", mode {found.mode}" if found.mode else ""
    counts = f"{grave} wrong, {len(found.findings) - grave} to consider"
    kind = "" if found.kind == "falco.yaml" else f" ({found.kind})"
    click.echo(escape.terminal(f"{source}{kind}{mode}: {counts}"))


def _what(finding: Finding) -> str:
    return f"{finding.what}; add to {finding.add_to}:" if finding.lines else finding.what


def _plain(found: Sequence[tuple[str, Found]]) -> dict[str, Any]:
    sources = [
        {
            "source": source,
            "kind": each.kind,
            "mode": each.mode,
            "findings": [
                {
                    "level": "wrong" if finding.grave else "advice",
                    "where": finding.where,
                    "what": finding.what,
                    "add": finding.lines,
                }
                for finding in each.findings
            ],
            "notes": each.notes,
        }
        for source, each in found
    ]
    wrong = sum(finding.grave for _, each in found for finding in each.findings)
    return {"ok": not wrong, "wrong": wrong, "sources": sources}
