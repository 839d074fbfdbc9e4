import io
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjm.errors import UsageError
from ftjm.jobfiles import LINE_BYTES_MAX, InvalidFileError, open_jobs
from ftjm.yamljobs import yaml_jobs


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def read(path, **options):
    with open_jobs(path, **options) as jobs:
        found = list(jobs)
        assert jobs.count == len(found)
        return found


def problems(path):
    with pytest.raises(InvalidFileError) as caught:
        open_jobs(path)
    return [problem.removeprefix(path) for problem in caught.value.problems]


YAML = """
jobs:
  - &base
    queue: thumbnails
    command: [sleep, 1.50]
    env: {DEBUG: on, N: 007}
    payload: {a: on, b: 010, c: 1.5, d: null, e: [true, 2020-01-01]}
  - <<: *base
    job_id: 007
    priority: 70
"""


def test_yaml_says_what_it_looks_like(tmp_path):
    first, second = read(written(tmp_path, "jobs.yaml", YAML))
    assert first.spec.command == ["sleep", "1.50"]
    assert first.spec.environment == {"DEBUG": "on", "N": "007"}
    assert json.loads(first.spec.payload) == {"a": "on", "b": 10, "c": 1.5, "d": None, "e": [True, "2020-01-01"]}
    assert (second.queue, second.job_id, second.spec.priority) == ("thumbnails", "007", 70)
    assert second.spec.command == first.spec.command


def test_arguments_of_a_task_have_the_types_of_yaml(tmp_path):
    [job] = read(written(tmp_path, "jobs.yaml", "- {task: shop.add, args: [1, on, 1.5], kwargs: {deep: {n: 010}}}\n"))
    assert (job.spec.executor, job.spec.command) == ("python", ["shop.add"])
    assert json.loads(job.spec.payload) == {"args": [1, "on", 1.5], "kwargs": {"deep": {"n": 10}}}
    [problem] = problems(written(tmp_path, "wrong.yaml", "- task: shop.add\n  priority: 7\n  payload: {a: 1}\n"))
    assert problem == ":3: payload: expected args and kwargs beside a task, but found a payload"


@pytest.mark.parametrize(
    "text",
    [
        "- command: echo 1\n- command: echo 2\n",
        "jobs:\n- command: echo 1\n- command: echo 2\n",
        "command: echo 1\n---\ncommand: echo 2\n---\n",
        '[{"command": "echo 1"}, {"command": ["echo", "2"]}]',
        '\n{"command": "echo 1"}\n\n{"command": ["echo", "2"]}',
    ],
)
def test_the_forms_of_a_file(tmp_path, text, monkeypatch):
    commands = [["echo", "1"], ["echo", "2"]]
    assert [job.spec.command for job in read(written(tmp_path, "jobs", text))] == commands
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert [job.spec.command for job in read("-")] == commands


def test_an_empty_file_holds_no_jobs(tmp_path):
    for name in ("jobs.yaml", "jobs.jsonl", "jobs"):
        assert len(read(written(tmp_path, name, "\n"))) == 0


def test_a_pipe_is_read_like_a_file(tmp_path):
    reading, writing = os.pipe()
    os.write(writing, b'{"command": "true"}\n')
    os.close(writing)
    assert [job.spec.command for job in read(f"/dev/fd/{reading}")] == [["true"]]
    os.close(reading)


def test_mistakes_in_yaml_are_told_with_their_lines(tmp_path):
    text = """
    jobs:
      - command: "true"
        priority: 400
      - command: x
        backoff:
          initial: 1s
          max: soon
      - command: x
        command: y
      - priority: 1
      - 5
    """
    assert problems(written(tmp_path, "jobs.yaml", text)) == [
        ":4: priority: expected 0 to 100, but found 400",
        ":8: backoff.max: expected a duration such as 500ms, 10s, 2m, 1h30m or 1d, but found 'soon'",
        ":10: expected each name once, but found command again",
        ":11: expected a command (a program and its arguments) or a task, but found neither",
        ':12: expected a job\'s fields, but found "5"',
    ]


