"""Every field of every command and heartbeat has a bound, and no extreme value passes it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import Enum
from typing import Any, get_args, get_origin

import msgspec
import pytest

from ftjm.adapters.avro import codec
from ftjm.core import limits
from ftjm.core.bounds import BOUNDS, confine, holds
from ftjm.core.records import commands as c
from ftjm.core.records import messages as m
from ftjm.core.state.model import FailureReason, JobSpec

Record = type[msgspec.Struct]
RECORDS: tuple[Record, ...] = (*c.COMMANDS, *m.HEARTBEATS)


def inner(kind: Any) -> Record | None:
    """The struct that a field holds, alone or in a list."""
    (kind,) = get_args(kind) if get_origin(kind) is list else (kind,)
    return kind if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None


def with_parts(records: tuple[Record, ...]) -> Iterator[Record]:
    """The records, and the structs inside them."""
    for record in records:
        yield record
        yield from with_parts(tuple(part for field in msgspec.structs.fields(record) if (part := inner(field.type))))


def ordinary(kind: Any, name: str = "") -> Any:
    """A value that a program of ours could send."""
    if part := inner(kind):
        made = part(**{field.name: ordinary(field.type, field.name) for field in msgspec.structs.fields(part)})
        if isinstance(made, c.QueueCommand):
            made.job_id = ""
        if isinstance(made, c.ClusterCommand):
            made.queue = ""
        return [made] if get_origin(kind) is list else made
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    if get_origin(kind) is list:
        return [ordinary(get_args(kind)[0])]
    if get_origin(kind) is dict:
        return {"a": "b"}
    return {
        str: "a",
        int: 2_000 if name in ("lease_ms", "half_life_ms", "after_ms", "duration_ms") else 1,
        float: 1.0,
        bytes: b"1",
        bool: True,
    }[kind]


def extremes(kind: Any) -> list[Any]:
    """Values that the schema of a field can express, and that no program of ours would send."""
    if kind is str:
        return ["", "x" * 1_000_000, "\0", "a/b", "a\nb", "\U0001f600" * 100_000, "x" * 129]
    if kind is int:
        return [-(2**63), -(2**31) - 1, -1, 0, 2**31, 2**40, 2**53 + 1, 2**63 - 1]
    if kind is float:
        return [math.nan, math.inf, -math.inf, 1e308, -1e308, -1.0]
    if kind is bytes:
        return [b"", b"x" * (limits.RECORD_BYTES_MAX + 1)]
    if get_origin(kind) is dict:
        return [{"x" * 200_000: ""}, {"": "x" * 200_000}, {str(n): "" for n in range(100_001)}]
    if get_origin(kind) is list and not inner(kind):
        return [[], [ordinary(get_args(kind)[0])] * 200_000, *([value] for value in extremes(get_args(kind)[0]))]
    return []


def field_cases(records: tuple[Record, ...]) -> list[Any]:
    return [
        pytest.param(record, field.name, id=f"{record.__name__}.{field.name}")
        for record in dict.fromkeys(with_parts(records))
        for field in msgspec.structs.fields(record)
    ]


def replaced(record: Record, name: str, value: Any) -> msgspec.Struct:
    made: msgspec.Struct = ordinary(record)
    return msgspec.structs.replace(made, **{name: value})


def type_of(record: Record, name: str) -> Any:
    return next(field.type for field in msgspec.structs.fields(record) if field.name == name)


def test_the_table_names_every_field_and_no_other():
    """A boolean or an enumeration needs no bound: its schema has none but valid values."""
    for record in with_parts(RECORDS):
        fields = {
            field.name
            for field in msgspec.structs.fields(record)
            if field.type is not bool and not (isinstance(field.type, type) and issubclass(field.type, Enum))
        }
        assert set(BOUNDS[record]) == fields, record
    assert set(BOUNDS) == set(with_parts(RECORDS))


@pytest.mark.parametrize("record", RECORDS)
def test_ordinary_records_pass_unchanged(record):
    made = ordinary(record)
    before = codec.encode(made)
    assert confine(made) == ""
    assert codec.encode(made) == before


@pytest.mark.parametrize(("record", "name"), field_cases(RECORDS))
def test_an_extreme_value_is_refused_or_set_inside_its_bound(record, name):
    for value in extremes(type_of(record, name)):
        made = replaced(record, name, value)
        if fault := confine(made):
            assert fault.startswith(f"{name}: expected "), fault
            assert len(fault) < 400
        else:
            bound = BOUNDS[record].get(name)
            assert bound is None or holds(bound)(getattr(made, name)), value
            assert confine(made) == ""


@pytest.mark.parametrize(("record", "name"), field_cases(RECORDS))
def test_the_fault_of_a_part_is_the_fault_of_the_whole(record, name):
    parts = [replaced(record, name, value) for value in extremes(type_of(record, name))]
    for whole in RECORDS:
        for field in msgspec.structs.fields(whole):
            for part in parts if inner(field.type) is record else ():
                made = replaced(whole, field.name, [part] if get_origin(field.type) is list else part)
                assert confine(made).endswith(confine(part))


@pytest.mark.parametrize("name", [field.name for field in msgspec.structs.fields(c.FailAttempt)])
def test_a_report_of_an_end_is_refused_only_for_what_something_is_decided_by(name):
    """If it were refused because a clock is wrong or a text is long, the attempt would run for ever."""
    refused = {value: confine(replaced(c.FailAttempt, name, value)) for value in extremes(type_of(c.FailAttempt, name))}
    decides = {"queue", "job_id", "shard_key", "command_id", "run", "attempt", "session", "stdout", "stderr"}
    assert not any(refused.values()) or name in decides


def test_of_a_long_error_the_end_is_kept_and_of_other_texts_the_beginning():
    report = c.FailAttempt(
        queue="q", job_id="a", run=1, attempt=1, session="s", started_at=-5, ended_at=2**60, stdout_cut=2**63 - 1,
        reason=FailureReason.EXIT_CODE, error="a" * limits.ERROR_CHARACTERS_MAX + "b", actor="w" * 301, signal=-3,
    )  # fmt: skip
    assert confine(report) == ""
    assert (report.error[-2:], len(report.error), len(report.actor)) == ("ab", limits.ERROR_CHARACTERS_MAX, 300)
    assert (report.started_at, report.ended_at, report.signal) == (0, limits.TIME_MAX_MS, 0)
    assert report.stdout_cut == limits.COUNT_MAX


def test_a_record_of_another_kind_is_refused():
    assert "expected a command or a heartbeat" in confine(m.SessionClosed(session="s", partition=0, number=1))


def test_a_refused_name_is_shown_if_it_is_short():
    assert "'a b'" in confine(c.CancelJob(queue="a b", job_id="a"))
    assert "1000 characters" in confine(c.CancelJob(queue="a" * 1_000, job_id="a"))
    assert "200000 items" in confine(c.SubmitJob(queue="q", job_id="a", spec=JobSpec(command=["x"] * 200_000)))
    assert f"{limits.RECORD_BYTES_MAX} bytes" in confine(
        c.SubmitJob(queue="q", job_id="a", spec=JobSpec(payload=bytes(limits.RECORD_BYTES_MAX)))
    )
