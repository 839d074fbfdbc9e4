"""What the paths of queues and of schedules share: the body that declares the resource of the path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from ftjm.api.http.routing import CheckedRequest
from ftjm.api.routes.commands import invalid
from ftjm.specs.problems import FieldProblem
from ftjm.specs.resources import InvalidResourceError, Spec, parse_resource

AnySpec = TypeVar("AnySpec", bound=Spec)
APPLY_TEXT = (
    "The body is the resource, as in a file of `ftjm apply -f`. Another declaration replaces the one before; the same "
    "one again changes nothing, and is accepted whatever revision is expected. A pause stays as it is."
)


async def declared(
    request: CheckedRequest, kind: str, spec_type: type[AnySpec], names: Mapping[tuple[str, str], str]
) -> tuple[AnySpec, dict[str, str]]:
    """The spec and the labels of the resource in the body.

    Args:
        kind: the kind that the path is of.
        names: the names in the path, by the paths of the fields that hold them, in the order of the resource's name.

    Raises:
        ProblemError: the body is no such resource, or another one than that of the path (422).
    """
    what = kind.lower()
    try:
        resource = await request.service.check(request.body_bytes, lambda: parse_resource(request.body))
        spec = resource.spec
        if not isinstance(spec, spec_type):
            text = f"expected {kind}, since the path is of a {what}, but found {resource.kind}"
            raise InvalidResourceError([FieldProblem(("kind",), text)])
        problems = [
            FieldProblem(part, f"expected {names[part]}, as in the path, but found {found}")
            for part, found in zip(names, resource.name.split("/"), strict=True)
            if found != names[part]
        ]
        if problems:
            raise InvalidResourceError(problems)
    except InvalidResourceError as error:
        detail = f"the {what} cannot be declared as it is; see errors, correct the fields, and send it again"
        raise invalid(detail, error.problems) from None
    return spec, resource.labels
