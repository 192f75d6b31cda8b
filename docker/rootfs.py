"""Collects the root file system of the image from the build stage: Python, us, and the libraries that these load.

A keep list instead of a delete list: what nobody loads is not there, so there is no shell, no pip, no apt, and little
that an attacker could use or a scanner would have to report. What is kept of Debian is entered in
/var/lib/dpkg/status.d, where scanners look for it in images without dpkg.
"""

import compileall
import os
import platform
import py_compile
import re
import shutil
import subprocess
import sys
from pathlib import Path

PREFIX = Path(sys.prefix)

NOT_NEEDED = shutil.ignore_patterns(
    "__pycache__", "pip", "pip-*", "setuptools*", "wheel", "wheel-*", "_distutils_hack", "distutils-precedence.pth",
    "ensurepip", "idlelib", "lib2to3", "tkinter", "turtledemo", "turtle.py", "pydoc_data", "test", "tests",
    "config-3*", "pkgconfig", "*.a", "*.pyi",
)  # fmt: skip

NO_LIBRARY = (
    "_tkinter*",
    "_dbm*",
    "_gdbm*",
    "_curses*",
    "readline*",
    "nis*",
    "_crypt*",
    "_test*",
    "xxlimited*",
    "ossaudiodev*",
)
"""Modules of the standard library that nothing here imports, and that would drag libraries in."""

FILES = ("/etc/ssl", "/usr/share/ca-certificates", "/usr/lib/ssl", "/etc/os-release", "/usr/lib/os-release")

USERS = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
GROUPS = "root:x:0:\nnonroot:x:65532:\n"


def main(root: Path) -> None:
    """Fill `root`."""
    _skeleton(root)
    _python(root)
    libraries = _libraries(root)
    for library in libraries:
        _copy(library, root)
    for name in FILES:
        _copy(Path(name), root)
    _plugin(root)
    _tell_scanners(root, libraries)
    _same_age(root, int(os.environ.get("SOURCE_DATE_EPOCH", "0")))


def _skeleton(root: Path) -> None:
    for folder in ("etc", "tmp", "usr/lib", "usr/local/bin", "var/lib/dpkg/status.d"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for name in ("lib", "lib64"):
        link = Path("/", name)
        if link.is_symlink():
            (root / name).symlink_to(link.readlink())
    (root / "etc/passwd").write_text(USERS)
    (root / "etc/group").write_text(GROUPS)
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")


def _python(root: Path) -> None:
    home = root / PREFIX.relative_to("/")
    shutil.copytree(PREFIX / "lib", home / "lib", symlinks=True, ignore=NOT_NEEDED)
    for pattern in NO_LIBRARY:
        for file in home.glob(f"lib/python3*/lib-dynload/{pattern}"):
            file.unlink()
    binary = Path(sys.executable).resolve()
    shutil.copy2(binary, home / "bin" / binary.name)
    (home / "bin/python3").symlink_to(binary.name)
    shutil.copy2(PREFIX / "bin/falco-correlator", home / "bin")
    # Bytecode that carries no time: the root is read-only, so nobody could write it later.
    for folder in home.glob("lib/python3*"):
        compileall.compile_dir(
            folder,
            quiet=2,
            stripdir=str(root),
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def _libraries(root: Path) -> list[Path]:
    """Every shared library outside of our prefix that some binary within it loads."""
    binaries = [*root.rglob("*.so"), *root.rglob("*.so.*"), *root.glob("usr/local/bin/python3.*")]
    done = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False)  # noqa: S603, S607
    missing = re.findall(r"^\s+(\S+) => not found", done.stdout, re.MULTILINE)
    if missing:
        sys.exit(f"the base lacks {', '.join(sorted(set(missing)))}, which a wheel or a module of Python loads")
    paths = {Path(path) for path in re.findall(r"^\s+(?:\S+ => )?(/\S+) \(", done.stdout, re.MULTILINE)}
    return sorted(path for path in paths if not path.is_relative_to(PREFIX) and not path.is_relative_to(root))


def _plugin(root: Path) -> None:
    """The Falco plugin for this machine, if `make plugin-dist` has built it: it is not loaded here, only copied on."""
    library = Path("dist/plugin") / platform.machine() / "liblineage.so"
    if library.exists():
        (root / "plugin").mkdir()
        shutil.copy2(library, root / "plugin")
    else:
        print(f"{library} is missing: the image will not have the Falco plugin", file=sys.stderr)


def _copy(path: Path, root: Path) -> None:
    """One file or folder, with the file that it is a link to; /lib is /usr/lib."""
    place = root / path.parent.resolve().relative_to("/") / path.name
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists() or place.is_symlink() or not path.exists():
        return
    if path.is_symlink():
        place.symlink_to(path.readlink())
        _copy(path.resolve(), root)
    elif path.is_dir():
        shutil.copytree(path, place, symlinks=True)
    else:
        shutil.copy2(path, place)


def _tell_scanners(root: Path, libraries: list[Path]) -> None:
    names = [f"*/{path.name}" for path in libraries]
    found = _query("--search", *names)
    for package in sorted({"ca-certificates", *re.findall(r"^([a-z0-9.+-]+)(?::\S+)?: ", found, re.MULTILINE)}):
        (root / "var/lib/dpkg/status.d" / package).write_text(_query("--status", package))


def _query(*arguments: str) -> str:
    command = ["dpkg-query", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603


def _same_age(root: Path, time: int) -> None:
    for path in [root, *root.rglob("*")]:
        os.utime(path, (time, time), follow_symlinks=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
