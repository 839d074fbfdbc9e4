"""Ports for a Kafka: processes that look for ports at the same time find different ones."""

from __future__ import annotations

import random
import subprocess
import sys
import uuid

import pytest

from ftjm.local import ports
from ftjm.runtime.errors import FtjmError

GIVEN = "from ftjm.local.ports import free_base_port; print(free_base_port(further=1), flush=True); input()"


def test_ports_of_a_running_process_are_not_given_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", GIVEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = int(other.stdout.readline())
        for place in (theirs, theirs + ports.STEP):
            monkeypatch.setattr(random, "randrange", lambda *_, found=place: found)
            with pytest.raises(FtjmError, match="free ports"):
                ports.free_base_port()
        other.communicate("\n")
    assert ports.free_base_port() == place, "a process's ports are free after its end"


def test_a_partly_taken_range_is_not_claimed() -> None:
    mine, theirs = uuid.uuid4().int, uuid.uuid4().int
    assert ports._claim([theirs])
    assert not ports._claim([mine, theirs])
    assert ports._claim([mine])
