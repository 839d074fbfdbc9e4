"""Ports for a Kafka: whoever looks for some at the same moment finds others."""

from __future__ import annotations

import random
import subprocess
import sys
import uuid

import pytest

from ftjm.embedded import ports
from ftjm.errors import FtjmError

GIVEN = "from ftjm.embedded.ports import free_base_port; print(free_base_port(further=1), flush=True); input()"


def test_nobody_is_given_what_a_running_process_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert ports.free_base_port() == place, "what was given is free once its process has ended"


def test_what_is_had_in_part_only_is_left_to_others() -> None:
    mine, theirs = uuid.uuid4().int, uuid.uuid4().int
    assert ports._claim([theirs])
    assert not ports._claim([mine, theirs])
    assert ports._claim([mine])
