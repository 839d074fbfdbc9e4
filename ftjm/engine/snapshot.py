"""Snapshots: the files of a store, cut into chunks, and a manifest that lists them. Pure: no files, no Kafka.

A manifest is written last. The partition's fenced writer writes it in one transaction with the tombstones of what it
replaces. So an owner that was fenced can neither publish a snapshot nor delete one. `snapshots/` reads the files and
sends the chunks, as the functions here decide.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from ftjm.core.limits import PARTITIONS_MAX
from ftjm.core.state.migrations import can_migrate, unreadable
from ftjm.core.state.model import STATE_VERSION, LogPosition, Position

KEEP = 2
"""Manifests that are kept of a partition: the newest, and the one before it in case the newest is damaged."""
CHUNK_BYTES_MAX = 900_000
"""Size of a chunk. Every broker accepts records of up to 1 MB."""
FORMAT = 1
"""Version of the manifest's format."""
FILES_MAX = 10_000
"""Files of one store. RocksDB's largest ones have 64 MB."""
UNFOLD_MAX = 16
"""A snapshot's files together have at most this many times the size of its distinct chunks. Chunks of a compressed
store hardly ever repeat, so more is a manifest that was made to fill the disk."""

# A manifest is read from a topic, or from a file that somebody hands over. Its file names become paths on this host, so
# they match a pattern without separators; its numbers are bounded.
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]
ChunkName = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}(\.[0-9]{1,19}){2,3}\Z")]
LogId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9+/_-]{0,64}\Z")]
"""The id of a topic, in base64: it may have slashes, and no dots, so it leads out of no folder."""
Place = Annotated[str, Meta(max_length=1024)]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{0,128}\Z")]
NUMBER_MAX = (1 << 63) - 1
Number = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
Offset = Annotated[int, Meta(ge=-1, le=NUMBER_MAX)]
"""-1 for none."""


class DamagedSnapshot(Exception):
    """A manifest or a chunk is missing, or its content is wrong."""


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """A piece of a file."""

    name: ChunkName
    """`<sha256>.<owner epoch>.<batch>.<taken at>`: its content, and the snapshot that first held it.

    A name that was deleted never comes back, not even with the same content. So a late deletion cannot delete a chunk
    that a newer snapshot uses."""
    size: Annotated[int, Meta(ge=0, le=CHUNK_BYTES_MAX)]
    offset: Offset = -1
    """Offset of the chunk's record, if chunks live in the topic."""

    @property
    def digest(self) -> str:
        return self.name.partition(".")[0]

    @property
    def origin(self) -> tuple[int, ...]:
        """The snapshot that first held it: owner epoch, batch and time."""
        return tuple(map(int, self.name.split(".")[1:]))


class File(msgspec.Struct, frozen=True, array_like=True):
    """One file of a store. The hashes of its chunks, in their order, identify its content."""

    name: FileName
    chunks: list[Chunk]

    @property
    def size(self) -> int:
        return sum(chunk.size for chunk in self.chunks)


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot of one partition."""

    format: int = FORMAT
    partition: Annotated[int, Meta(ge=0, lt=PARTITIONS_MAX)]
    log_id: LogId
    applied_offset: Offset
    batch_no: Number
    next_command: Number
    command_epoch: Offset = -1
    owner_epoch: Number
    state_hash: Hash
    state_version: Number
    taken_at: Number
    """When the snapshot was taken, ms since the Unix epoch."""
    place: Place
    """Where the chunks are: the URL of a folder; empty for the topic `snapshots`."""
    previous: Offset
    """Offset of the manifest before this one; -1 if there is none."""
    older: Annotated[list[Number], Meta(max_length=100)] = []
    """Offsets of manifests further back that are kept so that an older build can restore them."""
    files: Annotated[list[File], Meta(max_length=FILES_MAX)]

    @property
    def commands(self) -> LogPosition:
        """The position up to which commands are decided."""
        return LogPosition(self.next_command, self.command_epoch)

    @property
    def chunks(self) -> Iterator[Chunk]:
        return (chunk for file in self.files for chunk in file.chunks)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def origin(self) -> tuple[int, ...]:
        """Owner epoch, batch and time: the `origin` of its new chunks."""
        return self.owner_epoch, self.batch_no, self.taken_at

    @property
    def full(self) -> bool:
        """Whether it uses no chunk of an earlier snapshot."""
        return all(chunk.origin == self.origin for chunk in self.chunks)


class Published(NamedTuple):
    """A manifest in the topic. `manifest` is None if the record cannot be read."""

    offset: int
    manifest: Manifest | None


class Piece(NamedTuple):
    """A part of a file on disk, of at most `CHUNK_BYTES_MAX`."""

    digest: str
    size: int


def manifest_key(manifest: Manifest) -> str:
    """The key of a manifest's record."""
    return f"{manifest.partition}/m/{manifest.batch_no}.{manifest.taken_at}"


