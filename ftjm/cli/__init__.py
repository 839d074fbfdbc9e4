"""The command line: one file a verb, or a group of verbs, each with a function `register(group)`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ftjm.cli import interrupts, streams
from ftjm.cli.output import echo
from ftjm.cli.verbs import LazyVerbs
from ftjm.runtime import private_files
from ftjm.runtime.errors import FtjmError, short
from ftjm.runtime.version import __version__

FILES = {
    "up": "up",
    "scheduler": "roles",
    "worker": "workers",
    "api": "api",
    "token": "token",
    "queue": "queues",
    "schedule": "schedules",
    "calendar": "cluster_resources",
    "window": "cluster_resources",
    "plan": "apply",
    "apply": "apply",
    "lint": "apply",
    "delete": "apply",
    "drain": "workers",
    "doctor": "doctor",
    "topics": "topics",
    "submit": "submit",
    "get": "get",
    "list": "list",
    "history": "history",
    "logs": "logs",
    "explain": "explain",
    "cancel": "job_commands",
    "hold": "job_commands",
    "release": "job_commands",
    "rerun": "job_commands",
    "prioritize": "job_commands",
    "bulk": "bulk",
    "replay": "replay",
    "inspect": "inspect",
    "snapshot": "snapshots",
    "upgrade": "upgrade",
    "bench": "bench",
    "chaos": "chaos",
}
"""Each verb, in the order of `ftjm --help`, and the file that registers it."""
BROKEN_PIPE_STATUS = 141
"""As of a program that SIGPIPE has ended."""


class _Verbs(TyperGroup):
    """The verbs of `ftjm`. A file is imported when one of its verbs is looked up, so that each verb starts quickly."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = LazyVerbs({verb: f"{__name__}.{file}" for verb, file in FILES.items()})  # type: ignore[assignment]


app = typer.Typer(
    name="ftjm",
    cls=_Verbs,
    help="A fault-tolerant job manager: every job is in a replicated log before anyone answers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        echo(f"ftjm {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point of `ftjm` and of `python -m ftjm`."""
    private_files.set_umask()
    streams.prepare()
    interrupts.end_soon()
    try:
        status = run()
    except KeyboardInterrupt:  # while it reported an error
        status = interrupts.STATUS
    interrupts.ignore()
    sys.exit(status)


def run(arguments: list[str] | None = None) -> int:
    """Carry out a command line, by default that of this process. Whatever happens, it prints an error and no traceback.

    Returns:
        The exit status.
    """
    try:
        app(arguments)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0
    except KeyboardInterrupt:
        status = interrupts.STATUS
    except Exception as error:  # noqa: BLE001  (the last resort)
        status = _print_error(error)
    failure = streams.flush(sys.stdout)
    if isinstance(failure, BrokenPipeError):
        return BROKEN_PIPE_STATUS  # the reader (head, less) has gone, which is no error
    if failure and status == 0:
        return _print_error(failure)
    return status


def _print_error(raised: Exception) -> int:
    """Print an error in the form of all errors. Returns the exit status."""
    error = raised if isinstance(raised, FtjmError) else _described(raised)
    echo(f"error: expected {error.expected}\n       found {error.found}\n       to do: {error.todo}", err=True)
    return error.exit_code


def _described(raised: Exception) -> FtjmError:
    """The error that a user can act on, for one that no verb has described."""
    from ftjm.adapters.kafka.errors import LogError

    text = short(" ".join(str(raised).split()), 300)
    if isinstance(raised, LogError):
        return FtjmError("Kafka to do what was asked", text, "see -X, the settings kafka.*, and the brokers' logs")
    if isinstance(raised, OSError):
        return FtjmError("files and devices to work", text, "mend the cause, and run the same again")
    return FtjmError("no fault in ftjm", f"{type(raised).__name__}: {text}", _keep_traceback(raised))


def _keep_traceback(raised: Exception) -> str:
    """Write the traceback to a file. Returns what the user should do."""
    import tempfile
    import traceback

    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="ftjm-fault-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.writelines(traceback.format_exception(raised))
    except OSError:
        return "report it, with what you typed"
    return f"report it, with what you typed and the file {file.name}"
