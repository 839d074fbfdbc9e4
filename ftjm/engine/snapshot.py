"""Snapshots: a store's files as chunks that are named by their content, and the manifest that lists them.

A manifest is written last, by the partition's fenced writer, together with the word of what is dropped for it: so
whoever was fenced can neither publish nor delete. Pure: who reads files and sends bytes asks here what to do.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from ftjm.core.model import STATE_VERSION, Place, Position

KEEP = 2
"""Manifests of a partition: the newest, and the one before it in case that one is damaged."""
CHUNK_BYTES_MAX = 900_000
"""Below the 1 MB that every broker takes in a record."""
FORMAT = 1


class DamagedSnapshot(Exception):
    """A manifest or a chunk is absent, or not what it should be."""


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """A piece of a file."""

    name: str
    """`<sha256>.<owner epoch>.<batch>.<taken at>` of the snapshot that it first came with. A name that was dropped
    never comes back, not even with its content: so a deletion that comes late deletes nothing that somebody uses."""
    size: int
    offset: int = -1
    """Of its record, where chunks live in the topic."""

    @property
    def digest(self) -> str:
        return self.name.partition(".")[0]

    @property
    def birth(self) -> tuple[int, ...]:
        """Owner epoch, batch and time of the snapshot that it first came with."""
        return tuple(map(int, self.name.split(".")[1:]))


class File(msgspec.Struct, frozen=True, array_like=True):
    """One file of a store. Its chunks' hashes and their order are the file's own hash."""

    name: str
    chunks: list[Chunk]

    @property
    def size(self) -> int:
        return sum(chunk.size for chunk in self.chunks)


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot of one partition."""

    format: int = FORMAT
    partition: int
    log_id: str
    applied_offset: int
    batch_no: int
    next_command: int
    command_epoch: int = -1
    owner_epoch: int
    state_hash: str
    state_version: int
    taken_at: int
    """ms."""
    place: str
    """Where the chunks are: the URL of a folder, or empty for the topic itself."""
    previous: int
    """Offset of the manifest before this one; -1 if there is none."""
    files: list[File]

    @property
    def commands(self) -> Place:
        """How far commands were decided."""
        return Place(self.next_command, self.command_epoch)

    @property
    def chunks(self) -> Iterator[Chunk]:
        return (chunk for file in self.files for chunk in file.chunks)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def birth(self) -> tuple[int, ...]:
        """What its new chunks are named after."""
        return self.owner_epoch, self.batch_no, self.taken_at

    @property
    def full(self) -> bool:
        """Whether it uses no chunk of those before it."""
        return all(chunk.birth == self.birth for chunk in self.chunks)


class Published(NamedTuple):
    """A manifest with its place in the topic; `manifest` is None where the record is none that can be read."""

    offset: int
    manifest: Manifest | None


class Piece(NamedTuple):
    """A piece of a file as it is on disk."""

    digest: str
    size: int


def manifest_key(manifest: Manifest) -> str:
    """The key of a manifest's record."""
    return f"{manifest.partition}/m/{manifest.batch_no}.{manifest.taken_at}"


def is_manifest(key: str) -> bool:
    """Whether a record with this key is a manifest (or its end), and not a chunk."""
    return "/m/" in key


def chunk_key(partition: int, name: str) -> str:
    """The key of a chunk's record."""
    return f"{partition}/{name}"


def encode(manifest: Manifest) -> bytes:
    """As JSON, for people to read too."""
    return msgspec.json.encode(manifest)


def decode(data: bytes) -> Manifest:
    """Raises DamagedSnapshot."""
    try:
        found = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise DamagedSnapshot(f"the manifest cannot be read: {error}") from error
    if found.format != FORMAT:
        raise DamagedSnapshot(f"the manifest is of format {found.format}, and this program's is {FORMAT}")
    return found


