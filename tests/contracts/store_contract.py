"""The contract of every store of rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftjm.engine.ports import Store

KEYS = st.one_of(st.binary(max_size=3), st.sampled_from([b"a", b"a\0", b"ab", b"b", b"\xff\xff"]))
CHANGES = st.dictionaries(KEYS, st.one_of(st.none(), st.binary(max_size=4)), max_size=8)

SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
"""One store a test, cleared for each example; one test for all classes that keep the contract."""


class StoreContract:
    """Each test has its own store. The fixture `make_store` makes empty ones."""

    @pytest.fixture
    def store(self, make_store: Callable[[], Store]) -> Store:
        return make_store()

    def test_an_empty_store_has_no_rows(self, store: Store) -> None:
        assert store.get(b"a") is None
        assert list(store.scan(b"", b"\xff")) == []

    def test_written_rows_are_read(self, store: Store) -> None:
        store.write([(b"a", b"1"), (b"b", b"")])
        assert store.get(b"a") == b"1"
        assert store.get(b"b") == b"", "a row may be empty"
        assert store.get(b"c") is None

    def test_a_row_is_overwritten_and_deleted(self, store: Store) -> None:
        store.write([(b"a", b"1"), (b"b", b"1")])
        store.write([(b"a", b"2"), (b"b", None), (b"never there", None)])
        assert list(store.scan(b"", b"\xff")) == [(b"a", b"2")]

    def test_a_deleted_row_may_be_written_again(self, store: Store) -> None:
        store.write([(b"a", b"1")])
        store.write([(b"a", None)])
        store.write([(b"a", b"2")])
        assert list(store.scan(b"", b"\xff")) == [(b"a", b"2")]

    def test_rows_are_scanned_in_the_order_of_their_bytes(self, store: Store) -> None:
        keys = [b"\0", b"a", b"a\0", b"aa", b"a\xff", b"b", b"\xc3\xbc", b"\xff"]
        store.write([(key, key) for key in reversed(keys)])
        assert [key for key, _ in store.scan(b"", b"\xff\xff")] == keys

    def test_a_scan_begins_at_its_start_and_ends_before_its_end(self, store: Store) -> None:
        store.write([(key, b"") for key in (b"a", b"b", b"c", b"d")])
        assert [key for key, _ in store.scan(b"b", b"d")] == [b"b", b"c"]
        assert [key for key, _ in store.scan(b"aa", b"cc")] == [b"b", b"c"]
        assert list(store.scan(b"b", b"b")) == []
        assert list(store.scan(b"x", b"z")) == []

    def test_a_scan_may_stop_early(self, store: Store) -> None:
        store.write([(b"%d" % i, b"") for i in range(5)])
        scan = store.scan(b"", b"\xff")
        assert next(scan)[0] == b"0"
        del scan
        store.write([(b"0", None)])
        assert next(store.scan(b"", b"\xff"))[0] == b"1"

    def test_clear_removes_all_rows_and_new_ones_may_be_written(self, store: Store) -> None:
        store.write([(b"a", b"1"), (b"b", b"2")])
        store.clear()
        assert list(store.scan(b"", b"\xff")) == []
        assert store.get(b"a") is None
        store.write([(b"b", b"3")])
        assert list(store.scan(b"", b"\xff")) == [(b"b", b"3")]

    def test_an_empty_write_changes_nothing(self, store: Store) -> None:
        store.write([])
        assert list(store.scan(b"", b"\xff")) == []

    def test_stores_are_separate(self, make_store: Callable[[], Store]) -> None:
        first, second = make_store(), make_store()
        first.write([(b"a", b"1")])
        assert second.get(b"a") is None

    @settings(max_examples=40, deadline=None, suppress_health_check=SHARED)
    @given(batches=st.lists(CHANGES, max_size=5), bounds=st.tuples(KEYS, KEYS))
    def test_a_store_behaves_like_a_sorted_dictionary(self, store: Store, batches, bounds) -> None:
        store.clear()
        model: dict[bytes, bytes] = {}
        start, end = sorted(bounds)
        for changes in batches:
            store.write(list(changes.items()))
            model.update({key: value for key, value in changes.items() if value is not None})
            for key in [key for key, value in changes.items() if value is None]:
                model.pop(key, None)
            assert list(store.scan(start, end)) == sorted((k, v) for k, v in model.items() if start <= k < end)
            assert all(store.get(key) == model.get(key) for key in changes)
