"""Whether what reached for a secret used an identity of its own, or took one; and what counts as dropped.

A program of the image that reads the token of its own workload, or asks the metadata service, through an SDK does its
work. General tools (a shell, `cat`, `curl`, code from a command line or from standard input), dropped programs and
scripts, and readers of someone else's secret do not. An SDK's traffic acquits no one: boto3 runs from `-c` too.
"""

import re
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Literal

from sidecar.meaning import secrets
from sidecar.meaning.program import Program
from sidecar.meaning.secrets import EXECS
from sidecar.meaning.tables import Tables, base_name, current
from sidecar.model import Fields
from sidecar.text.lazy_pattern import LazyPattern

Why = Literal["", "memory", "world_writable", "upper_layer", "opened"]
"""Why a program counts as dropped; "" if it does not. `opened`: it opened code that was."""

OPENS = frozenset(("open", "openat", "openat2", "open_by_handle_at", "creat"))

METADATA = frozenset(
    (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
    )
)
"""Where clouds give a workload its identity: AWS (instances, ECS, EKS Pod Identity), Azure, Google Cloud."""

_METADATA_IN_ARGUMENTS = LazyPattern(
    r"169[.]254[.]1(69[.]254|70[.]23?)\b|168[.]63[.]129[.]16|fd00:ec2::(254|23)\b|metadata[.]google[.]internal|computemetadata/v1"
    r"|latest/(meta-data|api/token)|instance-data[.]ec2",
    re.IGNORECASE,
)
_FACTS = LazyPattern(
    r"(?:169[.]254[.]169[.]254|metadata[.]google[.]internal|metadata|instance-data)(?::80)?/(?:"
    r"(?:latest|[12][.\d-]+)/(?:meta-data/(?:ami-id|hostname|instance-(?:id|type|life-cycle)|kernel-id|local-(?:hostname|ipv4)"
    r"|mac|network/interfaces/[\w:/-]*|placement/[\w-]+|public-(?:hostname|ipv4)|ipv6|reservation-id|security-groups"
    r"|services/\w+|spot/[\w-]+|tags/instance[\w/:.-]*)|dynamic/instance-identity/(?:document|signature|pkcs7))"
    r"|computeMetadata/v1/(?:project/(?:numeric-)?project-id|instance/(?:cpu-platform|hostname|id|image|machine-type|name|zone"
    r"|region|preempted|maintenance-event|network-interfaces/[\w/-]*|attributes/cluster-(?:name|location|uid)))"
    r"|metadata/(?:scheduledevents|versions|instance/(?:compute/(?:location|name|vmId|vmSize|zone|resourceGroupName"
    r"|subscriptionId|tags)|network/[\w/]+)))(?:[?][\w=&.-]*)?/?(?=[\s;|&<>\"'`)]|$)",
    re.IGNORECASE,
)
"""Where a metadata service shows the name, the addresses, or the place of a machine: no credentials."""

_TRANSFER = LazyPattern(
    r"aws2?( --?[\w-]+([ =][\w./:-]+)?)* s3 (cp|sync|mv)( .*)?|gsutil( -\S+)* (cp|rsync|mv)( .*)?"
    r"|gcloud storage (cp|rsync|mv)( .*)?|az storage (blob|file) (upload|download|copy|sync)(-batch)?( .*)?"
)
_LOGIN = LazyPattern(
    r"aws( --?[\w-]+( [\w.-]+)?)* eks get-token( .*)?"
    r"|gke-gcloud-auth-plugin.*|kubelogin.*|gcloud config config-helper.*"
)
_INTERNAL = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.168.0.0/16", "224.0.0.0/3", "::/127", "fc00::/7", "fe80::/10", "ff00::/8"),
        ),
    )
)
_ASSIGNMENT = LazyPattern(r"\w+=.*")
_KUBERNETES_CLIENTS = frozenset(
    ("kubectl", "helm", "k9s", "argocd", "flux", "kustomize", "terraform", "stern", "velero")
)


def asks_for_identity(fields: Fields) -> bool:
    """Whether the event of an alert reads a workload's own token, or asks a metadata service.

    Tokens of other pods (below `/var/lib/kubelet`, `/host`, another process's root) are someone else's.
    """
    kind = fields.evt_type or ""
    if kind in OPENS:
        return bool(secrets.is_own_token(fields.file or ""))
    if kind == "connect":
        return (fields.remote_ip or "") in METADATA
    return kind in EXECS and bool(_METADATA_IN_ARGUMENTS.search(fields.cmdline or ""))


def asks_for_facts(fields: Fields) -> bool:
    """Whether the command of a process asks metadata services for facts about its machine, and nothing else."""
    command = fields.cmdline or ""
    if fields.evt_type in OPENS:
        return False
    return bool(_FACTS.search(command)) and not _METADATA_IN_ARGUMENTS.search(_FACTS.sub(" ", command))


