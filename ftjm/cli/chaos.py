"""The verb `chaos`: breaks a cluster of its own while it works, by a plan from a seed, and checks its history."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from ftjm.cli import interrupts
from ftjm.cli.options import OutputFormat, duration_seconds
from ftjm.cli.output import Output, echo, emit
from ftjm.cli.verbs import add_verb
from ftjm.runtime.errors import FtjmError, UsageError

SECONDS_MIN = 5.0
SHOWN_MAX = 20
"""Most violations that a table shows."""


def register(group: typer.Typer) -> None:
    """Add `chaos`."""
    add_verb(group, chaos)


def chaos(
    seed: Annotated[int, typer.Option(help="Determines what breaks, and when.")] = 1,
    duration: Annotated[str, typer.Option(help="For how long things break.")] = "120s",
    brokers: Annotated[int, typer.Option(min=1, max=3, help="Embedded brokers: 1, or 3 for replication.")] = 1,
    schedulers: Annotated[int, typer.Option(min=2, max=9, help="Scheduler processes.")] = 3,
    workers: Annotated[int, typer.Option(min=1, max=9, help="Worker processes.")] = 2,
    data_dir: Annotated[
        Path | None, typer.Option(help="A new directory, which is kept (default: a temporary one, kept on failure).")
    ] = None,
    picture: Annotated[Path | None, typer.Option(dir_okay=False, help="Draw the run into this SVG file.")] = None,
    output: OutputFormat = Output.table,
) -> None:
    """Start a cluster, break it while it works, and check its history.

    By the seed, it kills (kill -9), stops and cuts off schedulers, supervisors, guards, the API and brokers, kills and
    stops the processes of Python tasks, fills disks, damages stores, and sets clocks wrong. Then it repairs everything,
    waits for all jobs to end, and lets the history checker read the topics. Exits with 1 if a job was lost, ran twice
    or overlapped itself, or anything else is wrong. It touches no cluster but its own.

    \b
    Examples:
      ftjm chaos --seed 7 --duration 60s
      ftjm chaos --seed 7 --brokers 3 -o json --picture chaos.svg
    """
    from ftjm.cli.up import require_linux
    from ftjm.lab.bench.progress_bar import ProgressBar
    from ftjm.lab.chaos.plan import ClusterShape
    from ftjm.lab.chaos.plot import draw
    from ftjm.lab.chaos.run import run
    from ftjm.runtime import logs

    require_linux()
    interrupts.end_orderly()
    _refuse_others()
    length = duration_seconds("--duration", duration)
    if length < SECONDS_MIN:
        raise UsageError(f"at least {SECONDS_MIN:g} s", duration, "give a longer --duration")
    if brokers == 2:
        raise UsageError("1 or 3 brokers", str(brokers), "take 3 for replication, or 1")
    logs.configure("console", "error")
    folder = _folder(data_dir)
    shape = ClusterShape(brokers=brokers, schedulers=schedulers, workers=workers)
    try:
        with ProgressBar() as screen:
            found = run(seed, length, shape, folder, screen)
    except BaseException:
        echo(f"kept: {folder}", err=True)
        raise
    if picture is not None:
        picture.write_text(draw(found), encoding="utf-8")
    _show(found.report, output)
    if found.report.passed and data_dir is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        echo(f"kept: {folder}", err=True)
    if not found.report.passed:
        raise typer.Exit(1)


def _refuse_others() -> None:
    """Refuse to run where the settings name a cluster: its user may think that chaos breaks that one."""
    from ftjm.runtime import config

    with tempfile.TemporaryDirectory() as nowhere:
        named = config.load(data_dir=Path(nowhere)).bootstrap
    if named:
        todo = "unset FTJM_BOOTSTRAP, or run it where no ftjm.toml names a cluster"
        raise FtjmError("no cluster to be named: chaos breaks only one that it has started itself", named, todo)


def _folder(data_dir: Path | None) -> Path:
    if data_dir is None:
        return Path(tempfile.mkdtemp(prefix="ftjm-chaos-"))
    folder = data_dir.absolute()
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise FtjmError("a directory that is not there yet", str(folder), "give --data-dir another one") from None
    return folder


def _show(report: Any, output: Output) -> None:
    import msgspec

    document = msgspec.to_builtins(report)
    if output is not Output.table:
        emit(document, output)
        return
    machine, violations = document.pop("machine"), document.pop("violations")
    crashes, kinds = document.pop("crashes"), document.pop("faults_by_kind")
    settings = document.pop("settings")
    emit({**document, **{f"settings.{name}": value for name, value in settings.items()}}, output)
    for title, lines in (
        ("faults", [f"{count:4} {kind}" for kind, count in kinds.items()]),
        ("ended by themselves, and started again", crashes),
        ("violations", violations[:SHOWN_MAX]),
    ):
        if lines:
            echo(f"\n{title}:")
            for line in lines:
                echo(f"  {line}")
    echo(f"\n{machine.get('cpu', '')}, {machine.get('cores', '?')} cores", err=True)
