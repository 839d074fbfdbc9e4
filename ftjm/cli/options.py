"""The options that several verbs share, and the values that are read from them.

A verb that talks to a cluster takes `connection: Connection`; one that runs a role takes `role: Role`; one that prints
takes `output: OutputFormat = Output.table`. How a group becomes single options is in `verbs.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli.output import Output
from ftjm.cli.verbs import OptionGroup
from ftjm.runtime.errors import UsageError

if TYPE_CHECKING:
    from ftjm.adapters.kafka.scan import Scan
    from ftjm.runtime.config import Settings

OutputFormat = Annotated[Output, typer.Option("-o", "--output", help="Format of what is printed.")]
Jobs = Annotated[list[str], typer.Argument(metavar="JOB", help="QUEUE/ID; a bare ID is in the queue `default`.")]
Partitions = Annotated[
    list[int] | None, typer.Option("-p", "--partition", help="Only this partition; may be repeated.")
]
Apps = Annotated[
    list[str] | None,
    typer.Option("--app", metavar="MODULE", help="A module that defines Python tasks; may be repeated."),
]
ArchiveUrl = Annotated[
    str | None, typer.Option("--archive", metavar="URL", help="Read events that were trimmed from this archive.")
]
StoreName = Annotated[
    str | None, typer.Option("--store", help="Only the stores of this scheduler, such as scheduler-1.")
]
Patience = Annotated[str, typer.Option(help="How long to wait for Kafka while it does not answer, such as 30s.")]
PATIENCE = "2m"
TOKEN_MIN = 16

KafkaSetting = Annotated[
    list[str] | None,
    typer.Option(
        "-X",
        metavar="NAME=VALUE",
        help="A setting for the Kafka client; may be repeated.",
        rich_help_panel="Connection",
    ),
]


def _connection(flag: str, text: str) -> Any:
    return typer.Option(flag, help=text, rich_help_panel="Connection")


def _role(flag: str, text: str, **limits: Any) -> Any:
    return typer.Option(flag, help=text, rich_help_panel="Metrics and logs", **limits)


@dataclass(frozen=True)
class Connection(OptionGroup):
    """Options for the cluster that a verb connects to."""

    bootstrap: Annotated[str | None, _connection("--bootstrap", "Kafka servers, host:port[,host:port].")] = None
    cluster: Annotated[str | None, _connection("--cluster", "Prefix of the topics (default: ftjm).")] = None
    data_dir: Annotated[
        str | None, _connection("--data-dir", "Directory of stores, embedded Kafka and endpoint file.")
    ] = None
    kafka: KafkaSetting = None

    def settings(self, **others: Any) -> Settings:
        """The settings of this process, and logging configured by them.

        Args:
            others: Settings from options of the verb's own; one that is None was not given.

        Raises:
            UsageError: A setting cannot be used.
        """
        given = vars(self) | others
        return load_settings(**given | {"kafka": kafka_settings(self.kafka or ()) or None})


@dataclass(frozen=True)
class Logging(OptionGroup):
    """Options for the log of a process that runs until it is stopped."""

    log_format: Annotated[str | None, _role("--log-format", "console or json.")] = None
    log_level: Annotated[str | None, _role("--log-level", "debug, info, warning or error.")] = None


@dataclass(frozen=True)
class RoleOptions(Logging, Connection):
    """A process that runs until it is stopped: its cluster, its logs, and where it serves its metrics."""

    metrics_host: Annotated[
        str | None, _role("--metrics-host", "Address of metrics and health (default: 127.0.0.1).")
    ] = None
    metrics_port: Annotated[
        int | None, _role("--metrics-port", "Their port (default: a free one, which is logged).", min=0, max=65_535)
    ] = None

    def settings(self, **others: Any) -> Settings:
        """As of every connection; and others lose their access to the data directory, which is made if it is not there.

        Raises:
            UsageError: A setting cannot be used.
            FtjmError: The data directory cannot be used.
        """
        from ftjm.runtime import private_files

        settings = super().settings(**others)
        private_files.claim_data_directory(settings.data_dir)
        return settings


@dataclass(frozen=True)
class ApiSource(OptionGroup):
    """Options for the source that a reading verb uses: an HTTP API, or the log."""

    api: Annotated[
        str | None, typer.Option("--api", metavar="URL", help="Ask this API (default: the one of `ftjm up`).")
    ] = None
    from_log: Annotated[bool, typer.Option("--from-log", help="Read the log instead of asking an API.")] = False


def load_settings(**given: Any) -> Settings:
    """The settings that these options give, and logging configured by them. Raises UsageError."""
    from ftjm.runtime import config, logs

    settings = config.load(**given)
    logs.configure(settings.log_format, settings.log_level)
    return settings


# ---- values


def kafka_settings(options: Iterable[str]) -> dict[str, str]:
    """`-X security.protocol=SSL` as a dict. Raises UsageError for one without `=`."""
    parsed = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not (name and equals):
            raise UsageError("-X name=value", f"-X {option}", "write for instance -X security.protocol=SSL")
        parsed[name.removeprefix("kafka.")] = value
    return parsed


def pairs(option: str, given: Iterable[str] | None) -> dict[str, str] | None:
    """The values of a repeated option `NAME=VALUE` as a dict, None for none. Raises UsageError for one without `=`."""
    found = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{option} NAME=VALUE", f"{option} {text}", "write the name, an equals sign and the value")
        found[name] = value
    return found or None


def duration_seconds(option: str, text: str) -> float:
    """An option's duration, such as `90s`, in seconds. Raises UsageError."""
    from ftjm.runtime.durations import DURATION_EXAMPLES, parse_duration

    try:
        return parse_duration(text) / 1000
    except ValueError:
        raise UsageError(f"{DURATION_EXAMPLES} for {option}", text, "write a number with its unit") from None


