"""Metrics of jobs, counted from committed events.

Only the owner of a partition hands over events, those of each batch after its commit. So a standby's fold or a replay
counts nothing, and an event counts once over all schedulers. No clock is read here: all times are those of the events.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import prometheus_client as prometheus

from ftjm.core.records import events as e
from ftjm.core.state.model import LOSSES, FailureReason, Job, StopReason, job_key
from ftjm.core.state.schedules import FiredBy, SkipReason
from ftjm.telemetry.histogram import Histogram, HistogramFamily
from ftjm.telemetry.labels import SECONDS, Queues

JobOf = Callable[[str], Job | None]
"""Returns a job's row by its key, as it was at the commit."""

UNCHECKED_QUEUE = (e.CommandRejected, e.CommandForwarded)
"""Events whose queue comes from a command that was not carried out, so that it may be any text."""
OUTCOMES = {FailureReason.TIMEOUT: "timeout", FailureReason.STOPPED: "stopped"} | dict.fromkeys(LOSSES, "lost")
REASONS = frozenset(FailureReason)


class EventMetrics:
    """Counters and histograms that events feed."""

    def __init__(self, registry: prometheus.CollectorRegistry, queues: Queues) -> None:
        self._queues = queues
        self._lock = threading.Lock()
        self._known: dict[tuple[str, type[e.Event]], prometheus.Counter] = {}
        at: dict[str, Any] = {"registry": registry}
        counter = prometheus.Counter
        text = "Events about jobs that this scheduler has committed."
        self._transitions = counter("ftjm_job_transitions_total", text, ["queue", "event"], **at)
        text = "Time from ready to dispatched."
        wait = self._histograms(registry, "ftjm_queue_wait_seconds", text)
        text = "Time from dispatched to started, by the clocks of two hosts."
        latency = self._histograms(registry, "ftjm_dispatch_latency_seconds", text)
        text = "Time from an attempt's start to its end; of a lost one, from dispatched to lost."
        self._duration = self._histograms(registry, "ftjm_attempt_duration_seconds", text, "queue", "outcome")
        text = "Failed attempts that another attempt follows, by the reason of the failure."
        self._retries = counter("ftjm_retries_total", text, ["reason"], **at)
        text = "Attempts that were lost with their worker."
        self._lost = counter("ftjm_attempts_lost_total", text, **at)
        text = "Reports of workers that were refused because their attempt is not the current one."
        self._fenced = counter("ftjm_fenced_reports_total", text, **at)
        text = "Submissions of a job that existed already."
        self._duplicates = counter("ftjm_duplicate_submissions_total", text, **at)
        text = "Time from the moment that was set for a start or a retry to the decision."
        delay = self._histograms(registry, "ftjm_schedule_delay_seconds", text)
        text = "Jobs whose deadline passed before they ended."
        self._missed = counter("ftjm_deadline_missed_total", text, **at)
        text = "Time from an instant of a schedule to the decision that it fires; of those that did not wait."
        firing = self._histograms(registry, "ftjm_schedule_firing_delay_seconds", text)
        text = "Instants of schedules that did not fire, by the reason."
        skipped = counter("ftjm_schedule_skipped_total", text, ["reason"], **at)
        self._skipped = {reason: skipped.labels(reason.value) for reason in SkipReason}  # shown from the beginning
        self._wait, self._latency, self._delay = wait.of(), latency.of(), delay.of()
        self._firing = firing.of()

    def _histograms(
        self, registry: prometheus.CollectorRegistry, name: str, text: str, *labels: str
    ) -> HistogramFamily:
        made = HistogramFamily(name, text, SECONDS, self._lock, labels)
        registry.register(made)
        return made

    def observe(self, events: Sequence[e.Event], job_of: JobOf) -> None:
        """Count the events of one committed batch."""
        with self._lock:
            for event in events:
                handler = HANDLERS.get(type(event))
                if handler is not None:
                    handler(self, event, job_of)
        tally = Counter([(event.queue, type(event)) for event in events if event.job_id])
        for (queue, kind), count in tally.items():
            self._transition(self._queues.label(queue, new=kind not in UNCHECKED_QUEUE), kind).inc(count)

    def _transition(self, queue: str, kind: type[e.Event]) -> prometheus.Counter:
        child = self._known.get((queue, kind))
        if child is None:
            child = self._known[queue, kind] = self._transitions.labels(queue, kind.__name__)
        return child

    def _queued(self, event: e.JobQueued, _: JobOf) -> None:
        if event.cause is e.Cause.TIMER:
            self._delay.observe(_seconds(event.at - int(event.cause_ref)))

    def _dispatched(self, event: e.AttemptDispatched, job_of: JobOf) -> None:
        job = job_of(job_key(event.queue, event.job_id))
        if job is not None and job.attempt == event.attempt:
            self._wait.observe(_seconds(event.at - job.ready_at))

    def _succeeded(self, event: e.AttemptSucceeded, job_of: JobOf) -> None:
        self._ended(event, "succeeded", job_of)

    def _failed(self, event: e.AttemptFailed, job_of: JobOf) -> None:
        self._ended(event, OUTCOMES.get(event.reason, "failed"), job_of)
        if event.retry_at:
            self._retries.labels(event.reason.value).inc()

    def _stopped(self, event: e.AttemptStopped, job_of: JobOf) -> None:
        self._ended(event, "stopped", job_of)

    def _ended(self, event: e.OutputEvent, outcome: str, job_of: JobOf) -> None:
        if not event.started_at:
            return  # the attempt could not be started
        self._attempt(event.queue, outcome).observe(_seconds(event.ended_at - event.started_at))
        job = job_of(job_key(event.queue, event.job_id))
        if job is not None and job.attempt == event.attempt and job.dispatched_at:
            self._latency.observe(_seconds(event.started_at - job.dispatched_at))

    def _attempt_lost(self, event: e.AttemptLost, job_of: JobOf) -> None:
        self._lost.inc()
        if event.retry_at:
            self._retries.labels(event.reason if event.reason in REASONS else "WORKER_LOST").inc()
        job = job_of(job_key(event.queue, event.job_id))
        if job is not None and job.attempt == event.attempt and job.dispatched_at:
            self._attempt(event.queue, "lost").observe(_seconds(event.at - job.dispatched_at))

    def _attempt(self, queue: str, outcome: str) -> Histogram:
        return self._duration.of(self._queues.label(queue), outcome)

    def _rejected(self, event: e.CommandRejected, _: JobOf) -> None:
        if event.code == "STALE_ATTEMPT":
            self._fenced.inc()

    def _repeated(self, _event: e.SubmissionRepeated, _: JobOf) -> None:
        self._duplicates.inc()

    def _job_failed(self, event: e.JobFailed, _: JobOf) -> None:
        if event.reason == StopReason.DEADLINE:
            self._missed.inc()

    def _schedule_fired(self, event: e.ScheduleFired, _: JobOf) -> None:
        if event.by is FiredBy.DUE:
            self._firing.observe(_seconds(event.at - event.instant))

    def _schedule_skipped(self, event: e.ScheduleSkipped, _: JobOf) -> None:
        self._skipped[event.reason].inc(event.count)


HANDLERS: dict[type[e.Event], Callable[[EventMetrics, Any, JobOf], None]] = {
    e.JobQueued: EventMetrics._queued,
    e.AttemptDispatched: EventMetrics._dispatched,
    e.AttemptSucceeded: EventMetrics._succeeded,
    e.AttemptFailed: EventMetrics._failed,
    e.AttemptLost: EventMetrics._attempt_lost,
    e.AttemptStopped: EventMetrics._stopped,
    e.CommandRejected: EventMetrics._rejected,
    e.SubmissionRepeated: EventMetrics._repeated,
    e.JobFailed: EventMetrics._job_failed,
    e.ScheduleFired: EventMetrics._schedule_fired,
    e.ScheduleSkipped: EventMetrics._schedule_skipped,
}
"""The function that measures each type of event, beside its count in `ftjm_job_transitions_total`."""


def _seconds(ms: int) -> float:
    # The clocks of two hosts differ. Where that makes a time negative, it counts as 0.
    return max(0, ms) / 1000
