"""The program with an API that has more patience, so that a busy machine gets the answers that an idle one gets."""

from __future__ import annotations

from ftjm.adapters.kafka import offsets, point_reader
from ftjm.api.http import command_bridge, service
from ftjm.api.routes import commands
from ftjm.cli import main

SECONDS = 60.0

if __name__ == "__main__":
    commands.DECISION_SECONDS = service.AFTER_SECONDS_MAX = SECONDS
    command_bridge.CONFIRM_SECONDS = SECONDS
    offsets.PATIENCE_SECONDS = point_reader.PATIENCE_SECONDS = SECONDS
    main()
