import json

import pytest

from ftjm.adapters.kafka import patience
from ftjm.adapters.records import Record
from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.identity import partition_for
from ftjm.core.state.row_cache import encode
from ftjm.core.state.tables import POSITION_KEY, load_position
from ftjm.history.store_rows import LAST
from ftjm.runtime.errors import FtjmError, UsageError
from tests.cli.cluster import PARTITIONS, FakeScan

HOME = partition_for("default", PARTITIONS)


@pytest.fixture
def busy(ftjm, cluster):
    """Jobs in several states."""
    ftjm("submit", "--job-id", "a", "--hold", "--", "x")
    ftjm("submit", "--job-id", "b", "--wait", "--", "x")
    ftjm("submit", "--job-id", "c", "--queue", "q", "--delay", "1h", "--", "x")
    return cluster


@pytest.fixture
def stores(busy, tmp_path):
    """The stores of a scheduler on this machine, written by its partitions."""
    paths = []
    for number, partition in enumerate(busy.partitions):
        path = tmp_path / "data" / "scheduler-1" / f"partition-{number}"
        store = RocksStore(path)
        store.write(list(partition.store.scan(b"", LAST)))
        store.close()
        paths.append(path)
    return paths


def change(path, key, value):
    store = RocksStore(path)
    store.write([(key, value)])
    store.close()


def lines(result):
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


# ---- replay


def test_replay_gives_the_state_that_the_owners_have(ftjm, busy):
    result = ftjm("replay", "-o", "json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    for row, partition in zip(rows, busy.partitions, strict=True):
        assert row["state_hash"] == partition.position.state_hash.hex()
        assert row["applied_offset"] == partition.position.applied_offset
    assert {name: states for row in rows for name, states in row["queues"].items()} == {
        "default": {"HELD": 1, "SUCCEEDED": 1},
        "q": {"SCHEDULED": 1},
    }
    assert "SUCCEEDED" in ftjm("replay").stdout


def test_replay_lists_jobs(ftjm, busy):
    rows = json.loads(ftjm("replay", "-p", str(HOME), "--jobs", "-o", "json").stdout)
    assert {(row["job"], row["state"]) for row in rows} >= {("default/a", "HELD"), ("default/b", "SUCCEEDED")}


def test_replay_until_an_offset_takes_whole_batches(ftjm, busy):
    first = busy.writers[HOME].records[2]
    for until in (first.offset, first.offset + 1):
        [row] = json.loads(ftjm("replay", "-p", str(HOME), "--until", str(until), "-o", "json").stdout)
        assert row["applied_offset"] == first.offset
        assert row["queues"] == {"default": {"HELD": 1}}
    [before] = json.loads(ftjm("replay", "-p", str(HOME), "--until", "0", "-o", "json").stdout)
    assert (before["applied_offset"], before["queues"]) == (-1, {})


def test_replay_until_a_time(ftjm, busy):
    from ftjm.runtime.durations import format_time

    decided = busy.partitions[HOME].position.now
    [row] = json.loads(ftjm("replay", "-p", str(HOME), "--until", format_time(decided), "-o", "json").stdout)
    assert row["state_hash"] == busy.partitions[HOME].position.state_hash.hex()
    [row] = json.loads(ftjm("replay", "-p", str(HOME), "--until", "2020-01-01T00:00:00Z", "-o", "json").stdout)
    assert row["queues"] == {}


def test_replay_of_one_job(ftjm, busy):
    assert json.loads(ftjm("replay", "b", "-o", "json").stdout)["state"] == "SUCCEEDED"
    submitted = next(r.offset for r in busy.writers[HOME].records if r.key == b"default/b")
    earlier = json.loads(ftjm("replay", "b", "--until", str(submitted), "-o", "json").stdout)
    assert earlier["state"] == "READY"
    both = ftjm("replay", "a", "none", "-o", "json")
    assert both.exit_code == 1
    assert "default/none" in both.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["-p", "9"],
        ["--until", "soon"],
        ["a", "--verify"],
        ["a", "-p", "0"],
        ["--verify", "--until", "5"],
    ],
)
def test_mistakes_on_the_command_line_are_errors(ftjm, busy, arguments):
    assert isinstance(ftjm("replay", *arguments).exception, UsageError)


def test_a_log_that_cannot_be_folded_is_reported_with_its_offset(ftjm, busy):
    records = busy.writers[HOME].records
    records[2] = Record(HOME, records[2].offset, b"", b"garbage", 0, [])
    result = ftjm("replay", "-p", str(HOME))
    assert isinstance(result.exception, FtjmError)
    assert f"at offset {records[2].offset}" in result.exception.found


def test_a_trimmed_log_cannot_be_replayed(ftjm, busy, monkeypatch):
    monkeypatch.setattr("tests.cli.cluster.FakeScan.bounds", lambda *_: (5, 9))
    monkeypatch.setattr("ftjm.history.trimmed.WholeLog.restore", lambda *_: None)
    assert "begins at offset 5" in str(ftjm("replay").exception)


# ---- replay --verify


def test_stores_that_equal_the_log(ftjm, stores):
    result = ftjm("replay", "--verify", "-o", "json")
    assert result.exit_code == 0
    assert [row["result"] for row in json.loads(result.stdout)] == ["equal"] * PARTITIONS


def test_a_store_behind_the_log_is_compared_at_its_own_position(ftjm, stores):
    ftjm("submit", "--job-id", "later", "--", "x")
    assert ftjm("replay", "--verify").exit_code == 0


