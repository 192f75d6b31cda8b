"""Three hundred ways to run cat, curl, sh, nc and interpreters: the Falco rules and the correlation say the same of each.

A way is what Falco shows of one program start: the resolved file, argv[0], the process's name, its arguments. What it
should be is known, unless no engine can know it: a hard link or a copy where programs are installed is a program of its own.
"""

from collections.abc import Iterator
from typing import NamedTuple

from falco.event import Event
from falco.ruleset import shipped

from sidecar.meaning import identity
from sidecar.meaning.program import program
from sidecar.model import Fields


class Way(NamedTuple):
    """One program start, and whether it is a tool (or dropped): does what its user says."""

    file: str
    argv0: str
    name: str
    arguments: str
    is_tool: bool = True
    cwd: str = "/srv"


class Tool(NamedTuple):
    """A tool, the file behind it, the arguments that it is tried with, and its applet of busybox ("" none)."""

    name: str
    file: str
    arguments: str
    applet: str


TOOLS = (
    Tool("cat", "/usr/bin/cat", "/run/secrets/x", "cat"),
    Tool("curl", "/usr/bin/curl", "-s http://203.0.113.9/", "wget"),
    Tool("sh", "/usr/bin/dash", "-c id", "sh"),
    Tool("nc", "/usr/bin/nc.openbsd", "203.0.113.9 443", "nc"),
    Tool("python3", "/usr/bin/python3.11", "-c pass", ""),
)
DISGUISES = ("dog", "nginx", "postgres", "kworker", "php-fpm", "java")
LOADERS = (
    "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "/usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib64/ld64.so.2",
)
OPTIONS = (
    "",
    "--argv0 nginx ",
    "--library-path /l ",
    "--preload /l/p.so ",
    "--inhibit-cache ",
    "--argv0 x --library-path /l:/m ",
)
MULTI_CALL = ("/bin/busybox", "/bin/busybox.static", "/usr/bin/toybox", "/opt/busybox-1.36")
WRITABLE = ("/tmp/x", "/dev/shm/x", "/var/tmp/nginx", "memfd:x", "/var/www/html/up/x", "/run/shm/.k")
WRAPPERS = (
    "env ",
    "env -i ",
    "xargs ",
    "find / -exec ",
    "timeout 5 ",
    "nice ",
    "sudo -n ",
    "su -c ",
    "script -c ",
    "nohup ",
    "setpriv --reuid 0 ",
)


def of_tools() -> Iterator[Way]:
    for tool in TOOLS:
        yield Way(tool.file, tool.name, tool.name, tool.arguments)
        yield Way(tool.file, f"/usr/bin/{tool.name}", tool.name, tool.arguments)
        yield Way(tool.file, "/proc/self/fd/9", "9", tool.arguments)
        for disguise in DISGUISES:
            yield Way(tool.file, f"/opt/app/{disguise}", disguise, tool.arguments)  # a symbolic link
            yield Way(tool.file, disguise, tool.name, tool.arguments)  # exec -a
            yield Way(tool.file, tool.name, disguise, tool.arguments)  # prctl and fork
        for copy in WRITABLE:
            yield Way(copy, copy, copy.rpartition("/")[2], tool.arguments)
        yield Way("/opt/app/h", "/opt/app/h", "h", "--serve", is_tool=False)  # a hard link or a copy: nobody can know
        yield from of_loaders(tool)
        yield from of_multi_call(tool)


def of_loaders(tool: Tool) -> Iterator[Way]:
    for loader in LOADERS:
        for options in OPTIONS:
            yield Way(loader, loader, loader.rpartition("/")[2][:15], f"{options}/usr/bin/{tool.name} {tool.arguments}")
        yield Way(loader, "nginx", loader.rpartition("/")[2][:15], f"/tmp/c {tool.arguments}")
        yield Way(loader, "ld.so", loader.rpartition("/")[2][:15], f"./c {tool.arguments}", cwd="/tmp/x")
        if tool.applet:
            yield Way(loader, "ld.so", "ld.so", f"/bin/busybox {tool.applet} {tool.arguments}")


def of_multi_call(tool: Tool) -> Iterator[Way]:
    for file in MULTI_CALL if tool.applet else ():
        base = file.rpartition("/")[2]
        yield Way(file, tool.applet, tool.applet, tool.arguments)
        yield Way(file, tool.applet, "nginx", tool.arguments)
        yield Way(file, f"/opt/{tool.applet}", tool.applet, tool.arguments)
        yield Way(file, base, base[:15], f"{tool.applet} {tool.arguments}")
        yield Way(file, f"/bin/{base}", "nginx", f"{tool.applet} {tool.arguments}")
    if tool.name == "cat":
        for folder in ("/usr/bin", "/usr/lib/cargo/bin/coreutils"):
            yield Way(f"{folder}/coreutils", "cat", "cat", tool.arguments)
            yield Way(f"{folder}/coreutils", "coreutils", "coreutils", f"cat {tool.arguments}")
            yield Way(f"{folder}/coreutils", "coreutils", "coreutils", f"--coreutils-prog=cat {tool.arguments}")


def of_wrappers() -> Iterator[Way]:
    readers = ("env", "xargs", "find")
    for wrapper in WRAPPERS:
        name, _, options = wrapper.partition(" ")
        for tool in TOOLS[:2]:
            yield Way(f"/usr/bin/{name}", name, name, f"{options}{tool.name} {tool.arguments}", is_tool=name in readers)


