"""On a host: the command installed by pipx and uv, and a unit that systemd accepts."""

import os
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
UNIT = ROOT / "systemd" / "falco-correlator.service"

INSTALLERS = {
    "pipx": ("pipx", "install"),
    "uv": ("uv", "tool", "install", "--python", sys.executable),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("source", ["checkout", "wheel"])
@pytest.mark.parametrize("installer", INSTALLERS)
def test_the_installed_command_plays_the_demo(installer: str, source: str, wheel: Path, tmp_path: Path) -> None:
    bin_folder = tmp_path / "bin"
    folders = {
        "PIPX_HOME": str(tmp_path / "home"),
        "PIPX_BIN_DIR": str(bin_folder),
        "UV_TOOL_DIR": str(tmp_path / "home"),
        "UV_TOOL_BIN_DIR": str(bin_folder),
    }
    program, *arguments = INSTALLERS[installer]
    command = [str(BIN / program), *arguments, str(ROOT if source == "checkout" else wheel)]
    installed = subprocess.run(command, env=os.environ | folders, capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr

    demo = [str(bin_folder / "falco-correlator"), "demo", "--once", "--port", "0", "--admin-port", "0"]
    played = subprocess.run(demo, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (played.returncode, "Full Web Application Compromise" in played.stdout) == (0, True), played.stderr


@pytest.mark.skipif(not (shutil.which("systemd-analyze") or os.environ.get("CI")), reason="systemd-analyze is missing")
def test_systemd_accepts_the_unit_and_calls_it_well_confined(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/falco-correlator", sys.executable))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")

    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", unit],
        capture_output=True,
        text=True,
        check=False,
    )

    assert judged.returncode == 0, judged.stdout


def test_the_unit_does_not_start_again_what_cannot_start() -> None:
    unit = RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)

    assert unit["Service"]["RestartPreventExitStatus"] == "2"
    assert unit["Service"]["Restart"] == "on-failure"
