"""What secrets look like in a command line: by the prefix of their issuer, or by what stands before them.

No rule set is used as it is. detect-secrets (last released in 2024) reads source files line by line
and masks by entropy what is harmless in a command; gitleaks' rules are for Go's RE2 and for source code. Its prefixes
are the model of `PREFIXED`. Every pattern here needs time in proportion to the text: a run of characters has one place
to begin (the look-behind) and every repetition ends at a number; a test holds each to it.
"""

import re
from typing import NamedTuple

_BEGINS = r"(?:(?<![A-Za-z0-9_-])|(?<=%[0-9A-Fa-f]{2}))"

PREFIXED = (
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}",  # AWS access key ids
    r"(?:FwoG|IQoJ)[A-Za-z0-9/+=]{60,2000}",  # AWS session tokens
    r"gh[pousr]_[A-Za-z0-9]{20,255}",  # GitHub
    r"github_pat_\w{20,255}",
    r"gl(?:pat|dt|rt|cbt|ptt|soat|ft|agent|imt)-[\w.-]{16,255}",  # GitLab
    r"xox[abeoprs]-[\w-]{10,255}",  # Slack
    r"xapp-[\w-]{10,255}",
    r"AIza[\w-]{30,255}",  # Google
    r"ya29\.[\w.-]{20,2000}",
    r"GOCSPX-[\w-]{20,255}",
    r"[sr]k_(?:live|test)_\w{10,255}",  # Stripe
    r"whsec_\w{20,255}",
    r"npm_[A-Za-z0-9]{30,255}",
    r"pypi-[\w-]{50,1000}",
    r"rubygems_[a-f0-9]{40,64}",
    r"do[opr]_v1_[a-f0-9]{40,128}",  # DigitalOcean
    r"hv[sbr]\.[\w-]{20,255}",  # Vault
    r"SG\.[\w-]{16,64}\.[\w-]{16,128}",  # SendGrid
    r"gl(?:sa|c)_[\w=]{30,255}",  # Grafana
    r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32,64}",  # Shopify
    r"dckr_[po]at_[\w-]{20,255}",  # Docker Hub
    r"hf_[A-Za-z0-9]{30,255}",  # Hugging Face
    r"sk-(?:ant|proj|or|svcacct|admin)-[\w-]{20,255}",  # Anthropic, OpenAI
    r"sk-[A-Za-z0-9]{32,255}",
    r"AT(?:ATT|CTT)3[\w=-]{30,1000}",  # Atlassian
    r"lin_api_\w{20,255}",
    r"figd_[\w-]{20,255}",
    r"dapi[a-f0-9]{32,64}",  # Databricks
    r"NRAK-[A-Z0-9]{20,64}",  # New Relic
    r"tskey-[a-z]{2,20}-[\w-]{10,255}",  # Tailscale
    r"pul-[a-f0-9]{40}",  # Pulumi
    r"AGE-SECRET-KEY-1[A-Z0-9]{50,64}",
    r"(?:bot)?[0-9]{8,10}:AA[\w-]{30,64}",  # Telegram
    r"\w{14}\.atlasv1\.[\w=-]{40,255}",  # Terraform Cloud
    r"[\w~.]{3}8Q~[\w~.-]{30,40}",  # Azure client secrets
    r"eyJ[\w-]{8,4000}\.[\w-]{8,4000}(?:\.[\w-]{0,4000}){0,3}",  # JSON Web Tokens
)
"""Tokens that say themselves what they are."""

HINTS = (
    *("AKIA", "ASIA", "ABIA", "ACCA", "FwoG", "IQoJ", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "gl"),
    *("xox", "xapp-", "AIza", "ya29.", "GOCSPX-", "k_live_", "k_test_", "whsec_", "npm_", "pypi-", "rubygems_"),
    *("_v1_", "hvs.", "hvb.", "hvr.", "SG.", "shp", "dckr_", "hf_", "sk-", "ATATT3", "ATCTT3", "lin_api_", "figd_"),
    *("dapi", "NRAK-", "tskey-", "pul-", "AGE-SECRET-KEY-", ":AA", ".atlasv1.", "8Q~", "eyJ"),
)

_NAME = (
    r"(?P<key>[\w.-]{0,64}?(?:passw(?:or)?d|passphrase|(?:(?<![A-Za-z])|(?<=ssh))pass|pwd|secret|token|api[_-]?key"
    r"|(?:access|private|account|shared|master|encryption|signing|license)[_-]?key|(?<![A-Za-z])(?:o?auth|sig)"
    r"|(?<=cli_)auth|authorization|credentials?|cookie|session[_-]?id)s?(?:[0-9]{1,3}|[_.-][\w.-]{0,40})?)"
)
"""The name of something secret; `is_innocent` recognises the names that only look like it."""

_VALUE = r"""(?:"(?P<dq>[^"]{1,4096})"?|'(?P<sq>[^']{1,4096})'?|(?P<s>[^\s"'][^\s;|<>]{0,4095}))"""

