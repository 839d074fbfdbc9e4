"""The program as a newer build of it: `python -m integration.newer scheduler …` is the next release.

It has everything that a release may add. The additions are planted into the source of this build on import:

| what | where |
|---|---|
| a version of rows | `STATE_VERSION` is one higher, `Job` has the field `note`, and a migration fills it in |
| a record level | `CancelJob` and `JobCancelled` have the field `note`, each in a second schema |
| a feature | a job that is cancelled keeps the note of the command |

`python -m integration.newer note QUEUE/ID TEXT` cancels a job with a note, and prints the reply as JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

RELEASE = "0.0.2"
REPLY_SECONDS = 30.0

PLANTS: dict[str, tuple[tuple[str, str], ...]] = {
    "ftjm.runtime.version": (('__version__ = "', f'__version__ = "{RELEASE}"  # "'),),
    "ftjm.core.state.model": (
        ("\nSTATE_VERSION = ", "\nSTATE_VERSION = 1 + "),
        ("\n\n\nclass Session(", '\n    note: str = ""\n\n\nclass Session('),
    ),
    "ftjm.core.state.migrations": (
        (
            "\n\n\ndef can_migrate(",
            (
                "\n\n\ndef _job_with_note(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:\n"
                '    yield key, _encode([*_decode(value), ""])\n\n\n'
                "MIGRATIONS = {**MIGRATIONS, STATE_VERSION - 1: {JOBS.prefix: _job_with_note}}\n\n\ndef can_migrate("
            ),
        ),
    ),
    "ftjm.core.records.levels": (
        ("\nLEVEL = ", "\nLEVEL = 1 + "),
        (
            "\nADDITIONS: tuple[Addition, ...] = (\n",
            (
                "\nfrom ftjm.core.records.commands import CancelJob\n"
                'ADDITIONS: tuple[Addition, ...] = (\n    Addition(LEVEL, CancelJob, "note"),\n'
            ),
        ),
    ),
    "ftjm.core.records.commands": (("\n\n\nclass HoldJob(", '\n    note: str = ""\n\n\nclass HoldJob('),),
    "ftjm.core.records.events": (("\n\n\nclass JobFailed(", '\n    note: str = ""\n\n\nclass JobFailed('),),
    "ftjm.core.decide.jobs": (
        (
            "    return [stop(state, key, job, command.reason)]\n",
            (
                "    event = stop(state, key, job, command.reason)\n"
                "    if isinstance(event, e.JobCancelled):\n"
                "        event.note = command.note\n"
                "    return [event]\n"
            ),
        ),
    ),
    "ftjm.core.evolve.jobs": (
        (
            "    move(state, event, key, job, JobState.CANCELLED)\n",
            "    job.note = event.note\n    move(state, event, key, job, JobState.CANCELLED)\n",
        ),
    ),
}
"""By module: texts of its source, and what stands in their place."""


class _Loader(SourceFileLoader):
    """Compiles the changed source without touching the cached bytecode of the real one."""

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path).decode()
        for found, planted in PLANTS[fullname]:
            assert source.count(found) == 1, f"expected {found!r} once in {self.path}"
            source = source.replace(found, planted)
        code: CodeType = self.source_to_code(source.encode(), self.path)
        return code


class _Finder:
    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in PLANTS:
            return None
        spec = PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(name, spec.origin)
        return spec


def newer_schemas(folder: Path, into: Path) -> Path:
    """Copy all schemas, and add a second version of `CancelJob` and `JobCancelled`."""
    copied = Path(shutil.copytree(folder, into / "schemas"))
    for path in (copied / "commands" / "CancelJob.avsc", copied / "events" / "JobCancelled.avsc"):
        schema: dict[str, Any] = json.loads(path.read_text())
        schema["fields"].append({"name": "note", "type": "string", "default": "", "doc": "A note."})
        path.with_suffix(".2.avsc").write_text(json.dumps(schema))
    return copied


def plant() -> None:
    """Turn this process into the newer build. Call it before anything of ftjm is imported."""
    assert not any(name.startswith("ftjm") for name in sys.modules), (
        "ftjm was imported before the newer build was planted"
    )
    sys.meta_path.insert(0, _Finder)
    schemas = Path(__file__).resolve().parents[1] / "schemas"
    with tempfile.TemporaryDirectory() as scratch:
        from ftjm.adapters.avro import codec

        newer = codec.Codec(newer_schemas(schemas, Path(scratch)))
    codec.encode, codec.decode, codec.type_of = newer.encode, newer.decode, newer.type_of


def note(job: str, text: str) -> None:
    """Cancel a job with a note, and print the reply."""
    import msgspec

    from ftjm.client.command_client import Client
    from ftjm.core.records.commands import CancelJob
    from ftjm.runtime import config

    queue, _, job_id = job.partition("/")
    fields: dict[str, Any] = {"note": text}
    with Client(config.load()) as client:
        ticket = client.send(CancelJob(queue=queue, job_id=job_id, **fields))
        client.confirm()
        client.decided([ticket], REPLY_SECONDS)
    print(json.dumps(msgspec.to_builtins(ticket.reply)))


if __name__ == "__main__":
    plant()
    if sys.argv[1] == "note":
        note(*sys.argv[2:])
    else:
        from ftjm.cli import main

        main()
