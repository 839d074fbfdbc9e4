"""Short and long tasks on two workers: what was sent ahead does not stay behind busy slots while others are free."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import ftjm
from ftjm.core.records import events as e
from ftjm.local.kafka import EmbeddedKafka
from integration import task_app
from integration.harness import Log
from integration.workers import Site, print_figure

ROOT = str(Path(__file__).parents[1])
SLOTS = 2
SHORT = 1_000
LONG_EVERY = 25
LONG_SECONDS = 0.5

Span = tuple[int, int]
"""Beginning and end, ms."""


@pytest.fixture
def site(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Site]:
    with Site.on(kafka, tmp_path) as site:
        yield site


def test_what_waits_at_hand_goes_to_the_free_slot_of_another_worker(site: Site) -> None:
    queue = site.queue()
    for name in "ab":
        site.start_worker(queue, slots=SLOTS, name=name, app="integration.task_app", env={"PYTHONPATH": ROOT})
    with ftjm.Client(settings=site.settings) as client:
        names = ((f"n-{number}", one) for number, one in enumerate(_tasks(queue)))
        handles = client.submit_many(names)
        for handle in handles:
            handle.result(timeout=60)
    events = Log.read(site.settings).events(e.AttemptDispatched, e.AttemptSucceeded, e.AttemptDeclined)
    waits = sorted(_waits(events))
    assert waits, "attempts were sent ahead"
    print_figure("at hand behind a busy slot while the other worker has a free one, p50", waits[len(waits) // 2])
    print_figure("the same, p99", waits[int(len(waits) * 0.99)])
    print_figure("attempts that were sent ahead", len(waits), "")


def _tasks(queue: str) -> Iterator[ftjm.Request[None]]:
    """Some long tasks among many short ones, all of one queue."""
    for number in range(SHORT):
        one = task_app.nothing() if number % LONG_EVERY else task_app.rests(LONG_SECONDS)
        yield ftjm.Request[None](one.executor, one.command, one.payload, {**one.options, "queue": queue})


def _waits(events: list[e.Event]) -> Iterator[int]:
    """For each attempt that was sent ahead: how long it waited at hand while the other worker had a free slot, ms."""
    sent: dict[tuple[str, int], e.AttemptDispatched] = {}
    spans: list[tuple[str, Span]] = []
    runs: dict[str, list[Span]] = {"a": [], "b": []}
    for event in events:
        if isinstance(event, e.AttemptDispatched):
            sent[event.job_id, event.attempt] = event
        elif isinstance(event, e.AttemptSucceeded | e.AttemptDeclined):
            before = sent[event.job_id, event.attempt]
            if isinstance(event, e.AttemptSucceeded):
                runs[before.worker].append((event.started_at, event.ended_at))
            if before.ahead:
                end = event.started_at if isinstance(event, e.AttemptSucceeded) else event.at
                spans.append((before.worker, (before.at, end)))
    free = {worker: list(_free(spans_of)) for worker, spans_of in runs.items()}
    for worker, (begin, end) in spans:
        yield sum(max(0, min(end, until) - max(begin, since)) for since, until in free["b" if worker == "a" else "a"])


def _free(runs: list[Span]) -> Iterator[Span]:
    """The times at which a worker had a free slot, from its first attempt to its last."""
    changes = sorted([(begin, 1) for begin, _ in runs] + [(end, -1) for _, end in runs])
    running, since = 0, None
    for at, change in changes:
        running += change
        if running >= SLOTS:
            if since is not None:
                yield since, at
            since = None
        elif since is None:
            since = at
