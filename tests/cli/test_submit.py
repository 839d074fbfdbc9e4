import json
import shlex

import pytest

from ftjm.adapters.kafka.errors import LogRefused
from ftjm.client import command_client
from ftjm.runtime.errors import FtjmError, Unreachable, UsageError


def test_one_job_from_flags(ftjm, ftjm_json):
    result = ftjm("submit", "--job-id", "a", "--queue", "q", "--priority", "70", "--", "echo", "hello")
    assert (result.exit_code, result.stdout) == (0, "q/a\n")
    job = ftjm_json("get", "q/a")
    assert (job["command"], job["priority"]) == (["echo", "hello"], 70)


def test_flags_after_the_program_belong_to_the_program(ftjm, ftjm_json):
    ftjm("submit", "--job-id", "a", "echo", "--priority", "x")
    assert ftjm_json("get", "a")["command"] == ["echo", "--priority", "x"]


def test_all_flags_reach_the_job(ftjm, cluster):
    from ftjm.adapters.avro import codec

    flags = shlex.split(
        """
        --env A=b=c --label team=web --cwd /srv --timeout 2m --deadline 1h --delay 1s --max-attempts 3 --hold
        --backoff 2s --backoff-factor 3 --backoff-max 1m --on-worker-loss hold --worker-losses-max 5
        --continue-for 10m --cancel-grace 5s --retention 1d
        """
    )
    assert ftjm("submit", *flags, "--payload", '{"a": 1}', "--", "true").exit_code == 0
    [record] = [r for log in cluster.commands for r in log]
    command = codec.decode(record.value)
    spec = command.spec
    assert (spec.environment, spec.labels, spec.working_directory) == ({"A": "b=c"}, {"team": "web"}, "/srv")
    assert (spec.timeout_ms, spec.deadline_ms, spec.delay_ms) == (120_000, 3_600_000, 1_000)
    assert (spec.max_attempts, spec.backoff_ms, spec.backoff_factor, spec.backoff_max_ms) == (3, 2_000, 3.0, 60_000)
    assert (spec.on_worker_loss, spec.worker_losses_max, spec.continue_for_ms) == ("hold", 5, 600_000)
    assert (spec.cancel_grace_ms, spec.retention_ms, spec.held) == (5_000, 86_400_000, True)
    assert spec.payload == b'{"a":1}'
    assert "@" in command.actor
    assert record.key == b"default"


def test_a_payload_from_standard_input_or_a_file(ftjm, ftjm_json, tmp_path):
    ftjm("submit", "--job-id", "a", "--payload", "-", "--", "cat", stdin='{"a": 1}')
    assert ftjm_json("get", "a")["payload"] == {"a": 1}
    (tmp_path / "p.json").write_text("[1, 2]")
    ftjm("submit", "--job-id", "b", "--payload", "@p.json", "--", "cat")
    assert ftjm_json("get", "b")["payload"] == [1, 2]


def test_a_task_from_flags(ftjm, ftjm_json, cluster, tmp_path):
    from ftjm.adapters.avro import codec

    (tmp_path / "kwargs.json").write_text('{"width": 200}')
    flags = ["--args", '["a.png"]', "--kwargs", "@kwargs.json", "--job-id", "a"]
    assert ftjm("submit", "--task", "thumbnails.resize", *flags).stdout == "default/a\n"
    [record] = [r for log in cluster.commands for r in log]
    spec = codec.decode(record.value).spec
    assert (spec.executor, spec.command, spec.max_attempts) == ("python", ["thumbnails.resize"], 3)
    assert json.loads(spec.payload) == {"args": ["a.png"], "kwargs": {"width": 200}}
    shown = ftjm_json("get", "a")
    assert (shown["task"], shown["args"], shown["kwargs"]) == ("thumbnails.resize", ["a.png"], {"width": 200})
    assert not {"command", "payload"} & set(shown)


