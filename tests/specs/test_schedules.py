"""Schedules as users write them: each bad input with its line, what was expected, and what was found."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ftjm.core.bounds import within
from ftjm.core.limits import EVERY_MS_MAX, INSTANT_MAX_MS, JITTER_MS_MAX, STARTING_DEADLINE_MS_MAX
from ftjm.core.names import NAME_TEXT
from ftjm.core.state.model import JobSpec, OnWorkerLoss
from ftjm.core.state.schedules import CatchUp, Dst, Overlap, ScheduleSpec
from ftjm.specs.json_text import decode_item
from ftjm.specs.resource_files import InvalidResourcesError, read_resources
from ftjm.specs.resources import InvalidResourceError, Resource, document, json_schema, parse_resource
from ftjm.specs.schedule import TO_COME, written

HEAD = "apiVersion: ftjm.io/v1\nkind: Schedule\nmetadata: {name: nightly}\n"
QUEUE = "  queue: etl\n"
JOB = "job: {command: [backup]}"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
SECONDS = st.integers(1, INSTANT_MAX_MS // 1_000).map(lambda seconds: seconds * 1_000)
MS = st.integers(0, 1 << 35)
JOBS = st.builds(
    JobSpec,
    command=st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1), min_size=1),
    payload=st.just(b"") | VALUES.map(msgspec.json.encode),
    environment=st.dictionaries(st.sampled_from(["A", "a.b", "FTJM_X"]), st.sampled_from(["", "1.50", "on"])),
    labels=st.dictionaries(st.sampled_from(["app", "n"]), st.sampled_from(["", "007", "etl"])),
    working_directory=st.sampled_from(["", "/data"]),
    priority=st.integers(0, 100),
    held=st.booleans(),
    timeout_ms=MS,
    deadline_ms=MS,
    max_attempts=st.integers(1, 10_000),
    backoff_ms=MS,
    backoff_factor=st.floats(1, 100),
    backoff_max_ms=MS,
    on_worker_loss=st.sampled_from(OnWorkerLoss),
    worker_losses_max=st.integers(0, 10_000),
    continue_for_ms=st.integers(0, 3_600_000),
    cancel_grace_ms=MS,
    retention_ms=MS,
)
RECURRENCES = st.fixed_dictionaries(
    {"cron": st.sampled_from(["* * * * *", "30 2 * * *", "H H * * 1-5", "@daily"])}
) | st.fixed_dictionaries({"every_ms": st.integers(1, EVERY_MS_MAX // 1_000).map(lambda seconds: seconds * 1_000)})
SPECS = st.builds(
    lambda recurrence, **others: ScheduleSpec(**recurrence, **others),
    RECURRENCES,
    job=JOBS,
    start_at=st.just(0) | st.integers(1, 4_000_000).map(lambda seconds: seconds * 1_000),
    end_at=st.just(0) | st.just(INSTANT_MAX_MS),
    time_zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
    dst=st.sampled_from(Dst),
    starting_deadline_ms=st.integers(1_000, STARTING_DEADLINE_MS_MAX),
    catch_up=st.sampled_from(CatchUp),
    overlap=st.sampled_from(Overlap),
    jitter_ms=st.integers(0, JITTER_MS_MAX),
)


def problems(tmp_path, text: str) -> list[str]:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(InvalidResourcesError) as caught:
        read_resources([str(file)])
    return [problem.removeprefix(f"{file}:") for problem in caught.value.problems]


def schedule(**spec: Any) -> dict[str, Any]:
    return document("Schedule", "etl/nightly", {}, {"job": {"command": ["backup"]}, **spec})


def refused(fields: Any) -> str:
    with pytest.raises(InvalidResourceError) as caught:
        parse_resource(fields)
    return str(caught.value)


# ---- what is taken


def test_every_field_has_its_place_in_the_spec(tmp_path):
    text = """
    apiVersion: ftjm.io/v1
    kind: Schedule
    metadata: {name: nightly, labels: {team: data}}
    spec:
      queue: etl
      cron: "30  2 * * *"
      time_zone: Europe/Berlin
      dst: both
      start: 2026-01-01T00:00:00+01:00
      end: 2027-01-01T00:00:00Z
      starting_deadline: 10m
      catch_up: latest
      overlap: replace
      jitter: 1500ms
      job:
        task: etl.load
        args: [1, 1.50, on, null]
        env: {RATE: 1.50, DEBUG: on}
        timeout: 2h
        deadline: 3h
    """
    file = tmp_path / "s.yaml"
    file.write_text(text)
    [placed] = read_resources([str(file)]).resources
    job = JobSpec(
        executor="python",
        command=["etl.load"],
        payload=b'{"args":[1,1.5,"on",null],"kwargs":{}}',
        environment={"RATE": "1.50", "DEBUG": "on"},
        timeout_ms=7_200_000,
        deadline_ms=10_800_000,
        max_attempts=3,
    )
    spec = ScheduleSpec(
        job,
        cron="30 2 * * *",
        time_zone="Europe/Berlin",
        dst=Dst.BOTH,
        start_at=1_767_222_000_000,
        end_at=1_798_761_600_000,
        starting_deadline_ms=600_000,
        catch_up=CatchUp.LATEST,
        overlap=Overlap.REPLACE,
        jitter_ms=1_500,
    )
    assert placed.resource == Resource("Schedule", "etl/nightly", {"team": "data"}, spec)


def test_what_is_left_out_has_the_default(tmp_path):
    found = parse_resource(schedule(interval="15m", cron=None, dst=None))
    assert found.spec == ScheduleSpec(JobSpec(command=["backup"]), every_ms=900_000)


@given(SPECS)
def test_what_is_shown_is_read_back_from_json_and_from_yaml(spec):
    assert within(ScheduleSpec)(spec)
    shown = document("Schedule", "etl/nightly", {}, written(spec))
    again = parse_resource(shown).spec
    assert isinstance(again, ScheduleSpec)
    assert written(again) == written(spec)
    assert again == spec or again.job.payload != spec.job.payload
    assert parse_resource(decode_item(json.dumps(shown).encode())).spec == again
    assert jsonschema_rs.validator_for(json_schema("Schedule")).is_valid(shown)


@given(SPECS)
def test_a_file_of_what_is_shown_gives_the_same(tmp_path_factory, spec):
    file = tmp_path_factory.mktemp("shown") / "s.yaml"
    shown = document("Schedule", "etl/nightly", {}, written(spec))
    file.write_text(yaml.safe_dump(shown))
    [placed] = read_resources([str(file)]).resources
    assert written(placed.resource.spec) == written(spec)  # type: ignore[arg-type]


# ---- what is refused

TIME = "a time with its offset from UTC, such as 2030-01-31T18:00:00Z or 2030-01-31T18:00:00+02:00"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("cron: 0 0 30 2 *", "spec.cron: expected a date that comes, but '0 0 30 2 *' is never due"),
        ("cron: 0 0 * * * *", "spec.cron: expected"),
        ("cron: '* * * *'", "spec.cron: expected"),
        ("cron: 61 * * * *", "spec.cron: expected"),
        ("cron: ' '", 'spec.cron: expected a cron expression, such as 30 2 * * *, but found " "'),
        ("cron: [1]", "spec.cron: expected text, but found"),
        (f"cron: '{'1,' * 150}1 * * * *'", "spec.cron: expected at most 200 characters, but found 309"),
        ("interval: 0s", 'spec.interval: expected 1s to 3650d, but found "0s"'),
        ("interval: 1500ms", 'spec.interval: expected whole seconds, but found "1500ms"'),
        ("interval: 500ms", 'spec.interval: expected 1s to 3650d, but found "500ms"'),
        ("interval: 15", "spec.interval: expected a duration such as 500ms, 10s, 2m, 1h30m or 1d, but found '15'"),
        ("interval: 15 minutes", "spec.interval: expected a duration such as 500ms, 10s, 2m, 1h30m or 1d, but"),
        ("crom: '@daily'", "spec.crom: unknown field; did you mean cron?"),
        ("timezone: UTC", "spec.timezone: unknown field; did you mean time_zone?"),
        (
            "time_zone: berlin",
            "spec.time_zone: expected the IANA name of a time zone, such as Europe/Berlin, but found 'berlin'; did you",
        ),
        ("time_zone: 5", "spec.time_zone: expected the IANA name of a time zone, such as Europe/Berlin, but found '5'"),
        (f"time_zone: {'x' * 101}", "spec.time_zone: expected at most 100 characters, but found 101"),
        ("dst: never", 'spec.dst: expected once, skip, both, but found "never"'),
        ("catch_up: last", 'spec.catch_up: expected none, latest, all, but found "last"'),
        ("overlap: skip", 'spec.overlap: expected allow, forbid, queue, replace, but found "skip"'),
        ("start: tomorrow", f"spec.start: expected {TIME}, but found 'tomorrow'"),
        ("start: 2030-01-31T18:00:00", f"spec.start: expected {TIME}, but '2030-01-31T18:00:00' has no offset"),
        ("end: 2030-01-31T18:00:00.5Z", 'spec.end: expected whole seconds, but found "2030-01-31T18:00:00.5Z"'),
        ("starting_deadline: 1ms", 'spec.starting_deadline: expected 1s to 3650d, but found "1ms"'),
        ("jitter: 2d", 'spec.jitter: expected at most 1d, but found "2d"'),
        ("workflow: load", "spec.workflow: workflow is not supported yet; leave it out"),
        ("calendar: [work]", "spec.calendar: "),
    ],
)
def test_a_mistake_in_the_spec_is_reported_with_its_line(tmp_path, spec, problem):
    other = "" if spec.startswith(("cron", "interval", "crom")) else "  interval: 1h\n"
    found = problems(tmp_path, f"# a comment\n{HEAD}spec:\n  {spec}\n{other}  {JOB}\n{QUEUE}")
    assert found[0].startswith(f"6: {problem}")


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("  {job}", "4: spec: expected either cron or interval, but found neither"),
        ("  interval: 1h\n  cron: '@daily'\n  {job}", "4: spec: expected either cron or interval, but found both"),
        (
            "  interval: 1h\n  start: 2030-01-02T00:00:00Z\n  end: 2030-01-01T00:00:00Z\n  {job}",
            "4: spec: expected end to be after start, 2030-01-02T00:00:00Z, but found 2030-01-01T00:00:00Z",
        ),
        (
            "  cron: '@daily'\n  start: 2030-01-02T01:00:00Z\n  end: 2030-01-02T02:00:00Z\n  {job}",
            "4: spec: expected an instant between start and end, but it would never fire",
        ),
        ("  interval: 1h", "4: spec.job: expected a value, but it is missing"),
        ("  interval: 1h\n  job: backup", '6: spec.job: expected a job\'s fields, but found "backup"'),
        ("  interval: 1h\n  job: {}", "6: spec.job: expected a command (a program and its arguments) or a task, but"),
        (
            "  interval: 1h\n  job: {command: a,\n    priority: 101}",
            "7: spec.job.priority: expected 0 to 100, but found 101",
        ),
        (
            "  interval: 1h\n  job: {command: a,\n    comand: b}",
            "7: spec.job.comand: unknown field; did you mean command?",
        ),
        (
            "  interval: 1h\n  job: {command: a,\n    queue: b}",
            "7: spec.job.queue: expected none, since its jobs are of the queue that the spec names; leave it out",
        ),
        (
            "  interval: 1h\n  job: {command: a,\n    job_id: b}",
            "7: spec.job.job_id: expected none, since the id of each",
        ),
        (
            "  interval: 1h\n  job: {command: a,\n    delay: 1s}",
            "7: spec.job.delay: expected none, since each job starts",
        ),
        (
            "  interval: 1h\n  job: {command: a,\n    deadline: 2030-01-01T00:00:00Z}",
            "7: spec.job.deadline: expected a duration from each instant on, such as 2h, but found",
        ),
        (
            "  interval: 1h\n  job: {command: a,\n    env: {FTJM_SCHEDULED_AT: now}}",
            "7: spec.job.env.FTJM_SCHEDULED_AT: expected a variable of your own, but",
        ),
        (
            "  interval: 1h\n  job: {task: a,\n    payload: 1}",
            "7: spec.job.payload: expected args and kwargs beside a task, but found a payload",
        ),
        (
            "  interval: 1h\n  job: {command: a,\n    payload: " + "x" * 270_000 + "}",
            "7: spec.job.payload: expected at most 262144 bytes, but found 270002; put it in a file",
        ),
    ],
)
def test_a_mistake_of_several_fields_or_of_the_job_is_reported_with_its_line(tmp_path, spec, problem):
    [found] = problems(tmp_path, f"{HEAD}spec:\n{spec.replace('{job}', JOB)}\n{QUEUE}")
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ("{labels: {a: b}}", "metadata.name: expected a value, but it is missing"),
        ("{queue: etl, name: nightly}", "metadata.queue: unknown field; there are name, labels"),
        (
            "{name: etl/nightly}",
            f"metadata.name: expected {NAME_TEXT}, but found 'etl/nightly'; the queue is written as spec.queue",
        ),
        (f"{{name: {'n' * 112}}}", "metadata.name: expected at most 111 characters, so that the ids of"),
    ],
)
def test_a_mistake_in_the_name_is_reported_with_its_line(tmp_path, metadata, problem):
    text = f"apiVersion: ftjm.io/v1\nkind: Schedule\nmetadata: {metadata}\nspec: {{queue: etl, interval: 1h, {JOB}}}\n"
    [found] = problems(tmp_path, text)
    assert found.startswith(f"3: {problem}")


def test_all_mistakes_of_a_schedule_are_reported_at_once(tmp_path):
    text = "spec:\n  cron: 0 0 30 2 *\n  time_zone: berlin\n  job:\n    comand: a\n    start_at: 1\n"
    lines = [problem.partition(": ")[0] for problem in problems(tmp_path, HEAD + text + QUEUE)]
    assert lines == ["5", "6", "7", "8", "9"], "neither command nor task is the fault of the job as a whole"


def test_one_name_in_two_queues_is_two_schedules_and_in_one_queue_a_mistake(tmp_path):
    spec = f"spec: {{queue: etl, interval: 1h, {JOB}}}\n"
    file = tmp_path / "s.yaml"
    file.write_text(f"{HEAD}{spec}---\n{HEAD}{spec.replace('etl', 'mail')}")
    assert [one.resource.name for one in read_resources([str(file)]).resources] == ["etl/nightly", "mail/nightly"]
    [found] = problems(tmp_path, f"{HEAD}{spec}---\n{HEAD}{spec}")
    assert found.startswith("8: metadata.name: expected one Schedule etl/nightly, but ")


@pytest.mark.parametrize("field", TO_COME)
def test_a_field_to_come_is_refused_in_words(field):
    text = f"spec.{field}: {field} is not supported yet; leave it out"
    assert refused(schedule(interval="1h", **{field: "x"})) == text


@pytest.mark.parametrize(
    "wrong",
    [
        schedule(interval="1h", dst="never"),
        schedule(interval="1h", weight=1),
        schedule(interval="1h", job={"command": ["x"], "queue": "q"}),
        schedule(interval="1h", job={"command": ["x"], "task": "q"}),
        schedule(interval="1h", job=None),
        schedule(interval="1h", queue="e t l"),
        schedule(interval="1h", queue=None),
    ],
)
def test_the_schema_refuses_what_the_model_does(wrong):
    assert not jsonschema_rs.validator_for(json_schema("Schedule")).is_valid(wrong)
    assert refused(wrong)


@given(st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_any_fields_are_a_resource_or_refused(value):
    for name in ("cron", "interval", "start", "job", "dst"):
        for job in ({"command": ["x"]}, {"command": ["x"], "env": value}):
            try:
                found = parse_resource(schedule(**{"job": job, name: value}))
            except InvalidResourceError:
                continue
            assert parse_resource(document(found.kind, found.name, found.labels, written(found.spec))) == found  # type: ignore[arg-type]
