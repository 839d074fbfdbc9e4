"""The example programs that use no code of ftjm, run as their readers run them."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ftjm.core.identity import partition_for
from ftjm.core.records import events as e
from ftjm.local import jars
from integration.apis import start_api
from integration.harness import Cluster
from integration.waiting import until

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
SCHEMAS = ROOT / "schemas"
JAVA_SECONDS_MAX = 300.0
STORY = ["JobSubmitted", "AttemptDispatched", "AttemptSucceeded"]


def run(*command: object, seconds: float = 180.0) -> str:
    """Run a program and return its output. Fail if the program fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def example(name: str, running: Cluster, *options: object) -> str:
    settings = running.settings
    where = ["--bootstrap", settings.bootstrap, "--cluster", settings.cluster]
    return run(sys.executable, EXAMPLES / name, *where, *options)


def events_of(running: Cluster, job_id: str) -> list[str]:
    """Wait until the log shows the success of a job of the default queue. Return the names of the job's events."""

    def ended() -> list[str] | None:
        names = running.log().event_names(("default", job_id))
        return names if "AttemptSucceeded" in names else None

    return until(ended, f"the events of {job_id}")


def story(names: list[str]) -> list[str]:
    """These names without `AttemptStarted`, which only slow attempts have."""
    return [name for name in names if name != "AttemptStarted"]


@pytest.fixture
def working(running: Cluster) -> Cluster:
    running.scheduler()
    running.worker(queues=["default", "other"])
    running.until_owners("a")
    return running


class TestPython:
    def test_a_job_is_submitted_and_followed_to_its_outcome(self, working: Cluster) -> None:
        printed = example("producer.py", working, "--job-id", "hello", "--wait", "--", "echo", "hello")
        name, outcome = printed.splitlines()
        assert name == "default/hello"
        assert json.loads(outcome)["state"] == "SUCCEEDED"
        assert story(events_of(working, "hello")) == STORY
        assert not working.log().events(e.CommandForwarded), "the partitioners of example and product differ"

    def test_a_repeated_submission_is_the_same_job(self, working: Cluster) -> None:
        for _ in range(2):
            printed = example("producer.py", working, "--queue", "other", "--job-id", "once", "--wait", "--", "true")
            assert json.loads(printed.splitlines()[1])["run"] == 1
        assert len(working.log().events(e.JobSubmitted, job=("other", "once"))) == 1

    def test_a_refusal_is_printed(self, working: Cluster) -> None:
        example("producer.py", working, "--job-id", "taken", "--wait", "--", "true")
        with pytest.raises(AssertionError, match='"accepted": false'):
            example("producer.py", working, "--job-id", "taken", "--wait", "--", "false")

    def test_events_are_read_once_by_a_group(self, working: Cluster) -> None:
        example("producer.py", working, "--job-id", "seen", "--wait", "--", "true")
        events_of(working, "seen")
        first = [json.loads(line) for line in example("consumer.py", working, "--once").splitlines()]
        assert story([event["event"] for event in first if event["job_id"] == "seen"]) == STORY
        example("producer.py", working, "--job-id", "later", "--wait", "--", "true")
        events_of(working, "later")
        second = [json.loads(line) for line in example("consumer.py", working, "--once").splitlines()]
        assert {event["job_id"] for event in second} == {"later"}


class TestHttp:
    def test_the_feed_is_followed_and_resumed(self, working: Cluster, tmp_path: Path) -> None:
        api = start_api(working)
        state = tmp_path / "position"
        # A feed without a position begins at the present, and no one can tell when that was.
        example("producer.py", working, "--job-id", "before", "--wait", "--", "true")
        events_of(working, "before")
        with api.listen("/events?start=beginning") as events:
            *_, last = itertools.islice(events, len(working.log().events()))
        state.write_text(last["id"])
        follow = [sys.executable, EXAMPLES / "follow_feed.py", "--url", f"http://127.0.0.1:{api.port}"]

        def follow_while_running(limit: int, job_id: str) -> list[str]:
            """Submit a job while the feed is followed. Return the printed events."""
            process = subprocess.Popen(
                [*map(str, follow), "--state", str(state), "--limit", str(limit)], stdout=subprocess.PIPE, text=True
            )
            try:
                example("producer.py", working, "--job-id", job_id, "--wait", "--", "true")
                printed, _ = process.communicate(timeout=180)
            finally:
                process.kill()
            return printed.splitlines()

        assert all("first" in line for line in follow_while_running(2, "first"))
        position = state.read_text()
        # The stored position is before the events of the first job that were not printed yet.
        left = len(events_of(working, "first")) - 2
        second = follow_while_running(left + 3, "second")
        assert ["first" in line for line in second] == [True] * left + [False] * 3
        assert state.read_text() != position


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A command that runs a class of the Java examples."""
    javac, vm = shutil.which("javac"), shutil.which("java")
    if javac is None or vm is None:
        pytest.skip("no JDK: the Java examples need javac and java on the PATH")
    lines = (EXAMPLES / "java" / "jars.sha256").read_text().splitlines()
    wanted = [jars.Jar(*[*line.split()[:1], *line.split()[1].split(":")]) for line in lines]
    libraries = [*jars.ensure(), *jars.ensure(jars.cache_dir().parent / "examples", wanted)]
    classes = tmp_path_factory.mktemp("classes")
    path = ":".join(map(str, libraries))
    sources = sorted((EXAMPLES / "java" / "src").glob("*.java"))
    output = run(javac, "--release", "17", "-Xlint:all", "-Werror", "-proc:none", "-cp", path, "-d", classes, *sources)
    assert output == ""
    return [vm, "-cp", f"{classes}:{path}"]


class TestJava:
    def test_a_job_from_java_runs_where_its_queue_lives(self, java: list[str], working: Cluster) -> None:
        settings = working.settings
        where = [settings.bootstrap, settings.cluster, SCHEMAS]
        for queue in ("default", "other"):
            output = run(*java, "SubmitJob", *where, queue, "from-java", "echo", "hello", seconds=JAVA_SECONDS_MAX)
            topic = f"{settings.topic('commands')}-{partition_for(queue, settings.partitions)}@"
            assert output.startswith(f"{queue}/from-java is at {topic}")
        log = working.until_done([("default", "from-java"), ("other", "from-java")])
        assert story(log.event_names(("default", "from-java"))) == STORY
        [submitted] = log.events(e.JobSubmitted, job=("default", "from-java"))
        assert isinstance(submitted, e.JobSubmitted)
        assert submitted.spec.command == ["echo", "hello"]
        assert submitted.spec.max_attempts == 1, "a default of the schema"

    def test_java_reads_what_python_reads(self, java: list[str], working: Cluster) -> None:
        settings = working.settings
        example("producer.py", working, "--job-id", "seen", "--wait", "--", "true")
        names = events_of(working, "seen")
        where = [settings.bootstrap, settings.cluster, SCHEMAS]
        output = run(*java, "FollowEvents", *where, "java-group", len(names), seconds=JAVA_SECONDS_MAX)
        assert [line.split()[1:] for line in output.splitlines()] == [["default/seen", name] for name in names]
