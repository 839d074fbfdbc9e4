"""The same job by every way in: YAML, JSON, JSON lines, standard input, HTTP. One set of rules, one answer."""

import io
import json
import sys

import pytest

from ftjm.core.json_values import DEPTH_MAX
from ftjm.specs.files import InvalidFileError, open_jobs
from ftjm.specs.job import InvalidJobError, parse_job
from ftjm.specs.json_text import decode_item, decode_value
from ftjm.specs.written import UnreadableError

BOM = b"\xef\xbb\xbf"


def spec_of(path):
    with open_jobs(str(path)) as jobs:
        [job] = jobs
    return job


def by_file(suffix):
    def read(data, tmp_path, _monkeypatch):
        path = tmp_path / f"jobs{suffix}"
        path.write_bytes(data)
        return spec_of(path)

    return read


def by_stdin(data, _tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    return spec_of("-")


def by_http(data, _tmp_path, _monkeypatch):
    job = parse_job(decode_item(data))
    with_id = job.job_id or "made"
    return job._replace(job_id=with_id)


DOORS = {
    ".yaml": by_file(".yaml"),
    ".json": by_file(".json"),
    ".jsonl": by_file(".jsonl"),
    "no suffix": by_file(""),
    "standard input": by_stdin,
    "HTTP": by_http,
}


@pytest.fixture(params=DOORS, ids=lambda name: name)
def read(request, tmp_path, monkeypatch):
    return lambda data: DOORS[request.param](data if isinstance(data, bytes) else data.encode(), tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"command": ["echo", "\\ud83c\\udf89"]}', {"command": ["echo", "🎉"]}),
        ('{"command": ["echo", "🎉"]}', {"command": ["echo", "🎉"]}),
        (BOM + b'{"command": ["true"]}', {"command": ["true"]}),
        ('{"command": ["sleep", 1.50]}', {"command": ["sleep", "1.50"]}),
        (
            '{"command": "x", "env": {"A": 7, "B": 1.50, "C": true, "D": 1e3}}',
            {"command": "x", "env": {"A": "7", "B": "1.50", "C": "true", "D": "1e3"}},
        ),
        (
            '{"command": "x", "labels": {"n": 5}, "priority": 70}',
            {"command": "x", "labels": {"n": "5"}, "priority": 70},
        ),
        ('{"command": "x", "hold": true}', {"command": "x", "hold": True}),
        (
            '{"command": "x", "payload": {"i": 18446744073709551615, "f": 1.5, "t": true, "n": null, "s": "1"}}',
            {"command": "x", "payload": {"i": (1 << 64) - 1, "f": 1.5, "t": True, "n": None, "s": "1"}},
        ),
        (
            '{"task": "a.b", "args": [1, "x"], "kwargs": {"n": 2.5}}',
            {"task": "a.b", "args": [1, "x"], "kwargs": {"n": 2.5}},
        ),
        ('{"command": "x", "payload": "a\\/b"}', {"command": "x", "payload": "a/b"}),
    ],
)
def test_every_door_takes_the_same_json(read, text, expected):
    assert read(text).spec == parse_job(expected).spec


DEEP = "[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"command": "a", "command": "b"}', "command: expected each name once, but found it again"),
        ('{"command": "a", "payload": {"x": {"y": 1, "y": 2}}}', "payload.x.y: expected each name once"),
        ('{"command": "a", "payload": {"n": ' + "9" * 5_000 + "}}", "payload.n: expected a whole number of 64 bits"),
        ('{"command": "a", "payload": [1, 18446744073709551616]}', "payload.1: expected a whole number of 64 bits"),
        ('{"command": "a", "payload": [1e999]}', "payload.0: expected a finite number, but found inf"),
        ('{"command": "a", "payload": ' + DEEP + "}", f"payload: expected at most {DEPTH_MAX} levels"),
        ('{"command": "a", "timeout": "' + "9" * 400 + 's"}', "timeout: expected at most 3650d"),
        ('{"command": "a", "priority": ' + "9" * 5_000 + "}", "priority: expected 0 to 100, but found 9999"),
        ('{"command": "a", "backoff": {"factor": 1e999}}', "backoff.factor: expected 1 to 100, but found 1e999"),
        ('{"command": "a", "' + "x" * 10_000 + '": 1}', "xxx"),
    ],
)
def test_every_door_refuses_the_same_json_and_names_the_field(read, text, problem):
    with pytest.raises((InvalidFileError, InvalidJobError, UnreadableError)) as caught:
        read(text)
    match caught.value:
        case InvalidFileError() as error:
            [found] = error.problems
            _, _, found = found.partition(":1: ")
        case InvalidJobError() as error:
            [found] = map(str, error.problems)
        case UnreadableError() as error:
            found = ".".join(map(str, error.path)) + ": " + error.text
    assert found.startswith(problem)
    assert len(found) < 500


