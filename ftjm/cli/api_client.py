"""Asks the HTTP API, for the verbs that read through it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from ftjm.cli.options import checked_token
from ftjm.cli.output import echo
from ftjm.runtime.errors import FtjmError, Unreachable, UsageError
from ftjm.runtime.network import is_loopback

if TYPE_CHECKING:
    import urllib.error
    import urllib.request
    from collections.abc import Iterator

    from ftjm.runtime.config import Settings

TIMEOUT_SECONDS = 30.0
PAGE = 1_000
"""Entries of a list that are read at a time."""
UNKNOWN = ("UNKNOWN_JOB", "UNKNOWN_QUEUE", "UNKNOWN_SCHEDULE")
"""Codes of the answer that there is no such thing."""
Params = list[tuple[str, str]]


class PageFreshness(msgspec.Struct):
    """How old a page of the API is."""

    stale: bool
    as_of: str = ""


def get(settings: Settings, path: str, params: Params, shape: Any = dict[str, Any]) -> dict[str, Any] | None:
    """A document of the API that `settings.api` names. Sends `settings.api_token`, if there is one.

    Args:
        settings: Names the API.
        path: The path below `/api/v1`, with its parts quoted.
        params: The query's parameters; a name may be repeated.
        shape: A type with the fields that the document must have, for another server than ftjm's may answer.

    Returns:
        The document, or None where the API answers that there is no such job, queue or schedule.

    Raises:
        UsageError: The address is not one of HTTP, or the API refuses the parameters.
        Unreachable: The API does not answer.
        FtjmError: The API refuses the token, or fails.
    """
    # Imported here, since loading HTTP and TLS takes a third of the time of `ftjm --help`.
    import http.client
    import urllib.error
    import urllib.request
    from urllib.parse import urlencode

    url = f"{settings.api.rstrip('/')}/api/v1{path}"
    if not url.startswith(("http://", "https://")):
        raise UsageError("an address such as http://127.0.0.1:8484 as the API", settings.api, "see --api and FTJM_API")
    token = checked_token(settings.api_token)
    try:
        request = urllib.request.Request(f"{url}?{urlencode(params)}")  # noqa: S310  (http or https, as was just seen)
        if token:
            # Unredirected: whatever the API answers, no other address gets the token.
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        with _opener(url).open(request, timeout=TIMEOUT_SECONDS) as answer:
            document = json.load(answer)
            msgspec.convert(document, shape)
            return msgspec.convert(document, dict[str, Any])
    except urllib.error.HTTPError as error:
        _refuse(settings, error)
        return None
    except (OSError, ValueError, RecursionError, http.client.HTTPException, msgspec.ValidationError) as error:
        todo = "see that it runs, or read the log instead: --from-log"
        raise Unreachable(f"the API to answer at {settings.api}", str(error), todo) from error


def get_fresh(settings: Settings, path: str) -> dict[str, Any] | None:
    """A document of the API, as `get`, without what it says of its own age."""
    found = get(settings, path, [])
    return {name: value for name, value in found.items() if name != "freshness"} if found else None


def pages(settings: Settings, path: str, params: Params, shape: Any) -> Iterator[Any]:
    """All pages of a list of the API, as structs of the type `shape`, which has `freshness` and `next`."""
    cursor = ""
    while True:
        more = [("limit", str(PAGE)), *([("cursor", cursor)] if cursor else [])]
        page = msgspec.convert(get(settings, path, [*params, *more], shape), shape)
        warn_if_stale(page.freshness)
        yield page
        cursor = page.next
        if not cursor:
            return


def warn_if_stale(freshness: PageFreshness) -> None:
    """Print to standard error that what the API knows is old, if it is."""
    if freshness.stale:
        echo(f"what the API knows is of {freshness.as_of or 'an unknown time'}", err=True)


def _opener(url: str) -> urllib.request.OpenerDirector:
    """What opens a URL. A proxy of the environment is not asked for an address of this machine: it would look for that
    address on a machine of its own, and would see the token."""
    import urllib.request
    from urllib.parse import urlsplit

    local = is_loopback(urlsplit(url).hostname or "")
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))


class _Fault(msgspec.Struct):
    path: list[str | int] = []
    text: str = ""


class _Problem(msgspec.Struct):
    detail: str = ""
    code: str | None = None
    errors: list[_Fault] | None = None


def _refuse(settings: Settings, error: urllib.error.HTTPError) -> None:
    """Raise the error that the API's problem document describes; return if it is that there is no such job or queue."""
    try:
        problem = msgspec.json.decode(error.read(), type=_Problem)
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
        problem = _Problem(str(error.reason))
    detail = problem.detail
    faults = "; ".join(f"{'.'.join(map(str, one.path))}: {one.text}" for one in problem.errors or ())
    match error.code:
        case 404 if problem.code in UNKNOWN:
            return
        case 400:
            raise UsageError("filters that the API knows", faults or detail, "see `ftjm list --help`") from None
        case 401:
            todo = "set FTJM_API_TOKEN; for an `ftjm up` of yours, give its --data-dir"
            raise FtjmError(f"to be let in at {settings.api}", detail, todo) from None
        case _:
            raise FtjmError(f"an answer of the API at {settings.api}", f"{error.code}: {detail}", "try again") from None
