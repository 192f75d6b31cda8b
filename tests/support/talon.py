"""What Falco Talon makes of a rule file and an event: its checks, its matching, its expansion of scripts.

Modelled on Talon 0.3.0 (internal/rules/rules.go, actionners/kubernetes/*, internal/events/events.go); nothing is copied.
"""

import re
from collections.abc import Mapping
from typing import Any

PRIORITIES = ("", "debug", "informational", "notice", "warning", "error", "critical", "alert", "emergency")
PRIORITY = re.compile(
    r"(<=|>=|<|>|=)?(Debug|Informational|Notice|Warning|Error|Critical|Alert|Emergency)?", re.IGNORECASE
)
TAG = re.compile(r"[a-z_0-9.]*[a-z0-9]", re.IGNORECASE)
FIELD = re.compile(r"([a-z0-9.\[\]]*)(!?=)([^=!]*)", re.IGNORECASE)
OUTPUTS = {"minio:s3": {"bucket", "prefix"}, "aws:s3": {"bucket", "prefix", "region"}, "local:file": {"destination"}}

PARAMETERS: dict[str, dict[str, type]] = {
    "kubernetes:label": {"level": str, "labels": dict},
    "kubernetes:networkpolicy": {"allow_cidr": list, "allow_namespaces": list},
    "kubernetes:script": {"shell": str, "script": str, "file": str},
    "kubernetes:sysdig": {"image": str, "scope": str, "duration": int, "buffer_size": int},
    "kubernetes:tcpdump": {"image": str, "duration": int, "snaplen": int},
    "kubernetes:log": {"tail_lines": int},
    "kubernetes:terminate": {
        "min_healthy_replicas": str,
        "ignore_daemonsets": bool,
        "ignore_statefulsets": bool,
        "ignore_standalone_pods": bool,
        "grace_period_seconds": int,
    },
}
"""Of the actionners that our file uses: every parameter with its type. A wrong type is an error there, too."""

NEEDS_OUTPUT = {"kubernetes:sysdig", "kubernetes:tcpdump"}
ENDS_THE_RULE = {"kubernetes:terminate", "kubernetes:sysdig", "kubernetes:tcpdump"}
"""Unless `continue` is "true"."""

REQUIRED_FIELDS = ("k8s.ns.name", "k8s.pod.name")
"""All of them look for the pod."""


def matches(rule: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    match = rule["match"]
    return (
        event["rule"] in match.get("rules", [event["rule"]])
        and event["source"] == match.get("source", event["source"])
        and _priority(match.get("priority", ""), event["priority"])
        and _any(match.get("tags"), lambda words: set(words) <= set(event["tags"]))
        and _any(match.get("output_fields"), lambda words: all(_field(word, event["output_fields"]) for word in words))
    )


def _any(lines: list[str] | None, holds: Any) -> bool:
    return lines is None or any(holds(line.replace(", ", ",").split(",")) for line in lines)


def _priority(wanted: str, is_: str) -> bool:
    found = PRIORITY.fullmatch(wanted)
    assert found, wanted
    comparator, name = found.groups()
    left, right = PRIORITIES.index(is_.lower()), PRIORITIES.index((name or "").lower())
    return not right or {
        ">": left > right,
        ">=": left >= right,
        "<": left < right,
        "<=": left <= right,
    }.get(comparator or "", left == right)


def _field(word: str, fields: Mapping[str, Any]) -> bool:
    found = FIELD.fullmatch(word)
    assert found, word
    key, comparator, value = found.groups()
    equal = key in fields and str(fields[key]) == value.replace('"', "")
    return equal if comparator == "=" else not equal


def expanded(script: str, fields: Mapping[str, Any]) -> str:
    """The script with its variables, as Go's os.ExpandEnv gives it: an unknown one is empty, `$(` stays."""
    variables = {re.sub(r"[.\[]", "_", name.upper()).replace("]", ""): str(value) for name, value in fields.items()}

    def value(found: re.Match[str]) -> str:
        return variables.get(found[1] or found[2], "")

    return re.sub(r"\$(?:\{(\w+)\}|(\w+|[*#$@!?-]))", value, script)
