"""The evaluator speaks Falco's condition language with Falco's semantics (compared with the engine by `make e2e`)."""

import pytest
from falco.condition import compiled, unquoted
from falco.event import Event

SHELL = Event(
    {
        "proc.name": "sh",
        "proc.args": "-c id\nls",
        "proc.tty": 0,
        "evt.rawres": 0,
        "proc.is_exe_from_memfd": False,
        "proc.pname": "php-fpm",
        "proc.aname[2]": "nginx",
        "proc.pcmdline": "php-fpm -F",
        "fd.sip": "203.0.113.9",
        "fd.name": "/etc/shadow",
        "fd.typechar": "4",
    },
)
LISTS = {"shells": ["sh", "bash"], "all": ["shells", "curl"]}

HOLD = (
    "proc.name = sh",
    "proc.name == 'sh'",
    "proc.name != bash",
    'proc.name in (shells, "x y")',
    "proc.args contains ID or proc.args icontains ID",
    "proc.args startswith -c and proc.args endswith ls",
    'proc.args glob "*id*"',
    'proc.args iglob "-C*"',
    'proc.args regex "-c id(.|\\n)*"',
    'proc.args regex "(.|\\n)*[[:space:]]ls"',
    "proc.tty = 0 and evt.rawres>=0 and evt.rawres <= 0 and evt.rawres < 1 and not evt.rawres > 0",
    "proc.is_exe_from_memfd = false",
    "proc.pname = php-fpm",
    "proc.aname in (nginx)",
    "proc.aname[2] startswith ngi",
    "proc.acmdline contains php-fpm",
    "proc.aname[1] exists and not proc.aname[3] exists",
    'fd.snet in ("10.0.0.0/8", "203.0.113.0/24")',
    "fd.name pmatch (/etc, /usr)",
    "not proc.name = bash and proc.tty=0",
    "proc.name = bash and proc.tty = 1 or proc.name = sh",
    'fd.typechar in ("4", "6")',
)
FAIL = (
    "proc.name = bash",
    'proc.args regex "id"',
    'proc.args regex "-c.*"',
    "proc.cwd != /tmp",
    "proc.cwd = /tmp",
    "proc.cwd exists",
    "not not proc.name in (bash, dash)",
    "proc.name = sh and (proc.tty = 1 or proc.name = bash)",
    "proc.aname in (bash)",
    "fd.name pmatch (/et, /etc/shadow.d)",
    'fd.snet in ("10.0.0.0/8")',
)


@pytest.mark.parametrize("condition", HOLD)
def test_condition_holds(condition: str) -> None:
    assert compiled(condition, {}, {"shells": LISTS["shells"]})(SHELL)


@pytest.mark.parametrize("condition", FAIL)
def test_condition_does_not_hold(condition: str) -> None:
    assert not compiled(condition, {}, LISTS)(SHELL)


def test_a_check_on_an_absent_field_is_false_and_its_negation_true() -> None:
    absent = Event({"proc.name": None})
    assert not compiled("proc.name != sh", {}, {})(absent)
    assert compiled("not proc.name = sh", {}, {})(absent)


def test_a_macro_stands_for_its_condition() -> None:
    macros = {"is_shell": compiled("proc.name in (shells)", {}, LISTS)}
    assert compiled("proc.tty=0 and is_shell", macros, {})(SHELL)


def test_an_unknown_macro_is_an_error() -> None:
    with pytest.raises(Exception, match="nowhere"):
        compiled("nowhere", {}, {})


def test_escapes_in_quoted_strings_are_falcos() -> None:
    assert unquoted(r'"a\"b\\c\n"') == 'a"b\\c\n'
