import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjm.core.limits import CONTINUE_FOR_MAX_MS
from ftjm.core.names import is_name
from ftjm.core.state.model import JobSpec, OnWorkerLoss
from ftjm.specs.job import InvalidJobError, JobFields, JobRequest, derived_id, parse_job
from ftjm.specs.written_job import written_job
from tests.sdk.app import resize

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_every_field_has_its_place_in_the_spec():
    job = parse_job(
        {
            "queue": "thumbnails",
            "job_id": "a-200",
            "command": ["convert", "a.png"],
            "payload": {"width": 200},
            "env": {"LANG": "C"},
            "labels": {"team": "web"},
            "cwd": "/srv",
            "priority": "70",
            "hold": "true",
            "delay": "10s",
            "timeout": "2m",
            "deadline": "1h",
            "max_attempts": 3,
            "backoff": {"initial": "2s", "factor": 3, "max": "1m"},
            "on_worker_loss": "hold",
            "worker_losses_max": 5,
            "disconnect": {"continue_for": "10m"},
            "cancel_grace": "5s",
            "retention": "1d",
        }
    )
    assert job == JobRequest(
        "thumbnails",
        "a-200",
        JobSpec(
            command=["convert", "a.png"],
            payload=b'{"width":200}',
            environment={"LANG": "C"},
            labels={"team": "web"},
            working_directory="/srv",
            priority=70,
            held=True,
            delay_ms=10_000,
            timeout_ms=120_000,
            deadline_ms=3_600_000,
            max_attempts=3,
            backoff_ms=2_000,
            backoff_factor=3.0,
            backoff_max_ms=60_000,
            on_worker_loss=OnWorkerLoss.HOLD,
            worker_losses_max=5,
            continue_for_ms=600_000,
            cancel_grace_ms=5_000,
            retention_ms=86_400_000,
        ),
    )


def test_missing_fields_have_the_defaults_of_the_log():
    assert parse_job({"command": ["true"], "timeout": None}) == JobRequest("default", "", JobSpec(command=["true"]))


def test_what_is_given_with_the_default_is_no_open_field():
    """The default of the executor counts, and it is not that of the log."""
    given = {"timeout": "0s", "hold": "false", "backoff": {"initial": "1s", "max": "9s"}, "env": {}, "deadline": "0s"}
    job = parse_job({"command": "true", "priority": 50, "max_attempts": 3, **given})
    assert job.spec == JobSpec(command=["true"], max_attempts=3, backoff_max_ms=9_000)
    assert job.explicit == ("backoff_ms", "deadline_ms", "environment", "held", "priority", "timeout_ms")
    assert parse_job({"task": "a", "max_attempts": 3}).explicit == ("max_attempts",)
    assert parse_job({"task": "a", "max_attempts": 1}).explicit == ()


def test_a_command_as_text_is_split_as_a_shell_would():
    assert parse_job({"command": "tar cf 'my file.tar' ."}).spec.command == ["tar", "cf", "my file.tar", "."]


def test_a_time_may_be_absolute():
    spec = parse_job(
        {"command": "true", "start_at": "2030-01-31T18:00:00Z", "deadline": "2030-01-31T20:00:00+01:00"}
    ).spec
    assert (spec.start_at, spec.deadline_at, spec.deadline_ms) == (1_896_112_800_000, 1_896_116_400_000, 0)


def test_a_task_is_called_with_its_arguments():
    job = parse_job({"task": "thumbnails.resize", "args": ["a.png"], "kwargs": {"width": 200}, "timeout": "2m"})
    payload = b'{"args":["a.png"],"kwargs":{"width":200}}'
    spec = JobSpec(
        executor="python", command=["thumbnails.resize"], payload=payload, max_attempts=3, timeout_ms=120_000
    )
    assert job == JobRequest("default", "", spec)
    assert parse_job({"task": "a"}).spec.payload == b'{"args":[],"kwargs":{}}'
    assert parse_job({"task": "a", "max_attempts": "1"}).spec.max_attempts == 1


def test_a_task_is_the_same_job_however_it_is_submitted():
    asked = resize("a.png", width=200).job({"job_id": "a"})
    fields = {"queue": "thumbnails", "job_id": "a", "timeout": "2m", "max_attempts": 3}
    assert parse_job({"task": resize.name, "args": ["a.png"], "kwargs": {"width": 200}, **fields}) == asked


