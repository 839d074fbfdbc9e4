"""`python -m ftjm.bench ROLE WHAT`: one process of a benchmark; it prints what it found as JSON. Not for people."""

from __future__ import annotations

import sys

import msgspec

from ftjm import config
from ftjm.bench import bare, client, cold, instant, replay


def main() -> int:
    """Run the role that is named, by the settings in the environment."""
    role, what = sys.argv[1], sys.argv[2].encode()
    settings = config.load()
    if role == "instant-worker":
        return instant.run(settings, **msgspec.json.decode(what))
    if role == "client":
        found: object = client.run(settings, msgspec.json.decode(what, type=client.Load))
    elif role == "replay":
        found = replay.measure(settings, msgspec.json.decode(what))
    elif role == "cold":
        found = cold.measure(settings, msgspec.json.decode(what))
    else:
        found = bare.ROLES[role](msgspec.json.decode(what, type=bare.Lane))
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
