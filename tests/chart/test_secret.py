"""The secret path: made once, kept at an upgrade, given by value or by a Secret; and where it can be read."""

import base64

import pytest
import yaml
from chart import kube_api
from chart.rendering import Refused, call, objects, one, pod
from chart_docs import CHART
from chart_tools import HELM

pytestmark = pytest.mark.slow
NAME = "falco-correlator-secret-path"


def path(secret: dict[str, dict[str, str]], key: str = "secret-path") -> str:
    return base64.b64decode(secret["data"][key]).decode()


def upgraded(major: int, secrets: dict[str, dict[str, str]], *sets: str) -> list[dict[str, dict[str, str]]]:
    """The Secrets that are rendered where helm can look into a cluster that has these."""
    options = [part for each in sets for part in ("--set", each)]
    with kube_api.running(secrets) as api:
        command = (
            "template",
            "falco-correlator",
            str(CHART),
            "--namespace",
            "falco",
            "--dry-run=server",
            "--disable-openapi-validation",
        )
        text = call(major, *command, "--is-upgrade", "--kube-apiserver", api, *options)
    return [each for each in yaml.safe_load_all(text) if each and each["kind"] == "Secret"]


@pytest.mark.parametrize("major", HELM)
def test_the_secret_path_that_was_made_is_found_again_at_an_upgrade(major: int) -> None:
    before = base64.b64encode(b"/made-when-it-was-installed").decode()

    (secret,) = upgraded(major, {f"falco/{NAME}": {"secret-path": before}})

    assert path(secret) == "/made-when-it-was-installed"


@pytest.mark.parametrize("major", HELM)
def test_a_secret_without_the_key_is_told_and_not_overwritten(major: int) -> None:
    with pytest.raises(Refused, match=f"Secret falco/{NAME} has no key secret-path"):
        upgraded(major, {f"falco/{NAME}": {"other": "eA=="}})


@pytest.mark.parametrize("major", HELM)
def test_the_first_installation_makes_a_path_that_nobody_guesses(major: int) -> None:
    (first,), (second,) = upgraded(major, {}), upgraded(major, {})

    assert path(first)[0] == "/"
    assert path(first)[1:].isalnum()
    assert len(path(first)) == 41
    assert path(first) != path(second)


def test_the_secret_outlives_the_release() -> None:
    assert one("Secret", "default")["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_falco_in_another_namespace_gets_the_same_path() -> None:
    secrets = [each for each in objects("default", "falco.namespace=falco-system") if each["kind"] == "Secret"]

    assert [each["metadata"]["namespace"] for each in secrets] == ["falco", "falco-system"]
    assert path(secrets[0]) == path(secrets[1])


def test_a_path_given_by_value_is_taken_and_its_change_restarts_the_pods() -> None:
    one_path, other = ("secretPath.value=/0123456789abcdef", "secretPath.value=/fedcba9876543210")

    assert path(one("Secret", "default", one_path)) == "/0123456789abcdef"
    checksums = [
        pod("default", value)["metadata"]["annotations"]["checksum/secret-path"] for value in (one_path, other)
    ]
    assert checksums[0] != checksums[1]


@pytest.mark.parametrize("name", ["http-existing-secrets", "http-mtls", "http-insecure", "grpc", "sidecar"])
def test_no_secret_is_made_where_none_is_wanted(name: str) -> None:
    assert [each["metadata"]["name"] for each in objects(name) if each["kind"] == "Secret"] == []


def test_the_path_stands_in_no_other_object_than_its_secret() -> None:
    everything = [each for each in objects("default", "secretPath.value=/0123456789abcdef") if each["kind"] != "Secret"]

    assert "0123456789abcdef" not in yaml.safe_dump(everything)
