"""Queues as files, by the command line on a real Kafka: applied, compared, changed meanwhile, pruned, over a kill."""

from __future__ import annotations

from pathlib import Path

from ftjm.client.command_client import Client
from ftjm.core.records.commands import ApplyQueue
from ftjm.core.state.queues import QueueSpec
from ftjm.runtime.config import Settings
from integration.apis import start_api
from integration.harness import Cluster
from integration.test_metrics import until_ready
from integration.test_operations import rows, run
from integration.waiting import LIMIT_SECONDS

QUEUE = """
apiVersion: ftjm.io/v1
kind: Queue
metadata: {{name: {name}, labels: {{app: etl}}}}
spec: {{concurrency: {concurrency}, rate: {{limit: 100, per: 1m}}}}
"""
PRUNED = ("-f", "queues", "--prune", "-l", "app=etl")


def write(name: str, concurrency: int) -> None:
    Path("queues").mkdir(exist_ok=True)
    Path(f"queues/{name}.yaml").write_text(QUEUE.format(name=name, concurrency=concurrency))


def told(settings: Settings, *arguments: str) -> tuple[int, str]:
    done = run(settings, *arguments)
    return done.returncode, done.stdout


def test_queues_are_kept_as_files(running: Cluster) -> None:
    settings, scheduler = running.settings, running.scheduler()
    until_ready(scheduler)
    running.until_owners("a")
    for name in ("etl", "mail", "web"):
        write(name, 3)
    assert told(settings, "lint", "-f", "queues") == (0, "3 resource(s) in 3 file(s), all valid\n")
    assert told(settings, "plan", "-f", "queues")[0] == 2
    created = "".join(f"Queue {name} created\n" for name in ("etl", "mail", "web"))
    assert told(settings, "apply", "-f", "queues") == (0, created)
    assert told(settings, "plan", "-f", "queues") == (0, "0 to create, 0 to change, 0 to delete, 3 unchanged\n")

    scheduler.kill()
    scheduler.start()
    until_ready(scheduler)
    running.until_owners("a")
    assert told(settings, "plan", "-f", "queues")[0] == 0, "the next owner has them"
    described = run(settings, "queue", "describe", "etl", "-o", "yaml").stdout
    Path("etl.yaml").write_text(described)
    assert told(settings, "apply", "-f", "etl.yaml") == (0, "Queue etl unchanged\n")

    write("mail", 5)
    status, text = told(settings, "plan", "-f", "queues")
    assert (status, "spec.concurrency: 3 -> 5" in text) == (2, True)
    seen = rows(settings, "queue", "describe", "mail")["declaration"]["revision"]
    assert told(settings, "apply", "-f", "queues")[1].splitlines()[1] == "Queue mail changed"
    with Client(settings) as client:  # somebody who has compared before that
        ticket = client.send(ApplyQueue(queue="mail", spec=QueueSpec(), expected_revision=seen))
        assert client.decided([ticket], LIMIT_SECONDS)
        assert ticket.refused
        assert ticket.reply is not None
        assert ticket.reply.code == "CONFLICT"
    assert rows(settings, "queue", "describe", "mail")["declaration"]["spec"]["concurrency"] == 5

    Path("queues/web.yaml").unlink()
    assert told(settings, "plan", "-f", "queues")[0] == 0, "what files do not name stays"
    status, text = told(settings, "plan", *PRUNED)
    assert (status, "- Queue web, revision" in text) == (2, True)
    assert told(settings, "apply", *PRUNED)[1].splitlines()[-1] == "Queue web deleted"
    assert told(settings, "plan", *PRUNED)[0] == 0
    assert run(settings, "queue", "describe", "web").returncode == 1


def test_what_an_api_knows_is_compared_too(running: Cluster) -> None:
    settings = running.settings
    until_ready(running.scheduler())
    running.until_owners("a")
    api = ("--api", f"http://127.0.0.1:{start_api(running).port}")
    for concurrency in (3, 4, 5):
        write("etl", concurrency)
        assert told(settings, "plan", "-f", "queues", *api)[0] == 2
        assert told(settings, "apply", "-f", "queues", *api)[0] == 0
        assert told(settings, "plan", "-f", "queues", *api)[0] == 0, "the API shows what was applied"
    described = run(settings, "queue", "describe", "etl", *api)
    assert (described.returncode, "app=etl" in described.stdout) == (0, True)
    by_api, by_log = (rows(settings, "queue", "describe", "etl", *source) for source in (api, ("--from-log",)))
    assert by_api == by_log
    assert run(settings, "queue", "describe", "absent", *api).returncode == 1
    assert told(settings, "delete", "-f", "queues") == (0, "Queue etl deleted\n")
    assert told(settings, "plan", "-f", "queues", "--from-log")[0] == 2
