"""The program with a fault planted: its lifelines tell of every peer, once, that it has died."""

from __future__ import annotations

from collections.abc import Mapping

from ftjm.adapters import lifelines
from ftjm.cli import main
from ftjm.scheduler import neighbours


class Lying(lifelines.Lifelines):
    told: set[str]

    def watch(self, addresses: Mapping[str, lifelines.Address]) -> None:
        self.told = getattr(self, "told", set())
        for name in addresses.keys() - self.told:
            self.told.add(name)
            self._died(name)


if __name__ == "__main__":
    setattr(neighbours, "Lifelines", Lying)  # noqa: B010  (a module's name, which mypy would not let be replaced)
    main()
