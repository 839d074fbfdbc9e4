"""An older build of the program: `python -m integration.older scheduler …` lacks the newest schemas.

It writes each record that has several versions in an earlier one, and cannot decode the later ones, like a build that
was released before them. Its record level is the first. Everything else is as in this build: rows (`STATE_VERSION`),
topics and rules.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import ftjm
from ftjm.adapters.avro import codec
from ftjm.core.records import levels

VERSION = "0.0.1"
NEWEST = {"SchedulerHeartbeat": 2}
"""The newest version that the older build knows of a record; of others it is the last but one. This build writes
version 3 of it in every cluster (later ones only where a queue is paused or declared), so the older build meets what it
cannot decode.
"""


def older_schemas(folder: Path, into: Path) -> list[str]:
    """Copy the schemas that the older build knows. Return the names of those that were left out."""
    left: list[str] = []
    for kind in codec.KINDS:
        (into / kind).mkdir()
        for name, versions in codec._versions(folder / kind).items():
            newest = NEWEST.get(name, max(1, len(versions) - 1))
            for version, path in versions.items():
                if version > newest:
                    left.append(path.name)
                else:
                    shutil.copy(path, into / kind)
    return left


def plant() -> None:
    """Replace the schemas. Call it before another module imports the codec's functions."""
    with tempfile.TemporaryDirectory() as scratch:
        assert older_schemas(codec.schema_folder(), Path(scratch)), "no record has an older version"
        older = codec.Codec(Path(scratch))
    codec.encode, codec.decode, codec.type_of = older.encode, older.decode, older.type_of
    ftjm.__version__ = VERSION
    levels.LEVEL = levels.FIRST_LEVEL


if __name__ == "__main__":
    plant()
    from ftjm.cli import main

    main()
