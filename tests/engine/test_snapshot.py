"""What a snapshot sends, lists and drops: at every step of random histories every kept snapshot is whole."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ftjm.core.state.model import STATE_VERSION, Position
from ftjm.engine.snapshot import (
    KEEP,
    Chunk,
    ChunkNames,
    DamagedSnapshot,
    File,
    Manifest,
    Piece,
    decode,
    deletable_chunks,
    encode,
    manifest_key,
    manifest_of,
    matches,
    retained,
    superseded,
    why_not_restorable,
    with_offsets,
)


def at(batch: int, epoch: int = 1) -> Position:
    return Position(log_id="log", applied_offset=batch * 3, batch_no=batch, owner_epoch=epoch, state_hash=bytes(16))


def pieces(*texts: str) -> list[Piece]:
    return [Piece(sha256(text.encode()).hexdigest(), len(text)) for text in texts]


def take(
    position: Position, texts: list[str], newest: Manifest | None, place: str = "", *, taken_at: int = 0
) -> tuple[Manifest, list[str]]:
    """A snapshot of one file a text, and the names of what was sent for it."""
    taken_at = taken_at or position.batch_no
    names = ChunkNames(newest, position, place, taken_at)
    sent, files = [], []
    for number, piece in enumerate(pieces(*texts)):
        chunk, new = names.chunk_of(piece)
        sent += [chunk.name] if new else []
        files.append(File(f"{number}.sst", [chunk]))
    return manifest_of(position, 0, taken_at, place, -1, files), sent


def test_only_what_is_new_is_sent():
    first, sent = take(at(1), ["a", "b"], None)
    assert len(sent) == 2
    second, sent = take(at(2), ["a", "c"], first)
    assert [name.split(".", 1)[1] for name in sent] == ["1.2.2"]
    assert second.files[0] == first.files[0]


def test_one_content_is_sent_once():
    manifest, sent = take(at(1), ["a", "a", "a"], None)
    assert len(sent) == 1
    assert {chunk.name for chunk in manifest.chunks} == set(sent)
    assert manifest.size == 3


def test_chunks_of_another_place_or_another_log_are_not_used():
    first, _ = take(at(1), ["a"], None)
    assert len(take(at(2), ["a"], first, place="file:///x")[1]) == 1
    stranger = msgspec.structs.replace(first, log_id="other")
    assert len(take(at(2), ["a"], stranger)[1]) == 1


def test_a_name_that_was_dropped_does_not_come_back_with_its_content():
    first, (dropped,) = take(at(1), ["a"], None)
    second, _ = take(at(2), ["b"], first)
    third, _ = take(at(3), ["c"], second)
    gone, names = superseded(third, [second, first], [])
    assert (gone, names) == ([first], [dropped])
    fourth, sent = take(at(4), ["a"], third)
    assert sent
    assert dropped not in {chunk.name for chunk in fourth.chunks}


def test_a_full_one_of_a_batch_that_has_one_uses_nothing_of_it_and_writes_no_name_twice():
    """Of an idle partition, which is all that mends a damaged chunk of it."""
    first, old = take(at(1), ["a", "b"], None)
    again, new = take(at(1), ["a", "b"], None, taken_at=2)
    assert len(new) == 2
    assert not set(old) & set(new)
    assert again.full
    assert not take(at(2), ["a", "c"], first)[0].full
    assert deletable_chunks([*old, *new], [first]) == [], "one that is on its way is nobody's to delete"
    assert deletable_chunks([*old, *new], [again]) == old


def test_chunks_that_were_named_without_a_time_are_read_and_dropped_like_others():
    named = File("a", [Chunk("x.1.3", 1)])
    manifest = manifest_of(at(3), 0, 9, "", -1, [named])
    assert deletable_chunks(["x.1.3", "y.1.3", "y.1.2", "y.1.4"], [manifest]) == ["y.1.3", "y.1.2"]


def test_of_another_log_or_version_nothing_can_be_made():
    manifest, _ = take(at(1), ["a"], None)
    assert not why_not_restorable(manifest, "log")
    assert "another log" in why_not_restorable(manifest, "other")
    assert "version" in why_not_restorable(msgspec.structs.replace(manifest, state_version=STATE_VERSION + 1), "log")


def test_strays_go_unless_the_new_snapshot_has_them():
    first, _ = take(at(1), ["a"], None)
    second, (new,) = take(at(2), ["a", "b"], first)
    assert superseded(second, [first], ["x.1.1", new]) == ([], ["x.1.1"])


def test_one_that_is_known_to_be_unusable_goes_and_takes_the_place_of_none():
    sound, _ = take(at(1), ["a"], None)
    damaged, (own,) = take(at(2), ["a", "b"], sound)
    new, _ = take(at(3), ["a"], None)
    assert superseded(new, [sound], [], [damaged]) == ([damaged], [own])


def versioned(batch: int, *versions: int) -> list[Manifest]:
    """Manifests of these versions of rows, the newest first, whose batches count down from `batch`."""
    taken = [take(at(batch - back), [f"{batch - back}"], None)[0] for back in range(len(versions))]
    return [replace(one, state_version=version) for one, version in zip(taken, versions, strict=True)]


NOW, OLD, OLDER = STATE_VERSION, STATE_VERSION - 1, STATE_VERSION - 2


@pytest.mark.parametrize(
    ("versions", "final", "kept"),
    [
        ((NOW, NOW, NOW), 0, [0, 1]),
        ((NOW, OLD, OLD), 0, [0, 1]),
        ((NOW, NOW, OLD), 0, [0, 1, 2]),
        ((NOW, NOW, OLD, OLD), 0, [0, 1, 2]),
        ((NOW, NOW, OLD, OLDER), 0, [0, 1, 2, 3]),
        ((NOW, NOW, OLD, OLDER), OLD, [0, 1, 2]),
        ((NOW, NOW, OLD), NOW, [0, 1]),
        ((NOW, OLD, OLD), NOW, [0, 1]),
        ((NOW, NOW + 1, NOW + 1, NOW), 0, [0, 3]),
    ],
)
def test_the_newest_snapshot_of_each_older_version_is_kept_until_the_upgrade_is_final(versions, final, kept):
    found = versioned(9, *versions)
    assert retained(found, final) == [found[index] for index in kept]
    gone, names = superseded(found[0], found[1:], [], final_version=final)
    assert gone == [one for index, one in enumerate(found) if index not in kept]
    assert set(names) == {chunk.name for one in gone for chunk in one.chunks}


def test_what_came_after_its_newest_manifest_is_not_an_owners_to_delete():
    """A folder knows no fence: a zombie may still be sweeping when its successor has begun."""
    first, _ = take(at(5, epoch=1), ["a"], None)
    found = ["old.1.2", "older.0.9", *(c.name for c in first.chunks), "later.1.6", "successors.2.6"]
    assert deletable_chunks(found, [first]) == ["old.1.2", "older.0.9"]


def test_what_people_left_among_the_chunks_is_not_ours_to_delete():
    first, _ = take(at(5), ["a"], None)
    assert deletable_chunks([".DS_Store", "README", "notes.1.txt", "x.1.1.1.1", "old.1.2"], [first]) == ["old.1.2"]


def test_offsets_are_filled_in_for_what_was_sent():
    files = [File("a", [Chunk("x.1.1", 3), Chunk("y.1.1", 4, 7)])]
    assert with_offsets(files, {"x.1.1": 9}) == [File("a", [Chunk("x.1.1", 3, 9), Chunk("y.1.1", 4, 7)])]


def test_a_manifest_says_where_its_store_stands():
    manifest, _ = take(at(3), ["a"], None)
    assert decode(encode(manifest)) == manifest
    assert matches(manifest, at(3))
    for other in (at(4), msgspec.structs.replace(at(3), state_hash=b"x" * 16)):
        assert not matches(manifest, other)
    assert manifest_key(manifest) == "0/m/3.3"


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"format": 99}'])
def test_what_is_no_manifest_says_so(data):
    with pytest.raises(DamagedSnapshot):
        decode(data)


def test_a_manifest_of_another_format_is_not_read():
    manifest, _ = take(at(1), ["a"], None)
    with pytest.raises(DamagedSnapshot, match="format 2"):
        decode(encode(msgspec.structs.replace(manifest, format=2)))


CONTENTS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4)


@given(st.lists(st.tuples(CONTENTS, st.booleans(), st.booleans()), max_size=12))
def test_every_kept_snapshot_is_whole_and_nothing_else_stays(steps):
    """Owners take, die before they publish, and are followed by others; two places, with and without a fence."""
    topic: set[str] = set()
    folder: set[str] = set()
    kept: list[Manifest] = []
    strays: list[str] = []
    ever_dropped: set[str] = set()
    epoch = 1
    for batch, (texts, dies, changes) in enumerate(steps, 1):
        epoch += changes
        manifest, sent = take(at(batch, epoch), texts, kept[0] if kept else None)
        assert not ever_dropped & {chunk.name for chunk in manifest.chunks}
        topic |= set(sent)
        folder |= set(sent)
        if dies:
            strays += sent
            continue
        _, names = superseded(manifest, kept, strays)
        kept, strays = [manifest, *kept[: KEEP - 1]], []
        topic -= set(names)
        ever_dropped |= set(names)
        folder -= set(deletable_chunks(folder, kept))
        needed = {chunk.name for one in kept for chunk in one.chunks}
        assert topic == folder == needed
