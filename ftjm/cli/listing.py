"""Verbs that search: list, explain. They ask the API where one is named, and fold the log by themselves elsewhere."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlencode

import typer

from ftjm.cli import asking, common
from ftjm.cli.common import Output
from ftjm.errors import FtjmError, Unreachable, UsageError

if TYPE_CHECKING:
    from ftjm.config import Settings

PAGE = 500
HTTP_SECONDS = 30.0
Params = list[tuple[str, str]]

Api = Annotated[str | None, typer.Option("--api", metavar="URL", help="Ask this API (default: the one of `ftjm up`).")]
FromLog = Annotated[bool, typer.Option("--from-log", help="Read the log instead of asking an API.")]


def register(app: typer.Typer) -> None:
    """Add `list` and `explain`."""
    app.command(name="list")(list_jobs)
    app.command()(explain)


def list_jobs(
    queue: Annotated[str | None, typer.Option(help="Only jobs of this queue.")] = None,
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state; may be repeated.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="With all of these labels.")] = None,
    since: Annotated[str | None, typer.Option(help="Submitted since: 2h ago, or 2026-11-21T08:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Submitted before, in the same way.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="So many at most, the newest.")] = 100,
    api: Api = None,
    from_log: FromLog = False,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """List jobs, newest first.

    Asks the HTTP API that --api, FTJM_API, ftjm.toml or a running `ftjm up` names; where there is none, or with
    --from-log, it folds the whole log, which takes a while if that is long.

    \b
    Examples:
      ftjm list --state RUNNING --state READY
      ftjm list --queue thumbnails --label owner=ann --since 2h -o json
    """
    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka, api=api)
    params = [("queue", queue)] if queue else []
    params += [("state", one.upper()) for one in state or ()] + [("label", one) for one in label or ()]
    params += [("submitted_from", _moment("--since", since))] if since else []
    params += [("submitted_before", _moment("--until", until))] if until else []
    pages = _from_api(settings, params, limit) if settings.api and not from_log else _from_log(settings, params, limit)
    rows = [row for page in pages for row in page][:limit]
    if output is not Output.table:
        common.emit(rows, output)
    elif rows:
        columns = ["job", "state", "run", "attempt", "worker", "age", "reason"]
        common.emit([_with_age(row) for row in rows], output, columns=columns)
        if len(rows) == limit:
            typer.echo(f"the newest {limit}; more with --limit", err=True)


def explain(
    jobs: asking.Jobs,
    api: Api = None,
    from_log: FromLog = False,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Say why jobs are not running: held, too early, behind others, no worker, no scheduler.

    Computed from the jobs' state and from who was heard in the last seconds. Where it reads: see `ftjm list --help`.

    \b
    Examples:
      ftjm explain thumbnails/a-200
    """
    names = asking.names(jobs)
    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka, api=api)
    found, missing = [], []
    for queue, job_id in names:
        explained = (_ask_why if settings.api and not from_log else _find_why)(settings, queue, job_id)
        if explained is None:
            missing.append(f"{queue}/{job_id}")
        else:
            found.append({name: value for name, value in explained.items() if name != "freshness"})
    if len(names) == 1 and found:
        common.emit({name: value for name, value in found[0].items() if value not in ("", None)}, output)
    elif found:
        common.emit(found, output, columns=["job", "state", "reason", "text"])
    for name in missing:
        typer.echo(
            f"error: expected a job {name}, but there is none; it was never submitted, or is forgotten", err=True
        )
    if missing:
        raise typer.Exit(1)


# ---- by the API


def _from_api(settings: Settings, params: Params, limit: int) -> Iterator[list[dict[str, Any]]]:
    cursor, left = "", limit
    while left > 0:
        more = [("cursor", cursor)] if cursor else []
        page = _get(settings, "/jobs", [*params, ("limit", str(min(left, PAGE))), *more])
        assert page is not None
        if page["freshness"]["stale"]:
            typer.echo(f"what the API knows is of {page['freshness']['as_of'] or 'an unknown time'}", err=True)
        yield page["jobs"]
        left -= len(page["jobs"])
        cursor = page["next"]
        if not cursor:
            return