@pytest.mark.parametrize(("key", "value"), [(b"jdefault/a", None), (b"jdefault/zz", encode([2])), (b"x", b"?")])
def test_the_first_row_that_differs_is_shown(ftjm, stores, key, value):
    change(stores[HOME], key, value)
    result = ftjm("replay", "--verify", "-o", "json")
    assert result.exit_code == 1
    row = json.loads(result.stdout)[HOME]
    assert row["result"] == "differs"
    assert row["row"] == {b"jdefault/a": "job default/a", b"jdefault/zz": "job default/zz", b"x": "counters "}[key]
    table = ftjm("replay", "--verify")
    assert table.exit_code == 1
    assert "the log says" in table.stdout


def test_a_store_with_another_position_differs(ftjm, stores):
    store = RocksStore(stores[HOME])
    position = load_position(store)
    position.next_command += 1
    store.write([(POSITION_KEY, encode(position))])
    store.close()
    assert ftjm("replay", "--verify", "-p", str(HOME)).exit_code == 1


def test_a_store_that_cannot_be_read_is_reported(ftjm, stores):
    for file in stores[HOME].glob("*.sst"):
        data = bytearray(file.read_bytes())
        data[:40] = bytes(40)
        file.write_bytes(data)
    result = ftjm("replay", "--verify", "-o", "json")
    assert result.exit_code == 1
    row = json.loads(result.stdout)[HOME]
    assert row["result"] == "damaged"
    assert "checksum" in row["error"]
    table = ftjm("replay", "--verify")
    assert table.exit_code == 1
    assert "cannot be read" in table.stdout


def test_an_empty_store_and_a_missing_one(ftjm, busy, tmp_path):
    assert isinstance(ftjm("replay", "--verify").exception, FtjmError)
    RocksStore(tmp_path / "data" / "s" / "partition-0").close()
    [row] = json.loads(ftjm("replay", "--verify", "-o", "json").stdout)
    assert (row["store"], row["result"]) == ("s", "empty")


# ---- inspect


def test_inspect_events(ftjm, ftjm_json, busy):
    rows = lines(ftjm("inspect", "events", "-p", str(HOME), "--from", "0"))
    assert [row["offset"] for row in rows] == [r.offset for r in busy.writers[HOME].records]
    assert rows[0]["event"] == "UpgradeFinalized"
    assert rows[1] == next(row for row in ftjm_json("history", "a"))
    assert (rows[1]["event"], rows[1]["job"]) == ("JobSubmitted", "default/a")
    assert rows[1]["details"]["spec"]["command"] == ["x"]
    closed = rows[2]
    assert (closed["type"], closed["record"]["batch_no"]) == ("BatchClosed", 1)
    assert "key" not in closed


def test_inspect_the_newest_events(ftjm, busy):
    newest = lines(ftjm("inspect", "events", "-n", "1"))
    assert [row["type"] for row in newest] == ["BatchClosed"] * PARTITIONS
    of_a_job = lines(ftjm("inspect", "events", "--job", "b"))
    assert [row["event"] for row in of_a_job] == ["JobSubmitted", "AttemptDispatched", "AttemptSucceeded"]
    assert "AttemptSucceeded default/b" in ftjm("inspect", "events", "--job", "b", "-o", "table").stdout


def test_inspect_shows_commands_and_undecodable_records(ftjm, busy):
    busy.deciding = False
    busy.append(HOME, b"q", b"\xffgarbage", [("ftjm-reply-to", b"\xfe")])
    *_, undecodable = lines(ftjm("inspect", "commands", "-p", str(HOME)))
    assert undecodable["undecodable"] == "NOT_SINGLE_OBJECT"
    assert "type" not in undecodable
    assert undecodable["value"] == {"base64": "/2dhcmJhZ2U="}
    assert undecodable["headers"] == {"ftjm-reply-to": {"base64": "/g=="}}


def test_inspect_state(ftjm, stores):
    rows = lines(ftjm("inspect", "state", "-p", str(HOME)))
    assert {row["kind"] for row in rows} >= {"job", "spec", "queue", "counters", "position"}
    [held] = [row for row in rows if row["kind"] == "job" and row["key"] == "default/a"]
    assert held["value"]["state"] == "HELD"
    waiting = lines(ftjm("inspect", "state", "--kind", "timer"))
    assert any("DUE q/c" in row["key"] for row in waiting)
    assert isinstance(ftjm("inspect", "state", "--kind", "x").exception, UsageError)
    assert isinstance(ftjm("inspect", "state", "--store", "x").exception, FtjmError)


def test_inspect_partitions(ftjm, busy):
    rows = json.loads(ftjm("inspect", "partitions", "-o", "json").stdout)
    assert [row["owner"] for row in rows] == ["scheduler-1"] * PARTITIONS
    assert [row["lag"] for row in rows] == [0] * PARTITIONS
    assert not rows[0]["alive"]
    busy.deciding = False
    ftjm("submit", "--", "x")
    rows = json.loads(ftjm("inspect", "partitions", "-o", "json").stdout)
    assert rows[HOME]["lag"] == 1


def test_a_cluster_without_topics(ftjm, monkeypatch, cluster):
    monkeypatch.setattr(patience, "Scan", lambda *_, **__: FakeScan(cluster, "other.nothing"))
    result = ftjm("get", "a", "--cluster", "other")
    assert isinstance(result.exception, FtjmError)
    assert "ftjm topics create" in result.exception.todo
