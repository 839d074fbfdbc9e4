"""Taking a partition over and giving it up, by the runner's own thread on a log in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ftjm.adapters.avro import codec
from ftjm.adapters.memory import MemoryStore
from ftjm.core.decide.decision import Policy
from ftjm.core.records import events as e
from ftjm.engine.partition import Partition
from ftjm.scheduler import follower
from ftjm.scheduler.ownership import Role
from ftjm.scheduler.partition_runner import Runner
from tests.engine.world import PARTITIONS, World
from tests.scheduler.seat import PARTITION, Log, Seat, seated

FEW = 10


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def other(log: Log) -> World:
    """Another owner, who has written some batches."""
    world = World(log=log)
    for number in range(50):
        world.submit(f"before-{number}")
        world.work()
    return world


@pytest.fixture
def seat(other: World, log: Log, tmp_path: Path) -> Iterator[Seat]:
    """A standby."""
    with seated(log, tmp_path) as made:
        made.until_role(Role.STANDBY)
        yield made


def batches(log: Log) -> list[e.BatchClosed]:
    events = [codec.decode(record.value) for record in log.events(PARTITION, 0)]
    return [event for event in events if isinstance(event, e.BatchClosed)]


def folded(log: Log) -> Partition:
    """The whole log, with the hash of every batch."""
    made = Partition(Policy(PARTITION, PARTITIONS), MemoryStore(), codec, log.log_id)
    for record in log.events(PARTITION, 0):
        made.fold(record)
    return made


def owners(log: Log) -> list[str]:
    """Who wrote, in order."""
    return list(dict.fromkeys(batch.owner for batch in batches(log)))


def test_a_cold_nominee_folds_first_and_fences_then(
    other: World, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner before it decides until it is fenced: folding behind that would be a pause."""
    monkeypatch.setattr(follower, "TAKE_MAX", FEW)
    newest = other.owner.position.applied_offset
    with seated(log, tmp_path) as seat:
        seat.runner.nominate()
        seat.until_role(Role.OWNER)
    assert newest > 10 * FEW
    assert log.fenced_at[-1] > newest - 2 * FEW
    assert owners(log) == ["owner", "here"]


def test_a_log_that_has_lost_its_tail_is_not_extended_by_a_store_that_is_ahead_of_it(seat: Seat, log: Log) -> None:
    seat.runner.nominate()
    seat.until_role(Role.OWNER)
    seat.submit("lost")
    seat.until(lambda: "lost" in str(list(log.events(PARTITION, 0))), "it to decide")
    seat.until_role(Role.OWNER)
    kept = batches(log)[-3].batch_no
    log.truncate(PARTITION, offset_behind(log, kept))
    log.fence(PARTITION)  # brokers that lost power do not know its producer any more
    seat.submit("after")
    seat.until(lambda: len(batches(log)) > kept, "it to go on")
    assert [batch.batch_no for batch in batches(log)] == list(range(1, len(batches(log)) + 1))
    assert folded(log).position.batch_no == len(batches(log))


@pytest.mark.parametrize("sent", [0, 2, 20])
@pytest.mark.parametrize("lost", [1, 5])
def test_what_lies_in_the_place_of_decided_commands_that_were_lost_is_decided(
    seat: Seat, log: Log, lost: int, sent: int
) -> None:
    """Brokers that lost power have acknowledged what is gone, and acknowledge what comes to lie there: it was passed
    over by the owner, who stood behind it."""
    seat.runner.nominate()
    seat.until(lambda: batches(log)[-1].owner == "here", "it to decide")
    log.lose_commands(PARTITION, batches(log)[-1].next_command - lost)
    for number in range(sent):
        seat.submit(f"after-{number}")
    seat.until(lambda: set(born(log)) >= {f"after-{number}" for number in range(sent)}, "it to decide what has come")
    seat.until_role(Role.OWNER)
    seat.submit("last")
    seat.until(lambda: "last" in born(log), "it to go on")
    assert folded(log).position.batch_no == len(batches(log))
    assert len(born(log)) == len(set(born(log))) == 50 + sent + 1


def born(log: Log) -> list[str]:
    """The jobs that there are, and once more for each that was born again."""
    events = [codec.decode(record.value) for record in log.events(PARTITION, 0)]
    return [event.job_id for event in events if isinstance(event, e.JobSubmitted)]


def offset_behind(log: Log, batch_no: int) -> int:
    """The first offset behind this batch and its marker."""
    for record in log.events(PARTITION, 0):
        event = codec.decode(record.value)
        if isinstance(event, e.BatchClosed) and event.batch_no == batch_no:
            return record.offset + 2
    raise AssertionError(batch_no)


