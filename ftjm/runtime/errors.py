"""Errors that a user can act on: each holds what was expected, what was found, and what to do."""

from __future__ import annotations


def short(text: str, most: int = 80) -> str:
    """A text for an error message, shortened to `most` characters."""
    return text if len(text) <= most else text[: most - 3] + "..."


class FtjmError(Exception):
    """A failure that a user can correct. The command line prints it without a traceback and exits with `exit_code`.

    Args:
        expected: What was expected, as it follows the word "expected".
        found: What was found instead.
        todo: What the user should do.
    """

    exit_code = 1

    def __init__(self, expected: str, found: str, todo: str) -> None:
        super().__init__(expected, found, todo)
        self.expected = expected
        self.found = found
        self.todo = todo

    def __str__(self) -> str:
        return f"expected {self.expected}, but found {self.found}; {self.todo}"


class UsageError(FtjmError):
    """An option, a setting or an input file of the user cannot be used."""

    exit_code = 2


class Unreachable(FtjmError):
    """Kafka, or the HTTP API, does not answer."""
