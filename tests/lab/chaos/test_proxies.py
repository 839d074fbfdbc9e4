"""The link between one process and one broker: what it forwards, and what it survives."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from ftjm.lab.chaos.proxies import Link
from ftjm.local import broker_settings
from integration.links import Valve

RESET_AT_CLOSE = b"\1\0\0\0\0\0\0\0"
"""The option SO_LINGER, switched on with 0 seconds."""
QUESTION = b"\0\0\0\x08question"
"""A request as Kafka frames it: its length in four bytes, then its body."""


@pytest.fixture
def far():
    """A server that answers each connection with its own bytes, once."""
    with socket.create_server((broker_settings.HOST, 0), backlog=128) as listener:
        yield listener
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(params=[Link, Valve])
def link(request, far):
    with socket.create_server((broker_settings.HOST, 0)) as free:
        port = free.getsockname()[1]
    link = request.param(port, far.getsockname()[1])
    link.up()
    yield link
    link.close()


def connect(link):
    host, port = link.address.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def test_bytes_pass_in_both_directions_until_one_side_closes(far, link):
    with connect(link) as near:
        near.sendall(QUESTION)
        there, _ = far.accept()
        with there:
            assert there.recv(len(QUESTION), socket.MSG_WAITALL) == QUESTION
            there.sendall(b"answer")
            assert near.recv(6, socket.MSG_WAITALL) == b"answer"
        assert near.recv(1) == b""


def test_connections_may_be_reset_at_any_moment(far, link):
    """A thread that raises fails the test: pytest turns its exception into an error."""
    for _ in range(100):
        near = connect(link)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        near.close()
        there, _ = far.accept()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        there.close()
    link.close()
    for thread in threading.enumerate():
        if thread.name.startswith("link"):
            thread.join(20)
            assert not thread.is_alive()