_INNOCENT_ENDS = frozenset(
    (
        *("file", "path", "dir", "url", "uri", "endpoint", "server", "host", "port", "name", "type", "kind", "policy"),
        *("length", "len", "ttl", "expiry", "expires", "expiration", "age", "min", "max", "timeout", "version", "mode"),
        *("method", "enabled", "required", "stdin", "env", "prompt", "format", "count", "size", "ref", "arn", "jar"),
        *("helper", "provider", "store", "manager", "class", "algorithm", "alg", "issuer", "audience", "scope", "id"),
        *("mount", "automount", "checksum", "rotation", "lifetime", "review", "only", "fd", "cache", "domain", "db"),
    ),
)
_INNOCENT_VALUES = frozenset(
    (
        *(
            "none",
            "null",
            "nil",
            "true",
            "false",
            "yes",
            "no",
            "on",
            "off",
            "basic",
            "bearer",
            "digest",
            "ntlm",
            "token",
        ),
        *(
            "md5",
            "sha256",
            "scram-sha-256",
            "trust",
            "peer",
            "ldap",
            "oidc",
            "saml",
            "negotiate",
            "default",
            "required",
        ),
        *("disabled", "enabled", "prompt", "env", "auto", "never", "always", "-", "plain", "login", "strict", "lax"),
    ),
)
REFERENCE = re.compile(
    r"`|id=|(?:file|env|fd):|\$(?:[({]|[A-Z_][A-Z0-9_]*\b)|%[sv]\b|<[\w-]+>|\{\{|/[\w.-]+(?:/[\w.-]+)+|\.{0,2}/[\w.-]+$"
)
"""Values that name the place of a secret: a variable, a template, a path."""


class Rule(NamedTuple):
    """Looked for only where one of `hints`, and one of `needs`, stands in the lower-case text; masks dq, sq and s."""

    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    needs: str = ""


def _rule(hints: str, pattern: str, needs: str = "") -> Rule:
    return Rule(tuple(hints.split()), re.compile(pattern, re.IGNORECASE | re.DOTALL | re.ASCII), needs)


_KEYS = "pass pwd secret token key auth sig cred cookie session"

RULES = (
    _rule("private key", r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?P<s>.*?(?=-----END)|.*)"),
    _rule("bearer", r"(?<![\w-])bearer[\s:=]{1,4}(?P<s>[A-Za-z0-9._~+/=-]{6,4096})"),
    _rule("basic", r"(?<![\w-])basic\s{1,4}(?P<s>[A-Za-z0-9+/]{6,512}={1,2}|[A-Za-z0-9+/]{16,512})(?![\w-])"),
    _rule(
        "authorization", r"authorization[\"']?\s?[:=]\s?[\"']?(?:[A-Za-z-]{3,20}\s)?(?P<s>[A-Za-z0-9._~+/=-]{8,4096})"
    ),
    _rule("://", r"(?<=://)[^\s/?#@:'\"]{0,128}:(?P<s>[^\s/?#'\"]{1,256})@", needs="@"),
    _rule("://", r"(?<=://)(?P<s>[A-Za-z0-9_-]{20,128})@", needs="@"),
    _rule("@", r"(?<![^\s'\"=])[\w.-]{1,64}:(?P<s>[^\s:@/'\"]{3,128})@(?!sha256:)[\w.-]{2}"),
    _rule("aws_", r"aws_(?:secret_access_key|session_token)\s{1,4}(?P<s>[^\s-]\S{8,4096})"),
    _rule(
        "hooks. webhook",
        r"(?:hooks\.slack\.com/\w{1,20}|/api/webhooks|webhook\.office\.com/\w{1,20})/(?P<s>[^\s'\"]{8,512})",
    ),
    _rule(_KEYS, r"(?<=[?&])" + _NAME + r"=(?P<s>[^\s&#'\"]{1,4096})", needs="="),
    _rule(_KEYS, r"(?<![\w.?&-])" + _NAME + r"(?:=|[\"']\s?[:=]\s{0,2}|:\s{1,2})" + _VALUE, needs="=:"),
    _rule(_KEYS, r"(?<!\S)(?=-)" + _NAME + r"\s{1,4}(?!-)" + _VALUE, needs="-"),
    _rule("x-", r"(?<![\w.-])x-" + _NAME + r":(?P<s>[^\s'\"]{4,4096})"),
    _rule("sudo", r"(?:echo|<<<)\s{1,4}[\"']?(?P<s>[^\s\"'|]{1,256})[\"']?\s{0,4}\|\s{0,4}sudo\s{1,4}-\w{0,8}S"),
    _rule(
        "chpasswd",
        r"(?<![\w.-])[\w.-]{1,32}:(?P<s>[^\s\"':|]{1,128})[\"']?\s{0,4}\|\s{0,4}(?:sudo\s)?[/\w]{0,20}chpasswd",
    ),
)
"""Secrets by what stands before them, in this order."""

TOKENS = re.compile(_BEGINS + "(?P<s>" + "|".join(PREFIXED) + ")", re.ASCII)


def is_innocent(key: str, value: str, whole: str) -> bool:
    """Whether a value that stands behind a telling name is none: `--token-file x`, `PASSWORD=$PASSWORD`."""
    key = key.lower()
    if re.split(r"[_.-]", key)[-1] in _INNOCENT_ENDS or key.lstrip("-").startswith(("no-", "no_", "existing")):
        return True
    if len(value) < 3 or value.lower() in _INNOCENT_VALUES or REFERENCE.match(value):
        return True
    if key in ("pwd", "oldpwd"):
        return value.startswith("/")
    prose = whole[len(key) : len(key) + 2] == ": " and value.isalpha() and "pass" not in key
    return prose or value.startswith(("==", "~/"))
