"""The program with a planted fault: its lifelines report the death of every peer once, although the peer lives."""

from __future__ import annotations

from collections.abc import Mapping

from ftjm.cli import main
from ftjm.scheduler import lifelines, standby_placement


class Lying(lifelines.Lifelines):
    reported: set[str]

    def watch(self, addresses: Mapping[str, lifelines.Address]) -> None:
        self.reported = getattr(self, "reported", set())
        for name in addresses.keys() - self.reported:
            self.reported.add(name)
            self._died(name)


if __name__ == "__main__":
    setattr(standby_placement, "Lifelines", Lying)  # noqa: B010  (mypy does not allow an assignment to a module's name)
    main()
