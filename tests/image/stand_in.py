"""A base for the Dockerfile where no registry can be reached: Debian bookworm's Python 3.11, laid out like docker's.

The real base, `python:3.11-slim-bookworm`, is Debian bookworm with Python below /usr/local and pip beside it. This one is
made of Debian's packages and looks the same to the Dockerfile. It is made once (about a minute) and kept, with the wheels
that the build installs, in ~/.cache/falco-correlator; from then on the build needs no network.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "falco-correlator" / "image"
STORAGE = ("--root", str(CACHE / "storage"), "--runroot", str(CACHE / "run"), "--storage-driver", "vfs")
NAME = "localhost/python-stand-in:3.11"

DOCKERFILE = """FROM scratch
COPY . /
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
# Debian's Python would install below /usr/local/local.
ENV DEB_PYTHON_INSTALL_LAYOUT=deb_system
"""


def run(*command: str | Path) -> str:
    """The output of a command; what it said is in the error when it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@contextmanager
def alone() -> Iterator[None]:
    """Keeps other test processes away from CACHE meanwhile."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wheels() -> Path:
    """A folder with every wheel that the build needs, as `make wheels` fetches them."""
    folder = CACHE / "wheels"
    files = [ROOT / "docker" / "requirements.txt", ROOT / "docker" / "build-requirements.txt"]
    wanted = "".join(file.read_text() for file in files)
    if not folder.is_dir() or (folder / "wanted").read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        run(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--python-version=3.11"),
            *(f"--platform={system}_{os.uname().machine}" for system in ("manylinux_2_28", "manylinux2014")),
            *("--dest", folder, "--require-hashes", *(part for file in files for part in ("--requirement", file))),
        )
        run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, "pip")
        (folder / "wanted").write_text(wanted)
    return folder


def base() -> str:
    """The name of the stand-in image in STORAGE."""
    images = run("buildah", *STORAGE, "images", "--quiet", "--filter", f"reference={NAME}")
    if not images.strip():
        root = CACHE / "root"
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        run("debootstrap", "--variant=minbase", "--include=python3,ca-certificates", "bookworm", root)
        _like_dockers(root)
        file = CACHE / "Dockerfile"
        file.write_text(DOCKERFILE)
        run("buildah", *STORAGE, "bud", "--quiet", "--isolation", "chroot", "--file", file, "--tag", NAME, root)
        shutil.rmtree(root)
    return NAME


def _like_dockers(root: Path) -> None:
    """Python from /usr to /usr/local, pip beside it."""
    local, packages = root / "usr/local", root / "usr/local/lib/python3/dist-packages"
    shutil.rmtree(local / "lib/python3.11", ignore_errors=True)
    shutil.move(root / "usr/bin/python3.11", local / "bin/python3.11")
    shutil.move(root / "usr/lib/python3.11", local / "lib/python3.11")
    (root / "usr/bin/python3").unlink()
    (local / "bin/python3").symlink_to("python3.11")
    (local / "lib/python3.11/EXTERNALLY-MANAGED").unlink(missing_ok=True)
    packages.mkdir(parents=True)
    (pip,) = (CACHE / "wheels").glob("pip-*.whl")
    zipfile.ZipFile(pip).extractall(packages)
    for name in ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(root / name, ignore_errors=True)