def is_manifest(key: str) -> bool:
    """Whether a record with this key is a manifest (or its tombstone), and not a chunk."""
    return "/m/" in key


def chunk_key(partition: int, name: str) -> str:
    """The key of a chunk's record."""
    return f"{partition}/{name}"


def encode(manifest: Manifest) -> bytes:
    """Encode a manifest as JSON, which people can read."""
    return msgspec.json.encode(manifest)


def decode(data: bytes) -> Manifest:
    """Decode a manifest. Raises DamagedSnapshot if it cannot be read."""
    try:
        found = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedSnapshot(f"the manifest cannot be read: {error}") from error
    if found.format != FORMAT:
        raise DamagedSnapshot(f"expected a manifest of format {FORMAT}, but found one of format {found.format}")
    require_sound(found)
    return found


def require_sound(manifest: Manifest) -> None:
    """Raise DamagedSnapshot for a manifest that names a file twice, or unfolds to far more than its chunks hold."""
    if len({file.name for file in manifest.files}) < len(manifest.files):
        raise DamagedSnapshot("the manifest names a file twice")
    distinct = sum({chunk.name: chunk.size for chunk in manifest.chunks}.values())
    if manifest.size > UNFOLD_MAX * distinct:
        raise DamagedSnapshot(f"the manifest makes {manifest.size} bytes of chunks that hold {distinct}")


def manifest_of(
    position: Position, partition: int, taken_at: int, place: str, previous: int, files: list[File]
) -> Manifest:
    """Return the manifest of a store.

    Args:
        position: the position in the store.
        partition: the partition of the store.
        taken_at: time of the snapshot, ms since the Unix epoch.
        place: where the chunks are, see `Manifest.place`.
        previous: offset of the manifest before this one; -1 if there is none.
        files: the files of the store.
    """
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


def matches(manifest: Manifest, position: Position) -> bool:
    """Whether a store that was restored from the manifest's files has the position that the manifest states."""
    m = manifest
    stated = manifest_of(position, m.partition, m.taken_at, m.place, m.previous, m.files)
    return msgspec.structs.replace(stated, older=m.older) == m


def why_not_restorable(manifest: Manifest, log_id: str) -> str:
    """Return why this program cannot restore the snapshot for the log `log_id`; empty if it can."""
    if manifest.log_id != log_id:
        return f"it is of another log ({manifest.log_id})"
    if not can_migrate(manifest.state_version):
        return unreadable(manifest.state_version)
    return ""


