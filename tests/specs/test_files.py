import io
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjm.runtime.errors import UsageError
from ftjm.specs import files
from ftjm.specs.files import LINE_BYTES_MAX, InvalidFileError, open_jobs


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


def test_yaml_values_keep_the_text_that_users_wrote(tmp_path):
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
def test_every_form_of_a_file_gives_the_same_jobs(tmp_path, text, monkeypatch):
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


def test_mistakes_in_yaml_are_reported_with_their_lines(tmp_path):
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
        ":10: command: expected each name once, but found it again",
        ":11: expected a command (a program and its arguments) or a task, but found neither",
        ':12: expected a job\'s fields, but found "5"',
    ]


def test_mistakes_in_json_lines_are_reported_with_their_lines(tmp_path):
    text = '{"command": \n\n[]\n{"command": "x", "priority": 101}\n\xff\n{"command": "x"}\n'.encode("latin-1")
    found = problems(written(tmp_path, "jobs.jsonl", text))
    assert found[0] == ":1: expected JSON, but expecting value at column 1"
    assert found[1] == ":3: expected a job's fields, but found []"
    assert found[2] == ":4: priority: expected 0 to 100, but found 101"
    assert found[3] == ":5: expected text in UTF-8, but found the byte 0xff"
    assert len(found) == 4


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [b\nc: {", ":2: expected YAML, but "),
        (b"a: \xff", ":1: expected YAML in UTF-8, but "),
        ("jobs: []\nqueue: x", ":1: expected a list under jobs, and nothing beside it"),
        ("jobs: 5", ":1: expected a list under jobs, and nothing beside it"),
        ("command: &a [*a]", ":1: command: expected at most 100 levels"),
        ("&a {<<: *a}", ":1: expected names with values to merge"),
        ("- <<: 5", ":1: expected names with values to merge"),
        ("? [a]\n: b", ":1: expected a name, but found a list or a mapping as one"),
        ("payload: [\n" + "[" * 300, ":2: expected at most 100 levels"),
        ("payload: [\n" + "[" * 100_000, ":2: expected at most 100 levels"),
        ("- " * 100_000 + "a", ":1: expected at most 100 levels"),
        ("? " * 100_000 + "a", ":1: expected at most 100 levels"),
        ("command: a\npayload:\n  x: !!float x", ":3: payload.x: expected a value without a tag, but found !!float"),
        ("command: a\npayload:\n  x: !!int 1.5", ":3: payload.x: expected a value without a tag, but found !!int"),
        ("command: a\npayload: !!binary aGk=", ":2: payload: expected a value without a tag, but found !!binary"),
        ("command: a\npayload: !mine {a: 1}", ":2: payload: expected a value without a tag, but found !mine"),
        ("command: a\npayload: !!set {a, b}", ":2: payload: expected a value without a tag, but found !!set"),
        ("command: a\nenv: {A: !!binary aGk=}", ":2: env.A: expected a value without a tag, but found !!binary"),
        ("command: a\n? !!binary aGk=\n: b", ":2: expected a value without a tag, but found !!binary"),
        ("command: a\npayload:\n- .inf", ":3: payload.0: expected a finite number, but found inf"),
        ("command: a\npayload: {a: -.INF}", ":2: payload.a: expected a finite number, but found -inf"),
        ("command: a\npayload: {a: .nan}", ":2: payload.a: expected a finite number, but found nan"),
        ("command: a\npayload: {a: !!float .nan}", ":2: payload.a: expected a finite number, but found nan"),
        ("command: a\npayload: 0x" + "f" * 5_000, ":2: payload: expected a whole number of 64 bits, but found 0xfff"),
        ("command: a\npayload: {a: 1, b: {c: 1, c: 2}}", ":2: payload.b.c: expected each name once"),
        (b"command: a\n\n# \x01", ":3: expected YAML in UTF-8, but control characters are not allowed"),
    ],
)
def test_yaml_that_is_no_job_is_refused(tmp_path, text, problem):
    assert problems(written(tmp_path, "jobs.yaml", text))[0].startswith(problem)