@pytest.mark.parametrize("job", [{"command": ["true"]}, {"task": "a.b"}, {"command": "x", "payload": None}])
def test_what_is_written_is_read_back_with_the_same_open_fields(job):
    rest = {
        "env": {"A": "1"},
        "cwd": "/srv",
        "priority": 50,
        "hold": True,
        "start_at": "2030-01-31T18:00:00.000Z",
        "deadline": "2031-01-31T18:00:00.000Z",
        "max_attempts": 3,
        "backoff": {"factor": 2.0},
        "on_worker_loss": "requeue",
        "disconnect": {"continue_for": "1m"},
        "retention": "0s",
    }
    parsed = parse_job(job | rest)
    shown = written_job(parsed.spec, parsed.explicit)
    assert {name: shown[name] for name in rest} == rest
    assert parse_job(shown) == parsed
    assert written_job(parse_job(job).spec).keys() - {"args", "kwargs"} == job.keys()


def test_a_payload_of_null_is_kept():
    assert parse_job({"command": "true", "payload": None}).spec.payload == b"null"
    assert parse_job({"command": "true"}).spec.payload == b""


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (None, "expected a job's fields, but found null"),
        ({}, "expected a command (a program and its arguments) or a task, but found neither"),
        ({"command": "a", "task": "b"}, "expected a command (a program and its arguments) or a task, but found both"),
        ({"task": ""}, 'task: expected a task\'s name, such as thumbnails.resize, but found ""'),
        ({"task": ["a"]}, "task: expected a task's name, such as thumbnails.resize, but found"),
        ({"task": "a", "args": "b"}, 'args: expected a list of arguments, but found "b"'),
        ({"task": "a", "kwargs": ["b"]}, 'kwargs: expected names with values, but found ["b"]'),
        ({"task": "a", "payload": None}, "payload: expected args and kwargs beside a task, but found a payload"),
        ({"command": "a", "args": ["b"]}, "args: expected a task beside it, but found a command"),
        ({"task": "a", "args": [1, [1 << 70]]}, "args.1.0: expected a whole number of 64 bits"),
        ({"command": []}, "command: expected a program and its arguments, but found []"),
        ({"command": [""]}, "command: expected a program and its arguments, but the program is empty"),
        ({"command": "a 'b"}, 'command: expected a command line, but No closing quotation in "a \'b"'),
        ({"command": ["a", 5]}, "command.1: expected text, but found 5"),
        ({"command": ["a\0"]}, "command: expected text without NUL characters"),
        ({"command": ["a", "\ud800"]}, r"command.1: expected text in UTF-8, but found '\ud800'"),
        (
            {"command": "a", "queue": "\ud800"},
            r'queue: expected 1 to 128 of A-Z a-z 0-9 . _ - starting with a letter or a digit, but found "\ud800"',
        ),
        ({"command": "a", "priority": 400}, "priority: expected 0 to 100, but found 400"),
        ({"command": "a", "priority": "400"}, "priority: expected 0 to 100, but found 400"),
        ({"command": "a", "priority": True}, "priority: expected 0 to 100, but found true"),
        ({"command": "a", "priority": 7.5}, "priority: expected 0 to 100, but found 7.5"),
        ({"command": "a", "max_attempts": 0}, "max_attempts: expected 1 to 10000, but found 0"),
        ({"command": "a", "gang": {"size": 2}}, "gang: gang is not supported yet; leave it out"),
        ({"command": "a", "prioritty": 7}, "prioritty: unknown field; did you mean priority?"),
        ({"command": "a", "backoff": {"maxx": 7}}, "backoff.maxx: unknown field; did you mean max?"),
        ({"command": "a", "backoff": "1s"}, 'backoff: expected names with values, but found "1s"'),
        ({"command": "a", "backoff": {"factor": "nan"}}, "backoff.factor: expected 1 to 100, but found nan"),
        ({"command": "a", "hold": "on"}, 'hold: expected true or false, but found "on"'),
        ({"command": "a", "on_worker_loss": "pray"}, 'on_worker_loss: expected requeue, fail, hold, but found "pray"'),
        ({"command": "a", "env": {"A=": "b"}}, 'env.A=: expected a variable\'s name, but found "A="'),
        (
            {"command": "a", "env": {"FTJM_ATTEMPT": "1"}},
            "env.FTJM_ATTEMPT: expected a variable of your own, but FTJM_ATTEMPT is set by the worker",
        ),
        ({"command": "a", "env": [1]}, "env: expected names with values, but found [1]"),
        (
            {"command": "a", "delay": "1s", "start_at": "2030-01-01T00:00:00Z"},
            "expected either delay or start_at, but found both",
        ),
        ({"command": "a", "payload": {1, 2, object()}}, "payload: expected what JSON can hold, but found set"),
        ({"command": "a", "payload": [10**5_000]}, "payload.0: expected a whole number of 64 bits"),
        ({"command": "a", "priority": 10**5_000}, "priority: expected 0 to 100, but found a value of the type int"),
        ({"command": "a", "backoff": {"factor": 10**400}}, "backoff.factor: expected 1 to 100, but found 1000"),
        ({"command": "a", "hold": 10**5_000}, "hold: expected true or false, but found a value of the type int"),
        ({"command": "a", "timeout": "9" * 400 + "s"}, "timeout: expected at most 3650d, but found '9999"),
        ({"command": "x " * 100_000}, "command: expected a command line of at most 65536 characters"),
    ],
)
def test_a_mistake_is_reported_with_its_field(fields, problem):
    with pytest.raises(InvalidJobError) as caught:
        parse_job(fields)
    assert str(caught.value.problems[0]).startswith(problem)


