"""The verb `list`: jobs by queue, state, label and time. It asks the API where one is named, else it folds the log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from ftjm.cli import api_client
from ftjm.cli.api_client import Params
from ftjm.cli.options import ApiSource, Connection, OutputFormat, job_states, moment
from ftjm.cli.output import Output, echo, emit
from ftjm.cli.verbs import add_verb
from ftjm.runtime.errors import UsageError

if TYPE_CHECKING:
    from ftjm.runtime.config import Settings

PAGE = 500
"""Jobs that are asked of the API at a time."""
LABELS_MAX = 5
"""Labels that the API takes in one query."""


class _Job(msgspec.Struct):
    submitted_at: Annotated[datetime, msgspec.Meta(tz=True)]


class _Page(msgspec.Struct):
    """The fields of a page of the API that this verb reads."""

    jobs: list[_Job]
    freshness: api_client.PageFreshness
    next: str = ""


def register(group: typer.Typer) -> None:
    """Add `list`."""
    add_verb(group, list_jobs, "list")


def list_jobs(
    connection: Connection,
    source: ApiSource,
    queue: Annotated[str | None, typer.Option(help="Only jobs of this queue.")] = None,
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state; may be repeated.")] = None,
    dead: Annotated[
        bool, typer.Option("--dead", help="Only jobs that failed for good: FAILED and UPSTREAM_FAILED.")
    ] = False,
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only jobs with this label; may be repeated.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Submitted at or after this time: 2h (ago), or 2026-11-21T08:00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Submitted before this time, written in the same way.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="At most this many, the newest.")] = 100,
    output: OutputFormat = Output.table,
) -> None:
    """List jobs, newest first.

    Asks the HTTP API that --api, FTJM_API, ftjm.toml or a running `ftjm up` names. Where there is none, or with
    --from-log, it reads the whole log, which takes a while if that is long.

    \b
    Examples:
      ftjm list --state RUNNING --state READY
      ftjm list --queue thumbnails --label owner=ann --since 2h -o json
      ftjm list --queue thumbnails --dead
    """
    settings = connection.settings(api=source.api)
    params = [("queue", queue)] if queue else []
    params += [("state", one) for one in job_states(state, dead=dead)] + [("label", one) for one in label or ()]
    params += [("submitted_from", moment("--since", since))] if since else []
    params += [("submitted_before", moment("--until", until))] if until else []
    rows = list(jobs(settings, source, params, limit))
    if output is not Output.table:
        emit(rows, output)
    elif rows:
        columns = ["job", "state", "run", "attempt", "worker", "age", "reason"]
        emit([_with_age(row) for row in rows], output, columns=columns)
        if len(rows) == limit:
            echo(f"the newest {limit}; more with --limit", err=True)


def jobs(settings: Settings, source: ApiSource, params: Params, limit: int) -> Iterator[dict[str, Any]]:
    """Read jobs as documents, newest first.

    Args:
        params: the filters, as parameters of the API's query.
        limit: jobs, at most.

    Raises:
        UsageError: the filters make no sense.
    """
    read = _pages_of_log if source.from_log or not settings.api else _pages_of_api
    return islice((row for page in read(settings, params, limit) for row in page), limit)


def _pages_of_api(settings: Settings, params: Params, limit: int) -> Iterator[list[dict[str, Any]]]:
    cursor, left = "", limit
    while left > 0:
        more = [("cursor", cursor)] if cursor else []
        page = api_client.get(settings, "/jobs", [*params, ("limit", str(min(left, PAGE))), *more], _Page)
        assert page is not None
        api_client.warn_if_stale(msgspec.convert(page["freshness"], api_client.PageFreshness))
        yield page["jobs"]
        left -= len(page["jobs"])
        cursor = page.get("next", "")
        if not cursor:
            return


def _pages_of_log(settings: Settings, params: Params, limit: int) -> Iterator[list[dict[str, Any]]]:
    from multidict import MultiDict

    from ftjm.api.http.problems import ProblemError
    from ftjm.api.http.query_models import JobsQuery
    from ftjm.api.http.routing import parse_query
    from ftjm.readmodel import one_shot
    from ftjm.readmodel.documents.fields import plain_document
    from ftjm.readmodel.queries import PAGE_MAX, START, Cursor

    try:
        query = parse_query(JobsQuery, MultiDict(params))
    except ProblemError as problem:
        faults = "; ".join(f"{fault.path[0]}: {fault.text}" for fault in problem.errors or ())
        raise UsageError("filters that make sense", faults, "see `ftjm list --help`") from None
    assert isinstance(query, JobsQuery)
    with one_shot.folded_log(settings, query.queue or "") as (reader, _):
        behind: Cursor | None = START
        while behind is not None and limit > 0:
            page = reader.jobs(query.job_filter(), min(limit, PAGE_MAX), behind)
            yield [plain_document(listed.summary()) for listed in page.jobs]
            limit -= len(page.jobs)
            behind = page.next


def _with_age(row: dict[str, Any]) -> dict[str, Any]:
    from ftjm.runtime.durations import age_of, parse_time

    return row | {"age": age_of(parse_time(row["submitted_at"]))}
