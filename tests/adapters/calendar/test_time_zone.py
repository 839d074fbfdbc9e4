from __future__ import annotations

import os
import re
import sys
from datetime import datetime, timedelta
from subprocess import run

import pytest
import tzdata

from ftjm.adapters.calendar.time_zone import TZDATA_VERSION, load_time_zone, time_zone_names


@pytest.mark.parametrize("name", sorted(time_zone_names()))
def test_every_zone_of_the_database_is_loaded(name):
    assert datetime(2026, 7, 1, tzinfo=load_time_zone(name)).utcoffset() is not None


def test_a_zone_has_its_offsets():
    summer, winter = (datetime(2026, month, 1, tzinfo=load_time_zone("Europe/Berlin")) for month in (7, 1))
    assert (summer.utcoffset(), winter.utcoffset()) == (timedelta(hours=2), timedelta(hours=1))


def test_a_name_gives_one_object():
    assert load_time_zone("Europe/Berlin") is load_time_zone("Europe/Berlin")
    assert str(load_time_zone("Europe/Berlin")) == "Europe/Berlin"


def test_the_version_is_that_of_the_package():
    assert tzdata.IANA_VERSION == TZDATA_VERSION
    assert re.fullmatch(r"20\d\d[a-z]+", TZDATA_VERSION)


def test_the_host_is_not_asked(tmp_path):
    """A host whose database has another Berlin changes nothing."""
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "Berlin").write_bytes(b"TZif" + bytes(40))
    source = (
        "import datetime, ftjm.adapters.calendar.time_zone as z;"
        "print(datetime.datetime(2026, 7, 1, tzinfo=z.load_time_zone('Europe/Berlin')).utcoffset())"
    )
    environment = {**os.environ, "PYTHONTZPATH": str(tmp_path)}
    assert run([sys.executable, "-c", source], env=environment, capture_output=True, check=True).stdout == b"2:00:00\n"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Berlin", "'Berlin'; did you mean Europe/Berlin?"),
        ("europe/berlin", "'europe/berlin'; did you mean Europe/Berlin?"),
        ("Europe/Berln", "'Europe/Berln'; did you mean Europe/Berlin or Europe/"),
        ("New York", "'New York'; did you mean America/New_York?"),
        ("", "''"),
        ("/etc/localtime", "'/etc/localtime'"),
        ("../../zones", "'../../zones'"),
        ("Europe", "'Europe'"),
        ("Europe/Berlin\0", "'Europe/Berlin\\x00'; did you mean Europe/Berlin"),
        ("\ud800", "'\\ud800'"),
        ("x" * 100_000, "'" + "x" * 77 + "...'"),
    ],
)
def test_an_unknown_name_is_refused_with_near_ones(name, found):
    expected = f"expected the IANA name of a time zone, such as Europe/Berlin, but found {found}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}"):
        load_time_zone(name)