@pytest.mark.parametrize("field", ["queue", "job_id"])
@pytest.mark.parametrize("name", ["", "a/b", "a:b", "-a", "ü", "a" * 129, 7, "a\n"])
def test_a_name_that_the_command_line_cannot_take_is_refused(field, name):
    with pytest.raises(InvalidJobError, match=f"{field}: expected 1 to 128 of"):
        parse_job({"command": "a", field: name})


@pytest.mark.parametrize("field", ["delay", "timeout", "deadline", "cancel_grace", "retention", "start_at"])
@pytest.mark.parametrize("value", [10, "10", "soon", ["1s"]])
def test_times_need_units(field, value):
    with pytest.raises(InvalidJobError, match=f"{field}: expected a "):
        parse_job({"command": "a", field: value})


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(InvalidJobError) as caught:
        parse_job({"command": "a", "priority": 400, "timeout": 10, "colour": "red"})
    assert [problem.path for problem in caught.value.problems] == [("priority",), ("timeout",), ("colour",)]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"command": "a", "payload": "x" * 1_000}, "payload"),
        ({"task": "a", "args": ["x" * 1_000]}, "args"),
        ({"command": ["a", "x" * 1_000]}, "command"),
        ({"command": "a", "env": {"A": "ü" * 500}}, "command"),
    ],
)
def test_a_field_that_is_too_large_is_refused_with_advice(fields, field):
    with pytest.raises(InvalidJobError, match=f"{field}: expected at most 1000 bytes.*object store"):
        parse_job(fields, inline_limit_bytes=1_000)


def test_an_attempt_that_is_cut_off_may_continue_for_23_hours_at_most():
    job = {"queue": "q", "command": ["true"]}
    assert parse_job({**job, "disconnect": {"continue_for": "23h"}}).spec.continue_for_ms == CONTINUE_FOR_MAX_MS
    with pytest.raises(InvalidJobError, match=r'disconnect.continue_for: expected at most 23h, but found "1d"'):
        parse_job({**job, "disconnect": {"continue_for": "1d"}})


@pytest.mark.parametrize("payload", [float("inf"), [float("nan")], {"a": -float("inf")}])
def test_a_number_that_json_does_not_have_is_refused(payload):
    with pytest.raises(InvalidJobError, match=r"payload[.0a]*: expected a finite number"):
        parse_job({"command": "a", "payload": payload})


@given(st.dictionaries(st.sampled_from([*JobFields.model_fields, "x"]), JSON))
def test_any_fields_are_a_job_or_refused(fields):
    with contextlib.suppress(InvalidJobError):
        assert parse_job(fields).spec.command


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1), min_size=1), JSON)
def test_command_and_payload_arrive_unchanged(command, payload):
    import msgspec

    spec = parse_job({"command": command, "payload": payload}).spec
    assert spec.command == command
    assert msgspec.json.decode(spec.payload) == payload


def test_derived_ids_are_names_and_depend_on_each_of_their_parts():
    one = JobRequest("a", "", JobSpec(command=["true"]))
    two = JobRequest("a", "", JobSpec(command=["false"]))
    ids = [derived_id(one, 0), derived_id(one, 1), derived_id(one, 0, "again"), derived_id(two, 0)]
    ids.append(derived_id(one._replace(queue="b"), 0))
    assert len(set(ids)) == len(ids)
    assert all(is_name(job_id) for job_id in ids)
    # The ids must never change: an interrupted submit may be repeated by a newer release.
    assert derived_id(one, 0) == "ezp2bi7xelpjw2y7b6tydzs7"
