"""A connection that ends tells of a death, if the port is closed, too."""

from __future__ import annotations

import contextlib
import queue
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftjm.scheduler.lifelines import Lifelines

WAIT_SECONDS = 60.0
PEER = """
import sys
from ftjm.scheduler.lifelines import Lifelines
print(Lifelines("127.0.0.1", print).port, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def deaths() -> queue.Queue[str]:
    return queue.Queue()


@pytest.fixture
def watcher(deaths: queue.Queue[str]) -> Iterator[Lifelines]:
    made = Lifelines("127.0.0.1", deaths.put)
    yield made
    made.close()


def test_kill_9_of_a_peer_is_told(watcher, deaths):
    with subprocess.Popen(
        [sys.executable, "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as peer:
        assert peer.stdout is not None
        port = int(peer.stdout.readline())
        watcher.watch({"peer": ("127.0.0.1", port)})
        tied(port)
        peer.kill()
        assert deaths.get(timeout=WAIT_SECONDS) == "peer"


def test_a_connection_that_breaks_alone_is_no_death(watcher, deaths):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_SECONDS)
        watcher.watch({"peer": server.getsockname()})
        first, _ = server.accept()
        first.close()
        again, _ = server.accept()
        assert deaths.empty()
        server.close()
        again.close()
        assert deaths.get(timeout=WAIT_SECONDS) == "peer"


def test_one_that_is_no_longer_wanted_has_not_died_and_a_port_that_nobody_holds_is_of_a_dead_one(watcher, deaths):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_SECONDS)
        address = server.getsockname()
        watcher.watch({"left": address})
        line, _ = server.accept()
        with line:
            watcher.watch({})
            assert line.recv(1) == b""
    watcher.watch({"never": address})
    assert deaths.get(timeout=WAIT_SECONDS) == "never"
    assert deaths.empty()


def test_what_is_no_address_keeps_nobody_from_watching_the_others(watcher, deaths):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_SECONDS)
        wrong = {"beyond": ("127.0.0.1", 10**30), "no name": ("h" * 70 + ".x", 1)}
        watcher.watch({**wrong, "peer": server.getsockname()})
        line, _ = server.accept()
        line.close()
        again, _ = server.accept()
        server.close()
        again.close()
        assert deaths.get(timeout=WAIT_SECONDS) == "peer"


def test_a_thread_that_has_ended_before_it_is_woken_is_closed(deaths):
    watcher = Lifelines("127.0.0.1", deaths.put)
    watcher._open = False
    watcher._wake.send(b"w")
    watcher._thread.join(WAIT_SECONDS)
    assert not watcher._thread.is_alive()
    watcher.close()


def test_who_is_told_of_a_death_may_fail():
    told: queue.Queue[str] = queue.Queue()

    def died(name: str) -> None:
        told.put(name)
        raise KeyError(name)

    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = server.getsockname()
    watcher = Lifelines("127.0.0.1", died)
    try:
        for name in ("one", "another"):
            watcher.watch({name: nobody})
            assert told.get(timeout=WAIT_SECONDS) == name
    finally:
        watcher.close()


def test_whoever_talks_is_hung_up_on(watcher):
    with socket.create_connection(("127.0.0.1", watcher.port), WAIT_SECONDS) as line:
        line.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert line.recv(1) == b""


def tied(port: int) -> None:
    """Wait until somebody is connected to the port."""
    wanted = f":{port:04X} 0"
    for _ in range(10_000):
        if any(wanted in line and line.split()[3] == "01" for line in Path("/proc/net/tcp").read_text().splitlines()):
            return
    raise AssertionError(f"nobody has connected to {port}")
