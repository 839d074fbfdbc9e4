"""Compares the answers of the API and the client with the log: they must agree. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ftjm.core.records import events as e
from ftjm.lab.checker import JobName, LogEntry
from ftjm.lab.demo.api_client import EventPosition

SHOWN_MAX = 3


def logged_positions(history: Iterable[LogEntry]) -> list[EventPosition]:
    """Return the positions of all events that the feed must have: all except the ends of batches."""
    return [EventPosition(entry.partition, entry.offset) for entry in history if isinstance(entry.event, e.Event)]


def verify_feed(fed: Sequence[EventPosition], logged: Sequence[EventPosition]) -> Iterator[str]:
    """Check that the feed had every event once, in the order of its partition, although the API was killed."""
    times = Counter(fed)
    lost = [position for position in logged if position not in times]
    doubled = [position for position, count in times.items() if count > 1]
    unknown = sorted(set(times) - set(logged))
    for what, positions in (("missed", lost), ("repeated", doubled), ("invented", unknown)):
        if positions:
            shown = ", ".join(
                f"events[{position.partition}] at {position.offset}" for position in positions[:SHOWN_MAX]
            )
            yield f"the feed: expected each event once, but it {what} {len(positions)}: {shown}"
    newest: dict[int, int] = {}
    for partition, offset in fed:
        if offset < newest.get(partition, 0):
            yield f"the feed: expected the order of the log, but events[{partition}] at {offset} came late"
            return
        newest[partition] = offset


def verify_jobs(states: Mapping[str, int], listed: Sequence[str], succeeded: Iterable[JobName]) -> Iterator[str]:
    """Check the API's counts and its pages of succeeded jobs against the successes in the log."""
    wanted = {"/".join(name) for name in succeeded}
    if dict(states) != {"SUCCEEDED": len(wanted)}:
        yield f"the API: expected {len(wanted)} jobs, all of them SUCCEEDED, but its queues hold {dict(states)}"
    if len(listed) != len(set(listed)):
        yield f"the API: expected each job once, but {len(listed) - len(set(listed))} came twice in its pages"
    if apart := sorted(wanted ^ set(listed)):
        found = f"{len(apart)} differ: {apart[:SHOWN_MAX]}"
        yield f"the API: expected its pages to list the jobs that succeeded, but {found}"


def verify_results(wanted: Mapping[JobName, Any], known: Mapping[str, Mapping[JobName, Any]]) -> Iterator[str]:
    """Check the results of the Python tasks, as each of several sources reports them.

    Args:
        wanted: the right result of each task.
        known: the results by the name of their source.
    """
    for source, results in known.items():
        wrong = [name for name, result in wanted.items() if results.get(name) != result]
        if wrong:
            first = wrong[0]
            yield (
                f"{source}: expected {wanted[first]} as the result of {'/'.join(first)}, but found "
                f"{results.get(first)}; {len(wrong)} results differ"
            )
