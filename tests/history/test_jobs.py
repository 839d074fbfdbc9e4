"""Single jobs by their events."""

from __future__ import annotations

from ftjm.core.state.model import TERMINAL
from ftjm.history.jobs import _ends, view
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
