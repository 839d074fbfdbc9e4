"""What the partitions of one scheduler process share."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from structlog.stdlib import BoundLogger

from ftjm.adapters.kafka.errors import LogError, LogRefused
from ftjm.adapters.kafka.membership import Membership
from ftjm.adapters.kafka.messages import forward_headers
from ftjm.adapters.kafka.partition_log import KafkaLog
from ftjm.adapters.kafka.partition_reader import PartitionReader
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.core.decide.decision import Members
from ftjm.core.errors import NewerLogError
from ftjm.core.limits import RECORD_BYTES_MAX
from ftjm.core.state.model import Finalized
from ftjm.engine.liveness import Liveness
from ftjm.engine.member_versions import MemberVersions
from ftjm.engine.ports import Codec, Parcel, Unsendable
from ftjm.runtime import logs
from ftjm.runtime.config import Settings
from ftjm.scheduler.metrics import SchedulerMetrics
from ftjm.scheduler.overload import Overload
from ftjm.scheduler.owner_clock import CLOCK_ERROR_MAX_MS, HostClock
from ftjm.scheduler.snapshotter import Snapshotter
from ftjm.snapshots.repository import Repository

log = logs.get(__name__)


@dataclass
class Context:
    """What the partitions of one process share. The process makes it once, and sets `membership` when it has one."""

    settings: Settings
    instance: str
    """`<name>@<host>:<process id>`"""
    stores: Path
    """Directory with a store for each partition."""
    codec: Codec
    log: KafkaLog
    reader: PartitionReader
    producer: ConfirmingProducer
    liveness: Liveness
    members: MemberVersions
    partitions: int
    """Number of partitions of the cluster."""
    lanes: int
    """Number of partitions of `replies`."""
    metrics: SchedulerMetrics
    repository: Repository
    snapshotter: Snapshotter
    overload: Overload
    membership: Membership | None = None
    clock: HostClock = field(default_factory=HostClock)
    others_decide: Callable[[], bool] = lambda: False
    """Whether another active instance is present."""
    leaving: threading.Event = field(default_factory=threading.Event)
    """Set when other instances should take over. This one keeps deciding for its partitions until they have."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when all threads of the process should end."""
    snapshot_requests: dict[int, bool] = field(default_factory=dict)
    """Partitions of which a snapshot was requested, and whether it must be a full one."""
    finalize_requests: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Partitions whose upgrade is to be finalised: when that was last requested (CLOCK_BOOTTIME, ms), and by whom."""
    finalized: dict[int, Finalized] = field(default_factory=dict)
    """The versions that are final in each partition that this instance owns."""
    agreed_members: Members = field(default_factory=Members)
    """The versions that all present members support."""
    newer_log: NewerLogError | None = None
    """The error by which this build must leave the cluster: a partition's upgrade to a newer build is final."""
    background_fold: threading.Lock = field(default_factory=threading.Lock)
    """Held by the one partition that folds in the background, see `Follower.fold_in_background`."""
    throttle: logs.Throttle = field(default_factory=logs.Throttle)
    """Limits log lines that all partitions would write at the same time for the same cause."""
    heartbeat_due: threading.Event = field(default_factory=threading.Event)
    """Set when the next heartbeat should be sent soon, because it reports a change."""

    def clock_is_right(self, log: BoundLogger, todo: str) -> bool:
        """Return whether this host's clock is known to be right enough to decide with.

        A clock that is known to be wrong is logged, at most once in a while.

        Args:
            log: the logger to use.
            todo: what the log line tells the operator to do.
        """
        if self.clock.right:
            return True
        if (error := self.clock.error_ms) is not None and self.throttle.due():
            expected = f"a clock within {CLOCK_ERROR_MAX_MS} ms of the brokers'"
            log.error("clock_wrong", expected=expected, found=f"{error} ms", todo=todo)
        return False

    def send(self, parcel: Parcel, report: Callable[[bool], None]) -> None:
        """Send a message of a partition's outbox to Kafka. This is the engine's port `Send`.

        Args:
            parcel: the message.
            report: called, from any thread, with True when the log has the message, and with False if the log refuses
                it.

        Raises:
            Unsendable: the topic has no such partition, or no topic takes a record of this size.
            LogError: the producer sends nothing any more.
        """
        partitions = self.partitions if parcel.topic == "commands" else self.lanes
        if not 0 <= parcel.partition < partitions:
            raise Unsendable(f"expected one of {partitions} partitions of {parcel.topic}, but found {parcel.partition}")
        if (size := len(parcel.value)) > RECORD_BYTES_MAX:
            raise Unsendable(f"expected a record of at most {RECORD_BYTES_MAX} bytes, but found {size}")
        headers = forward_headers(parcel) if parcel.source >= 0 else ()

        def delivered(error: LogError | None) -> None:
            # Delivery has no time limit. So an error means that a setting refuses the message, or access rights do.
            if error is not None and self.throttle.due():
                todo = "remove the cause that the error names; until then, the message is sent again every second"
                log.error("message_refused", topic=parcel.topic, error=str(error), todo=todo)
            report(error is None)

        try:
            self.producer.send(
                self.settings.topic(parcel.topic),
                parcel.value,
                partition=parcel.partition,
                key=parcel.key.encode(),
                headers=headers,
                delivered=delivered,
            )
        except LogRefused as error:  # by the producer's own settings
            delivered(error)
