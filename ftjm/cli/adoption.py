"""Waits until every partition knows what was declared for all of them: calendars, windows, cordons."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from ftjm.cli import api_client
from ftjm.cli.options import duration_seconds
from ftjm.runtime.errors import FtjmError

if TYPE_CHECKING:
    from ftjm.core.state.resources import Adoption
    from ftjm.runtime.config import Settings

LOOK_SECONDS = 0.5
PATHS = {"Calendar": "/calendars", "Window": "/windows"}


class _Adopted(msgspec.Struct):
    """The fields of a resource of the API that are read here."""

    adopted: int
    partitions: int


def await_all(settings: Settings, names: Iterable[tuple[str, str]], patience: str) -> None:
    """Wait until all partitions have the newest revision of these resources, each a kind and a name.

    Raises:
        FtjmError: Some have not within `patience`. They are told again until they have.
    """
    end = time.monotonic() + duration_seconds("--patience", patience)
    left = sorted(names)
    while left := [one for one in left if _lagging(settings, *one)]:
        if time.monotonic() > end:
            kind, name = left[0]
            found = f"that {_lagging(settings, kind, name)} do not yet; they are told until they do"
            raise FtjmError(f"all partitions to know {kind} {name}", found, "see `ftjm inspect partitions`")
        time.sleep(LOOK_SECONDS)


def _lagging(settings: Settings, kind: str, name: str) -> int:
    """The number of partitions that do not have the newest revision of a resource."""
    if settings.api and kind in PATHS:
        found = api_client.get(settings, f"{PATHS[kind]}/{quote(name)}", [], _Adopted)
        if found is None:
            return 0  # it is deleted
        adopted = msgspec.convert(found, _Adopted)
        return adopted.partitions - adopted.adopted
    adoption = _by_log(settings, kind, name)
    return len(adoption.lagging) if adoption else 0


def _by_log(settings: Settings, kind: str, name: str) -> Adoption | None:
    from ftjm.core.state.resources import CLUSTER_KEY, ResourceKind
    from ftjm.readmodel import one_shot

    with one_shot.folded_log(settings, CLUSTER_KEY) as (reader, _):
        return reader.adoption(ResourceKind(kind), name)
