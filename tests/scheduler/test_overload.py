"""Above the high-water mark new submissions are refused, until below the low one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftjm.runtime import config
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import UsageError
from ftjm.scheduler import overload
from ftjm.scheduler.overload import Overload, disk_percent, memory_percent


@pytest.fixture
def settings() -> Settings:
    return config.load(backlog_high=100, backlog_low=50)


class Machine:
    """What is as full as told, and looked at each time."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(overload, "PROBE_SECONDS", -1.0)
        self.disk, self.memory = 10.0, 10.0
        self.overload = Overload(settings, lambda _: self.disk, lambda: self.memory)

    def why(self, partition: int = 0, backlog: int = 0) -> str:
        return self.overload.reason(partition, backlog)


@pytest.mark.parametrize("what", ["disk", "memory"])
def test_new_jobs_are_accepted_again_below_the_low_watermark_only(what, settings, monkeypatch):
    machine = Machine(settings, monkeypatch)
    assert machine.why() == ""
    for percent, refused in ((94, False), (95, True), (92, True), (90, True), (89, False), (94, False)):
        setattr(machine, what, percent)
        assert bool(machine.why()) is refused, percent
        assert machine.overload.reasons == {"disk": False, "memory": False, "backlog": False, what: refused}


def test_the_reason_tells_what_is_full(settings, monkeypatch):
    machine = Machine(settings, monkeypatch)
    machine.disk, machine.memory = 96, 99
    assert machine.why() == "the scheduler's disk is 96 % full, the scheduler's memory is 99 % full"


def test_a_backlog_is_one_partition_s(settings, monkeypatch):
    machine = Machine(settings, monkeypatch)
    assert "100 commands wait" in machine.why(0, 100)
    assert machine.why(1, 99) == ""
    assert machine.overload.reasons["backlog"]
    assert machine.why(0, 50)
    assert machine.why(0, 49) == ""
    assert not machine.overload.reasons["backlog"]


def test_the_backlog_of_a_partition_that_went_to_another_is_forgotten(settings, monkeypatch):
    machine = Machine(settings, monkeypatch)
    assert machine.why(0, 100)
    machine.overload.forget(0)
    assert not machine.overload.reasons["backlog"]
    assert machine.why(0, 50) == ""


def test_it_looks_seldom(settings):
    looks = []
    asked = Overload(settings, lambda _: looks.append("disk") or 1.0, lambda: 1.0)  # type: ignore[func-returns-value]
    for _ in range(100):
        asked.reason(0, 0)
    assert looks == ["disk"]


def test_this_machine_tells_percents(tmp_path: Path):
    assert 0 <= disk_percent(tmp_path) <= 100
    assert 0 <= memory_percent() <= 100


def test_a_limit_of_the_control_group_counts(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(overload, "CGROUP", tmp_path)
    host = memory_percent()
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("1200\n")
    (tmp_path / "memory.stat").write_text("anon 900\ninactive_file 210\n")
    assert memory_percent() == 99.0 >= host
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_percent() < 99.0


@pytest.mark.parametrize("what", ["disk_{}_percent", "memory_{}_percent", "backlog_{}"])
def test_marks_the_wrong_way_round_are_refused(what):
    with pytest.raises(UsageError, match="must be at most"):
        config.load(**{what.format("low"): 60, what.format("high"): 50})
