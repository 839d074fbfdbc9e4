"""Errors that a user can act on: each says what was expected, what was found, and what to do."""

from __future__ import annotations


class FtjmError(Exception):
    """A failure that its reader can mend. The command line prints it without a traceback and exits with `exit_code`."""

    exit_code = 1

    def __init__(self, expected: str, found: str, todo: str) -> None:
        super().__init__(expected, found, todo)
        self.expected = expected
        self.found = found
        self.todo = todo

    def __str__(self) -> str:
        return f"expected {self.expected}, but found {self.found}; {self.todo}"


class UsageError(FtjmError):
    """What the user wrote (a flag, a setting, an input file) cannot be used."""

    exit_code = 2


class Unreachable(FtjmError):
    """Kafka, or another service that is needed, does not answer."""
