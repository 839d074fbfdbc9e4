"""Declarations of queues and of schedules, as `describe` shows them. A declaration is the part of the document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def shown(declaration: Mapping[str, Any]) -> dict[str, Any]:
    """The fields for people that every kind has: who declared it so and when, and its labels."""
    return {
        "declared": f"revision {declaration['revision']}, at {declaration['applied_at']}",
        "declared_by": declaration.get("actor"),
        "labels": ", ".join(f"{name}={value}" for name, value in declaration.get("labels", {}).items()),
    }


def resource(kind: str, name: str, declaration: Mapping[str, Any]) -> dict[str, Any]:
    """The declaration as a file of resources."""
    from ftjm.specs.resources import document

    return document(kind, name, declaration.get("labels", {}), declaration["spec"])