def test_mistakes_in_json_lines_are_told_with_their_lines(tmp_path):
    text = '{"command": \n\n[]\n{"command": "x", "priority": 101}\n\xff\n{"command": "x"}\n'.encode("latin-1")
    found = problems(written(tmp_path, "jobs.jsonl", text))
    assert found[0] == ":1: expected one JSON object a line, but input data was truncated"
    assert found[1] == ":3: expected a job's fields, but found []"
    assert found[2] == ":4: priority: expected 0 to 100, but found 101"
    assert found[3].startswith(":5: expected one JSON object a line, but ")
    assert len(found) == 4


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [b\nc: {", ":2: expected YAML, but "),
        (b"a: \xff", ":1: expected YAML in UTF-8, but "),
        ("jobs: []\nqueue: x", ":1: expected a list under jobs, and nothing beside it"),
        ("jobs: 5", ":1: expected a list under jobs, and nothing beside it"),
        ("command: &a [*a]", ":1: expected at most 100 levels in a job"),
        ("&a {<<: *a}", ":1: expected names with values to merge"),
        ("- <<: 5", ":1: expected names with values to merge"),
        ("? [a]\n: b", ":1: expected a name, but found a list or a mapping as one"),
        ("payload: " + "[" * 300, ":2: expected YAML, but "),
    ],
)
def test_yaml_that_is_no_job(tmp_path, text, problem):
    assert problems(written(tmp_path, "jobs.yaml", text))[0].startswith(problem)


def test_a_few_lines_that_stand_for_billions_of_values_are_refused(tmp_path):
    lines = ["command: x", "payload:", "  a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"  a{i}: &a{i} [" + ",".join([f"*a{i - 1}"] * 10) + "]" for i in range(1, 10)]
    assert "at most 100000 values" in problems(written(tmp_path, "jobs.yaml", "\n".join(lines)))[0]


def test_the_first_20_mistakes_are_told_and_the_others_counted(tmp_path):
    path = written(tmp_path, "jobs.jsonl", '{"command": 5}\n' * 50)
    assert len(problems(path)) == 20
    with pytest.raises(InvalidFileError, match="50 errors") as caught:
        open_jobs(path)
    assert "… and 30 more" in caught.value.found
    assert "nothing of it was submitted" in caught.value.todo


def test_a_line_without_an_end_is_refused(tmp_path):
    path = written(tmp_path, "jobs.jsonl", b'{"command": "' + b"x" * LINE_BYTES_MAX)
    assert problems(path) == [f":1: expected at most {LINE_BYTES_MAX} bytes a line; what follows was not read"]


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        open_jobs(str(tmp_path / "none.yaml"))
    with pytest.raises(UsageError, match="is a directory"):
        open_jobs(str(tmp_path))


def test_one_id_for_two_jobs_is_a_mistake_and_the_same_job_twice_is_not(tmp_path):
    same = '{"job_id": "a", "command": "x"}\n'
    assert len(read(written(tmp_path, "same.jsonl", same * 2))) == 2
    other = same + '{"job_id": "a", "command": "y"}\n'
    text = ":2: job_id: expected one job default/a, but line 1 has another under this id"
    assert problems(written(tmp_path, "other.jsonl", other)) == [text]


def test_a_file_that_changes_after_it_was_checked(tmp_path):
    path = written(tmp_path, "jobs.jsonl", '{"command": "x"}\n')
    with open_jobs(path) as jobs:
        with Path(path).open("r+b") as file:
            file.write(b'{"command":  5 }')
        with pytest.raises(InvalidFileError, match="expected a program"):
            list(jobs)


@given(st.lists(st.sampled_from(["echo 1", "echo 2", "echo 3"])))
def test_a_file_gives_the_same_ids_every_time_and_each_job_its_own(tmp_path_factory, commands):
    path = written(tmp_path_factory.mktemp("f"), "jobs.jsonl", "".join(f'{{"command": "{c}"}}\n' for c in commands))
    ids = [job.job_id for job in read(path)]
    assert len(set(ids)) == len(commands)
    assert [job.job_id for job in read(path)] == ids
    assert set(ids).isdisjoint(job.job_id for job in read(path, batch="again"))


@given(st.binary(max_size=200))
def test_any_bytes_are_yaml_jobs_or_broken(data):
    for located in yaml_jobs(io.BytesIO(data)):
        assert located.line >= 1
