"""Histories that break a rule on resources that every partition must know."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.core.records import events as e
from ftjm.core.state.resources import CordonSpec, ResourceKind, ResourceSpec
from ftjm.lab.checker.resources import TOLD_AT_ONCE_MAX, Resources, messages_of

W: dict[str, Any] = {"kind": ResourceKind.CORDON, "name": "w"}
SPEC, OTHER = ResourceSpec(cordon=[CordonSpec()]), ResourceSpec(cordon=[CordonSpec("other")])
HOME, FIRST, SECOND = 0, 1, 2


def applied(revision: int, spec: ResourceSpec = SPEC, home: int = HOME) -> e.Event:
    return e.ResourceApplied(**W, revision=revision, spec=spec, labels={}, partitions=3, home=home)


def deleted(revision: int) -> e.Event:
    return e.ResourceDeleted(**W, revision=revision, partitions=3, home=HOME)


def adopted(revision: int, spec: ResourceSpec = SPEC) -> e.Event:
    return e.ResourceAdopted(**W, revision=revision, spec=spec, labels={}, applied_at=1, home=HOME)


def confirmed(revision: int, partition: int) -> e.Event:
    return e.AdoptionConfirmed(**W, revision=revision, partition=partition)


def settled(revision: int) -> e.Event:
    return e.ResourceSettled(**W, revision=revision)


ALL = [(HOME, applied(1)), (FIRST, adopted(1)), (SECOND, adopted(1)), (HOME, confirmed(1, 1)), (HOME, confirmed(1, 2))]


def faults(*history: tuple[int, e.Event]) -> list[str]:
    resources = Resources()
    found = [text.text for partition, event in history for text in resources.take(partition, event)]
    return found + [text.text for text in resources.finish(3)]


def test_a_resource_that_all_adopt_and_that_is_deleted_is_right():
    assert faults(*ALL, (HOME, settled(1))) == []
    gone = [(HOME, deleted(2)), (FIRST, adopted(2, ResourceSpec())), (SECOND, adopted(2, ResourceSpec()))]
    assert faults(*ALL, *gone) == []


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ([*ALL, (HOME, applied(1))], "above 1"),
        ([*ALL, (FIRST, applied(2, home=FIRST))], "one home"),
        ([*ALL[:4], (HOME, settled(1))], "no partition lags"),
        ([*ALL, (FIRST, adopted(1))], "above 1, but found 1 adopted"),
        ([*ALL[:2]], "partition 2 to know revision 1"),
        ([ALL[0], (HOME, confirmed(1, 1)), *ALL[2:]], "adopt revision 1"),
        ([ALL[0], (FIRST, adopted(1, OTHER)), *ALL[2:]], "something else"),
        ([*ALL, (HOME, deleted(2))], "partition 1 to know revision 2"),
    ],
)
def test_each_rule_that_is_broken_is_named(history, words):
    assert any(words in text for text in faults(*history)), faults(*history)


def test_in_a_reconciliation_any_revision_is_adopted_and_what_is_dropped_is_gone():
    asked = (FIRST, e.ResourcesAsked(home=HOME))
    told = (HOME, e.ResourcesTold(partition=FIRST, resources=["Cordon/w"], next_resource=""))
    again = (FIRST, e.ResourceConfirmed(**W, revision=1, home=HOME))
    done = (FIRST, e.ResourcesReconciled(dropped=[], home=HOME))
    assert faults(*ALL, asked, told, (FIRST, adopted(1)), again, (HOME, confirmed(1, 1)), done) == []
    dropped = (FIRST, e.ResourcesReconciled(dropped=["Cordon/w"], home=HOME))
    assert faults(*ALL, dropped) == ["expected partition 1 to know revision 1 of Cordon w at the end, but found none"]


def test_every_message_is_counted():
    assert messages_of(applied(1)) == [1, 2]
    many = e.ResourceDeleted(**W, revision=1, partitions=1_000, home=HOME)
    assert len(messages_of(many)) == TOLD_AT_ONCE_MAX
    assert messages_of(adopted(1)) == messages_of(e.ResourcesAsked(home=HOME)) == [HOME]
    assert messages_of(e.ResourceToldAgain(**W, partitions=[2], next_partition=0)) == [2]
    assert messages_of(e.ResourcesTold(partition=2, resources=["Cordon/w"], next_resource="")) == [2, 2]
    assert messages_of(e.ResourcesTold(partition=2, resources=["Cordon/w"], next_resource="Cordon/x")) == [2]
    assert messages_of(e.CommandForwarded(queue="q", job_id="a", partition=2, body=b"")) == [2]
    assert messages_of(e.JobHeld(queue="q", job_id="a")) == []
