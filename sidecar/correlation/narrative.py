"""What happened, in a sentence built from facts only; the groups of the correlation rule supply the words."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import ip_address

from sidecar.model import Detection
from sidecar.rules.spec import RuleFile
from sidecar.text.placeholders import filled_if_known

MAX_FACT_CHARS = 80
"""Characters of one fact; the timeline has it in full."""

MAX_ADDRESS_CHARS = 64
"""Characters of an address: those of the longest with an interface behind it."""

MAX_CLAUSES = 2
"""Clauses for each group."""

WELL_KNOWN = (
    ("/eks.amazonaws.com/serviceaccount/token", "the EKS service-account token"),
    ("/kubernetes.io/serviceaccount/token", "the Kubernetes service-account token"),
    ("/etc/shadow", "the password hashes in /etc/shadow"),
    ("/.aws/credentials", "the AWS credentials file"),
    ("/.kube/config", "the kubeconfig"),
    ("/etc/kubernetes/admin.conf", "the cluster administrator's kubeconfig"),
    ("/environ", "the environment of another process"),
)
"""Names of files that attackers look for, by the end of their path."""

_WELL_KNOWN_ENDS = tuple(end for end, _ in WELL_KNOWN)

METADATA = ("169.254.169.254", "169.254.170.2", "169.254.170.23")
"""Addresses at which clouds hand out credentials."""

Timeline = Sequence[tuple[Detection, tuple[str, ...]]]
"""Detections with the names of their groups, oldest first."""


def summary(rule: RuleFile, place: str, service: str, timeline: Timeline) -> str:
    """`In pod shop/web-0, nginx ran "sh -c id", which then contacted ... and read ...`; "" if no words apply.

    The first clause is about the anchoring groups, the others are about what followed.
    """
    clauses = _clauses(rule, service, timeline)
    anchors = rule.anchor.groups if rule.anchor else []
    first = next((clauses[name][0] for name in anchors if clauses.get(name)), "")
    others = _said_once([clause for name in clauses if name not in anchors for clause in clauses[name]])
    where = f"{'On' if place.startswith('host ') else 'In'} {place}"
    if first and others:
        return f"{where}, {first}, which then {_enumerated(others)}."
    if others:
        return f"{where}, {_enumerated(others)}."
    return f"{where}, {first}." if first else ""


def _clauses(rule: RuleFile, service: str, timeline: Timeline) -> dict[str, list[str]]:
    """Up to MAX_CLAUSES different clauses for each group that has sentences, in the order of the rule."""
    clauses: dict[str, list[str]] = {name: [] for name, group in rule.groups.items() if group.sentences}
    seen = set[tuple[str, str, str, str]]()
    for detection, groups in timeline:
        for name in groups:
            facts = (name, detection.path[0][1], detection.cmdline, detection.detail)
            if name not in clauses or len(clauses[name]) >= MAX_CLAUSES or facts in seen:
                continue
            seen.add(facts)
            clause = _clause(rule.groups[name].sentences, service, detection)
            if clause and clause not in clauses[name]:
                clauses[name].append(clause)
    return clauses


def _clause(sentences: Sequence[str], service: str, detection: Detection) -> str:
    facts = {name: _short(value) for name, value in _facts(service, detection)}
    for text in sentences:
        filled = filled_if_known(text, facts)
        if filled is not None:
            return filled
    return ""


def _facts(service: str, detection: Detection) -> Iterator[tuple[str, str]]:
    yield "service", service
    yield "program", detection.path[0][1] or detection.cmdline.partition(" ")[0]
    yield "command", detection.cmdline
    remote = remote_of(detection.detail)
    if remote:
        address = remote.rpartition(":")[0].strip("[]")
        yield "remote", f"the cloud metadata service ({remote})" if address in METADATA else remote
    else:
        yield "file", known_as(detection.detail) or _named_in(detection.cmdline)


def remote_of(detail: str) -> str:
    """The detail of a detection if it is the address of a connection, in our format or Falco's, else ""."""
    address = detail.rpartition("->")[2]
    host = address.rpartition(":")[0].strip("[]")
    return address if len(host) <= MAX_ADDRESS_CHARS and "/" not in host and _is_address(host) else ""


@lru_cache(maxsize=256)
def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def known_as(file: str) -> str:
    """The name in words of a well-known file; other paths unchanged."""
    if not file.endswith(_WELL_KNOWN_ENDS):
        return file
    return next(name for end, name in WELL_KNOWN if file.endswith(end))


def _named_in(cmdline: str) -> str:
    """A well-known file among the arguments, "" if there is none."""
    for word in cmdline.split():
        if word.startswith("/") and word.endswith(_WELL_KNOWN_ENDS):
            return known_as(word)
    return ""


def _short(text: str) -> str:
    return text if len(text) <= MAX_FACT_CHARS else text[: MAX_FACT_CHARS - 3] + "..."


def _said_once(clauses: Sequence[str]) -> list[str]:
    """The clauses without those that quote a command of a later one, which says more about it."""
    quoted = [clause.partition('"')[2] for clause in clauses]
    return [
        clause
        for number, clause in enumerate(clauses)
        if not quoted[number] or quoted[number] not in quoted[number + 1 :]
    ]


def _enumerated(clauses: Sequence[str]) -> str:
    return clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])} and {clauses[-1]}"
