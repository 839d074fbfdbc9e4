"""Plans: what is to be created, changed and deleted, from resources as they are written and what is declared."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ftjm.core.limits import AGEING_MS_MAX
from ftjm.core.records.commands import ApplyQueue, ApplySchedule, DeleteQueue, DeleteSchedule
from ftjm.core.state.model import JobSpec
from ftjm.core.state.queues import QueueSpec
from ftjm.core.state.schedules import Overlap, ScheduleSpec
from ftjm.ops.apply import Change, ChangeKind, Declared, command, document, plan, summary, text
from ftjm.specs.resource_files import PlacedResource
from ftjm.specs.resources import Resource, Spec

NAMES = st.sampled_from([f"q{n}" for n in range(6)])
SCHEDULE_NAMES = st.sampled_from([f"q{n}/{name}" for n in range(3) for name in ("hourly", "nightly")])
LABELS = st.dictionaries(st.sampled_from(["app", "team"]), st.sampled_from(["etl", "web"]))
SPECS = st.builds(
    QueueSpec,
    concurrency=st.integers(0, 2),
    rate_limit=st.integers(0, 2),
    rate_per_ms=st.sampled_from([1_000, 60_000]),
    rate_burst=st.integers(1, 2),
    ageing_ms=st.sampled_from([60_000, AGEING_MS_MAX]),
)
PRUNE = st.sampled_from([None, {"app": "etl"}, {"team": "web"}, {"app": "web", "team": "etl"}])
PAYLOADS = st.sampled_from([b"", b"null", b"{}", b"[]", b"0", b"false", b'{"a":{"b":1}}', b'{"a.b":1}', b'{"a.b":1.0}'])
SCHEDULES = st.builds(
    ScheduleSpec,
    st.builds(JobSpec, command=st.just(["x"]), payload=PAYLOADS, environment=LABELS),
    every_ms=st.sampled_from([1_000, 60_000]),
    overlap=st.sampled_from(Overlap),
)


def both(queues: st.SearchStrategy, schedules: st.SearchStrategy) -> st.SearchStrategy:
    """Resources of both kinds by name."""
    pair = st.tuples(st.dictionaries(NAMES, queues), st.dictionaries(SCHEDULE_NAMES, schedules))
    return pair.map(lambda found: found[0] | found[1])


WANTED = both(st.tuples(LABELS, SPECS), st.tuples(LABELS, SCHEDULES))
DECLARED = both(st.tuples(st.integers(1, 99), LABELS, SPECS), st.tuples(st.integers(1, 99), LABELS, SCHEDULES))


def kind(name: str) -> str:
    return "Schedule" if "/" in name else "Queue"


def placed(name: str, labels: dict[str, str], spec: Spec, line: int = 1) -> PlacedResource:
    return PlacedResource(Resource(kind(name), name, labels, spec), "q.yaml", line)


def resources(written: dict[str, tuple[dict[str, str], Spec]]) -> list[PlacedResource]:
    return [placed(name, *rest) for name, rest in written.items()]


def declarations(rows: dict[str, tuple[int, dict[str, str], Spec]]) -> list[Declared]:
    return [Declared(kind(name), name, *rest) for name, rest in rows.items()]


def applied(changes: list[Change], rows: dict[str, tuple[int, dict[str, str], Spec]]):
    """What is declared once the commands of these changes are carried out."""
    after = dict(rows)
    for number, change in enumerate(changes):
        sent = command(change)
        assert (sent is None) is (change.action is ChangeKind.NONE)
        if sent is None:
            continue
        revision = after[change.name][0] if change.name in after else 0
        assert sent.expected_revision == revision, "what was seen is what is expected"  # type: ignore[attr-defined]
        assert change.name == (f"{sent.queue}/{sent.name}" if change.kind == "Schedule" else sent.queue)  # type: ignore[attr-defined]
        if change.action is ChangeKind.DELETE:
            assert isinstance(sent, DeleteSchedule if change.kind == "Schedule" else DeleteQueue)
            del after[change.name]
        else:
            assert isinstance(sent, ApplySchedule if change.kind == "Schedule" else ApplyQueue)
            after[change.name] = (100 + number, sent.labels, sent.spec)
    return after


@given(WANTED, DECLARED, PRUNE)
def test_a_plan_after_its_changes_is_empty(written, rows, prune):
    wanted = resources(written)
    changes = plan(wanted, declarations(rows), prune)
    assert [change.name for change in changes][: len(written)] == list(written)
    after = applied(changes, rows)
    again = plan(wanted, declarations(after), prune)
    assert {change.action for change in again} <= {ChangeKind.NONE}
    assert applied(again, after) == after


@given(WANTED, DECLARED, PRUNE)
def test_only_what_has_the_labels_and_is_in_no_file_is_deleted(written, rows, prune):
    deleted = [c.name for c in plan(resources(written), declarations(rows), prune) if c.action is ChangeKind.DELETE]
    expected = [
        name
        for name, (_, labels, _) in sorted(rows.items(), key=lambda row: (kind(row[0]), row[0]))
        if prune is not None and name not in written and all(labels.get(key) == prune[key] for key in prune)
    ]
    assert deleted == expected


@given(SCHEDULES, SCHEDULES)
def test_whatever_differs_between_two_schedules_is_seen(before, after):
    [change] = plan([placed("q/s", {}, after)], [Declared("Schedule", "q/s", 7, {}, before)])
    assert (change.action is ChangeKind.NONE) is (before == after)
    assert (change.action is ChangeKind.NONE) is (not change.differences)


@given(SPECS, SPECS, LABELS, LABELS)
def test_a_change_names_each_field_that_differs(before, after, old, new):
    [change] = plan([placed("q", new, after)], [Declared("Queue", "q", 7, old, before)])
    assert (change.action is ChangeKind.NONE) is (not change.differences)
    for one in change.differences:
        assert one.before != one.after
    named = {one.field for one in change.differences}
    assert ("spec.concurrency" in named) is (before.concurrency != after.concurrency)
    assert ("metadata.labels.app" in named) is (old.get("app") != new.get("app"))
    if old == new and before == after:
        assert change.action is ChangeKind.NONE


def test_a_plan_is_told_to_people_and_to_programs():
    wanted = [
        placed("etl", {"app": "etl"}, QueueSpec(concurrency=4), 3),
        placed("mail", {}, QueueSpec(rate_limit=20), 9),
        placed("same", {}, QueueSpec(), 12),
    ]
    declared = [
        Declared("Queue", "mail", 7, {"app": "etl"}, QueueSpec(rate_limit=10, concurrency=2)),
        Declared("Queue", "same", 8, {}, QueueSpec()),
        Declared("Queue", "old", 9, {"app": "etl"}, QueueSpec(concurrency=1)),
        Declared("Queue", "others", 10, {}, QueueSpec(concurrency=1)),
    ]
    changes = plan(wanted, declared, {"app": "etl"})
    assert (
        "\n".join(map(text, changes))
        == """\
+ Queue etl (q.yaml:3)
    metadata.labels.app: etl
    spec.concurrency: 4
    spec.ageing: 1m
~ Queue mail (q.yaml:9), revision 7
    metadata.labels.app: etl -> (left out)
    spec.concurrency: 2 -> (left out)
    spec.rate.limit: 10 -> 20
= Queue same (q.yaml:12), revision 8
- Queue old, revision 9"""
    )
    assert summary(changes) == "1 to create, 1 to change, 1 to delete, 1 unchanged"
    assert document(changes[1]) == {
        "action": "change",
        "kind": "Queue",
        "name": "mail",
        "revision": 7,
        "file": "q.yaml",
        "line": 9,
        "differences": [
            {"field": "metadata.labels.app", "before": "etl"},
            {"field": "spec.concurrency", "before": 2},
            {"field": "spec.rate.limit", "before": 10, "after": 20},
        ],
    }
    assert document(changes[2]) == {
        "action": "unchanged",
        "kind": "Queue",
        "name": "same",
        "revision": 8,
        "file": "q.yaml",
        "line": 12,
    }
