"""The description of an export, `export.json`: what the export holds, and of which cluster.

Somebody else may have made it. So its types bound it: patterns for names, ranges for numbers, lengths for lists.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from ftjm.adapters.files.folder import Folder
from ftjm.core.limits import PARTITIONS_MAX
from ftjm.engine.snapshot import DamagedSnapshot, LogId, Manifest, Number, require_sound
from ftjm.runtime.config import NAME_PATTERN
from ftjm.runtime.errors import FtjmError

FORMAT = 2
HEAD = "export.json"
"""The file that describes an export. It is written last: a place without it holds no export."""
HEAD_BYTES_MAX = 256 * 1024 * 1024
"""Size of that file, at most: it holds the manifests of all partitions, about 100 bytes for each MB of their stores."""


class Part(msgspec.Struct, frozen=True):
    """One partition of an export."""

    manifest: Manifest | None
    """None if there was no snapshot. The events then begin at the log's beginning."""
    events: tuple[Number, Number]
    """The offsets of its events: from the first to before the second."""
    commands: tuple[Number, Number]
    """The offsets of its commands, likewise."""


class Head(msgspec.Struct, frozen=True):
    """The description of an export: its content, source and time."""

    cluster: Annotated[str, Meta(pattern=NAME_PATTERN)]
    taken_at: Number
    """When the export was made, in milliseconds since the epoch."""
    ids: dict[str, LogId]
    """The ids of the topics `events` and `commands`."""
    lanes: Annotated[int, Meta(ge=0, le=1024)]
    """The lanes of `dispatch` and `replies`. Rows name lanes, so the new cluster needs as many."""
    parts: Annotated[list[Part], Meta(max_length=PARTITIONS_MAX)]
    format: int = FORMAT


def read_head(url: str) -> Head:
    """The description of the export in a place. Raises FtjmError if there is none that this ftjm can read."""
    try:
        head = msgspec.json.decode(_head_bytes(url), type=Head)
    except FileNotFoundError as error:
        raise FtjmError(
            f"an export in {url}", f"no {HEAD}", "name the place that `ftjm snapshot export` wrote"
        ) from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FtjmError(f"an export in {url}", str(error), "make it again") from error
    if head.format != FORMAT:
        raise FtjmError(f"an export of format {FORMAT}", f"one of {head.format}", "use the ftjm that made it")
    _require_sound(url, head)
    return head


def _head_bytes(url: str) -> bytes:
    data = Folder(url).read(HEAD, HEAD_BYTES_MAX)
    if len(data) > HEAD_BYTES_MAX:
        raise ValueError(f"{HEAD} has more than {HEAD_BYTES_MAX} bytes")
    return data


def _require_sound(url: str, head: Head) -> None:
    """Raise FtjmError for an export whose parts do not fit together: ftjm makes none like it."""
    wrong = "" if {"events", "commands"} <= set(head.ids) else "it lacks the id of a topic"
    for partition, part in enumerate(head.parts):
        if part.events[0] > part.events[1] or part.commands[0] > part.commands[1]:
            wrong = f"the offsets of partition {partition} end before they begin"
        if part.manifest is not None:
            try:
                require_sound(part.manifest)
            except DamagedSnapshot as error:
                wrong = f"of partition {partition}, {error}"
            if part.manifest.partition != partition:
                wrong = f"the snapshot of partition {partition} is one of partition {part.manifest.partition}"
    if wrong:
        raise FtjmError(f"an export in {url}", wrong, "do not use it: it is not as ftjm wrote it")
