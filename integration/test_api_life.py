"""API instances over time: without Kafka, restarted in turn, with a deleted projection, and several at a time."""

from __future__ import annotations

import http.client
import itertools
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftjm.local.kafka import EmbeddedKafka
from ftjm.local.ports import free_base_port
from integration.apis import Answer, Api, start_api
from integration.clusters import cluster_on
from integration.harness import Cluster
from integration.waiting import LIMIT_SECONDS, until


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[EmbeddedKafka, Cluster]]:
    """A cluster on its own Kafka, which the test may stop."""
    with (
        EmbeddedKafka(tmp_path / "kafka", 1, free_base_port()) as kafka,
        Cluster(cluster_on(kafka, tmp_path / "data"), tmp_path) as cluster,
    ):
        cluster.scheduler()
        cluster.until_owners("a")
        yield kafka, cluster


def submit(api: Api, count: int, prefix: str = "j") -> str:
    """Submit held jobs. Return the token of the last one."""
    token = ""
    for n in range(count):
        answer = api.post("/jobs", {"command": "true", "job_id": f"{prefix}{n}", "hold": True})
        assert answer.status == 202, answer.body
        token = answer.json["token"]
    return token


def test_without_kafka_reads_go_on_and_say_how_old_they_are(own: tuple[EmbeddedKafka, Cluster]) -> None:
    kafka, cluster = own
    api = start_api(cluster, module="ftjm")
    token = submit(api, 5)

    def read() -> Answer | None:
        found = api.get(f"/jobs?after={token}")
        return found if found.status == 200 and not found.json["freshness"]["stale"] else None

    fresh = until(read, "reads to be fresh")
    assert (len(fresh.json["jobs"]), fresh.headers["ftjm-stale"]) == (5, "false")
    assert fresh.json["freshness"]["age_seconds"] <= 5
    kafka.pause(0)
    until(lambda: api.get("/jobs").json["freshness"]["stale"], "reads to be stale")
    stale = api.get("/jobs")
    assert (stale.status, len(stale.json["jobs"]), stale.headers["ftjm-stale"]) == (200, 5, "true")
    assert stale.json["freshness"]["age_seconds"] > 5
    assert int(stale.headers["age"]) >= 5
    assert api.get("/jobs/default/j3").json["state"] == "HELD"
    assert api.get("/partitions").json["partitions"][0].get("lag") is None
    refused = api.post("/jobs", {"command": "true", "job_id": "meanwhile"})
    assert (refused.status, refused.json["code"], refused.json["job"]) == (503, "LOG_AWAY", "default/meanwhile")
    assert int(refused.headers["retry-after"]) > 0
    [born] = api.get("/jobs/default/j3/history").json["events"]  # one of the newest
    assert born["event"] == "JobSubmitted"
    assert (api.get("/livez").status, api.get("/readyz").status) == (200, 200)
    # Restarted without Kafka, the API still knows what it has read, but is not ready: clients should use another one.
    api.kill()
    api.start()
    second = until(lambda: _try(api), "the second life to answer")
    assert len(second["jobs"]) == 5
    assert second["freshness"]["stale"]
    assert api.get("/jobs/default/j3/history").status == 503
    assert api.get("/readyz").status == 503
    kafka.resume(0)
    api.ready()
    until(lambda: not api.get("/jobs").json["freshness"]["stale"], "reads to be fresh")

    def taken() -> bool:
        return api.post("/jobs", {"command": "true", "job_id": "meanwhile"}).status == 202

    until(taken, "submissions to be taken again")


def _try(api: Api) -> dict | None:
    try:
        found: dict = api.get("/jobs").json
        return found
    except OSError:
        return None


@pytest.fixture
def two(running: Cluster) -> tuple[Cluster, Api, Api]:
    running.scheduler()
    running.until_owners("a")
    return running, start_api(running, "one", "--drain", "1s"), start_api(running, "two", "--drain", "1s")


DRAIN = "15s"
"""The `--drain` of instances behind the balancer of this file. The balancer asks one instance after the other whether
it is ready, and a busy machine takes seconds for that."""
NO_ANSWER = (OSError, http.client.HTTPException)
"""A connection was refused or cut, or ended in the middle of an answer."""


