"""What the partitions of one scheduler process share."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaError
from structlog.stdlib import BoundLogger

from ftjm import logs
from ftjm.adapters.kafka_feed import Feed
from ftjm.adapters.kafka_group import Membership
from ftjm.adapters.kafka_log import KafkaLog, forward_headers
from ftjm.adapters.kafka_outlet import Outlet
from ftjm.config import Settings
from ftjm.engine.liveness import Liveness
from ftjm.engine.ports import Codec, Parcel
from ftjm.metrics.scheduler import SchedulerMetrics
from ftjm.repository import Repository
from ftjm.scheduler.pressure import Pressure
from ftjm.scheduler.snapshots import Snapshotter
from ftjm.scheduler.steady import CLOCK_ERROR_MAX_MS, HostClock

log = logs.get(__name__)


@dataclass
class Context:
    """Made once by the process; `membership` as it becomes known."""

    settings: Settings
    instance: str
    stores: Path
    codec: Codec
    log: KafkaLog
    feed: Feed
    outlet: Outlet
    liveness: Liveness
    partitions: int
    lanes: int
    metrics: SchedulerMetrics
    repository: Repository
    snapshotter: Snapshotter
    pressure: Pressure
    membership: Membership | None = None
    clock: HostClock = field(default_factory=HostClock)
    others_decide: Callable[[], bool] = lambda: False
    """Whether another active instance is there."""
    leaving: threading.Event = field(default_factory=threading.Event)
    """Set once others are to take over, while partitions are still decided for here."""
    stopping: threading.Event = field(default_factory=threading.Event)
    wishes: dict[int, bool] = field(default_factory=dict)
    """Partitions of which somebody wishes a snapshot, and whether it shall be a full one."""
    aside: threading.Lock = field(default_factory=threading.Lock)
    """Held by the partition that folds what nobody waits for."""
    seldom: logs.Seldom = field(default_factory=logs.Seldom)
    """For what each partition would say when it is the same for all."""
    changed: threading.Event = field(default_factory=threading.Event)
    """Something was changed that other processes should hear of soon."""

    def clock_is_right(self, log: BoundLogger, todo: str) -> bool:
        """Whether anything may be decided by this host's clock; where it is wrong, that is said now and then."""
        if self.clock.right:
            return True
        if (error := self.clock.error_ms) is not None and self.seldom.due():
            expected = f"a clock within {CLOCK_ERROR_MAX_MS} ms of the brokers'"
            log.error("clock_wrong", expected=expected, found=f"{error} ms", todo=todo)
        return False

    def send(self, parcel: Parcel, told: Callable[[bool], None]) -> None:
        """Hand a parcel of a partition's outbox to Kafka; `told` whether the log has it, or has refused it."""
        headers = forward_headers(parcel) if parcel.source >= 0 else ()

        def delivered(error: KafkaError | None, _message: object) -> None:
            # The delivery time-out is endless, so where there is one, a size or a topic's rights are against it.
            if error is not None and self.seldom.due():
                todo = "mend that; it is sent again and again"
                log.error("message_refused", topic=parcel.topic, error=error.str(), todo=todo)
            told(error is None)

        self.outlet.send(
            self.settings.topic(parcel.topic),
            parcel.value,
            partition=parcel.partition,
            key=parcel.key.encode(),
            headers=headers,
            delivered=delivered,
        )
