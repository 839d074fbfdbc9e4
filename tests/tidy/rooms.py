"""The table of rooms: which room of `ftjm/` may import which. A test checks every import against it.

A room is a folder. Its name is its path below `ftjm/`, with dots. Each module at the root is a room, too. Rooms are in
the order of their floors, from the ground up, so imports can only point down. ARCHITECTURE.md has the same table in
words.
"""

import re

from tests.tidy.source import ROOT

ARCHITECTURE = ROOT / "ARCHITECTURE.md"
ROW = re.compile(r"\| `(?P<room>[\w.]+)` \| (?P<what>.*) \| ?(?P<imports>.*)\|")

ROOMS: dict[str, tuple[str, ...]] = {
    "runtime": (),
    "core.state": (),
    "core.records": ("core.state",),
    "core": ("core.state", "core.records"),
    "core.decide": ("core.state", "core.records", "core"),
    "core.evolve": ("core.state", "core.records", "core"),
    "engine": ("core.state", "core.records", "core", "core.decide", "core.evolve"),
    "telemetry": ("runtime", "core.state", "core.records"),
    "adapters": ("runtime", "core.state", "engine"),
    "adapters.avro": ("core.records", "core"),
    "adapters.kafka": ("runtime", "core.state", "engine", "adapters"),
    "adapters.files": ("runtime", "engine", "adapters"),
    "adapters.calendar": ("runtime", "core.state"),
    "specs": ("runtime", "core.state", "core", "adapters.calendar"),
    "client": ("runtime", "core.records", "core", "adapters", "adapters.avro", "adapters.kafka", "specs"),
    "snapshots": ("runtime", "core.state", "engine", "adapters", "adapters.kafka", "adapters.files"),
    "readmodel.documents": ("runtime", "core.state", "core.records", "core", "specs"),
    "history": (
        "runtime",
        "core.state",
        "core.records",
        "core",
        "core.decide",
        "core.evolve",
        "engine",
        "adapters",
        "adapters.avro",
        "adapters.kafka",
        "adapters.files",
        "snapshots",
        "readmodel.documents",
    ),
    "scheduler": (
        "runtime",
        "core.state",
        "core.records",
        "core",
        "core.decide",
        "engine",
        "telemetry",
        "adapters",
        "adapters.avro",
        "adapters.calendar",
        "adapters.kafka",
        "adapters.files",
        "snapshots",
    ),
    "readmodel": (
        "runtime",
        "core.state",
        "core.records",
        "core",
        "core.decide",
        "engine",
        "adapters",
        "adapters.avro",
        "adapters.kafka",
        "snapshots",
        "history",
        "readmodel.documents",
    ),
    "sdk": (
        "runtime",
        "core.state",
        "core.records",
        "core",
        "adapters.avro",
        "adapters.kafka",
        "specs",
        "client",
        "history",
        "readmodel.documents",
    ),
    "ops": (
        "runtime",
        "core.state",
        "core.records",
        "core",
        "core.decide",
        "engine",
        "adapters",
        "adapters.avro",
        "adapters.kafka",
        "adapters.files",
        "specs",
        "snapshots",
        "history",
        "readmodel",
    ),
    "api.http": (
        "runtime",
        "core.state",
        "core.records",
        "core",
        "adapters.avro",
        "adapters.kafka",
        "specs",
        "client",
        "history",
        "readmodel.documents",
        "readmodel",
    ),
    "api.routes": (
        "runtime",
        "core.state",
        "core.records",
        "core",
        "core.decide",
        "adapters.avro",
        "adapters.kafka",
        "specs",
        "readmodel.documents",
        "readmodel",
        "api.http",
    ),
    "api": ("runtime", "telemetry", "api.http", "api.routes"),
    "worker.attempts": ("runtime", "core.state", "core"),
    "worker.executors": ("runtime", "core.state", "worker.attempts"),
    "worker.executors.python": ("runtime", "core.state", "core", "sdk", "worker.attempts", "worker.executors"),
    "worker.rules": ("core.state", "core.records", "core", "worker.attempts"),
    "worker.guard": ("runtime", "core.state", "worker.attempts", "worker.executors", "worker.executors.python"),
    "worker": (
        "runtime",
        "core.state",
        "core.records",
        "core",
        "telemetry",
        "adapters",
        "adapters.avro",
        "adapters.kafka",
        "worker.attempts",
        "worker.executors.python",
        "worker.rules",
        "worker.guard",
    ),
    "local": ("runtime", "adapters.kafka", "worker"),
    "testing": (
        "runtime",
        "core.state",
        "core.records",
        "core",
        "core.decide",
        "engine",
        "adapters",
        "adapters.avro",
        "adapters.calendar",
        "client",
        "sdk",
        "worker.executors.python",
    ),
    "__init__": ("runtime", "specs", "client", "sdk", "testing"),
    "lab.checker": ("core.state", "core.records", "core", "adapters.calendar"),
    "lab.demo": (
        "runtime",
        "core.records",
        "adapters.avro",
        "adapters.kafka",
        "sdk",
        "local",
        "__init__",
        "lab.checker",
    ),
    "lab.bench": (
        "runtime",
        "core.state",
        "core.records",
        "core",
        "core.decide",
        "engine",
        "adapters",
        "adapters.avro",
        "adapters.kafka",
        "client",
        "snapshots",
        "history",
        "scheduler",
        "worker.attempts",
        "worker.rules",
        "worker",
        "local",
        "__init__",
        "lab.checker",
    ),
    "lab.chaos": (
        "runtime",
        "core.state",
        "core.records",
        "core",
        "adapters",
        "adapters.avro",
        "adapters.kafka",
        "specs",
        "client",
        "history",
        "worker.attempts",
        "local",
        "__init__",
        "lab.checker",
        "lab.bench",
    ),
    "cli": (
        "runtime",
        "core.state",
        "core.records",
        "core",
        "adapters",
        "adapters.avro",
        "adapters.calendar",
        "adapters.kafka",
        "specs",
        "client",
        "snapshots",
        "readmodel.documents",
        "history",
        "scheduler",
        "readmodel",
        "ops",
        "api.http",
        "api",
        "worker",
        "local",
        "lab.bench",
        "lab.chaos",
    ),
    "__main__": ("cli",),
}
"""Each room, from the ground floor up, and the rooms that it may import. It may always import itself."""


def written(architecture: str) -> str:
    """The text of ARCHITECTURE.md with its source map in the order of `ROOMS`, and with its last column."""
    lines = architecture.split("\n")
    rows = {number: row for number, line in enumerate(lines) if (row := ROW.fullmatch(line)) and row["room"] in ROOMS}
    floors = list(ROOMS)
    for number, row in zip(rows, sorted(rows.values(), key=lambda row: floors.index(row["room"])), strict=True):
        allowed = ", ".join(f"`{room}`" for room in ROOMS[row["room"]])
        lines[number] = f"| `{row['room']}` | {row['what']} | {allowed}{' ' if allowed else ''}|"
    return "\n".join(lines)


def mapped(architecture: str) -> list[str]:
    """The rooms of the source map, in its order."""
    rows = (
        ROW.fullmatch(line) for line in architecture.split("\n## Source map", 1)[1].split("\n## ", 1)[0].split("\n")
    )
    return [row["room"] for row in rows if row]


if __name__ == "__main__":
    ARCHITECTURE.write_text(written(ARCHITECTURE.read_text()))
