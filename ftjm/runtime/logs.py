"""Logs: structlog writes to standard error, as text for people or as one JSON object a line."""

from __future__ import annotations

import io
import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.types import ExcInfo, Processor

from ftjm.runtime.terminal import one_line, printable


def configure(log_format: str = "console", level: str = "info") -> None:
    """Send structlog's and the standard library's records to standard error in one format.

    Args:
        log_format: `console` or `json`.
        level: The least important level that is logged: debug, info, warning or error.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor]
    # Tracebacks come without the values of local variables, which may hold a secret.
    if log_format == "json":
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        last = [structlog.processors.ExceptionRenderer(tracebacks), structlog.processors.JSONRenderer()]
    else:
        last = [_escape, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_traceback)]
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
    # librdkafka logs every refused connection, and calls it fatal when an owner is fenced, which is the normal way of a
    # takeover. Our clients report errors themselves, through callbacks and results.
    quiet = logging.CRITICAL + 1
    logging.getLogger("ftjm.kafka").setLevel(logging.DEBUG if level == "debug" else quiet)


def _escape(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape control characters: fields hold what jobs and other programs wrote."""
    return {one_line(name): printable(value) if isinstance(value, str) else value for name, value in fields.items()}


def _traceback(out: TextIO, error: ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    out.write(printable(text.getvalue()))


def get(name: str, **fields: Any) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry `fields`, for instance `partition=3`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name, **fields)
    return logger


def bind(**fields: Any) -> None:
    """Add fields to every line that this thread or task logs from now on."""
    structlog.contextvars.bind_contextvars(**fields)


class Throttle:
    """Limits a line that a loop would log again and again: to the first time, and once in `pause_seconds`."""

    def __init__(self, pause_seconds: float = 30.0) -> None:
        self._pause = pause_seconds
        self._silent_until = 0.0

    def due(self) -> bool:
        """Whether to log the line now."""
        now = time.monotonic()
        if now < self._silent_until:
            return False
        self._silent_until = now + self._pause
        return True
