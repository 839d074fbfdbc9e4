"""Tasks that end in odd ways, and the outcome that each has, wherever it runs."""

import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import ftjm


class Expected(NamedTuple):
    """A function, and the outcome of an attempt that calls it."""

    function: Callable[[], Any]
    reason: str = ""
    exit_code: int = 0
    result: object = None
    error: tuple[str, ...] = ()
    """Texts that its error has."""


class Unspeakable(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> NoReturn:
        raise KeyboardInterrupt

    __repr__ = __str__


def _raises(error: Callable[[], BaseException]) -> Callable[[], NoReturn]:
    def function() -> NoReturn:
        raise error()

    return function


def _leaves(code: object) -> Callable[[], NoReturn]:
    return lambda: sys.exit(code)  # type: ignore[arg-type]


def _chain() -> None:
    try:
        raise ValueError("first")
    except ValueError as error:
        raise KeyError("second") from error


def _deep() -> object:
    value: list[object] = []
    for _ in range(5_000):
        value = [value]
    return value


def _recursion() -> object:
    return _recursion()


def _cycle() -> object:
    value: list[object] = []
    value.append(value)
    return value


OUTCOMES: dict[str, Expected] = {
    "returns": Expected(lambda: {"a": [1, 2.5, None, True, "ü"]}, result={"a": [1, 2.5, None, True, "ü"]}),
    "returns_nothing": Expected(lambda: None),
    "exits": Expected(_leaves(None)),
    "exits_0": Expected(_leaves(0)),
    "exits_7": Expected(_leaves(7), "EXIT_CODE", 7, error=("exit status 7",)),
    "exits_300": Expected(_leaves(300), "EXIT_CODE", 44, error=("exit status 44",)),
    "exits_true": Expected(_leaves(True), "EXIT_CODE", 1),
    "exits_with_a_text": Expected(_leaves("why"), "EXIT_CODE", 1, error=("exit status 1",)),
    "exits_with_an_odd_text": Expected(_leaves(Unspeakable()), "EXIT_CODE", 1),
    "raises": Expected(_raises(lambda: ValueError("why")), "EXCEPTION", 1, error=("ValueError: why\n",)),
    "raises_a_chain": Expected(_chain, "EXCEPTION", 1, error=("ValueError: first", "KeyError: 'second'")),
    "raises_half_a_character": Expected(
        _raises(lambda: ValueError(os.fsdecode(b"caf\xe9"))), "EXCEPTION", 1, error=("ValueError: caf\\udce9",)
    ),
    "raises_control_characters": Expected(
        _raises(lambda: ValueError("\x01" * 20_000)), "EXCEPTION", 1, error=("\x01" * 9_000,)
    ),
    "raises_wide_characters": Expected(
        _raises(lambda: ValueError("\N{SNOWMAN}\N{GRINNING FACE}" * 20_000)), "EXCEPTION", 1, error=("[...]",)
    ),
    "raises_an_unspeakable_error": Expected(_raises(Unspeakable), "EXCEPTION", 1, error=("Unspeakable",)),
    "raises_keyboard_interrupt": Expected(_raises(KeyboardInterrupt), "EXCEPTION", 1, error=("KeyboardInterrupt",)),
    "raises_generator_exit": Expected(_raises(GeneratorExit), "EXCEPTION", 1, error=("GeneratorExit",)),
    "raises_memory_error": Expected(_raises(MemoryError), "EXCEPTION", 1, error=("MemoryError",)),
    "raises_stop_iteration": Expected(_raises(StopIteration), "EXCEPTION", 1, error=("StopIteration",)),
    "raises_a_group": Expected(
        _raises(lambda: BaseExceptionGroup("many", [KeyError("one"), SystemExit(3)])),
        "EXCEPTION",
        1,
        error=("BaseExceptionGroup: many", "KeyError: 'one'"),
    ),
    "recurses": Expected(_recursion, "EXCEPTION", 1, error=("RecursionError",)),
    "returns_a_huge_number": Expected(lambda: 10**400, "RESULT_REFUSED", 1, error=("whole number of 64 bits",)),
    "returns_an_enormous_number": Expected(lambda: 10**5_000, "RESULT_REFUSED", 1, error=("of 16610 bits",)),
    "returns_no_number": Expected(lambda: float("nan"), "RESULT_REFUSED", 1, error=("finite number",)),
    "returns_half_a_character": Expected(lambda: "caf\udce9", "RESULT_REFUSED", 1, error=("text in UTF-8",)),
    "returns_a_set": Expected(lambda: {1}, "RESULT_REFUSED", 1, error=("found set", "sorted list")),
    "returns_deep": Expected(_deep, "RESULT_REFUSED", 1, error=("at most 100 levels",)),
    "returns_a_cycle": Expected(_cycle, "RESULT_REFUSED", 1, error=("at most 100 levels",)),
    "returns_odd_keys": Expected(lambda: {Unspeakable(): 1}, "RESULT_REFUSED", 1),
}

for _name, _expected in OUTCOMES.items():
    ftjm.task(name=f"{_name}_kept", max_attempts=1)(_expected.function)
    ftjm.task(name=f"{_name}_alone", isolated=True, max_attempts=1)(_expected.function)
