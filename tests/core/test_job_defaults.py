"""What a queue gives to the fields that its jobs leave open, and what is one and the same submission."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given as every
from hypothesis import strategies as st

from ftjm.core.decide.upgrades import NOT_YET_SUPPORTED
from ftjm.core.identity import CONTENT_VERSION, content_hash, unpack_content
from ftjm.core.job_defaults import FROM_QUEUE, canonical, filled
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import QUEUE_LEVEL, SHARING_LEVEL
from ftjm.core.state.executors import PYTHON
from ftjm.core.state.model import STATE_VERSION, JobSpec, OnWorkerLoss
from ftjm.core.state.queues import JobDefaults, QueueSpec
from tests.core import schedule_story
from tests.core.schedule_story import FIRST, fired
from tests.core.story import HOUR_MS, NOW, Story, command, given, like, spec

FINAL = e.UpgradeFinalized(level=SHARING_LEVEL, state_version=STATE_VERSION)


def gives(**fields: Any) -> JobDefaults:
    return JobDefaults(sorted(fields), JobSpec(**fields))


def declare(*defaults: JobDefaults) -> c.Command:
    return command(c.ApplyQueue, job_id="", spec=QueueSpec(defaults=[*defaults]))


def queue(**fields: Any) -> Story:
    """A queue that gives these fields."""
    return given(FINAL).when(declare(gives(**fields)))


def submit(*explicit: str, job_id: str = "a", kind: type[c.Command] = c.SubmitJob, **fields: Any) -> c.Command:
    asked = spec(**{"retention_ms": 0, **fields})
    return command(kind, job_id=job_id, spec=asked, explicit=[*explicit])


def applies(story: Story, job_id: str = "a") -> JobSpec:
    return story.state.spec(f"q/{job_id}")


# ---- what applies


def test_a_field_that_is_left_open_has_the_queues_default():
    story = queue(max_attempts=3, timeout_ms=600_000, priority=70, retention_ms=5)
    story.when(submit()).then(like(e.JobSubmitted))
    assert applies(story) == spec(max_attempts=3, timeout_ms=600_000, priority=70, retention_ms=5)
    assert story.job().priority == 70
    assert story.job().retention_ms == 5


def test_what_the_sender_gives_wins_over_the_queue_also_where_it_is_the_default():
    story = queue(max_attempts=3, timeout_ms=600_000, priority=70)
    story.when(submit("max_attempts", "timeout_ms", priority=20))
    assert applies(story) == spec(priority=20)


def test_a_field_that_nobody_gives_has_the_clusters_default():
    story = queue(priority=70).when(submit())
    assert applies(story).retention_ms == HOUR_MS
    assert applies(queue(priority=70).when(submit("retention_ms"))).retention_ms == HOUR_MS


def test_the_queue_gives_more_attempts_than_a_task_has_by_itself_and_less_than_its_sender_wants():
    for given_by_queue in (1, 5):
        story = queue(max_attempts=given_by_queue)
        story.when(submit(job_id="open", executor=PYTHON, max_attempts=3))
        story.when(submit("max_attempts", job_id="three", executor=PYTHON, max_attempts=3))
        story.when(submit(job_id="one", executor=PYTHON, max_attempts=1))
        story.when(submit(job_id="command", max_attempts=1))
        found = [applies(story, job_id).max_attempts for job_id in ("open", "three", "one", "command")]
        assert found == [given_by_queue, 3, 1, given_by_queue]


@pytest.mark.parametrize(
    ("explicit", "fields", "deadline"),
    [
        ([], {}, (60_000, 0)),
        (["deadline_ms"], {}, (0, 0)),
        ([], {"deadline_ms": 7}, (7, 0)),
        ([], {"deadline_at": NOW + 9}, (0, NOW + 9)),
        (["deadline_at"], {}, (0, 0)),
    ],
)
def test_a_deadline_is_given_as_a_time_or_as_a_duration(explicit, fields, deadline):
    story = queue(deadline_ms=60_000).when(submit(*explicit, **fields))
    assert (applies(story).deadline_ms, applies(story).deadline_at) == deadline
    assert story.job().deadline_at == (NOW + deadline[0] if deadline[0] else deadline[1])


def test_a_default_holds_for_the_jobs_that_come_and_changes_none_that_are_there():
    story = given(FINAL).when(submit(job_id="before"))
    story.when(declare(gives(priority=70))).when(submit(job_id="between"))
    story.when(command(c.DeleteQueue, job_id="")).when(submit(job_id="after"))
    assert [applies(story, job_id).priority for job_id in ("before", "between", "after")] == [50, 70, 50]
    assert story.job("between").priority == 70


def test_the_run_that_a_rerun_begins_has_what_the_job_got_when_it_was_submitted():
    story = queue(deadline_ms=60_000).when(submit()).when(command(c.CancelJob))
    story.when(declare()).when(command(c.RerunJob, command_id="again"))
    story.then(like(e.JobRerun, deadline_at=NOW + 60_000))


def test_a_schedules_job_has_the_defaults_that_hold_when_it_fires():
    story = given(FINAL).when(schedule_story.apply(explicit=["timeout_ms"]))
    story.when(declare(gives(priority=70, timeout_ms=9)))
    (job_id,) = fired(story.when_due(FIRST))
    assert (applies(story, job_id).priority, applies(story, job_id).timeout_ms) == (70, 0)
    story.when(declare(gives(priority=30)))
    (job_id,) = fired(story.when(schedule_story.order(c.TriggerSchedule, command_id="x")))
    assert applies(story, job_id).priority == 30


@every(
    fields=st.lists(st.sampled_from(sorted(FROM_QUEUE)), unique=True),
    explicit=st.lists(st.sampled_from(JobSpec.__struct_fields__), unique=True),
    own=st.sets(st.sampled_from(sorted(FROM_QUEUE))),
    executor=st.sampled_from(["command", PYTHON]),
)
def test_each_field_has_the_first_value_that_somebody_gives(fields, explicit, own, executor):
    plain = JobSpec(executor=executor, max_attempts=3 if executor == PYTHON else 1)
    other = {"on_worker_loss": OnWorkerLoss.HOLD, "backoff_factor": 9.0}
    asked = msgspec.structs.replace(plain, **{name: other.get(name, 77) for name in own})
    by_queue: dict[str, Any] = {name: OnWorkerLoss.FAIL if name == "on_worker_loss" else 88 for name in fields}
    found = filled(asked, canonical(asked, explicit), JobDefaults(sorted(fields), JobSpec(**by_queue)))
    for name in JobSpec.__struct_fields__:
        is_given = name in own or name in explicit or (name == "deadline_ms" and "deadline_at" in explicit)
        expected = by_queue[name] if name in fields and not is_given else getattr(asked, name)
        assert getattr(found, name) == expected, name


# ---- what is the same submission


def test_a_field_that_is_open_and_one_that_is_given_with_the_default_make_two_jobs():
    story = queue(priority=70).when(submit("max_attempts"))
    story.when(submit("max_attempts")).then(like(e.SubmissionRepeated))
    story.when(submit()).refused("IDENTITY_TAKEN")
    story.when(submit("max_attempts", "priority")).refused("IDENTITY_TAKEN")
    story.when(submit("max_attempts", kind=c.AwaitJob)).then(like(e.SubmissionRepeated))
    story.when(submit(kind=c.AwaitJob)).refused("IDENTITY_TAKEN")


def test_the_list_of_explicit_fields_counts_as_a_set_without_what_differs_from_its_default():
    story = given(FINAL).when(submit("timeout_ms", "held", priority=70))
    story.when(submit("held", "timeout_ms", "priority", "held", priority=70)).then(like(e.SubmissionRepeated))
    assert canonical(JobSpec(priority=1), ["timeout_ms", "priority", "held", "held"]) == ["held", "timeout_ms"]


def test_the_queues_defaults_do_not_count_as_the_jobs_content():
    story = queue(priority=70).when(submit())
    story.when(declare(gives(priority=20))).when(submit()).then(like(e.SubmissionRepeated))
    story.when(submit(priority=70)).refused("IDENTITY_TAKEN")


def test_a_job_of_an_earlier_version_is_compared_without_the_list():
    """It was submitted before anybody could say that a field is explicit."""
    for state_version in (0, 4):
        story = given().when(submit())
        story.state.save_finalized(msgspec.structs.replace(story.state.finalized, state_version=state_version))
        story.when(submit(job_id="b"))
        assert story.job("b").content_version == (2 if state_version else 1)
        story.evolve(FINAL)
        story.when(submit("priority", job_id="b")).then(like(e.SubmissionRepeated))
        story.when(submit("priority", job_id="b", max_attempts=2)).refused("IDENTITY_TAKEN")


def test_a_new_hash_has_the_third_version_once_the_upgrade_is_final():
    story = given(FINAL).when(submit("priority"))
    assert isinstance(story.decided, list)
    (event,) = story.decided
    assert isinstance(event, e.JobSubmitted)
    assert unpack_content(event.content) == (
        CONTENT_VERSION,
        content_hash(spec(retention_ms=0), CONTENT_VERSION, ["priority"]),
    )


# ---- what is refused


def test_a_name_that_is_no_field_is_refused():
    for kind in (c.SubmitJob, c.AwaitJob):
        story = given(FINAL).when(submit("max_atempts", kind=kind))
        story.refused("INVALID", "explicit", "'max_atempts'")
    given(FINAL).when(schedule_story.apply(explicit=["colour"])).refused("INVALID", "job.explicit", "'colour'")


def test_before_the_upgrade_is_final_nothing_is_explicit():
    story = given(e.UpgradeFinalized(level=QUEUE_LEVEL, state_version=7)).when(submit("priority"))
    story.refused(NOT_YET_SUPPORTED)
    story.when(submit()).then(like(e.JobSubmitted))
    story.when(declare(gives(priority=1))).refused(NOT_YET_SUPPORTED)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (["held"], ("defaults", "max_attempts", "'held'")),
        (["priority", "command"], ("'command'",)),
        (["timeout_ms", "priority"], ("in their order", "timeout_ms, priority")),
        (["priority", "priority"], ("each once",)),
        ([], ("at least one field", "leave the defaults out")),
    ],
)
def test_wrong_defaults_are_refused(fields, words):
    given(FINAL).when(declare(JobDefaults(fields, JobSpec()))).refused("INVALID", *words)


def test_the_values_of_defaults_have_the_bounds_of_a_job():
    given(FINAL).when(declare(gives(priority=101))).refused("INVALID", "defaults: priority: expected 0 to 100")
    given(FINAL).when(declare(gives(priority=1), gives(max_attempts=2))).refused("INVALID", "defaults", "1")