DOCUMENT = """{
  "jobs": [
    {"job_id": "a", "command": ["true"]},
    {
      "job_id": "b",
      "command": ["true"],
      "payload": {
        "n": 1e999
      },
      "priority": 400
    },
    {
      "job_id": "c",
      "command": ["true"],
      "priority": 400
    }
  ]
}
"""


@pytest.mark.parametrize("door", [".json", "no suffix", "standard input", ".yaml"])
def test_problems_of_a_json_document_have_their_lines(door, tmp_path, monkeypatch):
    with pytest.raises(InvalidFileError) as caught:
        DOORS[door](DOCUMENT.encode(), tmp_path, monkeypatch)
    assert [problem.split(":", 1)[1] for problem in caught.value.problems] == [
        "8: payload.n: expected a finite number, but found inf; JSON has no such thing",
        "15: priority: expected 0 to 100, but found 400",
    ]


@pytest.mark.parametrize("door", [".json", "no suffix", "standard input", ".yaml"])
@pytest.mark.parametrize("indent", [None, 2, "\t"])
@pytest.mark.parametrize("jobs", [[{"command": ["true"]}], {"jobs": [{"command": ["true"]}]}, {"command": ["true"]}])
def test_json_in_any_layout_is_read(door, indent, jobs, tmp_path, monkeypatch):
    data = json.dumps(jobs, indent=indent).encode()
    assert DOORS[door](data, tmp_path, monkeypatch).spec.command == ["true"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-be"])
@pytest.mark.parametrize("door", DOORS)
def test_another_encoding_is_named(door, encoding, tmp_path, monkeypatch):
    text = '{"command": ["true"]}'
    data = text.encode(encoding) if encoding != "utf-16-be" else b"\xfe\xff" + text.encode(encoding)
    with pytest.raises((InvalidFileError, UnreadableError), match="expected text in UTF-8, but found UTF-"):
        DOORS[door](data, tmp_path, monkeypatch)


@pytest.mark.parametrize("door", [".json", ".jsonl", "HTTP"])
@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_python_s_own_constants_are_no_json(door, constant, tmp_path, monkeypatch):
    data = b'{"command": "a", "payload": [%s]}' % constant.encode()
    with pytest.raises((InvalidFileError, UnreadableError), match="expected a finite number, but found"):
        DOORS[door](data, tmp_path, monkeypatch)


def test_a_lone_surrogate_is_no_text(tmp_path, monkeypatch):
    for door in (".json", ".jsonl", "HTTP"):
        with pytest.raises((InvalidFileError, UnreadableError), match="expected text in UTF-8"):
            DOORS[door](rb'{"command": "a", "payload": ["\ud83c"]}', tmp_path, monkeypatch)
        with pytest.raises((InvalidFileError, UnreadableError), match="expected text in UTF-8"):
            DOORS[door](rb'{"command": "a", "payload": {"\ud83c": 1}}', tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b'{"a":' * 100_000, b'[{"payload": ' + b"[" * 100_000],
    ids=["lists", "mappings", "payload"],
)
@pytest.mark.parametrize("door", DOORS)
def test_100_000_levels_are_refused_at_once(door, data, tmp_path, monkeypatch):
    with pytest.raises((InvalidFileError, UnreadableError), match=f"expected at most {DEPTH_MAX} levels"):
        DOORS[door](data, tmp_path, monkeypatch)


def test_a_payload_option_has_the_same_rules():
    assert decode_value(BOM + b'{"a": 1.5, "b": [true, "\\ud83c\\udf89"]}') == {"a": 1.5, "b": [True, "🎉"]}
    for text in (b'{"a": 1, "a": 2}', b"9" * 5_000, b"1e999", b"NaN", b'"\\ud83c"', b"[" * 100_000, b"\xff", b"{"):
        with pytest.raises(UnreadableError):
            decode_value(text)
