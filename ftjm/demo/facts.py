"""What the API told, beside what the log holds: they must be the same. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ftjm.checker import Entry, Name
from ftjm.core import events as e
from ftjm.demo.web import Place

SHOWN_MAX = 3


def told(history: Iterable[Entry]) -> list[Place]:
    """The places of all events that the feed must have told of: those that close a batch are the log's own."""
    return [Place(entry.partition, entry.offset) for entry in history if isinstance(entry.event, e.Event)]


def verify_feed(fed: Sequence[Place], logged: Sequence[Place]) -> Iterator[str]:
    """Every event once, in the order of its partition, over every break."""
    times = Counter(fed)
    lost = [place for place in logged if place not in times]
    doubled = [place for place, count in times.items() if count > 1]
    unknown = sorted(set(times) - set(logged))
    for what, places in (("missed", lost), ("told twice of", doubled), ("invented", unknown)):
        if places:
            shown = ", ".join(f"events[{place.partition}] at {place.offset}" for place in places[:SHOWN_MAX])
            yield f"the feed: expected each event once, but it {what} {len(places)}: {shown}"
    newest: dict[int, int] = {}
    for partition, offset in fed:
        if offset < newest.get(partition, 0):
            yield f"the feed: expected the order of the log, but events[{partition}] at {offset} came late"
            return
        newest[partition] = offset


def verify_jobs(states: Mapping[str, int], listed: Sequence[str], succeeded: Iterable[Name]) -> Iterator[str]:
    """The API's counts and its pages of jobs that succeeded, against the successes in the log."""
    wanted = {"/".join(name) for name in succeeded}
    if dict(states) != {"SUCCEEDED": len(wanted)}:
        yield f"the API: expected {len(wanted)} jobs, all of them SUCCEEDED, but its queues hold {dict(states)}"
    if len(listed) != len(set(listed)):
        yield f"the API: expected each job once, but {len(listed) - len(set(listed))} came twice in its pages"
    if apart := sorted(wanted ^ set(listed)):
        yield f"the API: expected its pages to list what succeeded, but {len(apart)} differ: {apart[:SHOWN_MAX]}"


def verify_results(wanted: Mapping[Name, Any], known: Mapping[str, Mapping[Name, Any]]) -> Iterator[str]:
    """What Python tasks returned, as each of several sources knows it, against what they must return."""
    for source, results in known.items():
        wrong = [name for name, result in wanted.items() if results.get(name) != result]
        if wrong:
            first = wrong[0]
            yield (
                f"{source}: expected {wanted[first]} as the result of {'/'.join(first)}, but found "
                f"{results.get(first)}; {len(wrong)} results differ"
            )
