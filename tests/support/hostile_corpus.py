"""The kept corpus of bad inputs, made by code where that is smaller than files: for tests, and as a fuzzer's beginning."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alerts.test_decode import recorded_responses
from alerts.test_reasons import BAD, FINE, GOOD, ODD, good
from support import fake_falco

from sidecar.alerts.decode import KEYS
from sidecar.rules.loading import SHIPPED

DATA = Path(__file__).parents[1] / "data"

STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()

CRASHES = DATA / "crashes"
"""One file for each input that a fuzzer found to break a promise, in a folder for each target."""

RAW_VALUES = (
    *("null", '""', '"<NA>"', "-1", "0", "9223372036854775808", "18446744073709551616", "-9223372036854775809"),
    *("1.5", "1e309", "-1e999999", "true", "[]", "{}", "[[[[1]]]]", '{"a":{"b":1}}', '"\\ud800"', '"\\udc00\\ud800"'),
    *('"\\u0000"', '"\\u202e\\u200b"', '"\\u001b]0;x\\u0007"', '"1e5"', '"0x10"', '" 12"', '"+12"', '"1_000"'),
    *('"' + "A" * 9000 + '"', '"' + "9" * 5000 + '"', "9" * 5000, "NaN", "Infinity", "'x'", "", '"\\x41"', '"\t"'),
    *(
        '"99999999999999999999999999"',
        '"-99999999999999999999999999"',
        "18446744073709551615",
        '"18446744073709551616"',
    ),
    *("\ufeff1", "01", "+1", ".5", "5.", "0x10", '"<!channel>"', '"=cmd|x"', '"<script>"', '"../../etc/passwd"'),
)
"""JSON values, and what is none, for any place in an alert."""


def json_inputs() -> Iterator[tuple[str, bytes]]:
    """Bodies of a POST."""
    yield "all recorded", b"\n".join(STOCK[:50])
    for first in range(0, len(STOCK), 12):
        yield f"recorded from {first}", b"\n".join(STOCK[first : first + 12])
    yield (
        "processes that are each other's parents",
        b"\n".join(_parents(50, 40) for _ in range(2)) + b"\n" + _parents(40, 50),
    )
    yield from {**{n: b for n, (b, _) in {**BAD, **ODD}.items()}, **FINE}.items()
    numbers = random.Random(5)
    keys = sorted(KEYS)
    for number, value in enumerate(RAW_VALUES * 6):
        key = keys[number * 7 % len(keys)]
        yield f"field {key} {value[:20]}", _with(key, value, inside=True)
    for number, value in enumerate(RAW_VALUES * 3):
        key = ("rule", "time", "tags", "hostname", "priority", "source", "output_fields", "output", "uuid")[number % 9]
        yield f"envelope {key} {value[:20]}", _with(key, value, inside=False)
    for cut in range(0, len(good()), 17):
        yield f"cut at {cut}", good()[:cut]
    for number in range(60):
        yield f"bits flipped {number}", _flipped(STOCK[number % len(STOCK)], numbers)
    for coding in ("utf-16-le", "utf-16-be", "utf-32", "utf-7", "cp037"):
        yield coding, good().decode().encode(coding)
    for raw in (b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80", b"\xf0\x9f"):
        yield f"not UTF-8 {raw!r}", good().replace(b'"sh"', b'"sh ' + raw + b'"')
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}"), (b'["x",{"":', b"}]")):
        for depth in (100, 1_000, 50_000):
            yield f"nested {opening!r} {depth}", b'{"rule":"x","y":' + opening * depth + b"1" + closing * depth + b"}"
    yield "many keys", b'{"rule":"x",' + b",".join(b'"k%d":%d' % (n, n) for n in range(20_000)) + b"}"
    yield "many tags", good(tags=["webrce_web_shell"] * 20_000)
    yield "long rule", good(rule="x" * 1_000_000)
    yield "long tag", good(tags=["webrce_web_shell", "y" * 1_000_000])


def http_inputs() -> Iterator[tuple[str, bytes]]:
    """What comes out of a socket; the first byte says in which pieces, 1 also that there is a secret path."""
    body = STOCK[0]
    whole = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for pieces in (0, 1, 2, 7, 33, 63):
        yield f"whole in pieces {pieces}", bytes([pieces]) + whole
        yield f"pipelined in pieces {pieces}", bytes([pieces]) + whole * 40
    for cut in range(0, len(whole), 61):
        yield f"cut at {cut}", b"\0" + whole[:cut]
    for line in (
        *(
            "GET / HTTP/1.1",
            "HEAD / HTTP/1.1",
            "CONNECT x:1 HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "PRI * HTTP/2.0",
            "X / HTTP/1.1",
        ),
        *(
            "POST / HTTP/0.9",
            "POST / HTTP/1.0",
            "POST / HTTP/2.0",
            "POST / HTTP/1.1 x",
            "POST /",
            "POST",
            "",
            " ",
            "\0",
        ),
        *(
            "POST http://169.254.169.254/ HTTP/1.1",
            "POST //x/../y HTTP/1.1",
            "POST /\u00e9 HTTP/1.1",
            "POST /%00 HTTP/1.1",
        ),
        *("POST /" + "a" * 100_000 + " HTTP/1.1", "POST / HTTP/1.1\nHost: x", "\r\n" * 1000 + "POST / HTTP/1.1"),
    ):
        yield f"line {line[:30]!r}", b"\0" + line.encode("latin-1") + b"\r\n\r\n"
    for header in (
        *("Content-Length: -1", "Content-Length: 1e3", "Content-Length: 99999999999999999999", "Content-Length: 0x5"),
        *(
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Content-Length:",
        ),
        *("Transfer-Encoding: gzip", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: xchunked", "Expect: x"),
        *(
            "Content-Encoding: gzip",
            "Content-Encoding: identity, br",
            "content-encoding:deflate",
            "Expect: 100-continue",
        ),
        *(
            "Upgrade: websocket\r\nConnection: Upgrade",
            "Connection: close",
            "Connection: \0",
            ": x",
            "x y: z",
            " folded",
        ),
        *(
            "X: " + "a" * 300_000,
            "\r\n".join(f"X{n}: 1" for n in range(300)),
            "X: \x00",
            "X: \x7f",
            "X: a\rb",
            "X: \xff",
        ),
        *("Cookie: " + "a=b; " * 5_000, "Host: " + "x" * 20_000, "Trailer: x", "TE: gzip", "Sec-WebSocket-Key: x"),
    ):
        for after in ("\r\n\r\nhello", "\r\nContent-Length: 5\r\n\r\nhello"):
            yield f"header {header[:30]!r} {len(after)}", b"\0POST / HTTP/1.1\r\n" + (header + after).encode("latin-1")
    for chunk in (
        *(
            b"5\r\nhello\r\n0\r\n\r\n",
            b"ffffffffffffffff\r\nx",
            b"-5\r\nhello",
            b"5;" + b"x" * 20_000 + b"\r\nhello\r\n",
        ),
        *(
            b"0\r\nX: y\r\n\r\n",
            b"5\nhello\n0\n\n",
            b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n",
            b"\r\n",
            b"0\r\n" + b"X: y\r\n" * 9_000,
        ),
    ):
        yield f"chunk {chunk[:20]!r}", b"\0POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk
    yield "tls", b"\0\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
    yield "ssh", b"\0SSH-2.0-OpenSSH_9.0\r\n"
    yield "many little requests", b"\0" + b"POST / HTTP/1.1\r\n\r\n" * 10_000
    yield "5 MiB", b"\0POST / HTTP/1.1\r\nContent-Length: 5242880\r\n\r\n" + b"x" * 10_000
    yield "wrong path", b"\x01" + whole
    yield "path with a query", b"\x01" + whole.replace(b"POST /", b"POST /a-secret-path-0123456789?x")


def protobuf_inputs() -> Iterator[tuple[str, bytes]]:
    """Messages of Falco's gRPC output."""
    numbers = random.Random(7)
    recorded = recorded_responses()
    yield "all recorded", b"\n####\n".join(recorded[:20])
    for number, message in enumerate(recorded[:5]):
        yield f"recorded {number}", message
    for cut in range(0, len(recorded[0]), 37):
        yield f"cut at {cut}", recorded[0][:cut]
    for number in range(60):
        yield f"bits flipped {number}", _flipped(recorded[number % len(recorded)], numbers)
    for field in range(12):
        for wire in range(8):
            yield f"field {field} wire {wire}", bytes([field << 3 | wire]) + b"\x05hello"
    yield "endless varint", b"\x08" + b"\xff" * 20
    yield "negative length", b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    yield "groups", b"\x0b" * 50_000
    yield "nested length", b"\x0a" + b"\x7f" * 200
    message = fake_falco.response(GOOD)
    for raw in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\0"):
        yield f"text {raw!r}", message.replace(b"nginx", b"ngin" + raw)
    for key in ("proc.pid", "proc.ppid", "proc.tty", "proc.pid.ts", "fd.sport", "proc.cmdline", "container.id"):
        for value in ("", "<NA>", "x", "-1", "1e9", "9" * 5000, "\u202e", "\x1b[31m", "A" * 100_000):
            fields = {**GOOD["output_fields"], key: value}
            yield f"{key} {value[:10]!r}", fake_falco.response({**GOOD, "output_fields": fields})