def test_one_whose_fencer_dies_before_it_writes_takes_the_partition_back(seat: Seat, log: Log) -> None:
    seat.runner.nominate()
    seat.until_role(Role.OWNER)
    epoch = batches(log)[-1].owner_epoch
    seat.runner.revoke()
    log.fence(PARTITION)
    seat.submit("more")
    seat.until(lambda: seat.runner.ownership.orphaned_epoch == epoch, "it to be fenced")
    assert seat.runner.role == Role.STANDBY
    seat.runner.take_over_from(epoch)
    seat.until(lambda: batches(log)[-1].owner_epoch == epoch + 1, "it to decide again")
    seat.until(lambda: seat.runner.ownership.orphaned_epoch == -1, "it to be no orphan")


def test_one_that_is_fenced_by_a_newer_owner_is_no_orphan(seat: Seat, log: Log) -> None:
    seat.runner.nominate()
    seat.until_role(Role.OWNER)
    seat.runner.revoke()
    World(log=log).work()
    seat.submit("more")
    ownership = seat.runner.ownership
    seat.until(lambda: ownership.role == Role.STANDBY and ownership.newest_owner[0] == "owner", "it to fold what came")
    assert ownership.orphaned_epoch == -1


def test_of_two_heirs_the_later_one_decides(seat: Seat, log: Log) -> None:
    """The first one has written an epoch that the second one knows nothing of as it fences."""
    epoch = seat.runner.ownership.newest_owner[1]
    fence = log.fence

    def second(partition: int) -> object:
        log.fence = fence  # type: ignore[method-assign]
        World(log=log).work()
        return fence(partition)

    log.fence = second  # type: ignore[method-assign,assignment]
    seat.runner.take_over_from(epoch)
    seat.until(lambda: batches(log)[-1].owner == "here", "the later one to decide")
    assert [batch.owner_epoch for batch in batches(log)][-2:] == [epoch + 1, epoch + 2]


def test_a_record_that_is_not_known_here_costs_no_store(seat: Seat, log: Log, tmp_path: Path) -> None:
    """A newer version writes it: an older one stops, keeps what it has folded, and says what to do."""
    store = (tmp_path / "partition-0").stat().st_ino
    handled: list[Exception] = []
    handle = seat.runner._faults.handle

    def count(error: Exception, retry_in_seconds: float) -> None:
        handle(error, retry_in_seconds)
        handled.append(error)

    seat.runner._faults.handle = count  # type: ignore[method-assign]
    log.fence(PARTITION).commit([("", b"\xc3\x01unknown!")])
    seat.until(lambda: len(handled) >= 2, "it to stop, and to try again")
    seat.until_role(Role.BROKEN)
    assert (tmp_path / "partition-0").stat().st_ino == store
    assert seat.runner.report.role == Role.BROKEN, "nobody takes it for a standby"


def test_a_state_that_differs_is_told_with_its_offset_and_kept(seat: Seat, log: Log, tmp_path: Path) -> None:
    world = World(log=log)
    world.submit("wrong")
    batch_no = world.owner.position.batch_no + 1
    lie = e.BatchClosed(
        batch_no=batch_no,
        now=world.now,
        next_command=0,
        owner_epoch=9,
        owner="liar",
        outbox_sent=0,
        events=0,
        state_version=world.owner.position.state_version,
        state_hash=bytes(16),
    )
    offset = world.log.fence(PARTITION).commit([("", codec.encode(lie))])
    divergences = seat.context.metrics.divergences._value
    seat.until(lambda: divergences.get() >= 2, "it to be told, and told again")
    assert (tmp_path / "suspect-partition-0" / "CURRENT").exists()
    assert seat.applied < offset


def test_what_a_step_has_changed_is_reported_before_the_owner_waits(
    seat: Seat, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, int]] = []
    wait = Runner._wait

    def look(runner: Runner, seconds: float) -> None:
        if runner.ownership.role is Role.OWNER:
            ready = sum(demand.ready for demand in runner.report.demand)
            seen.append((runner.report.role, ready, runner._partition.position.next_command))
        wait(runner, seconds)

    monkeypatch.setattr(Runner, "_wait", look)
    seat.runner.nominate()
    seat.until_role(Role.OWNER)
    for number in range(FEW):
        before = len(seat.log.commands(PARTITION, 0))
        seat.submit(f"new-{number}")
        seat.until(lambda before=before: any(at > before for _, _, at in seen), "the command to be decided")  # type: ignore[misc]
    assert {role for role, _, _ in seen} == {"owner"}
    jobs = dict.fromkeys(at for _, _, at in seen)
    assert all(len({ready for _, ready, at in seen if at == here}) == 1 for here in jobs)
