"""Installs a system and its server into a folder outside of the checkout. Needs no root, and changes nothing else.

Clients come from the package index, each into a virtual environment of its own. A server that the machine has is used;
else it is unpacked from Debian's packages into the folder, where `apt-get` is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SYSTEM = Path("/")
ERLANG = "usr/lib/erlang"
LIBRARIES = "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu"
RABBITMQ_SERVER = "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"
"""The program that starts RabbitMQ, as a pattern below the root."""
PROGRAMS = "usr/bin", f"{ERLANG}/bin"


class Missing(Exception):
    """A system cannot be installed here. The text says why."""


class System(NamedTuple):
    """What to install for one system."""

    distributions: tuple[str, ...] = ()
    """What pip installs into the system's virtual environment. Nothing for ftjm, which the project's own one has."""
    package: str = ""
    """Debian's package of the server."""
    proof: str = ""
    """A file of that package, as a pattern below the root."""


def python_of(cache: Path, name: str, system: System) -> Path:
    """Return the Python that has the client of a system. Makes its virtual environment first, if it is not there.

    Raises:
        Missing: the package index does not answer, or lacks something.
    """
    if not system.distributions:
        return Path(sys.executable)
    folder = cache / name
    python, stamp = folder / "bin" / "python", folder / "installed"
    wanted = " ".join(system.distributions)
    if not stamp.exists() or stamp.read_text() != wanted:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
        _run([str(python), "-m", "pip", "install", *quiet, *system.distributions])
        stamp.write_text(wanted)
    return python


def root_of(cache: Path, system: System) -> Path:
    """Return the directory below which the server of a system is installed as below `/`, after unpacking it if need be.

    Raises:
        Missing: it is not there, and cannot be had.
    """
    root = cache / system.package
    for found in (SYSTEM, root):
        if not system.package or next(found.glob(system.proof), None):
            return found
    if shutil.which("apt-get") is None:
        raise Missing(f"{system.package} is not installed, and there is no apt-get to fetch it with")
    downloads = cache / f"{system.package}.new"
    shutil.rmtree(downloads, ignore_errors=True)
    downloads.mkdir(parents=True)
    plan = _run(["apt-get", "--simulate", "install", "--no-install-recommends", system.package])
    _run(["apt-get", "--quiet", "--quiet", "download", *packages(plan)], downloads)
    for archive in sorted(downloads.glob("*.deb")):
        _run(["dpkg", "--extract", str(archive), str(downloads / "root")])
    move_erlang(downloads / "root", root)
    shutil.rmtree(root, ignore_errors=True)
    (downloads / "root").rename(root)
    shutil.rmtree(downloads)
    return root


def packages(plan: str) -> list[str]:
    """Return the packages that `apt-get --simulate install` would install."""
    return [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]


def move_erlang(root: Path, later: Path) -> None:
    """Write the directory that Erlang will have into its start scripts, as its own installation program does."""
    for script in root.glob(f"{ERLANG}/**/bin/*"):
        old = f"ROOTDIR=/{ERLANG}\n".encode()
        if script.is_file() and old in (text := script.read_bytes()):
            script.write_bytes(text.replace(old, f"ROOTDIR={later / ERLANG}\n".encode()))


def environment(root: Path) -> dict[str, str]:
    """Return the variables with which programs below `root` find each other and their libraries."""
    if root == SYSTEM:
        return {"PEERS_ROOT": "/"}
    programs = [str(root / each) for each in PROGRAMS]
    return {
        "PEERS_ROOT": str(root),
        "PATH": os.pathsep.join([*programs, os.environ.get("PATH", "")]),
        "LD_LIBRARY_PATH": os.pathsep.join(str(root / each) for each in LIBRARIES),
    }


def _run(command: list[str], folder: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Missing(f"`{command[0]} {command[-1]}` failed: {said[-1] if said else 'it wrote nothing'}")
    return done.stdout
