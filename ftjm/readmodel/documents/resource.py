"""Resources that every partition must know, as documents: calendars and windows."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from ftjm.core.state.resources import Adoption, KnownResource, ResourceSpec
from ftjm.readmodel.documents.fields import Document, Moment
from ftjm.runtime.durations import format_time
from ftjm.specs import calendar, window


class ResourceDeclarationDocument(Document, frozen=True, kw_only=True):
    """The declaration of a resource."""

    revision: Annotated[int, Meta(description="Grows with each change.")]
    labels: Annotated[dict[str, str], Meta(description="Its labels.")] = field(default_factory=dict)
    spec: Annotated[dict[str, Any], Meta(description="What it is declared to, as in a file of resources.")]
    applied_at: Annotated[Moment, Meta(description="When it was changed last.")]
    actor: Annotated[str | None, Meta(description="Who changed it last.")] = None


class ResourceDocument(Document, frozen=True, kw_only=True):
    """What all such resources have: who knows of them."""

    adopted: Annotated[int, Meta(description="Partitions that know this revision.")]
    partitions: Annotated[int, Meta(description="Partitions of the cluster.")]
    declaration: Annotated[ResourceDeclarationDocument, Meta(description="What it is declared to.")]


class CalendarDocument(ResourceDocument, frozen=True, kw_only=True):
    """A calendar."""

    calendar: Annotated[str, Meta(description="Name of the calendar.")]


class WindowDocument(ResourceDocument, frozen=True, kw_only=True):
    """A window: what it is declared to, and whether it is open."""

    window: Annotated[str, Meta(description="Name of the window.")]
    open: Annotated[bool, Meta(description="Whether it is open.")]
    turns_at: Annotated[Moment | None, Meta(description="When it opens or closes next.")] = None


def calendar_fields(name: str, known: KnownResource, adoption: Adoption) -> dict[str, Any]:
    """The fields of a `CalendarDocument`."""
    (spec,) = known.spec.calendar
    return {"calendar": name, **_fields(known, adoption, calendar.written(spec))}


def window_fields(name: str, known: KnownResource, adoption: Adoption) -> dict[str, Any]:
    """The fields of a `WindowDocument`."""
    (spec,) = known.spec.window
    turns = {"open": known.open, "turns_at": format_time(known.turns_at) or None}
    return {"window": name, **turns, **_fields(known, adoption, window.written(spec))}


def written_resource(spec: ResourceSpec) -> dict[str, Any]:
    """The fields of a resource as users write them; none where it is deleted."""
    found = [calendar.written(one) for one in spec.calendar]
    found += [window.written(one) for one in spec.window]
    found += [{"reason": one.reason} if one.reason else {} for one in spec.cordon]
    return found[0] if found else {}


def _fields(known: KnownResource, adoption: Adoption, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "adopted": adoption.partitions - len(adoption.lagging),
        "partitions": adoption.partitions,
        "declaration": ResourceDeclarationDocument(
            revision=known.revision,
            labels=known.labels,
            spec=spec,
            applied_at=format_time(known.applied_at) or format_time(1),
            actor=known.actor or None,
        ),
    }