def _ask_why(settings: Settings, queue: str, job_id: str) -> dict[str, Any] | None:
    return _get(settings, f"/jobs/{quote(queue)}/{quote(job_id)}/explain", [])


def _get(settings: Settings, path: str, params: Params) -> dict[str, Any] | None:
    """A document of the API; None where it says that there is none. Raises Unreachable, UsageError, FtjmError."""
    url = f"{settings.api.rstrip('/')}/api/v1{path}"
    if not url.startswith(("http://", "https://")):
        raise UsageError("an address such as http://127.0.0.1:8484 as the API", settings.api, "see --api and FTJM_API")
    request = urllib.request.Request(f"{url}?{urlencode(params)}")  # noqa: S310  (http or https, as was just seen)
    if token := os.environ.get("FTJM_API_TOKEN", "").strip():
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=HTTP_SECONDS) as answer:  # noqa: S310  (the same)
            document: dict[str, Any] = json.load(answer)
            return document
    except urllib.error.HTTPError as error:
        _refuse(settings, error)
        return None
    except (OSError, ValueError) as error:
        todo = "see that it runs, or read the log instead: --from-log"
        raise Unreachable(f"the API to answer at {settings.api}", str(error), todo) from error


def _refuse(settings: Settings, error: urllib.error.HTTPError) -> None:
    """Raise what the API's answer says, but for a job that there is not."""
    try:
        problem = json.load(error)
    except ValueError:
        problem = {"detail": error.reason}
    detail = str(problem.get("detail"))
    faults = "; ".join(f"{'.'.join(map(str, one['path']))}: {one['text']}" for one in problem.get("errors") or ())
    match error.code:
        case 404 if problem.get("code") == "UNKNOWN_JOB":
            return
        case 400:
            raise UsageError("filters that the API knows", faults or detail, "see `ftjm list --help`") from None
        case 401:
            raise FtjmError(f"to be let in at {settings.api}", detail, "set FTJM_API_TOKEN") from None
        case _:
            raise FtjmError(f"an answer of the API at {settings.api}", f"{error.code}: {detail}", "try again") from None


# ---- by the log


def _from_log(settings: Settings, params: Params, limit: int) -> Iterator[list[dict[str, Any]]]:
    from multidict import MultiDict

    from ftjm.api import looking, once, requests, views
    from ftjm.api.operations import parsed_query
    from ftjm.api.problems import ProblemError
    from ftjm.api.queries import PAGE_MAX, START, Place

    try:
        query = parsed_query(requests.JobsQuery, MultiDict(params))
    except ProblemError as problem:
        faults = "; ".join(f"{fault.path[0]}: {fault.text}" for fault in problem.errors or ())
        raise UsageError("filters that make sense", faults, "see `ftjm list --help`") from None
    assert isinstance(query, requests.JobsQuery)
    with once.folded(settings, query.queue or "") as (reader, _):
        behind: Place | None = START
        while behind is not None and limit > 0:
            page = reader.jobs(looking.wanted(query), min(limit, PAGE_MAX), behind)
            yield [views.summary(listed) for listed in page.jobs]
            limit -= len(page.jobs)
            behind = page.next


def _find_why(settings: Settings, queue: str, job_id: str) -> dict[str, Any] | None:
    from ftjm.api import explaining, once, views

    presence = once.heard(settings)
    with once.folded(settings, queue) as (reader, _):
        found = reader.job(queue, job_id)
        if found is None:
            return None
        explained = explaining.explained(found, explaining.ahead_of(reader, found), presence)
    return views.explained(found, explained)


def _moment(flag: str, text: str) -> str:
    """A time, or how long ago, as a time. Raises UsageError."""
    from ftjm.durations import DURATION_EXAMPLES, TIME_EXAMPLES, format_time, parse_duration, parse_time

    try:
        return format_time(time.time_ns() // 1_000_000 - parse_duration(text))
    except ValueError:
        pass
    try:
        return format_time(parse_time(text))
    except (ValueError, OverflowError):
        raise UsageError(f"{DURATION_EXAMPLES}, or {TIME_EXAMPLES} for {flag}", text, "write one of these") from None


def _with_age(row: dict[str, Any]) -> dict[str, Any]:
    from ftjm.durations import age_of, parse_time

    return row | {"age": age_of(parse_time(row["submitted_at"]))}
