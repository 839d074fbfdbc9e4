"""Random histories, folded by stores whose rows change their version at any batch: the owner's rows, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from ftjm.adapters.avro import codec
from ftjm.adapters.memory import MemoryStore
from ftjm.core.records.levels import FIRST_LEVEL
from ftjm.core.state import migrations
from ftjm.core.state.migrations import OLDEST_VERSION, migrate
from ftjm.core.state.model import JobState
from ftjm.core.state.row_cache import encode
from ftjm.engine.partition import Partition
from tests.core import version_3
from tests.core.consistency import all_rows
from tests.core.test_migrations import migrated
from tests.engine.test_history import Histories


class MigratedHistories(Histories):
    """Histories at whose end the log is folded again by stores that change their version at some batch."""

    batches: list[int]
    crash_after: int
    level = FIRST_LEVEL  # a program of version 3 stops where a later level is made final
    ahead_max = 0  # and it sent nothing ahead

    @rule(batches=st.lists(st.integers(1, 60), max_size=3), crash_after=st.integers(0, 30))
    def choose(self, batches: list[int], crash_after: int) -> None:
        self.batches, self.crash_after = batches, crash_after

    def teardown(self) -> None:
        super().teardown()
        if not hasattr(self, "world"):
            return
        monkeypatch = pytest.MonkeyPatch()
        monkeypatch.setattr(migrations, "WRITE_ROWS_MAX", 3)
        try:
            last = self.world.owner.position.batch_no
            for batch in {last, *(1 + n % last for n in getattr(self, "batches", []))} if last else ():
                self.check_migration_at(batch)
        finally:
            monkeypatch.undo()

    def check_migration_at(self, batch: int) -> None:
        """Fold up to `batch` as version 3, migrate, fold the rest: the owner's rows, byte for byte."""
        before = Partition(self.world.policy, MemoryStore(), codec, self.world.log.log_id)
        records = iter(list(self.world.log.events(0, 0)))
        while before.position.batch_no < batch:
            before.fold(next(records))
        old = version_3.rows(all_rows(before.store)) | {b"qgone": encode([[0] * (max(JobState) + 1)])}
        assert dict(sorted(migrate(old.items(), OLDEST_VERSION))) == all_rows(before.store)
        store = migrated(old, getattr(self, "crash_after", None))
        assert all_rows(store) == all_rows(before.store)
        after = Partition(self.world.policy, store, codec, self.world.log.log_id)
        for record in records:
            after.fold(record)
        assert all_rows(store) == self.world.rows()


TestMigratedHistories = pytest.mark.timeout(600)(MigratedHistories.TestCase)
TestMigratedHistories.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