def test_a_short_file_that_expands_to_billions_of_values_is_refused(tmp_path):
    lines = ["command: x", "payload:", "  a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"  a{i}: &a{i} [" + ",".join([f"*a{i - 1}"] * 10) + "]" for i in range(1, 10)]
    assert "aliases that add at most 100000 values" in problems(written(tmp_path, "jobs.yaml", "\n".join(lines)))[0]


def test_merges_of_merges_are_followed_once(tmp_path):
    lines = ["- &x0 {command: echo}"]
    for i in range(1, 30):
        lines += [f"- &x{i}", f"  <<: [{', '.join([f'*x{i - 1}'] * 10)}]", f"  job_id: m{i}"]
    jobs = read(written(tmp_path, "jobs.yaml", "\n".join(lines)))
    assert [job.spec.command for job in jobs] == [["echo"]] * 30
    assert jobs[29].job_id == "m29"


def test_aliases_may_add_only_as_much_as_fits_the_file(tmp_path):
    large = "- &x {" + ", ".join(f"a{i}: 1" for i in range(1_000)) + "}\n"
    for text in (large + "- {<<: [" + ", ".join(["*x"] * 10_000) + "]}", large + "- {<<: *x}\n" * 10_000):
        path = written(tmp_path, "jobs.yaml", text)
        with pytest.raises(InvalidFileError):
            open_jobs(path)


def test_many_jobs_may_share_a_part(tmp_path):
    text = "- &x {command: echo, env: {" + ", ".join(f"A{i}: 1" for i in range(20)) + "}}\n"
    path = written(tmp_path, "jobs.yaml", text + "".join(f"- {{<<: *x, job_id: j{i}}}\n" for i in range(2_000)))
    assert len(read(path)) == 2_001


def test_the_first_of_several_merged_mappings_wins(tmp_path):
    text = (
        "- &a {command: one}\n- &b {command: two, cwd: /b}\n- {<<: [*a, *b]}\n- {<<: *b, <<: *a}\n- {<<: *b, cwd: /c}\n"
    )
    jobs = read(written(tmp_path, "jobs.yaml", text))
    assert [job.spec.command for job in jobs[2:]] == [["one"], ["two"], ["two"]]
    assert [job.spec.working_directory for job in jobs[2:]] == ["/b", "/b", "/c"]


def test_tags_that_say_what_the_value_is_are_taken(tmp_path):
    text = (
        "command: !!seq [!!str 5]\npayload: !!map {a: !!str 5, b: !!int 5, c: !!null ~, d: !!bool true, e: !!float 0.5}"
    )
    [job] = read(written(tmp_path, "jobs.yaml", text))
    assert (job.spec.command, json.loads(job.spec.payload)) == (
        ["5"],
        {"a": "5", "b": 5, "c": None, "d": True, "e": 0.5},
    )


def test_numbers_of_a_payload_are_those_of_yaml_1_2(tmp_path):
    text = "command: x\npayload: [0x1F, 0o17, 017, +5, -0.5, .5, 5., 1e3, 1_000, 0b1]\nenv: {A: 0x1F, B: .inf}"
    [job] = read(written(tmp_path, "jobs.yaml", text))
    assert json.loads(job.spec.payload) == [31, 15, 17, 5, -0.5, 0.5, 5.0, 1000.0, "1_000", "0b1"]
    assert job.spec.environment == {"A": "0x1F", "B": ".inf"}


def test_a_file_that_is_too_large_to_be_read_at_once_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "DOCUMENT_BYTES_MAX", 100)
    assert problems(written(tmp_path, "jobs.yaml", "- command: x\n" * 20)) == [
        ":1: expected at most 100 bytes in a file that is not JSON lines; write one job a line"
    ]


def test_the_first_20_mistakes_are_shown_and_the_others_counted(tmp_path):
    path = written(tmp_path, "jobs.jsonl", '{"command": "x", "priority": 400}\n' * 50)
    assert len(problems(path)) == 20
    with pytest.raises(InvalidFileError, match="50 errors") as caught:
        open_jobs(path)
    assert "… and 30 more" in caught.value.found
    assert "nothing of it was submitted" in caught.value.todo


def test_a_line_without_an_end_is_refused(tmp_path):
    path = written(tmp_path, "jobs.jsonl", b'{"command": "' + b"x" * LINE_BYTES_MAX)
    assert problems(path) == [f":1: expected at most {LINE_BYTES_MAX} bytes a line; what follows was not read"]


def test_an_unreadable_file_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        open_jobs(str(tmp_path / "none.yaml"))
    with pytest.raises(UsageError, match="is a directory"):
        open_jobs(str(tmp_path))
    with pytest.raises(UsageError, match="null"):
        open_jobs("a\0b")


def test_one_id_for_two_jobs_is_a_mistake_and_the_same_job_twice_is_not(tmp_path):
    same = '{"job_id": "a", "command": "x"}\n'
    assert len(read(written(tmp_path, "same.jsonl", same * 2))) == 2
    other = same + '{"job_id": "a", "command": "y"}\n'
    text = ":2: job_id: expected one job default/a, but line 1 has another under this id"
    assert problems(written(tmp_path, "other.jsonl", other)) == [text]


def test_a_file_that_changes_after_its_check_is_an_error(tmp_path):
    path = written(tmp_path, "jobs.jsonl", '{"command": "x"}\n')
    with open_jobs(path) as jobs:
        with Path(path).open("r+b") as file:
            file.write(b'{"command": [] }')
        with pytest.raises(InvalidFileError, match="expected a program"):
            list(jobs)


@given(st.lists(st.sampled_from(["echo 1", "echo 2", "echo 3"])))
def test_a_file_gives_the_same_ids_every_time_and_each_job_its_own(tmp_path_factory, commands):
    path = written(tmp_path_factory.mktemp("f"), "jobs.jsonl", "".join(f'{{"command": "{c}"}}\n' for c in commands))
    ids = [job.job_id for job in read(path)]
    assert len(set(ids)) == len(commands)
    assert [job.job_id for job in read(path)] == ids
    assert set(ids).isdisjoint(job.job_id for job in read(path, batch="again"))
