"""Programs that use none of our code, as their readers will run them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftjm.core import events as e
from ftjm.core.identity import partition_for
from ftjm.embedded import jars
from integration.apis import start_api
from integration.harness import Cluster
from integration.waiting import until

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
SCHEMAS = ROOT / "schemas"
JAVA_SECONDS_MAX = 90.0
LISTENING_SECONDS = 3.0
STORY = ["JobSubmitted", "AttemptDispatched", "AttemptSucceeded"]


def run(*command: object, seconds: float = 60.0) -> str:
    """What a program printed. Fails if the program does."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def example(name: str, running: Cluster, *options: object) -> str:
    settings = running.settings
    where = ["--bootstrap", settings.bootstrap, "--cluster", settings.cluster]
    return run(sys.executable, EXAMPLES / name, *where, *options)


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
        log = working.log()
        assert log.story(("default", "hello")) == STORY
        assert not log.events(e.CommandForwarded), "its partitioner is not ours"

    def test_the_same_again_is_the_same_job(self, working: Cluster) -> None:
        for _ in range(2):
            printed = example("producer.py", working, "--queue", "other", "--job-id", "once", "--wait", "--", "true")
            assert json.loads(printed.splitlines()[1])["run"] == 1
        assert len(working.log().events(e.JobSubmitted, job=("other", "once"))) == 1

    def test_a_refusal_is_told(self, working: Cluster) -> None:
        example("producer.py", working, "--job-id", "taken", "--wait", "--", "true")
        with pytest.raises(AssertionError, match='"accepted": false'):
            example("producer.py", working, "--job-id", "taken", "--wait", "--", "false")

    def test_events_are_read_once_by_a_group(self, working: Cluster) -> None:
        example("producer.py", working, "--job-id", "seen", "--wait", "--", "true")
        first = [json.loads(line) for line in example("consumer.py", working, "--once").splitlines()]
        assert [event["event"] for event in first if event["job_id"] == "seen"] == STORY
        example("producer.py", working, "--job-id", "later", "--wait", "--", "true")
        second = [json.loads(line) for line in example("consumer.py", working, "--once").splitlines()]
        assert {event["job_id"] for event in second} == {"later"}


class TestHttp:
    def test_the_feed_is_followed_and_gone_on_with(self, working: Cluster, tmp_path: Path) -> None:
        api = start_api(working)
        state = tmp_path / "position"
        follow = [sys.executable, EXAMPLES / "follow_feed.py", "--url", f"http://127.0.0.1:{api.port}"]

        def told(limit: int, job_id: str) -> list[str]:
            """Events of a job that is submitted while the feed is followed."""
            process = subprocess.Popen(
                [*map(str, follow), "--state", str(state), "--limit", str(limit)], stdout=subprocess.PIPE, text=True
            )
            try:
                if not state.exists():
                    time.sleep(LISTENING_SECONDS)  # a feed without a position begins now
                example("producer.py", working, "--job-id", job_id, "--wait", "--", "true")
                printed, _ = process.communicate(timeout=60)
            finally:
                process.kill()
            return printed.splitlines()

        assert all("first" in line for line in told(2, "first"))
        position = state.read_text()
        # One event of the first job was not seen yet: the position was kept before it.
        second = told(4, "second")
        assert ["first" in line for line in second] == [True, False, False, False]
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
    said = run(javac, "--release", "17", "-Xlint:all", "-Werror", "-proc:none", "-cp", path, "-d", classes, *sources)
    assert said == ""
    return [vm, "-cp", f"{classes}:{path}"]


class TestJava:
    def test_a_job_from_java_runs_where_its_queue_lives(self, java: list[str], working: Cluster) -> None:
        settings = working.settings
        where = [settings.bootstrap, settings.cluster, SCHEMAS]
        for queue in ("default", "other"):
            said = run(*java, "SubmitJob", *where, queue, "from-java", "echo", "hello", seconds=JAVA_SECONDS_MAX)
            topic = f"{settings.topic('commands')}-{partition_for(queue, settings.partitions)}@"
            assert said.startswith(f"{queue}/from-java is at {topic}")
        log = working.until_done([("default", "from-java"), ("other", "from-java")])
        assert log.story(("default", "from-java")) == STORY
        [submitted] = log.events(e.JobSubmitted, job=("default", "from-java"))
        assert isinstance(submitted, e.JobSubmitted)
        assert submitted.spec.command == ["echo", "hello"]
        assert submitted.spec.max_attempts == 1, "a default of the schema"

    def test_java_reads_what_python_reads(self, java: list[str], working: Cluster) -> None:
        settings = working.settings
        example("producer.py", working, "--job-id", "seen", "--wait", "--", "true")
        until(lambda: len(working.log().story(("default", "seen"))) == 3, "the job's events")
        where = [settings.bootstrap, settings.cluster, SCHEMAS]
        said = run(*java, "FollowEvents", *where, "java-group", 3, seconds=JAVA_SECONDS_MAX)
        assert [line.split()[1:] for line in said.splitlines()] == [["default/seen", event] for event in STORY]