def test_a_repeated_submission_is_the_same_job_and_other_content_is_refused(ftjm):
    assert ftjm("submit", "--job-id", "a", "--", "echo").exit_code == 0
    assert ftjm("submit", "--job-id", "a", "--", "echo").exit_code == 0
    other = ftjm("submit", "--job-id", "a", "--", "echo", "2")
    assert other.exit_code == 1
    assert "default/a was refused: expected the same content" in other.stderr
    assert other.stdout == ""


@pytest.mark.parametrize(
    ("outcome", "status", "state"), [((0, b"", b""), 0, "SUCCEEDED"), ((3, b"", b""), 3, "FAILED")]
)
def test_a_waiting_submit_exits_like_the_job(ftjm, cluster, outcome, status, state):
    cluster.outcomes = [outcome]
    result = ftjm("submit", "--wait", "--job-id", "a", "--", "x")
    assert (result.exit_code, result.stdout) == (status, f"default/a {state}\n")


@pytest.mark.parametrize(
    ("outcome", "status", "why"),
    [
        ((3, b"", b""), 3, "EXIT_CODE: exit status 3"),
        ((-9, b"", b""), 137, "SIGNAL: killed by SIGKILL"),
        ((-15, b"", b""), 143, "SIGNAL: killed by SIGTERM"),
        ((-40, b"", b""), 168, "SIGNAL: killed by signal 40"),
    ],
)
def test_a_waiting_submit_says_why_and_exits_as_a_shell_would(ftjm, cluster, outcome, status, why):
    cluster.outcomes = [outcome]
    result = ftjm("submit", "--wait", "--job-id", "a", "--", "x")
    assert (result.exit_code, result.stdout) == (status, "default/a FAILED\n")
    assert result.stderr == f"waiting for default/a\nerror: default/a: {why}; see `ftjm logs default/a`\n"


def test_of_many_failures_the_first_are_explained(ftjm, cluster, tmp_path):
    cluster.outcomes = [(3, b"", b"")] * 30
    lines = "".join(f'{{"command": "x", "job_id": "j{n}"}}\n' for n in range(30))
    result = ftjm("submit", "-f", "-", "--wait", stdin=lines)
    assert result.exit_code == 1
    assert result.stderr.count("EXIT_CODE: exit status 3") == 20
    assert "… and 10 more that did not succeed" in result.stderr


def test_an_interrupted_wait_names_the_job(ftjm, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_client.Client, "ended", interrupt)
    result = ftjm("submit", "--wait", "--job-id", "a", "--", "x")
    assert result.exit_code == 130
    assert (
        "interrupted: default/a: no longer waiting; what is in the log goes on: see it with `ftjm get`" in result.stderr
    )


def test_an_interrupted_submission_names_the_jobs(ftjm, cluster, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_client.Client, "confirm", interrupt)
    lines = "".join(f'{{"command": "x", "job_id": "j{n}"}}\n' for n in range(7))
    result = ftjm("submit", "-f", "-", stdin=lines)
    assert result.exit_code == 130
    names = " ".join(f"default/j{n}" for n in range(5))
    assert f"interrupted: {names} … and 2 more: 7 of 7 are in the log" in result.stderr


def test_waiting_for_a_job_that_is_refused_ends(ftjm):
    ftjm("submit", "--job-id", "a", "--", "x")
    assert ftjm("submit", "--wait", "--job-id", "a", "--", "y").exit_code == 1


def test_a_result_comes_with_the_json(ftjm):
    [line] = ftjm("submit", "--wait", "--job-id", "a", "-o", "json", "--", "x").stdout.splitlines()
    assert json.loads(line)["result"] == {"ok": True}


def test_a_file_of_jobs(ftjm, ftjm_json, tmp_path):
    (tmp_path / "jobs.yaml").write_text("jobs:\n- command: echo 1\n- {command: echo 2, queue: q, job_id: two}\n")
    result = ftjm("submit", "-f", "jobs.yaml", "--wait")
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert second == "q/two SUCCEEDED"
    assert "2 jobs in the log, 0 refused, 2 succeeded" in result.stderr
    assert ftjm_json("get", first.split()[0])["command"] == ["echo", "1"]
    again = ftjm("submit", "-f", "jobs.yaml", "--wait")
    assert again.stdout == result.stdout
    assert ftjm("submit", "-f", "jobs.yaml", "--batch", "b").exit_code == 0


