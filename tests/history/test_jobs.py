"""Single jobs by their events."""

from __future__ import annotations

from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import TERMINAL, JobState
from ftjm.history.jobs import _ends, view
from tests.core.story import Story, command, given, submit
from tests.core.test_keys import FINAL
from tests.readmodel.test_documents import events_of
from tests.readmodel.test_projection import long_history


def test_the_type_of_an_event_tells_whether_the_job_has_ended() -> None:
    history = long_history()
    keys = {record.key.decode() for writer in history.writers for record in writer.records if record.key}
    seen = set()
    for key in keys:
        events, ended = events_of(history, *key.split("/")), False
        for count, event in enumerate(events, 1):
            told = _ends(type(event))
            ended = ended if told is None else told
            known = view(events[:count])
            assert known is not None
            assert ended == (known.job.state in TERMINAL), (key, event)
            seen.add(type(event).__name__)
    assert seen >= {"JobSubmitted", "JobCancelled", "JobRerun", "AttemptFailed", "JobFailed", "AttemptSucceeded"}


def test_a_job_at_its_key_is_known_by_its_own_events_alone() -> None:
    story = given(FINAL).when(submit("a", concurrency_key="k"))
    events = [event for event in told(story, submit("b", concurrency_key="k")) if event.job_id == "b"]
    assert [type(event).__name__ for event in events] == ["JobSubmitted", "JobParked"]
    parked = view(events)
    assert parked is not None
    assert parked.job.state is JobState.PENDING
    events += [event for event in told(story, command(c.CancelJob)) if event.job_id == "b"]
    queued = view(events)
    assert queued is not None
    assert queued.job.state is story.job("b").state is JobState.READY


def told(story: Story, sent: c.Command) -> list[e.Event]:
    """The events of a command."""
    decided = story.when(sent).decided
    assert isinstance(decided, list)
    return decided
