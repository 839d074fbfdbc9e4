"""SIGINT and SIGTERM are counted and never lost, and end nothing midway that must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from ftjm.runtime import stop_signals
from ftjm.runtime.stop_signals import StopSignals

LIMIT_SECONDS = 20.0


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in stop_signals.NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", stop_signals.NUMBERS)
def test_a_signal_is_counted_and_interrupts_only_what_may_be_interrupted(number: signal.Signals) -> None:
    signals = StopSignals()
    another = signals.another()
    assert not another()
    signal.raise_signal(number)
    assert (signals.count, another(), signals.another()()) == (1, True, False)
    signals.interrupts = True
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert signals.count == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_is_lost_still_counts() -> None:
    class Loses:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)  # Python ignores exceptions here

    signals = StopSignals()
    signals.interrupts = True
    Loses()
    assert signals.count == 1


@pytest.mark.parametrize("number", stop_signals.NUMBERS)
def test_what_a_signal_calls_may_take_a_lock_that_the_main_thread_holds(number: signal.Signals) -> None:
    lock, called = threading.Lock(), threading.Event()

    def stop() -> None:
        with lock:
            called.set()

    stop_signals.call_in_a_thread(stop)
    with lock:
        signal.raise_signal(number)
    assert called.wait(LIMIT_SECONDS)
