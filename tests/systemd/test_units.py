"""The systemd units agree with the command line and the settings, and systemd accepts them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import typer

from ftjm.api.server import DRAIN_SECONDS_MAX
from ftjm.cli import app
from ftjm.runtime.config import Settings
from ftjm.runtime.durations import parse_duration

FOLDER = Path(__file__).parents[2] / "docs" / "systemd"
ROLES = ("scheduler", "worker", "api")
PROGRAM = "/opt/ftjm/bin/ftjm"


def text_of(role: str) -> str:
    return (FOLDER / f"ftjm-{role}@.service").read_text()


def service(role: str) -> dict[str, list[str]]:
    """The section `Service`, with all values of each name."""
    _, _, rest = text_of(role).partition("[Service]\n")
    found: dict[str, list[str]] = {}
    for line in rest.partition("\n[")[0].splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def one(role: str, name: str) -> str:
    [value] = service(role)[name]
    return value


def options_of(role: str) -> list[str]:
    """The options of an instance that a comment of the unit shows."""
    shown = re.findall(rf"{role.upper()}_OPTIONS=((?:--[a-z]+ [\w.]+ ?)+)", text_of(role))
    assert len(shown) == (role != "scheduler")
    return shlex.split(" ".join(shown))


def test_there_is_a_unit_for_each_role():
    assert sorted(path.name for path in FOLDER.glob("*.service")) == sorted(f"ftjm-{role}@.service" for role in ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_every_command_exists(role):
    words = [*shlex.split(one(role, "ExecStart").replace("%l-%i", "host-1")), *options_of(role)]
    assert words.pop(0) == PROGRAM
    words = [word for word in words if not word.startswith("$")]
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert {word for word in words if word.startswith("-")} <= {f for each in command.params for f in each.opts}
    # Parsing validates the values.
    with command.make_context(role, words, resilient_parsing=False) as context:
        assert context.params


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_exists(role):
    known = {f"FTJM_{name.upper()}" for name in Settings.model_fields} | {"FTJM_API_TOKEN"}
    assert set(re.findall(r"FTJM_[A-Z_]+", text_of(role))) <= known


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_restarted_for_ever_without_root(role):
    assert one(role, "User") not in ("root", "0")
    # A drained worker ends with status 0 and is not restarted.
    assert one(role, "Restart") == ("on-failure" if role == "worker" else "always")
    assert "\nStartLimitIntervalSec=0\n" in text_of(role)
    assert one(role, "NoNewPrivileges") == "yes"
    assert one(role, "ProtectSystem") == "strict"
    assert one(role, "PrivateTmp") == "yes"
    assert one(role, "CapabilityBoundingSet") == ""
    # Only the data directory is writable.
    assert f"FTJM_DATA_DIR=/var/lib/{one(role, 'StateDirectory')} " in one(role, "Environment") + " "
    assert int(one(role, "LimitNOFILE")) >= 65536


def test_only_the_worker_process_itself_gets_sigterm():
    assert one("worker", "KillMode") == "mixed"
    assert one("worker", "OOMPolicy") == "continue"
    assert one("worker", "User") != one("scheduler", "User"), "jobs must not write to a scheduler's stores"


def test_an_api_has_time_to_drain():
    drain = re.findall(r"--drain (\w+)", one("api", "ExecStart"))
    stop = one("api", "TimeoutStopSec")
    assert parse_duration(stop) > parse_duration(drain[0]) + DRAIN_SECONDS_MAX * 1000


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("role", ROLES)
def test_systemd_accepts_the_unit(role, tmp_path):
    # systemd-analyze checks that the program exists.
    unit = tmp_path / f"ftjm-{role}@1.service"
    unit.write_text(text_of(role).replace(PROGRAM, str(Path(sysconfig.get_path("scripts"), "ftjm"))))
    environment = {**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