class ChunkNames:
    """The names of a new snapshot's chunks. A piece that the newest snapshot has keeps its name there."""

    def __init__(self, newest: Manifest | None, position: Position, place: str, taken_at: int) -> None:
        """
        Args:
            newest: the newest manifest; None if there is none to take chunks from.
            position: the position of the store.
            place: where the new chunks go, see `Manifest.place`.
            taken_at: time of the snapshot, ms since the Unix epoch. It distinguishes two snapshots of one batch: the
                topic drops the older of two records with one name, although a manifest may need it.
        """
        # A chunk at another place cannot be used. A chunk of another log should not be there.
        usable = newest is not None and (newest.place, newest.log_id) == (place, position.log_id)
        chunks = newest.chunks if usable and newest is not None else ()
        self._known = {(c.digest, c.size): c for c in chunks}
        self._suffix = f"{position.owner_epoch}.{position.batch_no}.{taken_at}"

    def has(self, piece: Piece) -> bool:
        """Whether the newest snapshot, or the part of this one that is named already, has the piece."""
        return (piece.digest, piece.size) in self._known

    def chunk_of(self, piece: Piece) -> tuple[Chunk, bool]:
        """Return the chunk that holds this piece, and whether it is new: then its content must be sent."""
        known = self._known.get((piece.digest, piece.size))
        if known is not None:
            return known, False
        chunk = self._known[piece.digest, piece.size] = Chunk(f"{piece.digest}.{self._suffix}", piece.size)
        return chunk, True


def with_offsets(files: Iterable[File], offsets: dict[str, int]) -> list[File]:
    """Return the files with the offsets of their new chunks. `offsets` has them by name of the chunk."""
    return [
        File(f.name, [Chunk(c.name, c.size, offsets[c.name]) if c.name in offsets else c for c in f.chunks])
        for f in files
    ]


def retained(found: Iterable[Manifest], final_version: int) -> list[Manifest]:
    """Return the manifests that are kept: the `KEEP` newest, and one for each older build.

    An older build cannot read rows of a newer version. To go back to it, it needs a snapshot of its own version and the
    log behind that one. So the newest snapshot of each older version is kept until the upgrade is final. Snapshots of
    a version newer than ours are not: members of that version can read ours.

    Args:
        found: the manifests, newest first.
        final_version: the version of rows to which the upgrade is final; 0 if none was finalised.
    """
    kept: list[Manifest] = []
    for manifest in found:
        version = manifest.state_version
        for_older_build = final_version <= version < STATE_VERSION and all(one.state_version != version for one in kept)
        if version <= STATE_VERSION and (len(kept) < KEEP or for_older_build):
            kept.append(manifest)
    return kept


def superseded(
    new: Manifest,
    before: Sequence[Manifest],
    strays: Iterable[str],
    unusable: Iterable[Manifest] = (),
    final_version: int = 0,
) -> tuple[list[Manifest], list[str]]:
    """Return what must be deleted when `new` is published: manifests, and the names of chunks that nothing needs.

    Args:
        new: the new manifest.
        before: the published manifests that can be used, newest first.
        strays: names of chunks of snapshots whose manifest was never published.
        unusable: the published manifests that cannot be used. They all are deleted.
        final_version: see `retained`.
    """
    kept = retained([new, *before], final_version)
    gone = [*(manifest for manifest in before if manifest not in kept), *unusable]
    needed = {chunk.name for manifest in kept for chunk in manifest.chunks}
    listed = {chunk.name for manifest in gone for chunk in manifest.chunks if manifest.place == new.place}
    return gone, sorted((listed | set(strays)) - needed)


def deletable_chunks(found: Iterable[str], kept: Sequence[Manifest]) -> list[str]:
    """Return the chunks of a folder that may be deleted.

    An owner that was fenced and does not know it yet may call this, too. So chunks that are newer than the newest
    manifest that the caller knows are not returned: a newer owner may need them.

    Args:
        found: the names of all files in the folder.
        kept: the manifests that the caller knows as published, newest first.
    """
    needed = {chunk.name for manifest in kept for chunk in manifest.chunks}
    newest = kept[0].origin
    return [name for name in found if name not in needed and _is_chunk(name) and Chunk(name, 0).origin <= newest]


def _is_chunk(name: str) -> bool:
    """Whether a file may be a chunk. People may have put other files into the folder."""
    return re.fullmatch(r"\w+(\.\d+){2,3}", name, re.ASCII) is not None
