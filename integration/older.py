"""The program as an older build of it: `python -m integration.older scheduler …` lacks the newest schemas.

It writes each record that has more than one version by the one before its newest, and cannot decode the newest, as a
build that was shipped before it. Everything else is this version: rows (`STATE_VERSION`), topics, and the rules.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import ftjm
from ftjm.adapters import codec

VERSION = "0.0.1"


def older_schemas(folder: Path, into: Path) -> list[str]:
    """Copy all schemas but the newest of each record that has several; the names of those that were left out."""
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
    """Before anything has taken the codec's functions for its own."""
    with tempfile.TemporaryDirectory() as scratch:
        assert older_schemas(codec.schema_folder(), Path(scratch)), "no record has an older version"
        older = codec.Codec(Path(scratch))
    codec.encode, codec.decode, codec.type_of = older.encode, older.decode, older.type_of
    ftjm.__version__ = VERSION


if __name__ == "__main__":
    plant()
    from ftjm.cli import main

    main()
