"""The verb chaos: a cluster of its own is broken by a seed while it works, and its history judged."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from ftjm.cli import common
from ftjm.cli.common import Output
from ftjm.errors import FtjmError, UsageError

SECONDS_MIN = 5.0
SHOWN_MAX = 20
"""Violations in a table."""


def register(app: typer.Typer) -> None:
    """Add `chaos`."""
    app.command()(chaos)


def chaos(
    seed: Annotated[int, typer.Option(help="What breaks when follows from it.")] = 1,
    duration: Annotated[str, typer.Option(help="For how long things break.")] = "120s",
    brokers: Annotated[int, typer.Option(min=1, max=3, help="Embedded brokers: 1, or 3 for replication.")] = 1,
    schedulers: Annotated[int, typer.Option(min=2, max=9, help="Scheduler processes.")] = 3,
    workers: Annotated[int, typer.Option(min=1, max=9, help="Worker processes.")] = 2,
    data_dir: Annotated[
        Path | None, typer.Option(help="A new directory, which is kept (default: a temporary one, kept on failure).")
    ] = None,
    picture: Annotated[Path | None, typer.Option(dir_okay=False, help="Draw the run into this SVG file.")] = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Break a cluster that is started for it, while it works, and judge its history.

    From the seed: kills (kill -9), stops and resumes, cuts off schedulers, supervisors, guards, the API and brokers,
    fills disks, damages stores, and sets clocks wrong; then heals everything, waits for all jobs to end, and has the
    history checker read the topics. The exit status is 1 where anything was lost, doubled, overlapped or otherwise
    wrong. It knows no cluster but its own.

    \b
    Examples:
      ftjm chaos --seed 7 --duration 60s
      ftjm chaos --seed 7 --brokers 3 -o json --picture chaos.svg
    """
    from ftjm import logs
    from ftjm.bench.screen import Screen
    from ftjm.chaos.picture import draw
    from ftjm.chaos.plan import Shape
    from ftjm.chaos.run import run
    from ftjm.cli.asking import seconds
    from ftjm.cli.up import require_linux

    require_linux()
    _refuse_others()
    length = seconds("--duration", duration)
    if length < SECONDS_MIN:
        raise UsageError(f"at least {SECONDS_MIN:g} s", duration, "give a longer --duration")
    if brokers == 2:
        raise UsageError("1 or 3 brokers", str(brokers), "take 3 for replication, or 1")
    logs.configure("console", "error")
    folder = _folder(data_dir)
    shape = Shape(brokers=brokers, schedulers=schedulers, workers=workers)
    try:
        with Screen() as screen:
            found = run(seed, length, shape, folder, screen)
    except BaseException:
        typer.echo(f"kept: {folder}", err=True)
        raise
    if picture is not None:
        picture.write_text(draw(found))
    _show(found.report, output)
    if found.report.passed and data_dir is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        typer.echo(f"kept: {folder}", err=True)
    if not found.report.passed:
        raise typer.Exit(1)


def _refuse_others() -> None:
    """Whoever has named a cluster might think that this is the one to be broken."""
    from ftjm import config

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
        common.emit(document, output)
        return
    machine, violations = document.pop("machine"), document.pop("violations")
    crashes, kinds = document.pop("crashes"), document.pop("faults_by_kind")
    settings = document.pop("settings")
    common.emit({**document, **{f"settings.{name}": value for name, value in settings.items()}}, output)
    for title, lines in (
        ("faults", [f"{count:4} {kind}" for kind, count in kinds.items()]),
        ("ended by themselves, and started again", crashes),
        ("violations", violations[:SHOWN_MAX]),
    ):
        if lines:
            typer.echo(f"\n{title}:")
            for line in lines:
                typer.echo(f"  {line}")
    typer.echo(f"\n{machine.get('cpu', '')}, {machine.get('cores', '?')} cores", err=True)
