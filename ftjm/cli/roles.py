"""The verbs `scheduler` and `worker`: each runs one role as this process. (`api` is in `api.py`.)"""

from __future__ import annotations

from typing import Annotated

import typer

from ftjm.cli.options import Apps, RoleOptions, process_name
from ftjm.cli.verbs import add_verb


def register(group: typer.Typer) -> None:
    """Add `scheduler`. (`worker` is a group of verbs as well: see `workers.py`.)"""
    add_verb(group, scheduler)


def scheduler(
    role: RoleOptions,
    name: Annotated[str, typer.Option(help="Names its directory of stores; one process at a time.")] = "scheduler-1",
    standby: Annotated[
        bool,
        typer.Option("--standby", help="Follow all partitions, and own some only when no other scheduler is left."),
    ] = False,
) -> None:
    """Run one scheduler until SIGTERM or Ctrl-C.

    The schedulers of a cluster share its partitions. Start more to scale out; stop one, in any way, to scale in.
    """
    from ftjm.runtime import stop_signals
    from ftjm.scheduler.process import Scheduler

    process = Scheduler(role.settings(), process_name(name), passive=standby)
    stop_signals.call_in_a_thread(process.stop)
    process.run()


def worker(
    role: RoleOptions,
    context: typer.Context,
    queue: Annotated[list[str] | None, typer.Option("--queue", "-q", help="A queue to serve; may be repeated.")] = None,
    slots: Annotated[int, typer.Option(min=1, max=10_000, help="How many jobs it runs at once.")] = 4,
    prefetch: Annotated[
        str | None,
        typer.Option(metavar="auto|N", help="Attempts it holds while its slots are taken, 0 to 999. auto: by need."),
    ] = None,
    app: Apps = None,
    name: Annotated[str, typer.Option(help="The worker's name, the same over restarts (default: the host's).")] = "",
    lease: Annotated[
        float | None,
        typer.Option(
            "--lease", min=1.0, help="Seconds without contact to the scheduler after which its attempts count as lost."
        ),
    ] = None,
    max_tasks_per_process: Annotated[
        int | None,
        typer.Option(min=1, help="A process that has run so many Python tasks is replaced (default: 1000)."),
    ] = None,
    max_memory_per_process_mb: Annotated[
        int | None,
        typer.Option(min=1, help="So is one whose tasks have left it with this much more memory (default: 512 MB)."),
    ] = None,
) -> None:
    """Run jobs of some queues until SIGTERM or Ctrl-C: then it finishes the running jobs; a second signal stops these.

    \b
    Examples:
      ftjm worker --queue default --slots 8
      ftjm worker --app thumbnails.tasks --queue thumbnails
      ftjm worker list
    """
    if context.invoked_subcommand:
        return
    settings = role.settings(
        lease_seconds=lease,
        prefetch=prefetch,
        max_tasks_per_process=max_tasks_per_process,
        max_memory_per_process_mb=max_memory_per_process_mb,
    )
    from ftjm.worker import process

    raise typer.Exit(process.run(settings, queues=queue or ["default"], slots=slots, name=name, apps=app or []))
