"""The image: the real Dockerfile, built without a network on a stand-in base, run as the chart runs it."""

import http.client
import json
import os
import platform
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from conftest import needs
from image import stand_in
from image.stand_in import ROOT, STORAGE, run
from service.test_supervisor import free_port
from support.falcosidekick import Falcosidekick
from support.waiting import wait_until

from sidecar import __version__
from sidecar.rules.loading import SHIPPED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BUILT = "localhost/falco-correlator:test"

PLUGIN = b"the Falco plugin, which the image only holds for Falco"

LIKE_THE_CHART = (
    *("--user", "65532:65532", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--memory", "128m"),
)

HERE = (
    *("--runtime", "runc", "--cgroup-manager", "cgroupfs"),
    *("run", "--rm", "--pull", "never", "--network", "host", "--security-opt", "seccomp=unconfined"),
    *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"),
)
"""What lets runc work within another container; the container itself gets nothing by it."""


def build(context: Path, *more: str) -> str:
    """Build BUILT from `context` where there is no network; returns the image's id."""
    arguments = {"BASE": stand_in.NAME, "PIP_NO_INDEX": "1", "VERSION": __version__, "REVISION": "abc123"}
    given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    offline = ("unshare", "--net", "buildah", *STORAGE, "bud", "--isolation", "chroot", "--pull-never")
    with stand_in.alone():
        run(*offline, "--timestamp", "0", *given, *more, "--tag", BUILT, context)
        subprocess.run(["buildah", *STORAGE, "rmi", "--prune"], capture_output=True, check=False)
    return run("buildah", *STORAGE, "images", "--quiet", "--no-trunc", BUILT).strip()


@pytest.fixture(scope="session")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as a fresh clone has it, with the wheels in dist/wheels."""
    for program in ("buildah", "podman", "runc", "debootstrap", "unshare"):
        needs(program)
    if os.geteuid() != 0:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("only root can make the stand-in base")
    folder = tmp_path_factory.mktemp("context")
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, folder)
    for name in ("sidecar", "falco_rules", "docker"):
        shutil.copytree(ROOT / name, folder / name)
    library = folder / "dist/plugin" / platform.machine() / "liblineage.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(PLUGIN)
    with stand_in.alone():
        shutil.copytree(stand_in.wheels(), folder / "dist/wheels")
        stand_in.base()
    return folder


@pytest.fixture(scope="session")
def image(context: Path) -> str:
    return build(context)


def podman(*arguments: str, entrypoint: str = "", volume: str = "") -> list[str]:
    """The command that runs the image with `arguments`, as locked in as in the cluster."""
    more = [*(["--entrypoint", entrypoint] if entrypoint else []), *(["--volume", volume] if volume else [])]
    return ["podman", *STORAGE, *HERE, *LIKE_THE_CHART, *more, BUILT, *arguments]


def inside(code: str) -> str:
    """What Python in the image prints."""
    return run(*podman("-c", code, entrypoint="python3"))


@contextmanager
def serving(sidekick: Falcosidekick, folder: Path) -> Iterator[tuple[str, int, int]]:
    """The service in a container with a state folder: the container's name, its ports for alerts and administration."""
    state, name, ports = folder / "state", f"fc-{uuid.uuid4().hex[:8]}", (free_port(), free_port())
    state.mkdir()
    os.chown(state, 65532, 65532)
    settings = {
        "HTTP__PORT": ports[0],
        "ADMIN__PORT": ports[1],
        "SINKS__FALCOSIDEKICK__URL": sidekick.url,
        "STATE__PATH": "/var/lib/falco-correlator/state.db",
    }
    command = podman("run", volume=f"{state}:/var/lib/falco-correlator")
    given = [word for key, value in settings.items() for word in ("--env", f"FALCO_CORRELATOR_{key}={value}")]
    place = command.index("run") + 1
    with (folder / "log").open("wb") as log:
        service = subprocess.Popen([*command[:place], "--name", name, *given, *command[place:]], stdout=log, stderr=log)
    try:
        wait_until_ready(ports[1], service, folder / "log")
        yield name, *ports
    finally:
        subprocess.run(["podman", *STORAGE, "kill", "--signal", "TERM", name], capture_output=True, check=False)
        service.wait(30)


def wait_until_ready(port: int, service: subprocess.Popen[bytes], log: Path) -> None:
    def is_ready() -> bool:
        assert service.poll() is None, log.read_text()
        with suppress(OSError), closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        return False

    wait_until(is_ready)


def test_the_main_job_is_done_inside_as_65532_read_only_and_without_capabilities(
    image: str, sidekick: Falcosidekick, tmp_path: Path
) -> None:
    recording = (SHIPPED / "recordings/demo.jsonl").read_bytes().splitlines()
    with serving(sidekick, tmp_path) as (name, port, _):
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as falco:
            answers = [posted(falco, alert) for alert in recording]
        events = sidekick.wait_for(2)
        processes = resident(name)

    assert answers == [200] * len(recording)
    assert (events[-1]["priority"], events[-1]["rule"]) == ("Critical", "Full Web Application Compromise")
    assert len({event["output_fields"]["incident.id"] for event in events}) == 1
    assert (tmp_path / "state/state.db").stat().st_uid == 65532
    assert sum(processes) < 96 * 1024, f"kB resident of supervisor and worker: {processes}"


def posted(falco: http.client.HTTPConnection, alert: bytes) -> int:
    falco.request("POST", "/", alert)
    answer = falco.getresponse()
    answer.read()
    return answer.status


def resident(name: str) -> list[int]:
    """Resident kB of the container's processes."""
    pids = run("podman", *STORAGE, "top", name, "hpid").split()[1:]
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return [int(found[1]) for text in texts if (found := re.search(r"VmRSS:\s+(\d+)", text))]


def test_nothing_can_be_written_and_nobody_can_become_root(image: str) -> None:
    inspected = json.loads(
        inside(
            "import os, json; status = dict(l.rstrip().split(':\\t', 1) for l in open('/proc/self/status'));"
            "places = [p for p in ('/', '/tmp', '/usr/local/lib', '/etc') if os.access(p, os.W_OK)];"
            "print(json.dumps([os.getuid(), os.getgid(), status['CapEff'], status['CapBnd'], places]))"
        )
    )

    assert inspected == [65532, 65532, "0" * 16, "0" * 16, []]


def test_there_is_no_shell_no_pip_and_no_program_but_python_and_ours(image: str) -> None:
    found = inside(
        "import os; print(*sorted(os.path.join(at, name) for at, _, names in os.walk('/')"
        " if not at.startswith(('/proc', '/sys', '/dev')) for name in names"
        " if '/bin' in at + '/' or os.stat(os.path.join(at, name), follow_symlinks=False).st_mode & 0o6000))"
    ).split()

    assert found == [f"/usr/local/bin/{name}" for name in ("falco-correlator", "python3", "python3.11")]
    assert inside("import importlib.util as u; print(u.find_spec('pip'), u.find_spec('ensurepip'))") == "None None\n"


def test_the_shipped_rules_pass_their_tests_inside(image: str) -> None:
    assert "web-application-rce: ok" in run(*podman("check"))
    assert run(*podman("test")).endswith(" 0 failed\n")


def test_grpc_and_the_authorities_of_https_are_inside(image: str) -> None:
    code = "import grpc, ssl; from sidecar.sources import grpc as ours; print(len(ssl.create_default_context().get_ca_certs()))"

    assert int(inside(code)) > 50


def test_the_same_sources_give_the_same_image(image: str, context: Path) -> None:
    assert build(context, "--no-cache") == image


def test_the_image_says_what_it_is_and_starts_our_command_without_a_shell(image: str) -> None:
    (inspected,) = json.loads(run("podman", *STORAGE, "image", "inspect", BUILT))
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in inspected["Labels"].items()}

    assert inspected["Config"]["Entrypoint"] == ["falco-correlator"]
    assert inspected["Config"]["Cmd"] == ["run"]
    assert inspected["User"] == "65532:65532"
    assert (labels["version"], labels["revision"], labels["licenses"]) == (__version__, "abc123", "Apache-2.0")
    assert run(*podman("version")).startswith(f"falco-correlator {__version__} (Python 3.")


def test_it_is_small(image: str) -> None:
    (inspected,) = json.loads(run("podman", *STORAGE, "image", "inspect", BUILT))

    assert inspected["Size"] < 100_000_000


def test_scanners_can_read_what_of_debian_is_inside(image: str) -> None:
    names = inside("import os; print(*sorted(os.listdir('/var/lib/dpkg/status.d')))").split()

    assert {"ca-certificates", "libc6", "libssl3", "libsqlite3-0"} <= set(names)
    assert not {"bash", "dash", "apt", "perl-base"} & set(names)


def test_the_init_container_of_the_overlay_copies_the_falco_plugin_out_of_it(image: str, tmp_path: Path) -> None:
    overlay = yaml.safe_load((ROOT / "charts/falco-correlator/overlays/falco-plugin.yaml").read_text())
    (copies,) = overlay["extra"]["initContainers"]
    program, *arguments = copies["command"]
    (mount,) = copies["volumeMounts"]
    os.chown(tmp_path, 65532, 65532)
    run(*podman(*arguments, entrypoint=program, volume=f"{tmp_path}:{mount['mountPath']}"))

    assert (tmp_path / "liblineage.so").read_bytes() == PLUGIN
