"""Resources as files, by the command line on a cluster in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftjm import cli
from ftjm.adapters.avro import codec
from ftjm.cli import answers, api_client
from ftjm.cli.declared import jobs_by_api
from ftjm.core.identity import partition_for
from ftjm.core.records.commands import ApplyQueue
from ftjm.core.state.queues import QueueSpec
from ftjm.runtime import config
from ftjm.runtime.errors import FtjmError, UsageError
from ftjm.specs.job_resource import SubmittedContent
from ftjm.specs.resource_files import InvalidResourcesError
from tests.cli.cluster import PARTITIONS, Cluster

QUEUE = """
apiVersion: ftjm.io/v1
kind: Queue
metadata:
  name: {name}
  labels: {{app: etl}}
spec:
  concurrency: {concurrency}
"""


def write(name: str, concurrency: int = 3) -> None:
    Path("queues").mkdir(exist_ok=True)
    Path(f"queues/{name}.yaml").write_text(QUEUE.format(name=name, concurrency=concurrency))


def edit(cluster: Cluster, name: str, **spec: Any) -> None:
    """Change a declaration as somebody else does."""
    command = ApplyQueue(queue=name, spec=QueueSpec(**spec), actor="bob@host")
    cluster.append(partition_for(name, PARTITIONS), name.encode(), codec.encode(command), [])


def declared(cluster: Cluster) -> dict[str, QueueSpec]:
    found = {}
    for name in ("etl", "mail", "web", "old"):
        row = cluster.partitions[partition_for(name, PARTITIONS)].state.declaration(name)
        if row is not None:
            found[name] = row.spec
    return found


def test_files_are_planned_applied_changed_and_pruned(ftjm, cluster):
    write("etl")
    write("mail")
    plan = ftjm("plan", "-f", "queues")
    assert (plan.exit_code, plan.stdout.splitlines()[-1]) == (2, "2 to create, 0 to change, 0 to delete, 0 unchanged")
    assert declared(cluster) == {}
    applied = ftjm("apply", "-f", "queues")
    assert (applied.exit_code, applied.stdout) == (0, "Queue etl created\nQueue mail created\n")
    assert declared(cluster) == {"etl": QueueSpec(concurrency=3), "mail": QueueSpec(concurrency=3)}
    plan = ftjm("plan", "-f", "queues")
    assert (plan.exit_code, plan.stdout) == (0, "0 to create, 0 to change, 0 to delete, 2 unchanged\n")
    again = ftjm("apply", "-f", "queues", "-o", "json")
    assert [row["action"] for row in json.loads(again.stdout)] == ["unchanged", "unchanged"]
    write("mail", 5)
    Path("queues/etl.yaml").unlink()
    plan = ftjm("plan", "-f", "queues", "--prune", "-l", "app=etl", "-o", "yaml")
    change, deletion = yaml.safe_load(plan.stdout)
    assert (plan.exit_code, change["differences"]) == (2, [{"field": "spec.concurrency", "before": 3, "after": 5}])
    assert (deletion["action"], deletion["name"]) == ("delete", "etl")
    applied = ftjm("apply", "-f", "queues/mail.yaml", "--prune", "-l", "app=etl,team=web")
    assert applied.stdout == "Queue mail changed\n", "etl has only one of the labels"
    assert (
        ftjm("apply", "-f", "queues", "--prune", "-l", "app=etl").stdout == "Queue mail unchanged\nQueue etl deleted\n"
    )
    assert declared(cluster) == {"mail": QueueSpec(concurrency=5)}
    deleted = ftjm("delete", "-f", "queues", "-o", "json")
    assert [(row["name"], row["answer"]) for row in json.loads(deleted.stdout)] == [("mail", "accepted")]
    assert declared(cluster) == {}
    assert ftjm("delete", "-f", "queues").stdout == "Queue mail deleted\n", "what is so already is accepted"


def test_an_edit_in_between_is_a_conflict_and_the_others_are_applied(ftjm, cluster, monkeypatch):
    for name in ("etl", "mail", "web"):
        write(name)
    ftjm("apply", "-f", "queues")
    for name in ("etl", "mail", "web"):
        write(name, 9)
    connect = answers.connect

    def after_an_edit(*arguments):
        edit(cluster, "mail", concurrency=7)
        return connect(*arguments)

    monkeypatch.setattr(answers, "connect", after_an_edit)
    applied = ftjm("apply", "-f", "queues")
    assert (applied.exit_code, applied.stdout) == (1, "Queue etl changed\nQueue web changed\n")
    assert "mail was refused: expected the declaration of the queue to be revision" in applied.stderr
    assert "by bob@host; it was changed meanwhile: compare again with `ftjm plan` (CONFLICT)" in applied.stderr
    assert {name: spec.concurrency for name, spec in declared(cluster).items()} == {"etl": 9, "mail": 7, "web": 9}
    monkeypatch.setattr(answers, "connect", connect)
    assert ftjm("apply", "-f", "queues").stdout == "Queue etl unchanged\nQueue mail changed\nQueue web unchanged\n"


def test_what_is_not_decided_yet_is_told(ftjm, cluster):
    cluster.deciding = False
    write("etl")
    applied = ftjm("apply", "-f", "queues")
    assert (applied.exit_code, applied.stdout) == (0, "Queue etl to be created: in the log\n")
    assert "not decided yet" in applied.stderr


def test_what_a_queue_is_declared_to_is_a_file_again(ftjm, ftjm_json, cluster):
    write("etl", 4)
    ftjm("apply", "-f", "queues")
    described = ftjm("queue", "describe", "etl", "-o", "yaml")
    metadata = {"name": "etl", "labels": {"app": "etl"}}
    spec = {"concurrency": 4, "ageing": "1m"}
    assert yaml.safe_load(described.stdout) == {
        "apiVersion": "ftjm.io/v1",
        "kind": "Queue",
        "metadata": metadata,
        "spec": spec,
    }
    assert ftjm("apply", "-f", "-", stdin=described.stdout).stdout == "Queue etl unchanged\n"
    assert ftjm("plan", "-f", "-", stdin=described.stdout).exit_code == 0
    ftjm("queue", "pause", "etl", "--reason", "the disk is full")
    document = ftjm_json("queue", "describe", "etl")
    assert (document["declaration"]["spec"], document["pause_reason"]) == (spec, "the disk is full")
    table = ftjm("queue", "describe", "etl").stdout
    for text in ("revision 1, at ", "app=etl", "no limit", "the disk is full", "paused_by"):
        assert text in table
    assert ftjm("apply", "-f", "-", stdin=described.stdout).stdout == "Queue etl unchanged\n"
    assert ftjm_json("queue", "describe", "etl")["paused"], "no file resumes a queue"


def test_the_defaults_of_a_queue_are_shown_and_are_a_file_again(ftjm):
    given = {"max_attempts": 3, "backoff": {"initial": "5s"}, "timeout": "0s"}
    file = {"apiVersion": "ftjm.io/v1", "kind": "Queue", "metadata": {"name": "etl"}, "spec": {"defaults": given}}
    ftjm("apply", "-f", "-", stdin=json.dumps(file))
    described = ftjm("queue", "describe", "etl", "-o", "yaml").stdout
    assert yaml.safe_load(described)["spec"]["defaults"] == given
    assert ftjm("apply", "-f", "-", stdin=described).stdout == "Queue etl unchanged\n"
    assert "timeout 0s, max_attempts 3, backoff.initial 5s" in ftjm("queue", "describe", "etl").stdout


def test_a_queue_that_is_not_declared_has_no_file(ftjm):
    ftjm("submit", "--queue", "plain", "--job-id", "a", "--", "x")
    assert "declared" in ftjm("queue", "describe", "plain").stdout
    refused = ftjm("queue", "describe", "plain", "-o", "yaml").exception
    assert isinstance(refused, FtjmError)
    assert (refused.expected, refused.exit_code) == ("a declaration of queue plain", 1)


def test_files_are_checked_before_anything_is_read_or_changed(ftjm, cluster):
    write("etl")
    write("mail", 0)
    for verb in ("lint", "plan", "apply", "delete"):
        refused = ftjm(verb, "-f", "queues").exception
        assert isinstance(refused, InvalidResourcesError), verb
        assert "queues/mail.yaml:8: spec.concurrency: expected 1 or more" in str(refused)
    assert not any(cluster.commands)
    write("mail")
    assert ftjm("lint", "-f", "queues", "-f", "queues/etl.yaml").stdout == "2 resource(s) in 2 file(s), all valid\n"
    assert json.loads(ftjm("lint", "-f", "queues", "-o", "json").stdout) == {"resources": 2, "files": 2}


@pytest.mark.parametrize(
    "options", [["--prune"], ["-l", "app=etl"], ["--prune", "-l", "app"], ["--prune", "-l", "app=etl,"]]
)
@pytest.mark.parametrize("verb", ["plan", "apply"])
def test_prune_needs_labels(ftjm, cluster, verb, options):
    write("etl")
    assert isinstance(ftjm(verb, "-f", "queues", *options).exception, UsageError)
    assert not any(cluster.commands)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["plan", "-f", "absent.yaml"], 1),
        (["plan", "-f", "queues", "--prune"], 1),
        (["plan", "--absent"], 1),
        (["plan"], 1),
        (["plan", "--help"], 0),
        (["plan", "-f", "queues"], 2),
        (["lint", "-f", "absent.yaml"], 2),
        (["lint"], 2),
    ],
)
def test_the_status_2_of_a_plan_means_a_difference_and_no_error(cluster, capsys, arguments, status):
    write("etl")
    assert cli.run(arguments) == status


JOB = """
apiVersion: ftjm.io/v1
kind: Job
metadata: {{name: load, labels: {{app: etl}}}}
spec: {{queue: etl, command: [load], timeout: {timeout}}}
"""


def write_job(timeout: str = "1h") -> None:
    Path("queues").mkdir(exist_ok=True)
    # Its queue is declared behind it, and is applied before it.
    given = "\n---\napiVersion: ftjm.io/v1\nkind: Queue\nmetadata: {name: etl}\nspec: {defaults: {max_attempts: 4}}\n"
    Path("queues/job.yaml").write_text(JOB.format(timeout=timeout) + given)


def test_a_job_of_a_file_is_submitted_once(ftjm, cluster):
    write_job()
    plan = ftjm("plan", "-f", "queues")
    assert plan.exit_code == 2
    assert "+ Job etl/load (queues/job.yaml:2)" in plan.stdout
    assert "    spec.timeout: 1h" in plan.stdout
    applied = ftjm("apply", "-f", "queues")
    assert (applied.exit_code, applied.stdout) == (0, "Job etl/load created\nQueue etl created\n")
    spec = cluster.partitions[partition_for("etl", PARTITIONS)].state.spec("etl/load")
    assert (spec.max_attempts, spec.timeout_ms, spec.labels) == (4, 3_600_000, {"app": "etl"})
    assert ftjm("plan", "-f", "queues").exit_code == 0
    assert ftjm("apply", "-f", "queues").stdout == "Job etl/load unchanged\nQueue etl unchanged\n"
    assert ftjm("plan", "-f", "queues", "--prune", "-l", "app=etl").exit_code == 0, "jobs are not pruned"


def test_a_job_is_not_changed_and_not_deleted(ftjm, cluster):
    write_job()
    ftjm("apply", "-f", "queues")
    write_job("2h")
    plan = ftjm("plan", "-f", "queues")
    assert plan.exit_code == 2
    assert "! Job etl/load (queues/job.yaml:2)\n    must be replaced: there is a job" in plan.stdout
    assert plan.stdout.splitlines()[-1] == "0 to create, 0 to change, 0 to delete, 1 to replace, 1 unchanged"
    applied = ftjm("apply", "-f", "queues")
    assert applied.exit_code == 1
    assert "IDENTITY_TAKEN" in applied.stderr
    assert applied.stdout == "Queue etl unchanged\n"
    refused = ftjm("delete", "-f", "queues")
    assert isinstance(refused.exception, UsageError)
    assert "found the job etl/load (queues/job.yaml:2)" in str(refused.exception)
    assert "ftjm cancel etl/load" in str(refused.exception)
    assert ftjm("plan", "-f", "queues").exit_code == 2, "nothing was deleted"


def test_an_api_tells_what_a_job_was_submitted_with(monkeypatch):
    asked: list[str] = []

    def get(_settings: Any, path: str, *_: Any) -> dict[str, Any] | None:
        asked.append(path)
        return {"content": "3:00ff"} if path.endswith("load") else None

    monkeypatch.setattr(api_client, "get", get)
    found = jobs_by_api(config.load(bootstrap="127.0.0.1:1"), ["etl/load", "etl/other"])
    assert asked == ["/jobs/etl/load", "/jobs/etl/other"]
    assert found == {"etl/load": SubmittedContent(3, b"\0\xff")}
