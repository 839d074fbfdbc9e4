"""Names, identities, and where a key lives."""

from collections.abc import Sequence
from functools import cache, lru_cache
from hashlib import blake2b
from itertools import compress
from operator import ne

import msgspec
from msgspec.structs import astuple

from ftjm.core.names import NAME_TEXT, is_name
from ftjm.core.records.command import Command
from ftjm.core.state.model import JobSpec
from ftjm.core.state.resources import CLUSTER_KEY

DEFAULT_QUEUE = "default"
CONTENT_VERSION = 3
"""The newest version of the content hash."""
CONTENT_STATE_VERSIONS = {2: 4, 3: 8}
"""For each version of the content hash but the first: the version of rows from which on they know it."""
CONTENT_BYTES = 16
CONTENT_1_FIELDS = 22
"""Fields that `JobSpec` had when version 1 of the content hash was in use."""

_encode = msgspec.msgpack.Encoder(order="sorted").encode


def parse_job(text: str) -> tuple[str, str]:
    """Split `queue/job_id`; a bare id means the queue `default`.

    Raises:
        ValueError: if either part is not a name.
    """
    queue, slash, job_id = text.partition("/")
    if not slash:
        queue, job_id = DEFAULT_QUEUE, text
    for what, name in (("queue", queue), ("job id", job_id)):
        if not is_name(name):
            raise ValueError(f"expected a job as QUEUE/ID, each part {NAME_TEXT}, but the {what} is {name!r}")
    return queue, job_id


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 of Kafka's Java client (`org.apache.kafka.common.utils.Utils.murmur2`), signed there,
    unsigned here."""
    length, m = len(data), 0x5BD1E995
    h = (0x9747B28C ^ length) & 0xFFFFFFFF
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & 0xFFFFFFFF
        k = (k ^ k >> 24) * m & 0xFFFFFFFF
        h = h * m & 0xFFFFFFFF ^ k
    if tail := data[whole:]:
        h = (h ^ int.from_bytes(tail, "little")) * m & 0xFFFFFFFF
    h = (h ^ h >> 13) * m & 0xFFFFFFFF
    return h ^ h >> 15


def key_of(command: Command) -> str:
    """The key of the partition that decides about a command which a client sends. One that names no queue is about
    what the whole cluster shares."""
    return command.shard_key or command.queue or CLUSTER_KEY


@lru_cache(maxsize=1_024)
def partition_for(key: str, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives `key`."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def content_hash(spec: JobSpec, version: int = CONTENT_VERSION, explicit: Sequence[str] = ()) -> bytes:
    """16 bytes that are the same for two submissions that ask for the same job.

    Only what the user gave counts: delays are relative, and the defaults of the queue and of the cluster are not filled
    in. So the same request hours later, or under other settings, has the same hash.

    Version 2 hashes the names and values of the fields that differ from their defaults. A field that is added to
    `JobSpec` changes no hash of a job that does not use it. Version 3 adds the names of the fields that were given
    although they have their default: under other defaults of the queue they would be another job.

    Args:
        spec: the fields as the user gave them.
        version: the version of the hash, for comparison with one that was stored.
        explicit: as `job_defaults.canonical` gives it. Earlier versions leave it out.

    Returns:
        The hash; empty if this program does not know the version, or if the version cannot express a field of `spec`.
        An empty hash is no stored job's hash.
    """
    if version in CONTENT_STATE_VERSIONS:
        (names, defaults), values = _defaults(type(spec)), astuple(spec)
        content = _encode(dict(compress(zip(names, values, strict=True), map(ne, values, defaults))))
        if explicit and version > 2:  # a map ends where its last value does, so what follows is not mistaken for it
            content += _encode(explicit)
        return blake2b(content, digest_size=16).digest()
    return _content_hash_1(spec) if version == 1 else b""


@cache
def _defaults(kind: type[JobSpec]) -> tuple[tuple[str, ...], tuple[object, ...]]:
    return kind.__struct_fields__, astuple(kind())


def _content_hash_1(spec: JobSpec) -> bytes:
    """Version 1 hashed the values of all fields, then 22, in their order.

    It is frozen: jobs that were submitted under it must stay recognisable. It cannot express a later field, so a spec
    that uses one is another job by it.
    """
    values = astuple(spec)
    if values[CONTENT_1_FIELDS:] != _defaults(type(spec))[1][CONTENT_1_FIELDS:]:
        return b""
    return blake2b(_encode(values[:CONTENT_1_FIELDS]), digest_size=16).digest()


def pack_content(version: int, content: bytes) -> bytes:
    """A content hash as `JobSubmitted` carries it: of version 1 the hash alone, else one byte for the version first."""
    return content if version == 1 else bytes([version]) + content


def unpack_content(packed: bytes) -> tuple[int, bytes]:
    """The version and the hash of `JobSubmitted.content`."""
    if len(packed) <= CONTENT_BYTES:
        return 1, packed
    return packed[0], packed[1:]