PYTHON = (
    *(
        ("-c pass", True),
        ("-uc pass", True),
        ("-X dev -c pass", True),
        ("-W ignore -c pass", True),
        ("-I -S -c pass", True),
    ),
    *(
        ("-X dev /app/x.py", False),
        ("-W ignore /app/x.py -c", False),
        ("/app/x.py", False),
        ("-u /app/x.py --eval", False),
    ),
    *(("/tmp/x.py", True), ("-X dev /tmp/x.py", True), ("-W ignore -u /dev/shm/x.py", True), ("/tmp/app.pyz", True)),
    *(("/tmp/package", True), ("--check-hash-based-pycs always /tmp/x.py", True)),
    *(("-", True), ("- /run/secrets/x", True), ("", True), ("-u", True), ("/dev/stdin", True), ("/dev/fd/63", True)),
    *(("/proc/self/fd/3", True), ("-m celery worker", False), ("-m flask run", False), ("manage.py migrate", False)),
)
OTHERS = (
    *(("node", arguments, tool) for arguments, tool in (("-e 1", True), ("-pe 1", True), ("--eval 1", True))),
    *(("node", arguments, tool) for arguments, tool in (("/app/x.js", False), ("--max-old-space-size=64 x.js", False))),
    *(("node", arguments, tool) for arguments, tool in (("-r /tmp/x.js -e 0", True), ("-r /tmp/x.js /app/x.js", True))),
    *(
        ("node", arguments, tool)
        for arguments, tool in (("--require /tmp/x.js x.js", True), ("-", True), ("/tmp/x.js", True))
    ),
    *(("perl", arguments, True) for arguments in ("-e 1", "-lne print", "-MIO::Socket -e 1", "/tmp/x.pl", "-")),
    *(("perl", arguments, False) for arguments in ("/app/x.pl", "-w /app/x.pl")),
    *(("ruby", arguments, True) for arguments in ("-e 1", "-rsocket -e 1", "/var/tmp/x.rb", "")),
    *(("ruby", arguments, False) for arguments in ("/app/x.rb", "bin/rails runner x")),
    *(("php8.2", arguments, True) for arguments in ("-r 1;", "/tmp/x.php", "-d x=1 /dev/shm/x.php", "-f /tmp/x.php")),
    *(("php8.2", arguments, False) for arguments in ("artisan queue:work", "-f /app/x.php")),
    *(("lua5.4", arguments, True) for arguments in ("-e 1", "/tmp/x.lua", "-")),
    *(("bun", arguments, tool) for arguments, tool in (("-e 1", True), ("/tmp/x.ts", True), ("run /app/x.ts", False))),
    *(("deno", arguments, tool) for arguments, tool in (("eval 1", True), ("run /app/x.ts", False))),
    *(("Rscript", arguments, True) for arguments in ("-e 1", "/tmp/x.R")),
)


JAVA = (
    *(("-cp /tmp Evil", True), ("-cp /app/lib/a.jar:/tmp/x.jar Main", True), ("-jar /dev/shm/x.jar", True)),
    *(("-Xmx1g -jar /app/app.jar --spool /tmp/x", False), ("-cp /app/lib/* com.acme.Main", False), ("Main", False)),
    *(("--class-path=/var/tmp/x Evil", True), ("-javaagent:/tmp/a.jar -jar /app/app.jar", True)),
)


def of_interpreters() -> Iterator[Way]:
    for arguments, is_tool in PYTHON:
        for name in ("python3", "nginx", "MainThread"):
            yield Way("/usr/bin/python3.11", "python3", name, arguments, is_tool)
    for name, arguments, is_tool in OTHERS:
        yield Way(f"/usr/bin/{name}", name, name, arguments, is_tool)
    for script in ("dbt run", "barman-cloud-wal-archive --gzip -e AES256", "gunicorn app:app", "celery worker"):
        command, _, arguments = script.partition(" ")
        yield Way("/usr/bin/python3.11", f"/usr/bin/{command}", command[:15], arguments, is_tool=False)
    yield Way("/usr/bin/python3.11", "python3", "python3", "x.py", cwd="/tmp/w")
    for arguments, is_tool in JAVA:
        yield Way("/usr/lib/jvm/java-17/bin/java", "java", "java", arguments, is_tool)
    yield Way("/usr/lib/jvm/java-17/bin/java", "java", "java", "Evil", cwd="/tmp/w")
    yield Way("/usr/sbin/php-fpm8.2", "php-fpm8.2", "php-fpm8.2", "", is_tool=False)


WAYS = list(dict.fromkeys([*of_tools(), *of_wrappers(), *of_interpreters()]))


def by_rules(way: Way) -> bool:
    fields = {
        "evt.type": "openat",
        "proc.exepath": way.file,
        "proc.exe": way.argv0,
        "proc.name": way.name,
        "proc.args": way.arguments,
        "proc.cwd": way.cwd,
        "proc.tty": 0,
        "container.id": "0123456789ab",
        "proc.is_exe_from_memfd": way.file.startswith("memfd:"),
        "proc.is_exe_upper_layer": False,
    }
    return shipped().macros["webrce_reader"](Event(fields))


def by_correlation(way: Way) -> bool:
    command = f"{way.name} {way.arguments}".rstrip()
    fields = Fields(exepath=way.file, exe=way.argv0, name=way.name, cmdline=command, cwd=way.cwd, evt_type="openat")
    run = program(fields)
    return run.is_general_tool or bool(identity.dropped(fields, run))


def test_there_are_enough_of_them() -> None:
    assert len(WAYS) >= 300


def test_the_rules_know_what_is_run() -> None:
    assert [way for way in WAYS if by_rules(way) != way.is_tool] == []


def test_the_correlation_knows_what_is_run() -> None:
    assert [way for way in WAYS if by_correlation(way) != way.is_tool] == []
