"""The condition under which an older version of a record can hold all values of a struct, as Python source.

An older version lacks fields that were added since, each of which has a default. It can hold a struct in which all of
these have their defaults, since the reader fills them in. So a record is written in the oldest version that can hold
it, and programs that know no newer version can still read the records that use nothing new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import msgspec


def kind_of(schema: Any) -> str:
    """The name of Avro's type."""
    return str(schema["type"] if isinstance(schema, dict) else schema)


def unknown(schema: Any) -> ValueError:
    """The error for a schema that uses what no schema of ours does."""
    return ValueError(f"expected a schema made of what schemas/ uses, but found {schema}")


def conditions_of(
    older: Mapping[str, Any],
    newest: Mapping[str, Any],
    record: type[msgspec.Struct],
    value: str,
    name: Callable[[Any], str],
) -> list[str] | None:
    """Expressions that are all true where a body of the schema `older` can hold a struct.

    Args:
        record: the struct's type, whose defaults count.
        value: the expression that is the struct.
        name: gives a name to a constant of the expressions.

    Returns: no expression where `older` always can, None where it never can.
    """
    fields = {field.name: field for field in msgspec.structs.fields(record)}
    written = {each["name"]: each["type"] for each in older["fields"]}
    found: list[str] = []
    for each in newest["fields"]:
        field, here = fields[each["name"]], f"{value}.{each['name']}"
        if each["name"] in written:
            more = _conditions_of_value(written[each["name"]], each["type"], field.type, here, name)
            if more is None:
                return None
            found += more
        elif field.required:
            return None
        else:
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            found.append(f"{here} == {name(default)}" if default else f"not {here}")
    return found


def _conditions_of_value(
    older: Any, newest: Any, annotation: Any, value: str, name: Callable[[Any], str]
) -> list[str] | None:
    if kind_of(older) != kind_of(newest):
        return None
    match kind_of(newest):
        case "enum":
            known = older["symbols"]
            return [] if known == newest["symbols"] else [f"{value} in {name(frozenset(known))}"]
        case "record":
            return conditions_of(older, newest, annotation, value, name)
        case "array" | "map":
            mapped = kind_of(newest) == "map"
            inner, items = name(None), "values" if mapped else "items"
            needed = _conditions_of_value(older[items], newest[items], get_args(annotation)[-1], inner, name)
            if not needed:
                return needed
            return [f"all({' and '.join(needed)} for {inner} in {value}{'.values()' if mapped else ''})"]
        case _:
            return []
