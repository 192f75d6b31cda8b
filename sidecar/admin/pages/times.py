"""Times as a page shows them, in the time zone that its reader chose, UTC by default."""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

COOKIE = "tz"
"""Keeps the choice in the browser; the service keeps nothing."""

COOKIE_SECONDS = 365 * 86_400

MAX_NAME_CHARS = 64


def zone(name: str) -> tzinfo | None:
    """The time zone of a name (`Europe/Berlin`), of an offset (`+02:00`), or UTC; None if it is unknown.

    Names need a database of time zones, which a small image may lack.
    """
    if name in ("", "UTC"):
        return UTC
    offset = re.fullmatch(r"(?:UTC)?([+-])(\d\d):?([0-5]\d)", name.replace(" ", "+"), re.ASCII)
    if offset:
        minutes = int(f"{offset[1]}{int(offset[2]) * 60 + int(offset[3])}")
        return timezone(timedelta(minutes=minutes)) if abs(minutes) < 24 * 60 else None
    if len(name) > MAX_NAME_CHARS or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*", name, re.ASCII):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def from_cookies(header: str) -> str:
    """The name of the time zone that is in a `Cookie` header, "" if none is."""
    values = dict(pair.strip().partition("=")[::2] for pair in header.split(";"))
    return str(values.get(COOKIE, "")).replace("%2F", "/").replace("%2B", "+")


def to_cookie(name: str) -> str:
    """The line of a response that keeps the name of a known zone."""
    value = name.replace(" ", "+")
    return f"Set-Cookie: {COOKIE}={value}; Path=/; Max-Age={COOKIE_SECONDS}; SameSite=Strict; HttpOnly\r\n"


def moment(time: str) -> datetime:
    """The seconds of an RFC 3339 time in UTC."""
    return datetime.strptime(time[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)


def day(time: str, where: tzinfo) -> str:
    """`24 Nov 2026, 05:18:24 UTC`."""
    local = moment(time).astimezone(where)
    return f"{local:%-d %b %Y, %H:%M:%S} {local.tzname()}"


def short_day(time: str, where: tzinfo) -> str:
    """`24 Nov, 05:18`."""
    return f"{moment(time).astimezone(where):%-d %b, %H:%M}"


def clock(time: str, where: tzinfo) -> str:
    """`05:18:24.263`."""
    return f"{moment(time).astimezone(where):%H:%M:%S}{time[19:23]}"


def ago(time: str, now: int) -> str:
    """`3 min ago`; `now` is in nanoseconds."""
    seconds = max(now // 1_000_000_000 - int(moment(time).timestamp()), 0)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size * (2 if unit == "d" else 1):
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def after(seconds: float) -> str:
    """`+0.040 s`, `+3 min 5 s`."""
    if seconds < 60:
        return f"+{seconds:.3f} s" if seconds < 10 else f"+{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"+{minutes} min {rest} s" if minutes < 60 else f"+{minutes // 60} h {minutes % 60} min"


def lasting(seconds: int) -> str:
    """`15 min`, `3 h`, `2 d`."""
    for unit, size in (("d", 86_400), ("h", 3_600)):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds // 60} min"
