"""The demo checks the outputs of its jobs: wrong digests and wrong files are reported. It also measures takeovers."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess

import pytest

from ftjm.core.records import events as e
from ftjm.lab.demo import batch
from ftjm.lab.demo.batch import CompressJob
from ftjm.lab.demo.cluster import LoggedBatch, takeovers
from ftjm.runtime.errors import FtjmError


@pytest.fixture
def items(tmp_path) -> list[CompressJob]:
    files = [tmp_path / name for name in ("a.py", "b c.py", "empty")]
    for file in files:
        file.write_text("" if file.name == "empty" else f"# {file.name}\n" * 50)
    (tmp_path / "made").mkdir()
    return batch.make(tmp_path / "made", 5, files)


@pytest.fixture
def printed(items) -> dict[tuple[str, str], bytes]:
    """Run each job once, and return its output by name."""
    batch.write(items, jobs := items[0].target.parent / "jobs.jsonl")
    outputs = {}
    for item, line in zip(items, jobs.read_text().splitlines(), strict=True):
        job = json.loads(line)
        assert (job["queue"], job["job_id"]) == item.name
        outputs[item.name] = subprocess.run(job["command"], check=True, capture_output=True).stdout
    return outputs


def test_correct_outputs_pass(items, printed):
    assert list(batch.verify(items, printed)) == []


def test_files_are_compressed_at_further_levels_where_there_are_few(items):
    assert [item.level for item in items] == [6, 6, 6, 9, 9]
    assert len({item.name for item in items}) == 5


def test_there_are_enough_jobs_even_with_few_files(items, tmp_path):
    assert len(batch.make(tmp_path, files=[items[0].source])) == batch.JOBS_MIN
    with pytest.raises(FtjmError, match="a standard library made of files"):
        batch.make(tmp_path, files=[])


def test_one_job_of_eight_is_a_task():
    assert (batch.share(0), batch.share(300)) == ((0, 300), (263, 37))


def test_tasks_read_only_modules_that_can_be_parsed(tmp_path):
    files = [tmp_path / name for name in ("a.py", "b.py", "c.txt", "test/bad.py")]
    files[3].parent.mkdir()
    for file in files:
        file.write_text("class A:\n    def f(self): ...\nasync def g(): ...\n" if file.suffix == ".py" else "no Python")
    surveys = batch.surveys(3, files)
    assert [survey.source for survey in surveys] == [files[0], files[1], files[0]]
    assert len({survey.name for survey in surveys}) == 3
    assert surveys[0].result() == {"functions": 2, "classes": 1, "lines": 3}
    job = surveys[0].request.job()
    assert (job.queue, job.spec.executor, job.spec.command) == ("survey", "python", ["ftjm.lab.demo.tasks.survey"])
    with pytest.raises(FtjmError, match="modules in Python"):
        batch.surveys(1, files[2:])


def test_a_wrong_digest_is_caught(items, printed):
    printed[items[1].name] = b"0" * 64 + b"  -\n"
    [text] = batch.verify(items, printed)
    assert "expected the digest" in text
    assert items[1].job_id in text


def test_a_missing_digest_is_caught(items, printed):
    del printed[items[2].name]
    [text] = batch.verify(items, printed)
    assert "but the job printed ''" in text


def test_a_missing_file_is_caught(items, printed):
    items[3].target.unlink()
    [text] = batch.verify(items, printed)
    assert "No such file" in text


def test_a_truncated_file_is_caught(items, printed):
    items[0].target.write_bytes(items[0].target.read_bytes()[:-9])
    [text] = batch.verify(items, printed)
    assert "expected 00000-" in text


def test_a_file_of_another_source_is_caught(items, printed):
    made = gzip.compress(b"something else")
    items[0].target.write_bytes(made)
    printed[items[0].name] = hashlib.sha256(made).hexdigest().encode()
    [text] = batch.verify(items, printed)
    assert "unpacks to something else" in text


def _batch(partition: int, time_ms: int, owner: str) -> LoggedBatch:
    rest = {"batch_no": 1, "now": 0, "next_command": 0, "owner_epoch": 1, "outbox_sent": 0, "events": 0}
    return LoggedBatch(partition, time_ms, e.BatchClosed(**rest, owner=owner, state_version=1, state_hash=b""))


def test_takeovers_are_counted_from_the_kill_to_the_next_owner_of_each_partition():
    batches = [
        _batch(0, 100, "a"),
        _batch(1, 100, "a"),
        _batch(2, 100, "b"),
        _batch(1, 150, "b"),  # was given away before the kill
        _batch(0, 900, "b"),
        _batch(2, 950, "b"),
        _batch(0, 1_500, "c"),  # the second one to take over is not counted
    ]
    assert takeovers(batches, "a", 200) == {0: 700}
