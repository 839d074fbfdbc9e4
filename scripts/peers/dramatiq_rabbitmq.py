"""Dramatiq with RabbitMQ: durable queues, and a confirmation of each message."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from scripts.peers import functions
from scripts.peers.install import RABBITMQ_SERVER
from scripts.peers.processes import await_port
from scripts.peers.workload import Peer

dramatiq.set_broker(
    RabbitmqBroker(url=f"amqp://guest:guest@127.0.0.1:{os.environ['PEERS_PORT']}", confirm_delivery=True)
)
no_op = dramatiq.actor(functions.no_op)
stamp = dramatiq.actor(functions.stamp)


class System(Peer):
    """See the head of this file."""

    title = "Dramatiq + RabbitMQ"
    flushes = "broker's confirmation"
    stores = "no results"

    @property
    def version(self) -> str:
        """See `Peer`."""
        return f"{version('dramatiq')}, RabbitMQ {self._server.parent.parent.name.removeprefix('rabbitmq_server-')}"

    def start(self) -> None:
        """See `Peer`. All that listens does so at loopback; Erlang's port mapper would do so everywhere."""
        self._server = next(Path(os.environ["PEERS_ROOT"]).glob(RABBITMQ_SERVER))
        port, distribution_port, mapper_port = map(str, self.ports)
        (self.folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\n")
        (self.folder / "plugins").write_text("[].\n")
        self.processes.start("epmd", ["epmd", "-address", "127.0.0.1", "-port", mapper_port])
        await_port(int(mapper_port), self.processes.check)
        settings = {
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": mapper_port,
            "RABBITMQ_NODENAME": "bench@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_DIST_PORT": distribution_port,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        self.processes.start("rabbitmq", [self._server], settings)
        await_port(self.ports[0], self.processes.check)

    def worker_command(self, number: int) -> Sequence[str]:  # noqa: ARG002 -- its workers have no names
        """See `Peer`. One process with eight threads, which are its default."""
        return [sys.executable, "-m", "dramatiq", "--processes", "1", "--threads", "8", __name__]

    def submit(self, count: int) -> None:
        """See `Peer`."""
        for _ in range(count):
            no_op.send(functions.PAYLOAD)

    def submit_stamp(self, number: int) -> None:
        """See `Peer`."""
        stamp.send(number, functions.PAYLOAD)