def moment(option: str, text: str) -> str:
    """An option's time, or how long ago, as a time (RFC 3339). Raises UsageError."""
    from ftjm.runtime.durations import DURATION_EXAMPLES, TIME_EXAMPLES, format_time, parse_duration, parse_time

    try:
        return format_time(time.time_ns() // 1_000_000 - parse_duration(text))
    except ValueError:
        pass
    try:
        return format_time(parse_time(text))
    except (ValueError, OverflowError):
        raise UsageError(f"{DURATION_EXAMPLES}, or {TIME_EXAMPLES} for {option}", text, "write one of these") from None


def job_states(states: Iterable[str] | None, *, dead: bool) -> list[str]:
    """The states that --state and --dead name; none for all."""
    from ftjm.core.state.model import DEAD

    named = [state.upper() for state in states or ()]
    return list(dict.fromkeys([*named, *sorted(state.name for state in DEAD)] if dead else named))


def job_names(jobs: Iterable[str]) -> list[tuple[str, str]]:
    """Queue and id of each job, without repetitions. Raises UsageError for a text that is no job's name."""
    from ftjm.core.identity import parse_job

    found: dict[tuple[str, str], None] = {}
    for job in jobs:
        try:
            found[parse_job(job)] = None
        except ValueError as error:
            expected, _, found_instead = str(error).removeprefix("expected ").partition(", but ")
            raise UsageError(expected, found_instead, "copy the name from what `ftjm submit` printed") from None
    return list(found)


def checked_token(token: str) -> str:
    """A token of the API, empty for none. Raises UsageError for one that is easily guessed; the token is not shown."""
    token = token.strip()
    if token and len(token) < TOKEN_MIN:
        found = f"{len(token)} characters"
        raise UsageError(f"a token of {TOKEN_MIN} or more characters", found, "make one: `openssl rand -hex 32`")
    if not (token.isascii() and token.isprintable()):
        raise UsageError("a token of printable ASCII characters", "others", "make one: `openssl rand -hex 32`")
    return token


def process_name(name: str) -> str:
    """The name of a scheduler or an API process, which names its directory. Raises UsageError."""
    from ftjm.core.names import is_name

    if not is_name(name):
        raise UsageError("a name of letters, digits, '.', '_' or '-'", repr(name), "choose another --name")
    return name


def chosen_partitions(scan: Scan, wanted: list[int] | None) -> list[int]:
    """The partitions that `--partition` names, or all of the topic. Raises UsageError for one that there is not."""
    for partition in wanted or ():
        if not 0 <= partition < scan.partitions:
            raise UsageError(
                f"a partition from 0 to {scan.partitions - 1}", str(partition), "see `ftjm inspect partitions`"
            )
    return sorted(set(wanted)) if wanted else list(range(scan.partitions))


def schedule_name(text: str) -> tuple[str, str]:
    """Queue and name of a schedule, `QUEUE/NAME`. Raises UsageError for any other text."""
    from ftjm.core.names import NAME_TEXT, is_name

    queue, slash, name = text.partition("/")
    if not (slash and is_name(queue) and is_name(name)):
        expected = f"a schedule as QUEUE/NAME, each {NAME_TEXT}"
        raise UsageError(expected, repr(text), "see `ftjm schedule list`")
    return queue, name
