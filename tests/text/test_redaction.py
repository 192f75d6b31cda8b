"""No secret is kept or sent, hardly anything else is touched, and no text takes long.

Covers: `text.redaction.redactor`, `text.redaction.patterns`, `text.redaction.programs`.
"""

import itertools
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA, Serving, spec
from hypothesis import given
from hypothesis import strategies as st
from secret_patterns import packed, source
from support.cost import cost
from support.falcosidekick import Falcosidekick
from support.secrets_corpus import SECRETS

from sidecar.alerts.traits import has_interactive_flag
from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.model import MAX_NAME_CHARS
from sidecar.rules.rule import CorrelationRule
from sidecar.service.logs import JsonFormatter
from sidecar.text.redaction.patterns import FILE, Names, Pattern, Token, shipped
from sidecar.text.redaction.programs import Program
from sidecar.text.redaction.redactor import Redactor

HARMLESS = (DATA / "harmless_commands.txt").read_text().splitlines()
STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()

redact = Redactor("a key")


def pieces(secret: str, size: int = 8) -> set[str]:
    """Every run of so many characters of a secret."""
    return {secret[at : at + size] for at in range(max(len(secret) - size, 0) + 1)}


def test_of_a_secret_not_eight_characters_in_a_row_are_left() -> None:
    for kind, line, secrets in SECRETS:
        masked = redact(line)
        left = [piece for secret in secrets for piece in pieces(secret) if piece in masked]
        assert left == [], (kind, line)
        assert re.search(r"\*\*\*[0-9a-f]{8}", masked), (kind, line)


def test_there_are_80_secrets_of_20_kinds() -> None:
    assert (len({line for _, line, _ in SECRETS}), len({kind for kind, *_ in SECRETS})) == (80, 20)


def test_of_more_than_500_harmless_command_lines_at_most_one_in_a_hundred_is_changed() -> None:
    changed = [(line, redact(line)) for line in HARMLESS if redact(line) != line]

    assert len(set(HARMLESS)) >= 500
    assert len(changed) <= len(HARMLESS) // 100, changed


def test_recorded_alerts_of_a_real_falco_are_not_changed() -> None:
    lines = {json.loads(alert)["output_fields"].get("proc.cmdline") or "" for alert in STOCK}

    assert [line for line in lines if redact(line) != line] == []


def test_the_same_secret_has_the_same_mask_wherever_it_stands_and_another_key_gives_another() -> None:
    masks = {
        redact(line)[-11:] for line in ("mysql -pS3cret-word", "tool --password S3cret-word", "env DB_PASS=S3cret-word")
    }

    assert len(masks) == 1
    assert masks.isdisjoint({Redactor("other")("tool --password S3cret-word")[-11:]})
    assert Redactor()("tool --password x12345") != Redactor()("tool --password x12345")


def test_a_masked_line_stays_as_it_is() -> None:
    masked = [redact(line) for _, line, _ in SECRETS]

    assert [redact(line) for line in masked] == masked


@given(st.text(max_size=200))
def test_any_text_is_redacted_without_an_error_and_masks_are_stable(text: str) -> None:
    assert redact(redact(text)) == redact(redact(redact(text)))


def test_masking_does_not_change_whether_a_shell_is_interactive() -> None:
    lines = [*HARMLESS, *(line for _, line, _ in SECRETS), "bash -ic id", "bash --login -i"]

    assert [line for line in lines if has_interactive_flag(line) != has_interactive_flag(redact(line))] == []


UNITS = (
    *("a", "A", "-", "--", "_", ".", "=", "@", ":", "/", " ", "'", '"', "|", "\u212a", "\u0130", "%aa", "://", "a:b@"),
    *("password=", "--password ", "token", "token-", "x-token", "?token=", "secret: ", 'secret"', "bearer ", "basic a"),
    *("authorization: ", "-----BEGIN PRIVATE KEY", "echo a |", "a:a | ", "chpasswd ", "sudo -a", "api/webhooks/"),
    *(
        "mysql -p",
        "mysql ",
        "curl -u:",
        "aws_secret_access_key ",
        "<<<",
        "echo a|sudo -S;",
        "podman --secret b ",
        "mysql -pchpasswd ",
        *shipped().token_hints,
    ),
)


def masking(text: str, rounds: int) -> float:
    """What it costs to mask a text that was not seen before."""
    return cost(lambda: Redactor("k")(text), rounds)


