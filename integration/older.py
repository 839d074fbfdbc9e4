"""An older build of the program: `python -m integration.older scheduler …` lacks the newest schemas.

It writes each record that has several versions in the last version but one, and cannot decode the newest version, like
a build that was released before that version. Its record level is the first. Everything else is as in this build: rows
(`STATE_VERSION`), topics and rules.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import ftjm
from ftjm.adapters.avro import codec
from ftjm.core.records import levels

VERSION = "0.0.1"


def older_schemas(folder: Path, into: Path) -> list[str]:
    """Copy all schemas but the newest of each record that has several. Return the names of those that were left out."""
    left: list[str] = []
    for kind in codec.KINDS:
        (into / kind).mkdir()
        for versions in codec._versions(folder / kind).values():
            newest = versions.pop(max(versions)) if len(versions) > 1 else None
            left += [newest.name] if newest else []
            for path in versions.values():
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
