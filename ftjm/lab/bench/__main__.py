"""`python -m ftjm.lab.bench ROLE ARGUMENTS`: one process of a benchmark, which prints its result as JSON.

Not for users.
"""

from __future__ import annotations

import sys

import msgspec

from ftjm.lab.bench import baseline, client, cold_takeover, instant_worker, replay, worker_fleet
from ftjm.runtime import config


def main() -> int:
    """Run the role that the command line names, with the settings in the environment."""
    role, arguments = sys.argv[1], sys.argv[2].encode()
    settings = config.load()
    if role == "instant-worker":
        return instant_worker.run(settings, **msgspec.json.decode(arguments))
    if role == "worker-fleet":
        return worker_fleet.run(settings, **msgspec.json.decode(arguments))
    if role == "client":
        result: object = client.run(settings, msgspec.json.decode(arguments, type=client.ClientLoad))
    elif role == "replay":
        result = replay.measure(settings, msgspec.json.decode(arguments))
    elif role == "cold":
        result = cold_takeover.measure(settings, msgspec.json.decode(arguments))
    else:
        result = baseline.ROLES[role](msgspec.json.decode(arguments, type=baseline.PipelineLane))
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