def file_inputs() -> Iterator[tuple[str, bytes]]:
    """Rule and settings files."""
    rule = (SHIPPED / "correlation" / "web_application_rce.yaml").read_bytes()
    small = (DATA / "crypto_mining.yaml").read_bytes()
    yield "a rule", small
    yield "billion laughs", b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n" * 3
    yield "merge", b"a: &a {x: 1}\nb: {<<: *a}"
    yield "nested", b"[" * 20_000
    yield "nested maps", b"{a: " * 5_000
    yield "nested blocks", b"".join(b" " * n + b"a:\n" for n in range(300))
    yield "nested dashes", b"- " * 3_000 + b"x"
    yield "wide", b"a: [" + b"x," * 100_000 + b"x]"
    yield "many unknown keys", b"".join(b"k%d: 1\n" % n for n in range(20_000))
    yield "a long unknown key", b"k" * 100_000 + b": 1"
    yield "a long condition", small.replace(b"when:", b"when: " + b"not " * 20_000 + b"#")
    yield "large", b"#" * (1024 * 1024)
    yield "many documents", b"---\n" * 5_000
    yield "condition", small.replace(b"when:", b"when: " + b"(" * 3_000 + b"a" + b")" * 3_000 + b" #")
    yield "wide condition", small.replace(b"when:", b"when: " + b"miner and " * 2_000 + b"miner #")
    for text in (
        *(
            "!!python/object/apply:os.system [id]",
            "!!python/name:os.system",
            "!!binary aGk=",
            "!!timestamp 2026-01-01",
            "!<x> y",
        ),
        *(
            "? [a]\n: 1",
            "a: 1\na: 2",
            "%YAML 9.9\n---\na",
            "a: 0o17777777777777777777777",
            "a: 1:2:3:4:5:6:7",
            "a: .inf",
            "a: .nan",
        ),
        *(
            "a: 2026-99-99",
            "a: 2026-01-01T99:99:99Z",
            "a: ~",
            "? ",
            "- - - -",
            "a: |\n\tb",
            "a: '\\ud800'",
            'a: "\\ud800"',
            'a: "\\uZZZZ"',
        ),
        *(
            "\ufeffa: 1",
            "a: \x07",
            "a: \x85",
            "---\n...\n---",
            "*x",
            "&x",
            "!",
            "@",
            "`",
            "%",
            "{",
            "}",
            "[",
            "]",
            ",",
            "a: b: c",
            "\t",
        ),
        *(
            "http: {host: 0.0.0.0}",
            "http: {port: -1}",
            "http: {secret_path: x}",
            "http: {body_timeout: 99999999999h}",
            "coalesce: 0ms",
        ),
        *(
            "sinks: {webhook: {url: 'http://[::1'}}",
            "sinks: {webhook: {headers: {a: [1]}}}",
            "rules: {a: b}",
            "sinks: []",
            "http: ~",
        ),
        *(
            "<<: {a: 1}",
            "=: 1",
            "a: !!set {x}",
            "a: !!omap [x: 1]",
            "a: !!pairs [x: 1]",
            "? !!null\n: 1",
            "yes: no",
            "1: 2",
            "1.5: x",
        ),
    ):
        yield f"text {text[:30]!r}", text.encode("utf-8", "surrogatepass")
    for coding in ("utf-16", "utf-32", "latin-1"):
        yield coding, small.decode().encode(coding, "replace")
    for line in range(0, small.count(b"\n"), 2):
        lines = small.splitlines(keepends=True)
        yield f"without line {line}", b"".join(lines[:line] + lines[line + 1 :])
        yield f"line {line} a list", b"".join([*lines[:line], b"- x\n", *lines[line:]])
    numbers = random.Random(9)
    for number in range(20):
        yield f"bits flipped {number}", _flipped(rule if number % 4 == 0 else small, numbers)


def crashes(target: str) -> Iterator[tuple[str, bytes]]:
    """What fuzzing found, for one target."""
    for path in sorted((CRASHES / target).glob("*")):
        yield path.name, path.read_bytes()


def _with(key: str, raw: str, *, inside: bool) -> bytes:
    """A good alert with one value given as raw JSON."""
    alert: dict[str, Any] = {**GOOD, "output_fields": dict(GOOD["output_fields"])}
    (alert["output_fields"] if inside else alert)[key] = "RAW"
    return json.dumps(alert).replace('"RAW"', raw).encode("utf-8", "surrogatepass")


def _parents(pid: int, parent: int) -> bytes:
    fields = {**GOOD["output_fields"], "proc.pid": pid, "proc.ppid": parent, "proc.name": "nginx"}
    return good(output_fields=fields, time=f"2026-11-24T03:03:{pid}Z")


def _flipped(data: bytes, numbers: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(numbers.randrange(1, 6)):
        changed[numbers.randrange(len(changed))] ^= 1 << numbers.randrange(8)
    return bytes(changed)


CORPUS = {"json": json_inputs, "http": http_inputs, "protobuf": protobuf_inputs, "files": file_inputs}
