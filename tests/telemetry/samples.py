"""The values of a registry's metrics, for tests."""

from __future__ import annotations

import prometheus_client as prometheus


def value(registry: prometheus.CollectorRegistry, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels; there must be one."""
    found = [
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert found, f"no {name}{labels}"
    return sum(found)


def series(registry: prometheus.CollectorRegistry) -> set[str]:
    """Every series by its name and labels."""
    return {f"{sample.name}{sample.labels}" for family in registry.collect() for sample in family.samples}
