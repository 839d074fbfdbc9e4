"""Round trips, goldens, older versions, and garbage."""

import contextlib
import io
import json
import shutil
from enum import Enum
from typing import Any, get_args, get_origin

import msgspec
import pytest
from fastavro import schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from ftjm.adapters.avro import codec
from ftjm.adapters.avro.codec import Codec, Undecodable
from ftjm.core.errors import UndecodableError
from ftjm.core.limits import RECORD_BYTES_MAX
from ftjm.core.records.commands import CancelJob, SubmitJob
from ftjm.core.state.model import JobSpec
from tests.adapters.avro.golden import golden_of, schema_files, types

INTS = st.integers(-(2**31), 2**31 - 1)


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """A strategy for all values that a field can have."""
    if get_origin(annotation) is list:
        return st.lists(values(get_args(annotation)[0]), max_size=3)
    if get_origin(annotation) is dict:
        return st.dictionaries(st.text(), st.text(), max_size=3)
    if issubclass(annotation, Enum):
        return st.sampled_from(annotation)
    if issubclass(annotation, msgspec.Struct):
        return st.builds(annotation, **{f.name: values(f.type) for f in msgspec.structs.fields(annotation)})
    plain: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: INTS,
        float: st.floats(allow_nan=False),
        str: st.text(),
        bytes: st.binary(),
    }
    return plain[annotation]


RECORDS = st.one_of([values(record) for _, record in types()])


@given(RECORDS)
def test_an_encoded_record_decodes_to_an_equal_one(record):
    data = codec.encode(record)
    assert codec.decode(data) == record
    assert type(codec.decode(data)) is type(record)
    assert codec.type_of(data) is type(record)


@pytest.mark.parametrize("schema", schema_files(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_golden_bytes_decode_to_the_same_record_as_ever(schema):
    golden = json.loads(golden_of(schema).read_text())
    data = bytes.fromhex(golden["bytes"])
    record = codec.type_of(data)
    assert record is not None
    assert record.__name__ == schema.stem.split(".")[0]
    assert codec.decode(data) == msgspec.convert(golden["record"], record)


@pytest.mark.parametrize(("kind", "record"), types(), ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_the_newest_golden_is_written_today(kind, record):
    paths = [p for p in schema_files() if p.parent.name == kind and p.stem.split(".")[0] == record.__name__]
    golden = json.loads(golden_of(max(paths, key=lambda p: int(p.stem.partition(".")[2] or 1))).read_text())
    assert codec.encode(msgspec.convert(golden["record"], record)).hex() == golden["bytes"]


@given(st.binary(max_size=200))
def test_garbage_raises_undecodable_only(data):
    with pytest.raises(UndecodableError):
        codec.decode(data)


@given(RECORDS, st.binary(max_size=100), st.data())
def test_a_damaged_body_is_undecodable_or_another_record(record, noise, data):
    encoded = codec.encode(record)
    at = data.draw(st.integers(codec.HEADER_BYTES, len(encoded)))
    with contextlib.suppress(UndecodableError):
        assert type(codec.decode(encoded[:at] + noise)) is type(record)


CANCEL = codec.encode(CancelJob(queue="q", job_id="j", reason="typo"))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Undecodable.NOT_SINGLE_OBJECT),
        (b"\xc3\x01\x00", Undecodable.NOT_SINGLE_OBJECT),
        (b'{"queue": "q", "job_id": "j"}', Undecodable.NOT_SINGLE_OBJECT),
        (b"\xc3\x01" + bytes(8), Undecodable.UNKNOWN_FINGERPRINT),
        (CANCEL[:-1], Undecodable.BAD_BODY),
        (CANCEL[:10], Undecodable.BAD_BODY),
        (CANCEL[:10] + b"\xff" * 20, Undecodable.BAD_BODY),
        (CANCEL + b"\x00", Undecodable.TRAILING_BYTES),
        (CANCEL + bytes(RECORD_BYTES_MAX), Undecodable.TOO_LARGE),
    ],
    ids=lambda v: str(v) if isinstance(v, Undecodable) else "",
)
def test_the_error_names_the_fault(data, code):
    with pytest.raises(UndecodableError, match="expected") as caught:
        codec.decode(data)
    assert caught.value.code == code
    assert str(caught.value).startswith(code)


def test_a_record_type_without_a_schema_is_a_bug():
    with pytest.raises(KeyError):
        codec.encode(JobSpec())


# ---- versions


class Greeting(msgspec.Struct, kw_only=True):
    name: str
    loudness: int = 3
    tune: bytes = b""


class Envelope(msgspec.Struct, kw_only=True):
    spec: JobSpec


def write_schema(folder, name, fields):
    folder.mkdir(exist_ok=True)
    schema = {"type": "record", "name": name.split(".")[0], "namespace": "ftjm.test", "fields": fields}
    (folder / f"{name}.avsc").write_text(json.dumps(schema))
    return schema


def test_an_older_version_is_read_as_the_newest(tmp_path):
    name = {"name": "name", "type": "string"}
    old = write_schema(tmp_path / "test", "Greeting", [name])
    loudness = {"name": "loudness", "type": "int", "default": 3}
    write_schema(tmp_path / "test", "Greeting.2", [loudness, name, {"name": "tune", "type": "bytes", "default": ""}])
    both = Codec(tmp_path, {"test": (Greeting,)})
    out = io.BytesIO()
    schemaless_writer(out, old, {"name": "Ada"})
    assert both.decode(codec.header_of(old) + out.getvalue()) == Greeting(name="Ada", loudness=3)
    newest = Greeting(name="Ada", loudness=7)
    assert both.decode(both.encode(newest)) == newest
    assert both.encode(newest)[:10] != codec.header_of(old)


def test_version_10_is_newer_than_version_9(tmp_path):
    for version in (2, 9, 10):
        fields = [{"name": "name", "type": "string"}, {"name": "loudness", "type": "int", "default": version}]
        write_schema(tmp_path / "test", f"Greeting.{version}", fields[: 1 if version == 2 else 2])
    both = Codec(tmp_path, {"test": (Greeting,)})
    assert both.decode(both.encode(Greeting(name="Ada", loudness=1))).loudness == 1


def test_a_nested_record_of_an_older_version_is_read_as_the_newest(tmp_path):
    folder = tmp_path / "test"
    spec = next(
        field["type"]
        for field in json.loads((codec.schema_folder() / "commands" / "SubmitJob.avsc").read_text())["fields"]
        if field["name"] == "spec"
    )
    old_spec = spec | {"fields": spec["fields"][:-2]}
    old = write_schema(folder, "Envelope", [{"name": "spec", "type": old_spec}])
    write_schema(folder, "Envelope.2", [{"name": "spec", "type": spec}])
    both = Codec(tmp_path, {"test": (Envelope,)})
    out = io.BytesIO()
    spec_written = JobSpec(command=["true"], priority=7)
    schemaless_writer(out, old, {"spec": msgspec.structs.asdict(spec_written)})
    assert both.decode(codec.header_of(old) + out.getvalue()) == Envelope(spec=spec_written)


def test_a_schema_without_a_struct_or_a_struct_without_a_schema_is_refused(tmp_path):
    shutil.copytree(codec.schema_folder() / "commands", tmp_path / "commands")
    with pytest.raises(ValueError, match="expected a record type for every schema"):
        Codec(tmp_path, {"commands": (SubmitJob,)})
    with pytest.raises(ValueError, match="expected a schema for Greeting"):
        Codec(tmp_path, {"test": (Greeting,)})
