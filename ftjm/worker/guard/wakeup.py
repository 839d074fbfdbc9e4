"""Signals as bytes on a socket, so that a selector wakes up when a child dies."""

import signal
import socket


def signals_as_bytes() -> tuple[socket.socket, socket.socket]:
    """Have deaths of children wake the selector, and ignore requests to end: those are for the supervisor.

    Handlers are set, and not SIG_IGN, which attempts would inherit.

    Returns:
        The reading and the writing end of the socket that wakes the selector.
    """
    wake, woken = socket.socketpair()
    wake.setblocking(False)
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    return wake, woken
