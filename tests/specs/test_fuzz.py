"""Whatever a file of jobs or of resources, an option or a settings file holds: it is read, or refused in words."""

from __future__ import annotations

import contextlib
import io
import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from ftjm.runtime import config
from ftjm.runtime.durations import parse_duration, parse_time
from ftjm.runtime.errors import UsageError
from ftjm.specs.files import InvalidFileError, JobFile, _reader_of
from ftjm.specs.job import InvalidJobError, JobFields, parse_job
from ftjm.specs.json_text import decode_item, decode_value
from ftjm.specs.resource_files import _items
from ftjm.specs.resources import KINDS, InvalidResourceError, document, parse_resource
from ftjm.specs.written import UnreadableError
from tests.fuzzing import fuzz, fuzz_by_seeds

pytestmark = pytest.mark.timeout(3_600)  # with --long

SUFFIXES = (".yaml", ".json", ".jsonl", "")
LONG_NUMBERS = ("9" * 5_000, "-" + "9" * 400, "0x" + "f" * 500, "0" * 400 + "7", "1." + "0" * 4_000, "1e999", "-1e-999")
PLAIN = [
    "true",
    "null",
    "~",
    ".inf",
    "-.INF",
    ".nan",
    "NaN",
    "Infinity",
    "010",
    "1_0",
    "0o17",
    "on",
    "2020-01-01",
    "1:20",
    "1e3",
    "-0",
    "é",
    "🎉",
    "'",
    '"',
]
ODD = ('"\\ud83c\\udf89"', '"\\ud83c"', '"\\u0000"', "\u2028", "\x85", "\x00", "\x7f", "\ufeff")
SCALARS = st.sampled_from([*PLAIN, *ODD, *LONG_NUMBERS]) | st.text(max_size=8)
FIELDS = [*JobFields.model_fields, "jobs", "initial", "factor", "max", "continue_for", "x"]
NAMES = [f"{name}: " for name in FIELDS] + [f'"{name}": ' for name in FIELDS]
INDICATORS = [
    "- ",
    "? ",
    ": ",
    ", ",
    "[",
    "]",
    "{",
    "}",
    "<<: ",
    "&a ",
    "*a ",
    "&b ",
    "*b ",
    "# ",
    "!!float ",
    "!!int ",
    "!!binary ",
    "!!set ",
    "!mine ",
    "! ",
    "!<x> ",
]
LINES = ("\n", "\n  ", "\n- ", "|\n", ">-\n", "---\n", "...\n", "%YAML 1.1\n", "\t", "\r")
TEXTS = st.lists(st.sampled_from([*NAMES, *INDICATORS, *LINES]) | SCALARS, max_size=40).map("".join)
DATA_VALUES: tuple[Any, ...] = (
    None,
    True,
    7,
    -1,
    1.5,
    "x",
    "1s",
    ["a"],
    [],
    {},
    {"a": {"a": [1]}},
    "é",
    {"initial": "1s"},
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"])
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.integers(10**300, 10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
JOBS = st.dictionaries(st.sampled_from(FIELDS), VALUES | st.sampled_from(["1s", "a", "5", "9" * 400 + "s"]), max_size=8)
DOCUMENTS = (JOBS | st.lists(JOBS, max_size=3) | st.lists(JOBS, max_size=3).map(lambda jobs: {"jobs": jobs})).map(
    lambda document: json.dumps(document, ensure_ascii=False)
)
REPEATED = st.tuples(
    st.sampled_from(["[", "{", "- ", '{"a":', "? ", "&a ", "!!x ", "*a ", "'", '"', "\n", "%"]), TEXTS
).map(lambda pair: pair[0] * 20_000 + pair[1])


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A document with some of its text left out, or repeated."""
    text = draw(DOCUMENTS | TEXTS)
    for _ in range(draw(st.integers(0, 3))):
        at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 12))
        text = text[:at] + draw(st.sampled_from([text[:length], "", text[at : at + length] * 3])) + text[at + length :]
    return text


CONTENTS = st.binary(max_size=200) | st.builds(
    lambda text, encoding: text.encode(encoding, errors="surrogatepass" if encoding.startswith("utf") else "replace"),
    TEXTS | damaged() | DOCUMENTS,
    ENCODINGS,
)


def read(data: bytes) -> None:
    """Read what every door reads. Each refusal names what it is about."""
    for suffix in SUFFIXES:
        content = io.BytesIO(data)
        try:
            jobs = JobFile("jobs", content, _reader_of(Path("jobs" + suffix), content), 256 * 1024, "")
            assert all(job.spec.command and job.job_id for job in jobs)
        except InvalidFileError as refused:
            problems = refused.problems
        else:
            continue
        assert problems
        assert all(problem.startswith("jobs:") and len(problem) < 1_000 for problem in problems)
    for decode in (decode_item, decode_value):
        with contextlib.suppress(UnreadableError, InvalidJobError):
            parse_job(decode(data))


def test_any_content_of_a_file_is_jobs_or_refused(request: pytest.FixtureRequest) -> None:
    fuzz(request, read, CONTENTS, short=100, long=5_000)


def drawn(source: random.Random) -> bytes:
    """A content as those of `CONTENTS`."""
    parts = source.choices([*NAMES, *INDICATORS, *LINES, *PLAIN, *ODD, *LONG_NUMBERS], k=source.randrange(40))
    text = "".join(parts)
    if source.random() < 0.5:
        jobs = [dict(zip(source.choices(FIELDS, k=3), source.choices(DATA_VALUES, k=3), strict=True)) for _ in range(2)]
        text = json.dumps(source.choice([jobs, {"jobs": jobs}, jobs[0]]), indent=source.choice([None, 2]))
        at = source.randrange(len(text))
        text = text[:at] + source.choice([*parts, ""]) + text[at + source.randrange(3) :]
    encoding = source.choice(["utf-8"] * 4 + ["utf-8-sig", "utf-16", "latin-1"])
    return text.encode(encoding, errors="replace")


def test_very_many_contents(request: pytest.FixtureRequest) -> None:
    fuzz_by_seeds(request, read, drawn, short=400, long=80_000)


def test_any_repetition_is_refused_soon(request: pytest.FixtureRequest) -> None:
    fuzz(request, lambda text: read(text.encode(errors="replace")), REPEATED, short=20, long=500)


def read_resources(data: bytes) -> None:
    """Read a file of resources. What is taken is taken again as it is shown; each refusal says something."""
    for suffix in (".yaml", ".json", ""):
        with contextlib.suppress(UnreadableError):
            for located in _items(f"resources{suffix}", data):
                try:
                    found = parse_resource(located.fields)
                except InvalidResourceError as refused:
                    problems = refused.problems
                else:
                    shown = document(found.kind, found.name, found.labels, KINDS[found.kind].written(found.spec))
                    assert parse_resource(shown) == found
                    continue
                assert problems
                assert all(located.line_of(problem.path) and len(str(problem)) < 1_000 for problem in problems)


RESOURCE_FIELDS = (
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "name",
    "labels",
    "concurrency",
    "rate",
    "limit",
    "per",
    "cron",
    "interval",
    "start",
    "time_zone",
    "job",
    "queue",
    "payload",
    "env",
    "x",
)


def drawn_resource(source: random.Random) -> bytes:
    """A resource with odd values, and its text with odd parts."""
    whole = json.loads(json.dumps(source.choice([one for kind in KINDS.values() for one in kind.examples])))
    for _ in range(source.randrange(3)):
        spec = whole.get("spec")
        inner = source.choice([whole, spec, whole.get("metadata"), spec.get("job") if isinstance(spec, dict) else spec])
        if isinstance(inner, dict):
            inner[source.choice(RESOURCE_FIELDS)] = deepcopy(source.choice([*DATA_VALUES, "off", 0, "1m"]))
    text = json.dumps(source.choice([whole, [whole, whole]]), indent=source.choice([None, 2]))
    for _ in range(source.randrange(3)):
        at = source.randrange(len(text))
        text = text[:at] + source.choice([*INDICATORS, *LINES, *PLAIN, *ODD, ""]) + text[at + source.randrange(3) :]
    return text.encode(errors="replace")


def test_any_resource_is_taken_or_refused(request: pytest.FixtureRequest) -> None:
    fuzz_by_seeds(request, read_resources, drawn_resource, short=400, long=40_000)
    fuzz_by_seeds(request, read_resources, drawn, short=100, long=10_000)


def test_any_values_in_python_are_a_job_or_refused(request: pytest.FixtureRequest) -> None:
    odd = VALUES | st.binary() | st.dictionaries(st.integers() | st.binary(), VALUES) | st.text(st.characters())

    def check(fields: Any) -> None:
        try:
            assert parse_job(fields).spec.command
        except InvalidJobError as refused:
            problems = refused.problems
        else:
            return
        assert len(str(problems[0])) < 1_000

    fuzz(
        request,
        check,
        st.dictionaries(st.sampled_from(FIELDS) | st.text(), odd, max_size=6) | odd,
        short=100,
        long=15_000,
    )


def test_any_text_is_a_duration_and_a_time_or_refused(request: pytest.FixtureRequest) -> None:
    numbers = st.text("0123456789.-+eE:TZ ٣", max_size=30) | st.sampled_from(LONG_NUMBERS)
    units = st.sampled_from(["d", "h", "m", "s", "ms", "", "Z", "+02:00", "T"])

    def check(text: str) -> None:
        for parse in (parse_duration, parse_time):
            with contextlib.suppress(ValueError):
                assert parse(text) >= 0

    fuzz(
        request, check, st.lists(numbers | units | st.text(max_size=3), max_size=6).map("".join), short=100, long=10_000
    )


SETTING_NAMES = [*config.Settings.model_fields, "kafka.log_level", "kafka.error_cb", "kafka.a b", "x"]
TOML = [
    '"a"',
    "1",
    "-1",
    "0",
    "1.5",
    "inf",
    "nan",
    "1e400",
    "true",
    "[]",
    "{a=1}",
    "2020-01-01",
    '"~nobody-of-this-name"',
    '"\\u0000"',
    '"é"',
    '"http://[/"',
    "'''",
]
SETTING_VALUES = st.sampled_from([*TOML, "9" * 5_000, "9" * 30, "[" * 2_000])
SETTINGS = st.lists(st.tuples(st.sampled_from(SETTING_NAMES), SETTING_VALUES), max_size=4).map(
    lambda pairs: "\n".join(f"{name} = {value}" for name, value in pairs)
)


def test_any_settings_file_is_read_or_refused(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    def check(data: bytes) -> None:
        Path("ftjm.toml").write_bytes(data)
        with contextlib.suppress(UsageError):
            assert config.load().data_dir.is_absolute()

    contents = st.builds(lambda text, encoding: text.encode(encoding, errors="replace"), SETTINGS | TEXTS, ENCODINGS)
    fuzz(request, check, st.binary(max_size=60) | contents, short=60, long=2_000)
