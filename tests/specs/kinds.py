"""The schemas of kinds as files, and their pages: `python -m tests.specs.kinds` writes them from the models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ftjm.specs.resources import KINDS, json_schema
from tests.tidy.source import PACKAGE, ROOT

SCHEMAS = PACKAGE / "specs" / "schemas"
PAGES = ROOT / "docs" / "kinds"
GUIDES = {
    "Schedule": "What they mean: [Schedules](../schedules.md). ",
    "Job": "`ftjm apply` submits it once; the same file again is the same job, as long as it is kept. ",
    "Calendar": "What they mean: [Windows, calendars, cordons](../windows.md). ",
    "Window": "What they mean: [Windows, calendars, cordons](../windows.md). ",
}
"""The beginning of a page's last paragraph."""
COMMAND = "python -m tests.specs.kinds"


def files() -> dict[Path, str]:
    """What each file holds that is made from the models."""
    found = {}
    for kind in KINDS:
        schema = json_schema(kind)
        found[SCHEMAS / f"{kind.lower()}.schema.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        found[PAGES / f"{kind.lower()}.md"] = page(kind, schema)
    return found


def page(kind: str, schema: Mapping[str, Any]) -> str:
    """The page of a kind."""
    examples = "---\n".join(yaml.safe_dump(one, sort_keys=False) for one in schema["examples"])
    rows = "\n".join(f"| {' | '.join(row)} |" for row in fields(schema, schema))
    return f"""# {kind}

<!-- Made from the model by `{COMMAND}`. -->

{schema["description"]}

```yaml
{examples}```

| field | form | default | what it is |
|---|---|---|---|
{rows}

{GUIDES.get(kind, "")}How such files are applied: [Queues as files](../queues-as-files.md).
For editors, the JSON Schema is `ftjm/specs/schemas/{kind.lower()}.schema.json` (in an installed package, beside
`ftjm/specs/`).
"""


def fields(schema: Mapping[str, Any], at: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, ...]]:
    """A row for each field: its path, its form, its default, and what it is."""
    for name, field in at["properties"].items():
        inner = schema["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else {}
        required = (
            "required" if name in at.get("required", ()) else f"`{field['default']}`" if "default" in field else ""
        )
        yield f"`{path}{name}`", form({**inner, **field}), required, field["description"]
        if inner and name != "job":  # a job's fields are those of a file of jobs
            yield from fields(schema, inner, f"{path}{name}.")
        if item := field.get("items", {}).get("$ref"):
            yield from fields(schema, schema["$defs"][item.rpartition("/")[2]], f"{path}{name}[].")


def form(field: Mapping[str, Any]) -> str:
    """How a value is written."""
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{one}`" for one in field["enum"])
    if field.get("type") == "object":
        return "names with values"
    if field.get("type") == "array" and "maxItems" in field:
        return f"a list of at most {field['maxItems']}"
    if field.get("type") == "array" and "examples" in field:
        return "a list, such as " + ", ".join(f"`[{', '.join(one)}]`" for one in field["examples"])
    if field.get("type") in ("integer", "number"):
        return f"{field['minimum']} to {field['maximum']}"
    if "pattern" in field:
        return f"`{field['pattern'].strip('^$')}`"
    return "such as " + ", ".join(
        f"`{json.dumps(one) if isinstance(one, list | dict) else one}`" for one in field["examples"]
    )


if __name__ == "__main__":
    for target, text in files().items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
