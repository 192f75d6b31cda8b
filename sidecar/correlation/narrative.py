"""What happened, in a sentence that is built from facts only; the correlation rule's groups have the words for it."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from sidecar.model import Detection
from sidecar.rules.spec import RuleFile
from sidecar.text.placeholders import fillable, filled

LONGEST = 80
"""Characters of one fact; the timeline has it in full."""

MOST = 2
"""Facts told for each group."""

WELL_KNOWN = (
    ("/eks.amazonaws.com/serviceaccount/token", "the EKS service-account token"),
    ("/kubernetes.io/serviceaccount/token", "the Kubernetes service-account token"),
    ("/etc/shadow", "the password hashes in /etc/shadow"),
    ("/.aws/credentials", "the AWS credentials file"),
    ("/.kube/config", "the kubeconfig"),
    ("/etc/kubernetes/admin.conf", "the cluster administrator's kubeconfig"),
    ("/environ", "the environment of another process"),
)
"""How files that attackers look for are named, by how their path ends."""

METADATA = ("169.254.169.254", "169.254.170.2", "169.254.170.23")
"""Where clouds hand out credentials."""

Told = Sequence[tuple[Detection, tuple[str, ...]]]


def summary(rule: RuleFile, place: str, service: str, told: Told) -> str:
    """`In pod shop/web-0, nginx was made to start sh, which then contacted ... and read ...`; "" without words for it.

    `told` is the timeline in order. The first clause speaks of the anchoring groups, the others of what came below.
    """
    clauses: dict[str, list[str]] = {name: [] for name, group in rule.groups.items() if group.tell}
    known = set[tuple[str, str, str, str]]()
    for detection, groups in told:
        for name in groups:
            said, facts = clauses.get(name), (name, detection.path[0][1], detection.cmdline, detection.detail)
            if said is None or len(said) >= MOST or facts in known:
                continue
            known.add(facts)
            clause = _clause(rule.groups[name].tell, service, detection)
            if clause and clause not in said:
                said.append(clause)
    anchors = rule.anchor.groups if rule.anchor else []
    first = next((clauses[name][0] for name in anchors if clauses.get(name)), "")
    then = [clause for name, said in clauses.items() if name not in anchors for clause in said]
    if not first:
        return f"In {place}, {_listed(then)}." if then else ""
    return f"In {place}, {first}{', which then ' + _listed(then) if then else ''}."


def _clause(tell: Sequence[str], service: str, detection: Detection) -> str:
    facts = {name: _short(value) for name, value in _facts(service, detection)}
    return next((filled(text, facts) for text in tell if fillable(text, facts)), "")


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
    """The detail of a detection if it is the address of a connection (as we or as Falco write it), else ""."""
    address = detail.rpartition("->")[2]
    try:
        ip_address(address.rpartition(":")[0].strip("[]"))
    except ValueError:
        return ""
    return address


def known_as(file: str) -> str:
    """A well-known file by its name in words, others as they are."""
    return next((name for end, name in WELL_KNOWN if file.endswith(end)), file)


def _named_in(cmdline: str) -> str:
    """A well-known file among the arguments, "" if there is none."""
    words = (word for word in cmdline.split() if word.startswith("/"))
    return next((name for word in words if (name := known_as(word)) != word), "")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _listed(clauses: Sequence[str]) -> str:
    return clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])} and {clauses[-1]}"
