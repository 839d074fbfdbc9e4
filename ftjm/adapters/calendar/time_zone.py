"""Time zones of the IANA database, from the package `tzdata`.

The host's own database is never read. Each host updates it at another time, and two schedulers would decide
differently. The package has one version on all hosts that are installed by one lock.
"""

from __future__ import annotations

from datetime import datetime, tzinfo
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

import tzdata

from ftjm.runtime.errors import short

TZDATA_VERSION: str = tzdata.IANA_VERSION
"""The version of the database, such as `2026f`. Time zones of another version may have other offsets."""
NEAR_MATCHES = 3
"""Number of names that an error text suggests, at most."""
NAME_CHARACTERS_MAX = 64
"""Length of the names that are compared with the known ones, since that takes time. The longest name has 32."""


@cache
def time_zone_names() -> frozenset[str]:
    """The names of all time zones, also of those that are another name for one, such as `Asia/Calcutta`."""
    return frozenset(files(tzdata).joinpath("zones").read_text(encoding="ascii").split())


@cache
def load_time_zone(name: str) -> tzinfo:
    """The time zone of an IANA name, such as `Europe/Berlin`. One name always gives the same object.

    Raises:
        ValueError: There is no time zone of this name. Upper and lower case are distinguished.
    """
    # The name must be in the list before it becomes a path: it comes from users.
    if name not in time_zone_names():
        raise ValueError(f"expected the IANA name of a time zone, such as Europe/Berlin, but found {_described(name)}")
    with files(tzdata).joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def local_text(instant_ms: int, name: str) -> str:
    """An instant as the clock of a time zone shows it, with its offset from UTC: `2026-11-29T02:30:00+01:00`.

    Raises:
        ValueError: There is no time zone of this name.
    """
    return datetime.fromtimestamp(instant_ms / 1000, load_time_zone(name)).isoformat(timespec="seconds")


def _described(name: str) -> str:
    """The unknown name, and the names that its author may have meant."""
    if near := _near(name[:NAME_CHARACTERS_MAX].lower().replace(" ", "_")):
        return f"{short(name)!r}; did you mean {' or '.join(near)}?"
    return repr(short(name))


def _near(name: str) -> list[str]:
    """The known names that end with `name` in lower case, such as Europe/Berlin for `berlin`; else the most similar."""
    known = {each.lower(): each for each in sorted(time_zone_names())}
    cities = [each for lower, each in known.items() if lower == name or lower.endswith(f"/{name}")]
    return cities[:NEAR_MATCHES] or [known[each] for each in get_close_matches(name, known, NEAR_MATCHES)]
