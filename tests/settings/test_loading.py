"""Settings: one file, every key also a variable, and each mistake reported with the remedy.

Covers: `settings.schema`, `settings.section`, `settings.sources`, `settings.sinks`, `settings.checks`,
`settings.display`, `settings.extras`, `settings.renamed`.
"""

import sys
from pathlib import Path

import pytest

from sidecar.errors import ConfigError
from sidecar.settings.display import to_yaml
from sidecar.settings.loading import load, variables
from sidecar.settings.renamed import RENAMED
from sidecar.settings.schema import Settings

STDOUT = {"FALCO_CORRELATOR_SINKS__STDOUT__ENABLED": "true"}


def problems(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> list[str]:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(file, environment or {})
    return raised.value.problems


def test_the_defaults_need_only_a_sink() -> None:
    settings = load(None, STDOUT)

    assert (settings.http.host, settings.http.port, settings.pass_through.mode) == ("127.0.0.1", 2802, "others")


def test_a_variable_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("http: {port: 1000, body_timeout: 3s}\n")
    settings = load(file, {**STDOUT, "FALCO_CORRELATOR_HTTP__PORT": "1001"})

    assert (settings.http.port, settings.http.body_timeout.seconds) == (1001, 3.0)


@pytest.mark.parametrize("name", variables())
def test_every_setting_has_a_variable_that_reaches_it(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(None, {**STDOUT, name: "[[]]"})

    assert variables()[name] in str(raised.value)


def test_lists_and_maps_can_be_given_in_a_variable() -> None:
    settings = load(
        None,
        {
            **STDOUT,
            "FALCO_CORRELATOR_RULES": "[/a.yaml, /b]",
            "FALCO_CORRELATOR_SINKS__WEBHOOK__HEADERS": "{Authorization: Bearer x}",
        },
    )

    assert (settings.rules, settings.sinks.webhook.headers) == (["/a.yaml", "/b"], {"Authorization": "Bearer x"})


def test_printed_settings_load_to_the_same(tmp_path: Path) -> None:
    settings = load(None, {**STDOUT, "FALCO_CORRELATOR_COALESCE": "7ms"})
    file = tmp_path / "printed.yaml"
    file.write_text(to_yaml(settings))

    assert settings == load(file, {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("htpp: {}", "htpp: unknown key, did you mean 'http'?"),
        ("http: {prot: 1}", "http.prot: unknown key, did you mean 'port'?"),
        ("http: {port: x}", "http.port: expected a whole number, got 'x'"),
        ("http: {port: 70000}", "http.port: expected a port number up to 65535, got 70000"),
        ("admin: {port: 2802}", "admin.port: is the same as http.port; alerts and administration need separate ports"),
        (
            "admin: {links: {Grafana: 'javascript:alert(1)'}}",
            "admin.links.Grafana: expected http:// or https:// and a host",
        ),
        (
            "admin: {links: {Grafana: 'https://{host}/'}}",
            "admin.links.Grafana: expected http:// or https:// and a host",
        ),
        (
            "admin: {links: {Grafana: 'https://g/{pods}'}}",
            "admin.links.Grafana: unknown placeholder {pods}, did you mean {pod}?",
        ),
        (
            "admin: {allowed_hosts: ['a.example:80']}",
            "admin.allowed_hosts: expected a host name without port, got 'a.example:80'",
        ),
        ("admin: {pages: off}", "admin.pages: "),
        ("http: {enabled: false}", "http.enabled, grpc.enabled, journal.path: none is set, so no alert can come in"),
        ("pass_through: {mode: some}", "pass_through.mode: expected one of others, all, none, got 'some'"),
        ("pass_through: {url: falcosidekick}", "pass_through.url: expected http://host:port or https://host:port"),
        ("sinks: {webhook: {url: 'http://['}}", "sinks.webhook.url: expected http://host:port"),
        ("sinks: {webhook: {url: 'http://h:99999'}}", "sinks.webhook.url: expected http://host:port"),
        ("grpc: {enabled: true, address: 'h:5060'}", "grpc.ca, grpc.cert, grpc.key: all three are needed"),
        ("coalesce: 5", "coalesce: expected a duration such as 500ms"),
        ("pass_through: {queue_size: -1}", "pass_through.queue_size: expected a whole number >= 1"),
        ("pass_through: {queue_size: 100000000000000000000}", "pass_through.queue_size: expected a whole number"),
        ("sinks: {queue_size: 0}", "sinks.queue_size: expected a whole number >= 1"),
        ("http: {max_connections: 0}", "http.max_connections: expected a whole number >= 1"),
        ("journal: {poll_interval: 0s}", "journal.poll_interval: must be longer than 0"),
        (
            'sinks: {webhook: {url: "http://h/\\r\\nX-Evil: 1"}}',
            "sinks.webhook.url: contains a space or a control character",
        ),
        (
            'sinks: {webhook: {url: "http://h/", headers: {A: "b\\r\\nX-Evil: 1"}}}',
            "sinks.webhook.headers.A: contains a control character",
        ),
        ('sinks: {webhook: {url: "http://h/", headers: {"A: b": c}}}', "sinks.webhook.headers.'A: b': is not the name"),
        ('http: {secret_path_file: "a\\0"}', "http.secret_path_file: contains a NUL character; leave it out"),
        ('rules: ["a\\0"]', "rules[0]: contains a NUL character; leave it out"),
        ("- a", "expected keys and values"),
    ],
)
def test_a_mistake_is_told_with_path_and_remedy(tmp_path: Path, text: str, problem: str) -> None:
    (message,) = problems(tmp_path, text, STDOUT)

    assert message.startswith(problem)


def test_a_value_with_a_line_break_leaves_a_mistake_on_one_line(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text('sinks: {webhook: {url: "a\\nb", tls: {ca: /nope}}}')
    with pytest.raises(ConfigError) as raised:
        load(file, STDOUT)

    assert all(line.startswith(f"{file}: ") for line in str(raised.value).splitlines())


def test_without_any_sink_it_says_how_to_set_one(tmp_path: Path) -> None:
    (message,) = problems(tmp_path, "{}")

    assert "sinks.falcosidekick.url (FALCO_CORRELATOR_SINKS__FALCOSIDEKICK__URL)" in message


def test_a_misspelt_variable_is_an_error_that_names_the_right_one() -> None:
    with pytest.raises(ConfigError, match=r"did you mean FALCO_CORRELATOR_HTTP__PORT\?"):
        load(None, {**STDOUT, "FALCO_CORRELATOR_HTTP__PROT": "1"})


def test_a_variable_inside_what_the_file_has_as_text_is_told(tmp_path: Path) -> None:
    assert problems(tmp_path, "http: x", {"FALCO_CORRELATOR_HTTP__PORT": "1"}) == [
        "FALCO_CORRELATOR_HTTP__PORT: http is not a section in the file"
    ]


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing\n")

    assert Settings().http == load(file, STDOUT).http


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_key_is_answered_with_its_new_name(tmp_path: Path, old: str, new: str) -> None:
    *parents, last = old.split(".")
    text = "{" + last + ": 1}"
    for parent in reversed(parents):
        text = "{" + parent + ": " + text + "}"

    assert problems(tmp_path, text, STDOUT) == [f"{old}: renamed to {new}"]


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_variable_is_answered_with_its_new_name(old: str, new: str) -> None:
    known = {path: name for name, path in variables().items()}
    name = "FALCO_CORRELATOR_" + old.upper().replace(".", "__")
    with pytest.raises(ConfigError, match=f"{name}: renamed to {known[new]}$"):
        load(None, {**STDOUT, name: "1"})


def test_an_old_key_does_not_hide_other_mistakes(tmp_path: Path) -> None:
    assert problems(tmp_path, "{settle: 5ms, http: {port: x}}", STDOUT) == [
        "settle: renamed to coalesce",
        "http.port: expected a whole number, got 'x'",
    ]


def test_all_wrong_variables_are_named_at_once() -> None:
    wrong = {"FALCO_CORRELATOR_HTTP__PROT": "1", "FALCO_CORRELATOR_SETTLE": "1s"}
    with pytest.raises(ConfigError) as raised:
        load(None, {**STDOUT, **wrong})

    assert len(raised.value.problems) == len(wrong)


def test_every_renamed_setting_is_in_the_upgrade_notes() -> None:
    text = (Path(__file__).parents[2] / "docs" / "upgrading.md").read_text()

    assert [old for old, new in RENAMED.items() if f"| `{old}` | `{new}` |" not in text] == []


@pytest.mark.parametrize(
    ("text", "path"),
    [("grpc: {enabled: true}", "grpc"), ("sinks: {grpc: {address: unix:///run/x.sock}}", "sinks.grpc")],
)
@pytest.mark.parametrize("module", ["grpc", "google.protobuf"])
def test_without_the_extra_grpc_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, path: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    assert problems(tmp_path, text, STDOUT) == [
        f"{path}: needs grpcio and protobuf, which are not installed: pip install 'falco-correlator[grpc]'"
    ]


def test_without_the_extra_grpc_everything_else_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)

    assert load(None, STDOUT).sinks.stdout.enabled