class Balancer(threading.Thread):
    """Sends requests in turn to the instances that are ready, and records each request that failed."""

    def __init__(self, apis: list[Api]) -> None:
        super().__init__(daemon=True)
        self.apis = apis
        self.healthy = list(apis)
        self.over = threading.Event()
        self.failures: list[str] = []
        self.count = 0

    def run(self) -> None:
        threading.Thread(target=self._check, daemon=True).start()
        for n in itertools.count():
            if self.over.is_set():
                return
            api = self.healthy[n % len(self.healthy)]
            try:
                if n % 3:
                    answer = api.get("/jobs?limit=5")
                else:
                    answer = api.post("/jobs", {"command": "true", "job_id": f"r{n}", "hold": True})
                if answer.status not in (200, 202):
                    self.failures.append(f"{api.name}: {answer}")
            except NO_ANSWER as error:
                self.failures.append(f"{api.name}: {error!r}")
            self.count += 1

    def _check(self) -> None:
        """Check regularly which instances are ready: much more often than the `DRAIN` of an instance."""
        while not self.over.wait(0.1):
            self.healthy = [api for api in self.apis if self._is_ready(api)] or self.healthy

    @staticmethod
    def _is_ready(api: Api) -> bool:
        try:
            return api.get("/readyz").status == 200
        except NO_ANSWER:
            return False


def test_a_rolling_restart_fails_no_request(running: Cluster) -> None:
    running.scheduler()
    running.until_owners("a")
    apis = [start_api(running, name, "--drain", DRAIN) for name in ("one", "two")]
    balancer = Balancer(apis)
    balancer.start()
    for api in apis:
        until(lambda: balancer.count > 20 and len(balancer.healthy) == 2, "both to be asked")
        assert api.stop() == 0
        api.start()
        api.ready()
        balancer.count = 0
    until(lambda: balancer.count > 20, "requests to go on")
    balancer.over.set()
    balancer.join(LIMIT_SECONDS)
    assert not balancer.is_alive()
    assert balancer.failures == []
    assert [api.error_lines() for api in apis] == [[], []]


def test_instances_give_the_same_pages_and_cursors(two: tuple[Cluster, Api, Api]) -> None:
    _, one, other = two
    token = submit(one, 30)
    found, cursor = [], ""
    for api in itertools.cycle((one, other)):
        page = api.get(f"/jobs?limit=4&cursor={cursor}&after={token}").json
        found += [job["job_id"] for job in page["jobs"]]
        cursor = page.get("next")
        if cursor is None:
            break
    assert found == [f"j{n}" for n in reversed(range(30))]


def test_a_deleted_projection_is_built_again(two: tuple[Cluster, Api, Api]) -> None:
    cluster, one, other = two
    token = submit(one, 20)
    before = one.get(f"/jobs?after={token}").json["jobs"]
    assert one.stop() == 0
    shutil.rmtree(cluster.settings.data_dir / "api" / "one")
    one.start()
    one.ready()
    assert one.get("/jobs").json["jobs"] == before == other.get(f"/jobs?after={token}").json["jobs"]
    assert one.get("/queues").json["queues"][0]["states"] == {"HELD": 20}
    one.kill()
    one.start()
    one.ready()
    token = submit(one, 3, "k")
    assert len(one.get(f"/jobs?after={token}").json["jobs"]) == 23


def test_a_listener_resumes_on_another_instance_when_its_own_stops(two: tuple[Cluster, Api, Api]) -> None:
    _, one, other = two
    with one.listen() as events:
        submit(one, 2)
        seen = [next(events), next(events)]
        began = time.monotonic()
        assert one.stop() == 0
        assert time.monotonic() - began < 60
        assert list(events) == []
    submit(other, 2, "k")
    with other.listen(Last_Event_ID=seen[-1]["id"]) as events:
        assert [next(events)["data"]["job"], next(events)["data"]["job"]] == ["default/k0", "default/k1"]