def about(position: Position, partition: int, taken_at: int, place: str, previous: int, files: list[File]) -> Manifest:
    """The manifest of a store that stands at `position`."""
    return Manifest(
        partition=partition,
        log_id=position.log_id,
        applied_offset=position.applied_offset,
        batch_no=position.batch_no,
        next_command=position.next_command,
        command_epoch=position.command_epoch,
        owner_epoch=position.owner_epoch,
        state_hash=position.state_hash.hex(),
        state_version=position.state_version,
        taken_at=taken_at,
        place=place,
        previous=previous,
        files=files,
    )


def agrees(manifest: Manifest, position: Position) -> bool:
    """Whether a store that was made from the manifest's files stands where the manifest says."""
    said = about(position, manifest.partition, manifest.taken_at, manifest.place, manifest.previous, manifest.files)
    return said == manifest


def foreign(manifest: Manifest, log_id: str) -> str:
    """Why this program can make no store from it that is a child of the log; empty if it may."""
    if manifest.log_id != log_id:
        return f"it is of another log ({manifest.log_id})"
    if manifest.state_version != STATE_VERSION:
        return f"its rows are of version {manifest.state_version}, and this program's of {STATE_VERSION}"
    return ""


class Naming:
    """Names for the chunks of a new snapshot: those that the newest manifest holds are used again, others are new."""

    def __init__(self, newest: Manifest | None, position: Position, place: str, taken_at: int) -> None:
        """The time keeps names apart where there are two snapshots of one batch: of two records of one name the topic
        drops the older, which a manifest may name by its offset."""
        # Of another place nothing can be used again, and of another log nothing should be there.
        usable = newest is not None and (newest.place, newest.log_id) == (place, position.log_id)
        chunks = newest.chunks if usable and newest is not None else ()
        self._known = {(c.digest, c.size): c for c in chunks}
        self._birth = f"{position.owner_epoch}.{position.batch_no}.{taken_at}"

    def knows(self, piece: Piece) -> bool:
        """Whether its bytes need not be sent."""
        return (piece.digest, piece.size) in self._known

    def name(self, piece: Piece) -> tuple[Chunk, bool]:
        """The chunk that holds this piece, and whether it is new, so that its bytes must be sent."""
        known = self._known.get((piece.digest, piece.size))
        if known is not None:
            return known, False
        chunk = self._known[piece.digest, piece.size] = Chunk(f"{piece.digest}.{self._birth}", piece.size)
        return chunk, True


def placed(files: Iterable[File], offsets: dict[str, int]) -> list[File]:
    """The files with the offsets at which their new chunks were written."""
    return [
        File(f.name, [Chunk(c.name, c.size, offsets[c.name]) if c.name in offsets else c for c in f.chunks])
        for f in files
    ]


def superseded(
    new: Manifest, before: Sequence[Manifest], strays: Iterable[str], unusable: Iterable[Manifest] = ()
) -> tuple[list[Manifest], list[str]]:
    """What goes when `new` is published: manifests that are kept no longer, and names of chunks that nothing needs.

    Args:
        before: manifests that are there and may be of use, newest first.
        strays: names of chunks that were left by a snapshot that never got its manifest.
        unusable: manifests that are there and of no use: in the place of none that is.
    """
    kept, gone = [new, *before[: KEEP - 1]], [*before[KEEP - 1 :], *unusable]
    needed = {chunk.name for manifest in kept for chunk in manifest.chunks}
    listed = {chunk.name for manifest in gone for chunk in manifest.chunks if manifest.place == new.place}
    return gone, sorted((listed | set(strays)) - needed)


def unneeded(found: Iterable[str], kept: Sequence[Manifest]) -> list[str]:
    """Of the chunks found in a place, those that may be deleted once `kept` (newest first) are what is published.

    Also by somebody who does not know yet that he was fenced: what came after his newest manifest is not his to judge.
    """
    needed = {chunk.name for manifest in kept for chunk in manifest.chunks}
    return [name for name in found if name not in needed and _is_chunk(name) and Chunk(name, 0).birth <= kept[0].birth]


def _is_chunk(name: str) -> bool:
    """Whether it may be ours: people leave things in folders."""
    return re.fullmatch(r"\w+(\.\d+){2,3}", name, re.ASCII) is not None
