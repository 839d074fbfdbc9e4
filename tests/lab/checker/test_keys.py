"""The checker's rules about concurrency keys."""

from __future__ import annotations

from typing import Any

from ftjm.core.records import events as e
from ftjm.core.records.levels import SHARING_LEVEL
from ftjm.core.state.queues import OnConflict
from ftjm.lab.checker import causes, concurrency_keys
from ftjm.lab.checker.verdict import Violation, ViolationKind
from ftjm.lab.checker.waiting_jobs import STALLED_BATCHES
from tests.lab.checker.test_queues import Judged, kinds


class AtKey(Judged):
    """Jobs of one concurrency key."""

    def __init__(self, *jobs: str, **spec: Any) -> None:
        super().__init__(SHARING_LEVEL, **spec)
        for at, job_id in enumerate(jobs):
            self.submit(job_id, 1_000 + at, concurrency_key="k")
            if at:
                self.take(e.JobParked, job_id, 1_000 + at)
            else:
                assert not self.dispatch(job_id)

    def close(self) -> list[Violation]:
        return list(self.rules._keys.close_batch())

    def replaced(self, job_id: str, by: str) -> list[Violation]:
        return self.take(e.JobCancelled, job_id, 2_000, reason=f"{causes.REPLACED}q/{by}")


def test_a_key_goes_from_one_job_to_the_next():
    judged = AtKey("a", "b", "c")
    assert not judged.close()
    assert not judged.succeed("a")
    assert not judged.take(e.JobQueued, "b", 1_100)
    assert not judged.close()
    assert judged.jobs["c"].state is not None


def test_a_key_that_more_jobs_have_than_may_is_a_violation():
    judged = AtKey("a", "b")
    assert kinds(judged.take(e.JobQueued, "b", 1_100)) == [ViolationKind.LIMIT]


def test_a_job_that_waits_for_a_free_key_is_a_violation():
    judged = AtKey("a", "b")
    judged.succeed("a")
    (found,) = judged.close()
    assert found == (ViolationKind.LOST, "q/b: expected it to get the key k, which is free, but found it waiting")


def test_the_best_of_those_that_wait_gets_the_key():
    judged = AtKey("a", "b")
    judged.submit("c", 1_002, concurrency_key="k", priority=90)
    judged.take(e.JobParked, "c", 1_002)
    judged.succeed("a")
    judged.take(e.JobQueued, "b", 1_100)
    assert kinds(judged.close()) == [ViolationKind.ORDER]
    assert not judged.take(e.JobParked, "b", 1_200)
    assert not judged.take(e.JobQueued, "c", 1_200)
    assert not judged.close()
    judged.take(e.JobPrioritized, "b", 1_300, priority=99)
    assert kinds(judged.close()) == [ViolationKind.ORDER]


def test_a_job_of_which_no_event_tells_that_it_waits_is_a_violation():
    judged = AtKey("a")
    judged.submit("b", 1_001, concurrency_key="k")
    assert kinds(judged.close()) == [ViolationKind.LOST]


def test_a_higher_limit_is_followed_by_a_process():
    judged = AtKey("a", "b")
    assert not judged.declare(key_concurrency=2)
    assert not judged.close(), "its process is under way"
    settled = e.KeysSettled(queue="q", next_key="", cause=e.Cause.CONTINUATION, cause_ref="KEYS/q")
    assert not judged.other(settled)
    assert kinds(judged.close()) == [ViolationKind.LOST]
    assert kinds(judged.other(settled)) == [ViolationKind.CAUSE]
    judged = AtKey("a", "b")
    judged.declare(key_concurrency=2)
    judged.rules._keys._batch_no = STALLED_BATCHES
    assert kinds(judged.close()) == [ViolationKind.LOST, ViolationKind.LOST]
    assert not judged.other(e.QueueDeleted(queue="q"))
    assert not judged.close()


def test_only_what_a_newer_job_replaces_is_cancelled_for_that():
    judged = AtKey("a", "b", "c", on_conflict=OnConflict.REPLACE)
    assert not judged.replaced("b", "c")
    assert kinds(judged.replaced("c", "a")) == [ViolationKind.END]
    judged = AtKey("a", "b", on_conflict=OnConflict.REPLACE)
    text = f"{causes.REPLACED}q/b"
    assert not judged.take(e.JobStopRequested, "a", 2_000, attempt=1, reason="CANCELLED", text=text)
    assert kinds(judged.replaced("b", "nobody")) == [ViolationKind.END]


def test_only_a_job_that_finds_its_key_taken_is_skipped():
    judged = AtKey("a", "b", on_conflict=OnConflict.DROP)
    assert not judged.take(e.JobSkipped, "b", 1_100)
    judged = AtKey("a", "b")
    assert kinds(judged.take(e.JobSkipped, "b", 1_100)) == [ViolationKind.END]


def test_many_that_are_replaced_are_left_to_a_process(monkeypatch):
    monkeypatch.setattr(concurrency_keys, "REPLACED_AT_ONCE", 1)
    judged = AtKey("a", "b", on_conflict=OnConflict.REPLACE)
    judged.submit("c", 1_002, concurrency_key="k")
    assert not judged.take(e.JobParked, "c", 1_002)
    judged.succeed("a")
    assert not judged.close()


def test_jobs_at_keys_get_new_places_when_the_ageing_changes():
    judged = AtKey("a", "b")
    assert not judged.declare(ageing_ms=1)
    assert not judged.reorder("b")
    assert not judged.close()