def only_sets_metadata(fields: Fields, run: Program) -> bool:
    """Whether a metadata service is named in what `env` is to set for another program, and nowhere else."""
    others = " ".join([word for word in run.words if not _ASSIGNMENT.fullmatch(word)])
    return fields.evt_type in EXECS and run.name == "env" and not _METADATA_IN_ARGUMENTS.search(others)


def is_own_identity(run: Program, dropped: Why) -> bool:
    """Whether a program that asks for its workload's identity does its work, rather than takes what it can get."""
    return not dropped and not run.is_general_tool


def dropped(fields: Fields, run: Program, tables: Tables | None = None) -> Why:
    """Why the program of an alert counts as dropped, by the alert alone.

    What is on the upper layer is so only if it was not seen before its service began to serve: the container's memory
    says that.
    """
    tables = tables or current()
    file = run.file
    if file.startswith(("memfd:", "/memfd:")):
        return "memory"
    script = f"{fields.cwd or ''}/{run.script}" if run.is_module else run.script
    code = (script, *run.loads)
    if any(tables.world_writable.has_path(path) for path in (file, *code)) or tables.dropped.has_path(file):
        return "world_writable"
    return "upper_layer" if fields.is_upper and not run.is_loaded else ""


def is_dropped_code(fields: Fields, tables: Tables | None = None) -> bool:
    """Whether code that was opened lies where anyone may write, or was written since the container was made."""
    name = fields.file or ""
    return bool(fields.is_file_upper) or (tables or current()).world_writable.has_path(name)


def may_move_data(fields: Fields) -> bool:
    """Whether the command line has what every transfer has: a quick look before `moves_data`."""
    if fields.evt_type not in EXECS:
        return False
    command = fields.cmdline or ""
    return "sync" in command or "cp" in command or "mv" in command or "storage" in command


def moves_data(fields: Fields, run: Program) -> bool:
    """Whether a cloud's command line copies objects to or from a store: that is traffic, not a look at identities."""
    return fields.evt_type in EXECS and bool(_TRANSFER.fullmatch(_command(run)))


def is_cloud_client(fields: Fields, run: Program) -> bool:
    """Whether the command line of a cloud is started, which asks for the identity of its workload."""
    return fields.evt_type in EXECS and _command(run).partition(" ")[0] in ("aws", "aws2", "az", "gcloud", "gsutil")


def may_be_login_plugin(fields: Fields) -> bool:
    """Whether a Kubernetes client started the program: a quick look before `is_login_plugin`."""
    return fields.evt_type in EXECS and base_name(fields.pexepath or "") in _KUBERNETES_CLIENTS


def is_login_plugin(fields: Fields, run: Program) -> bool:
    """Whether a Kubernetes client had a cloud's command line log it in, as its configuration says."""
    return may_be_login_plugin(fields) and bool(_LOGIN.fullmatch(_command(run)))


def _command(run: Program) -> str:
    """A program's name and arguments, without the interpreter."""
    script = base_name(run.script)
    words = run.words[1:] if script and run.words[:1] and base_name(run.words[0]) == script else run.words
    return " ".join((script or run.name, *words))


def may_contact(fields: Fields) -> bool:
    """Whether the event is a connection, or starts a program with a URL: a quick look before `contacts`."""
    return fields.evt_type == "connect" or (fields.evt_type in EXECS and "://" in (fields.cmdline or ""))


def contacts(fields: Fields, run: Program, why: Why) -> bool:
    """Whether a dropped program connects to another machine, or is started to."""
    if not why:
        return False
    if fields.evt_type == "connect":
        return bool(fields.remote_ip) and not _is_loopback(fields.remote_ip or "") and (fields.remote_port or 0) != 53
    return fields.evt_type in EXECS and any(word.startswith(("http://", "https://", "ftp://")) for word in run.words)


def is_typed_code(run: Program) -> bool:
    """Whether an interpreter runs code of its command line: it lies in no file, so nobody installed it."""
    return run.has_inline_code and "interpreter" in run.kinds and "shell" not in run.kinds


def may_connect_as_named(fields: Fields) -> bool:
    """Whether the event is a connection to a public address: a quick look before `connects_as_named`."""
    return fields.evt_type == "connect" and is_public(fields.remote_ip or "")


def connects_as_named(fields: Fields, run: Program) -> bool:
    """Whether a program connects to a public address that its command names, or is a tunnel that a person would open.

    A command that names a bare public address is hardly ever part of an application: those use names.
    """
    if not may_connect_as_named(fields) or (fields.remote_port or 0) in (0, 53):
        return False
    if current().tunnels.has_file(run.file or run.name):
        return base_name(fields.pexepath or "") not in ("git", "rsync", "scp", "sftp")
    return bool(re.search(rf"(?<![\w.:]){re.escape(fields.remote_ip or '')}(?![\w.])", fields.cmdline or ""))


@lru_cache(maxsize=1024)
def is_public(address: str) -> bool:
    """Whether an address may be anywhere: not of this machine, of a private network, or of a link."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return not any(parsed in network for network in _INTERNAL if network.version == parsed.version)


def _is_loopback(address: str) -> bool:
    return address.startswith(("127.", "::ffff:127.", "0.")) or address in ("::1", "::")
