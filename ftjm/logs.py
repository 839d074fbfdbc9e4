"""Logs: structlog to standard error, as text for people or as one JSON object a line."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import structlog
from structlog.types import Processor


def configure(log_format: str = "console", level: str = "info") -> None:
    """Send structlog's and the standard library's records to standard error in one format.

    Fields bound by `bind` (partition, job) appear in every line of their thread or task.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor]
    # Tracebacks are told without the values of local variables, among which a secret might be.
    if log_format == "json":
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        last = [structlog.processors.ExceptionRenderer(tracebacks), structlog.processors.JSONRenderer()]
    else:
        last = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # librdkafka repeats every refused connection, and calls it fatal when an owner is fenced, which is how partitions
    # change hands; our clients report errors by their callbacks and results, in better words and not so often.
    quiet = logging.CRITICAL + 1
    logging.getLogger("ftjm.kafka").setLevel(logging.DEBUG if level == "debug" else quiet)


def get(name: str, **fields: Any) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry `fields`, for instance `partition=3`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name, **fields)
    return logger


def bind(**fields: Any) -> None:
    """Add fields to every line that this thread or task logs from now on."""
    structlog.contextvars.bind_contextvars(**fields)


class Seldom:
    """Lets pass what is said again and again: the first time, and once in a while."""

    def __init__(self, pause_seconds: float = 30.0) -> None:
        self._pause = pause_seconds
        self._silent_until = 0.0

    def due(self) -> bool:
        """Whether to say it now."""
        now = time.monotonic()
        if now < self._silent_until:
            return False
        self._silent_until = now + self._pause
        return True
