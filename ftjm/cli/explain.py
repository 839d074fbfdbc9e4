"""The verb `explain`: shows why a job is not running. It asks the API where one is named, else it folds the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import typer

from ftjm.cli import api_client
from ftjm.cli.options import ApiSource, Connection, Jobs, OutputFormat, job_names
from ftjm.cli.output import Output, echo, emit
from ftjm.cli.verbs import add_verb

if TYPE_CHECKING:
    from ftjm.runtime.config import Settings


def register(group: typer.Typer) -> None:
    """Add `explain`."""
    add_verb(group, explain)


def explain(connection: Connection, jobs: Jobs, source: ApiSource, output: OutputFormat = Output.table) -> None:
    """Explain why jobs are not running: held, too early, queue paused or limited, behind others, no worker.

    Computed from the jobs' state and the heartbeats of the last seconds. Where it reads: see `ftjm list --help`.

    \b
    Examples:
      ftjm explain thumbnails/a-200
    """
    names = job_names(jobs)
    settings = connection.settings(api=source.api)
    ask = _explained_by_log if source.from_log or not settings.api else _explained_by_api
    found, missing = [], []
    for queue, job_id in names:
        explained = ask(settings, queue, job_id)
        if explained is None:
            missing.append(f"{queue}/{job_id}")
        else:
            found.append(explained)
    if len(names) == 1 and found:
        emit(found[0], output)
    elif found:
        emit(found, output, columns=["job", "state", "reason", "text"])
    for name in missing:
        echo(f"error: expected a job {name}, but there is none; it was never submitted, or is forgotten", err=True)
    if missing:
        raise typer.Exit(1)


def _explained_by_api(settings: Settings, queue: str, job_id: str) -> dict[str, Any] | None:
    return api_client.get_fresh(settings, f"/jobs/{quote(queue)}/{quote(job_id)}/explain")


def _explained_by_log(settings: Settings, queue: str, job_id: str) -> dict[str, Any] | None:
    from ftjm.readmodel import one_shot
    from ftjm.readmodel.documents.fields import plain_document
    from ftjm.readmodel.explain import explanation_document, standing_of
    from ftjm.readmodel.presence import read_presence

    presence, _ = read_presence(settings)
    with one_shot.folded_log(settings, queue) as (reader, _):
        found = reader.job(queue, job_id)
        if found is None:
            return None
        standing = standing_of(reader, found)
    return plain_document(explanation_document(found, standing, presence))