@pytest.mark.slow
def test_no_text_takes_long_whatever_it_is_made_of() -> None:
    for unit in itertools.chain(UNITS, map("".join, itertools.permutations(UNITS[:45], 2))):
        text = (unit * 4096)[:4096]
        assert masking(text, 1) < 20 or masking(text, 3) < 20, unit


@pytest.mark.slow
def test_time_grows_with_the_length_and_not_faster() -> None:
    for unit in UNITS:
        text = (unit * 65_536)[:65_536]
        assert masking(text, 3) < 500, unit  # 120 for the slowest; the square of the length would be seconds


DATA_ROWS: list[Token | Names | Pattern | Program] = [
    *source().tokens,
    source().names,
    *source().patterns,
    *source().programs,
]


def test_of_an_example_exactly_the_secret_is_masked() -> None:
    for line in [line for row in DATA_ROWS for line in row.masked]:
        expected = re.sub("«(.*?)»", lambda found: redact.mask(found[1]), line)
        assert redact(re.sub("[«»]", "", line)) == expected


def test_a_harmless_example_stays_as_it_is() -> None:
    lines = [line for row in DATA_ROWS for line in row.kept]

    assert [redact(line) for line in lines] == lines


def test_the_service_reads_what_the_file_says() -> None:
    assert FILE.read_bytes() == packed(), "run: make docs"


def test_every_row_has_an_example_with_a_secret() -> None:
    assert [row for row in DATA_ROWS if not any("«" in line for line in row.masked)] == []


def test_hints_of_patterns_are_in_lower_case_as_the_text_that_they_are_looked_for_in() -> None:
    assert all(hint == hint.lower() for row in DATA_ROWS if isinstance(row, Pattern | Names) for hint in row.hints)


def test_a_rule_name_of_a_megabyte_is_not_remembered(pipeline: Pipeline) -> None:
    alert = json.loads(STOCK[3])
    for number in range(20):
        name = f"{number}" + "x" * 1_000_000
        pipeline.process_json(json.dumps({**alert, "rule": name, "tags": ["webrce_web_shell"]}).encode())

    assert pipeline._classifier._verdicts == {}
    assert all(
        len(detection.rule) <= MAX_NAME_CHARS
        for container in pipeline.containers
        for context in container.contexts.values()
        for detection in context.timeline
    )


def test_a_traceback_in_the_log_holds_no_secret() -> None:
    line = SECRETS[40][1]
    try:
        int(line)
    except ValueError:
        record = logging.makeLogRecord({"msg": "broken", "exc_info": sys.exc_info()})

    line = JsonFormatter().format(record)
    assert [secret for secret in SECRETS[40][2] if secret in line] == []
    assert "ValueError: invalid literal" in line


@pytest.mark.slow
def test_no_secret_leaves_by_any_sink_log_metric_or_file(
    serving: Serving,
    sidekick: Falcosidekick,
    rule: CorrelationRule,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings: dict[str, Any] = {
        "pass_through": {"mode": "others"},
        "sinks": {
            "falcosidekick": {"url": sidekick.url},
            "webhook": {"url": sidekick.url},
            "stdout": {"enabled": True, "format": "text"},
            "file": {"path": str(tmp_path / "incidents.jsonl")},
        },
        "state": {"path": str(tmp_path / "state.db")},
    }
    with caplog.at_level(logging.DEBUG), serving(settings) as service:
        for number, (_, line, _) in enumerate(SECRETS):
            fields: dict[str, Any] = {"proc.cmdline": line, "fd.name": line}
            story = [
                spec("nginx > sh", "web_shell", container=f"c{number}", fields=fields),
                spec("nginx > sh > curl", "network", at="1s", container=f"c{number}", fields=fields),
                spec("nginx > sh > cat", "credential", at="2s", container=f"c{number}", fields=fields),
                spec("cron > sh > cat", "credential", at="3s", container=f"c{number}", fields=fields),
            ]
            for body in alerts(rule, story):
                service.post(body)
        metrics = service.get("/metrics")[1]
        assert service.service.pipeline.correlator.opened == 80
    logged = "\n".join(JsonFormatter().format(record) for record in caplog.records)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir()).decode("utf-8", "replace")
    outputs = "\n".join([*(raw.decode() for raw in sidekick.raw), capsys.readouterr().out, logged, metrics, stored])

    assert len(sidekick.events) >= 160 * 2
    assert [s for _, _, secrets in SECRETS for secret in secrets for s in pieces(secret, 10) if s in outputs] == []
