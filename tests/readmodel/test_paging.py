"""Pages of jobs hold every job once, in one order, while jobs come and go, at any size of the projection."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjm.core.state.model import JobState
from ftjm.readmodel.queries import PAGE_MAX, START, Cursor, Filter, ListedJob, Reader
from ftjm.readmodel.tables import PartitionChanges, Tables, connect
from tests.readmodel.generated import BORN, STATES, generated, write_jobs

FILTERS = st.builds(
    Filter,
    queue=st.sampled_from(["", "q0", "q1", "q2", "absent"]),
    states=st.lists(st.sampled_from(STATES), max_size=3).map(tuple),
    labels=st.lists(
        st.sampled_from([("team", "t0"), ("team", "t3"), ("rare", "yes"), ("rare", "no")]), max_size=2, unique=True
    ).map(tuple),
    submitted_from=st.sampled_from([0, BORN + 10, BORN + 90]),
    submitted_before=st.sampled_from([0, BORN + 60, BORN + 100]),
)


def pages(reader: Reader, wanted: Filter, limit: int) -> list[list[ListedJob]]:
    found, behind = [], START
    while True:
        page = reader.jobs(wanted, limit, behind)
        found.append(page.jobs)
        if page.next is None:
            return found
        behind = Cursor.decode(page.next.encode())


def matches(wanted: Filter, number: int) -> bool:
    labels = {("team", f"t{number % 7}")} | ({("rare", "yes")} if number % 1_000 == 0 else set())
    at = BORN + number // 3
    return (
        wanted.queue in ("", f"q{number % 3}")
        and (not wanted.states or STATES[number % len(STATES)] in wanted.states)
        and set(wanted.labels) <= labels
        and wanted.submitted_from <= at
        and (not wanted.submitted_before or at < wanted.submitted_before)
    )


@pytest.fixture(scope="module")
def some() -> Tables:
    tables = Tables(None)
    write_jobs(tables, 0, 400, queues=3)
    return tables


@given(wanted=FILTERS, limit=st.integers(1, 150))
@settings(max_examples=150, deadline=None)
def test_the_pages_hold_every_job_that_matches_once(some, wanted, limit):
    found = [listed for page in pages(Reader(some.connection), wanted, limit) for listed in page]
    expected = [n for n in range(400) if matches(wanted, n)]
    assert [listed.key for listed in found] == [f"q{n % 3}/job-{n}" for n in reversed(expected)]


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_all_pages_hold_every_job_that_stays_while_others_are_inserted_and_forgotten(data):
    tables = Tables(None)
    write_jobs(tables, 0, 90, queues=3)
    reader, count, seen = Reader(tables.connection), 90, []
    behind: Cursor | None = START
    gone: set[int] = set()
    while behind is not None:
        page = reader.jobs(Filter(), data.draw(st.integers(1, 30)), behind)
        seen += [listed.key for listed in page.jobs]
        behind = page.next
        if more := data.draw(st.integers(0, 20)):
            write_jobs(tables, count, more, queues=3)
            count += more
        victims = data.draw(st.sets(st.integers(0, 89), max_size=3)) - gone
        gone |= victims
        tables.write([PartitionChanges(1, forgotten=[f"q{n % 3}/job-{n}" for n in victims])])
    assert len(seen) == len(set(seen))
    numbers = [int(key.rpartition("-")[2]) for key in seen]
    assert numbers == sorted(numbers, reverse=True)
    assert set(range(90)) - gone <= set(numbers)


@pytest.mark.parametrize("text", ["", "x", "AAAA", "é", "kv////8", "k" * 500, Cursor(1, 1).encode() + "A"])
def test_a_text_that_is_no_cursor_is_refused(text):
    with pytest.raises(ValueError, match="expected a cursor"):
        Cursor.decode(text)


def test_a_short_page_of_a_rare_pair_of_labels_has_a_next_page():
    tables = generated(None, 30_000)
    wanted = Filter(labels=(("team", "t0"), ("rare", "yes")))
    found = pages(Reader(tables.connection), wanted, 100)
    assert sum(map(len, found)) == len([n for n in range(0, 30_000, 1_000) if n % 7 == 0])
    assert len(found) > 1


def test_a_page_costs_the_same_at_any_depth_of_two_hundred_thousand_jobs(tmp_path):
    """Count SQLite's steps, which do not depend on the machine's load. The test was also run with a million jobs."""
    generated(tmp_path / "large.db", 200_000).close()
    generated(tmp_path / "small.db", 20_000).close()
    wanted = {
        "all": Filter(),
        "state": Filter(states=(JobState.FAILED,)),
        "queue": Filter(queue="q3"),
        "label": Filter(labels=(("team", "t3"),)),
        "both": Filter(labels=(("team", "t0"), ("rare", "yes")), states=(JobState.FAILED,)),
        "none": Filter(queue="absent"),
    }
    for name, one in wanted.items():
        small = _steps(tmp_path / "small.db", one, START)
        for depth in (START, Cursor(BORN + 30_000, 0), Cursor(BORN + 1_500, 0)):
            assert _steps(tmp_path / "large.db", one, depth) <= max(small * 3, 20), name
    reader = Reader(connect(tmp_path / "large.db", read_only=True))
    assert len(reader.jobs(Filter(), PAGE_MAX, Cursor(BORN + 1_500, 0)).jobs) == PAGE_MAX


def _steps(path, wanted: Filter, behind: Cursor) -> int:
    """The number of SQLite's instructions for one page, in thousands."""
    connection, count = connect(path, read_only=True), 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connection.set_progress_handler(step, 1_000)
    Reader(connection).jobs(wanted, 100, behind)
    connection.close()
    return count