def test_thousands_of_jobs_from_standard_input(ftjm, cluster):
    lines = "".join(f'{{"command": "echo {i}", "queue": "q{i % 3}"}}\n' for i in range(2_000))
    result = ftjm("submit", "-f", "-", stdin=lines)
    assert result.exit_code == 0
    assert len(set(result.stdout.split())) == 2_000
    assert sum(len(log) for log in cluster.commands) == 2_000


def test_a_file_with_a_mistake_submits_nothing(ftjm, cluster, tmp_path):
    (tmp_path / "jobs.jsonl").write_text('{"command": "x"}\n{"command": "x", "priority": 400}\n')
    result = ftjm("submit", "-f", "jobs.jsonl")
    assert isinstance(result.exception, UsageError)
    assert "jobs.jsonl:2: priority: expected 0 to 100, but found 400" in str(result.exception)
    assert not any(cluster.commands)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--", ""],
        ["-f", "none.yaml"],
        ["-f", "empty.yaml"],
        ["-f", "empty.yaml", "--", "echo"],
        ["-f", "empty.yaml", "--priority", "7"],
        ["--priority", "400", "--", "x"],
        ["--env", "A", "--", "x"],
        ["--payload", "{", "--", "x"],
        ["--payload", "@none", "--", "x"],
        ["--payload", "@.", "--", "x"],
        ["--payload", '{"a": 1, "a": 2}', "--", "x"],
        ["--payload", "9" * 5_000, "--", "x"],
        ["--payload", "[" * 100_000, "--", "x"],
        ["--payload", "caf\udce9", "--", "x"],
        ["--timeout", "9" * 400 + "s", "--", "x"],
        ["--cwd", "caf\udce9", "--", "x"],
        ["--batch", "caf\udce9", "-f", "empty.yaml"],
        ["--", "caf\udce9"],
        ["-X", "error_cb=x", "--", "x"],
        ["-X", "logger=x", "--", "x"],
        ["--task", "a", "--", "x"],
        ["--task", "a", "--args", "b"],
        ["--task", "a", "--args", '"b"'],
        ["--task", "a", "--payload", "{}"],
        ["--args", "[]", "--", "x"],
        ["-f", "empty.yaml", "--task", "a"],
        ["--patience", "5", "--", "x"],
        ["--job-id", "a/b", "--", "x"],
    ],
)
def test_mistakes_on_the_command_line_are_errors(ftjm, cluster, arguments, tmp_path):
    (tmp_path / "empty.yaml").write_text("")
    result = ftjm("submit", *arguments)
    assert isinstance(result.exception, UsageError), result.output
    assert result.exception.expected
    assert result.exception.found
    assert result.exception.todo
    assert not any(cluster.commands)


def test_without_a_scheduler_the_job_is_still_in_the_log(ftjm, cluster):
    cluster.deciding = False
    result = ftjm("submit", "--job-id", "a", "--", "x")
    assert (result.exit_code, result.stdout) == (0, "default/a\n")
    assert "1 of 1 not decided yet: in the log, and waiting for a scheduler" in result.stderr


def test_an_unresponsive_kafka_is_reported_with_the_number_of_jobs_in_the_log(ftjm, cluster):
    cluster.answers_delivery = False
    result = ftjm("submit", "--patience", "300ms", "--", "x")
    assert isinstance(result.exception, Unreachable)
    assert "0 of 1 commands are in the log" in result.exception.found


def test_a_record_that_kafka_refuses(ftjm, cluster):
    cluster.failure = LogRefused("Topic authorization failed")
    result = ftjm("submit", "--", "x")
    assert isinstance(result.exception, FtjmError)
    assert "0 of 1 commands are in the log" in result.exception.found


def test_the_help_says_what_is_public(ftjm):
    text = " ".join(ftjm("submit", "--help").stdout.split())
    assert "environment, command, arguments and payload are public" in text
    assert "nothing is submitted" in text
