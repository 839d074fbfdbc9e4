"""Resources as users write them: each bad input with its line, what was expected, and what was found."""

import io
import json
import sys
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ftjm.core.bounds import within
from ftjm.core.job_defaults import FROM_QUEUE
from ftjm.core.limits import (
    AGEING_MS_MAX,
    CONTINUE_FOR_MAX_MS,
    DEAD_LETTER_MS_MAX,
    LABELS_MAX,
    RATE_MAX,
    RATE_PER_MS_MAX,
    SMALL_MAX,
    WAITING_MS_MAX,
    WAITING_MS_MIN,
)
from ftjm.core.names import NAME_TEXT
from ftjm.core.queue_gates import rate_fault
from ftjm.core.state.model import JobSpec, OnWorkerLoss
from ftjm.core.state.queues import JobDefaults, OnConflict, QueueSpec, WaitingAction, WaitingLimit
from ftjm.core.waiting_limits import REASONS
from ftjm.runtime.errors import UsageError
from ftjm.specs import resource_files
from ftjm.specs.json_text import decode_item
from ftjm.specs.queue import TO_COME, QueueFields, written
from ftjm.specs.resource_files import FILE_BYTES_MAX, InvalidResourcesError, read_resources
from ftjm.specs.resources import (
    KINDS,
    KINDS_TO_COME,
    InvalidResourceError,
    Resource,
    document,
    json_schema,
    parse_resource,
)
from tests.specs import kinds

QUEUE = "apiVersion: ftjm.io/v1\nkind: Queue\nmetadata: {name: etl}\n"
POLICIES = {
    "priority": st.integers(0, 100),
    "timeout_ms": st.integers(0, 9_000_000),
    "deadline_ms": st.integers(0, 9_000_000),
    "max_attempts": st.integers(1, 10_000),
    "backoff_ms": st.integers(0, 9_000_000),
    "backoff_factor": st.floats(1, 100),
    "backoff_max_ms": st.integers(0, 9_000_000),
    "on_worker_loss": st.sampled_from(OnWorkerLoss),
    "worker_losses_max": st.integers(0, 10_000),
    "continue_for_ms": st.integers(0, CONTINUE_FOR_MAX_MS),
    "cancel_grace_ms": st.integers(0, 9_000_000),
    "retention_ms": st.integers(0, 9_000_000),
}
DEFAULTS = st.fixed_dictionaries({}, optional=POLICIES).map(
    lambda given: [JobDefaults(sorted(given), JobSpec(**given))] if given else []
)
SPECS = st.builds(
    QueueSpec,
    concurrency=st.integers(0, SMALL_MAX),
    rate_limit=st.integers(0, RATE_MAX),
    rate_per_ms=st.integers(1, RATE_PER_MS_MAX),
    rate_burst=st.integers(1, RATE_MAX),
    ageing_ms=st.integers(1, AGEING_MS_MAX),
    key_concurrency=st.integers(1, RATE_MAX),
    on_conflict=st.sampled_from(OnConflict),
    dead_letter_ms=st.integers(0, DEAD_LETTER_MS_MAX),
    waiting_limits=st.lists(
        st.builds(
            WaitingLimit,
            st.sampled_from(["", *REASONS]),
            st.integers(WAITING_MS_MIN, WAITING_MS_MAX),
            st.sampled_from(WaitingAction),
        ),
        max_size=3,
    ),
    defaults=DEFAULTS,
).filter(lambda spec: not rate_fault(spec))


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    return write


def resources(*sources):
    return [one.resource for one in read_resources(sources).resources]


def problems(*sources):
    with pytest.raises(InvalidResourcesError) as caught:
        read_resources(sources)
    return caught.value.problems


def refused(fields):
    with pytest.raises(InvalidResourceError) as caught:
        parse_resource(fields)
    return str(caught.value)


def shown(resource):
    written_spec = KINDS[resource.kind].written(resource.spec)
    return document(resource.kind, resource.name, resource.labels, written_spec)


def queue(**spec):
    return {"apiVersion": "ftjm.io/v1", "kind": "Queue", "metadata": {"name": "etl"}, "spec": spec}


# ---- what is taken


def test_every_field_has_its_place_in_the_spec(write):
    text = """
    apiVersion: ftjm.io/v1
    kind: Queue
    metadata:
      name: etl
      labels: {team: data, n: 007}
    spec:
      concurrency: 20
      rate: {limit: 100, per: 1m, burst: 10}
      ageing: 90s
      defaults: {max_attempts: 3, timeout: 0s, backoff: {max: 1m}, disconnect: {continue_for: 10m}}
    """
    given: dict[str, Any] = {"backoff_max_ms": 60_000, "continue_for_ms": 600_000, "max_attempts": 3, "timeout_ms": 0}
    spec = QueueSpec(
        concurrency=20,
        rate_limit=100,
        rate_per_ms=60_000,
        rate_burst=10,
        ageing_ms=90_000,
        defaults=[JobDefaults([*given], JobSpec(**given))],
    )
    assert resources(write("q.yaml", text)) == [Resource("Queue", "etl", {"team": "data", "n": "007"}, spec)]


@pytest.mark.parametrize("spec", ["", "spec:\n", "spec: {}\n", "spec: {concurrency: , rate: null, defaults: {}}\n"])
def test_what_is_left_out_has_the_default(write, spec):
    assert resources(write("q.yaml", QUEUE + spec)) == [Resource("Queue", "etl", {}, QueueSpec())]


@pytest.mark.parametrize("text", ["ageing: off", "ageing: 'off'", "ageing: 3650d"])
def test_waiting_may_make_no_difference(write, text):
    [one] = resources(write("q.yaml", f"{QUEUE}spec: {{{text}}}\n"))
    assert one.spec == QueueSpec(ageing_ms=AGEING_MS_MAX)
    assert written(one.spec) == {"ageing": "off"}


def test_every_form_of_a_file_gives_the_same_resources(write, monkeypatch):
    first, second = queue(concurrency=3), queue(rate={"limit": 2, "per": "1s"})
    second["metadata"] = {"name": "mail"}
    files = {
        "documents.yaml": f"---\n{yaml.safe_dump(first)}---\n---\n{yaml.safe_dump(second)}",
        "list.yml": yaml.safe_dump([first, second]),
        "list.json": json.dumps([first, second]),
        "unnamed": json.dumps([first, second], indent=1),
        "flow.yaml": "[{}, {}] # YAML".format(*(json.dumps(one) for one in (first, second))),
    }
    expected = [parse_resource(first), parse_resource(second)]
    for name, text in files.items():
        assert resources(write(name, text)) == expected, name
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert resources("-") == expected, name


def test_a_folder_stands_for_the_files_in_it(write):
    for name in ("a/z.yaml", "a/b/c.yml", "a/b.json", "a/.hidden.yaml", "a/.git/d.yaml", "a/README.md"):
        text = json.dumps(queue() | {"metadata": {"name": name.replace("/", "-").replace(".", "-")}})
        write(name, text if name.count(".") == 1 else "not: [ours")
    found = read_resources(["a", "./a/z.yaml"])
    assert found.files == ["a/b.json", "a/b/c.yml", "a/z.yaml"], "each once"
    assert [one.place for one in found.resources] == ["a/b.json:1", "a/b/c.yml:1", "a/z.yaml:1"]


def test_a_queue_may_give_what_the_core_knows_to_be_given():
    assert POLICIES.keys() == FROM_QUEUE


@given(SPECS)
def test_what_is_shown_is_read_back(spec):
    assert within(QueueSpec)(spec)
    found = written(spec)
    unused = {} if spec.rate_limit else {"rate_per_ms": 1_000, "rate_burst": 1}
    expected = QueueSpec(**{name: getattr(spec, name) for name in spec.__struct_fields__} | unused)
    assert parse_resource(queue(**found)).spec == expected
    assert written(expected) == found


# ---- what is refused


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("concurrency: 0", "spec.concurrency: expected 1 or more, but found 0; leave it out for no limit"),
        ("concurrency: many", "spec.concurrency: expected 1 or more, but found many; leave it out for no limit"),
        ("concurrency: 1.5", "spec.concurrency: expected 1 or more, but found 1.5; leave it out for no limit"),
        ("concurrency: 9999999999", 'spec.concurrency: expected at most 2147483647, but found "9999999999"'),
        ("rate: 5", 'spec.rate: expected names with values, but found "5"'),
        ("rate: {limit: 5}", "spec.rate.per: expected a value, but it is missing"),
        ("rate: {per: 1m}", "spec.rate.limit: expected a value, but it is missing"),
        ("rate: {limit: 0, per: 1m}", "spec.rate.limit: expected 1 to 1000000, but found 0"),
        ("rate: {limit: 5, per: 1m, burst: 0}", "spec.rate.burst: expected 1 to 1000000, but found 0"),
        ("rate: {limit: 5, per: 0s}", 'spec.rate.per: expected more than 0, and at most 31d, but found "0s"'),
        ("rate: {limit: 5, per: 32d}", 'spec.rate.per: expected more than 0, and at most 31d, but found "32d"'),
        (
            "rate: {limit: 5, per: 1 month}",
            "spec.rate.per: expected a duration such as 500ms, 10s, 2m, 1h30m or 1d, but found '1 month'",
        ),
        ("rate: {limit: 5, per: 1m, brust: 1}", "spec.rate.brust: unknown field; did you mean burst?"),
        ("concurrency_keys: {limit: 0}", "spec.concurrency_keys.limit: expected 1 to 1000000, but found 0"),
        (
            "concurrency_keys: {on_conflict: queue}",
            'spec.concurrency_keys.on_conflict: expected wait, replace, drop, but found "queue"',
        ),
        (
            "waiting_limits: [{reason: Held, after: 1h}]",
            f'spec.waiting_limits.0.reason: expected {", ".join(REASONS)}, but found "Held"',
        ),
        ("waiting_limits: [{after: 10ms}]", 'spec.waiting_limits.0.after: expected at least 1s, but found "10ms"'),
        (
            "waiting_limits: [{after: 1h, action: kill}]",
            'spec.waiting_limits.0.action: expected fail, hold, notify, but found "kill"',
        ),
        ("dead_letter: {}", "spec.dead_letter.retention: expected a value, but it is missing"),
        ("dead_letter: {retention: 0s}", 'spec.dead_letter.retention: expected more than 0, but found "0s"'),
        ("ageing: 0s", 'spec.ageing: expected more than 0, or off, but found "0s"'),
        (
            "ageing: never",
            "spec.ageing: expected a duration such as 500ms, 10s, 2m, 1h30m or 1d, or off, but found 'never'",
        ),
        ("defaults: {priority: 101}", "spec.defaults.priority: expected 0 to 100, but found 101"),
        (
            "defaults: {timeout: 5}",
            "spec.defaults.timeout: expected a duration such as 500ms, 10s, 2m, 1h30m or 1d, but",
        ),
        (
            "defaults: {deadline: 2030-01-31T18:00:00Z}",
            "spec.defaults.deadline: expected a duration such as 500ms, 10s",
        ),
        ("defaults: {max_atempts: 5}", "spec.defaults.max_atempts: unknown field; did you mean max_attempts?"),
        (
            "defaults: {command: x}",
            "spec.defaults.command: expected none, since each job has its own; leave it out",
        ),
        (
            "defaults: {hold: true}",
            "spec.defaults.hold: expected none, since `ftjm queue pause` keeps all jobs of a queue waiting",
        ),
        ("defaults: [a]", "spec.defaults: expected names with values, but found"),
        ("weight: 0", "spec.weight: expected 1 to 1000, but found 0"),
        ("shares: [{identifier: a, weight: 0}]", "spec.shares.0.weight: expected 1 to 1000, but found 0"),
        ("shares: [{weight: 2}]", "spec.shares.0.identifier: expected a value, but it is missing"),
        (
            "shares: [{identifier: a}, {identifier: a}]",
            "spec.shares: expected each identifier once, but found a more often; leave one of them out",
        ),
        ("half_life: 0s", 'spec.half_life: expected 1s to 7d, but found "0s"'),
        ("half_life: 8d", 'spec.half_life: expected 1s to 7d, but found "8d"'),
        ("compute_reservation: 100", "spec.compute_reservation: expected 0 to 99, but found 100"),
        ("concurency: 5", "spec.concurency: unknown field; did you mean concurrency?"),
        ("limit: 5", f"spec.limit: unknown field; there are {', '.join(QueueFields.model_fields)}"),
        ("concurrency: 5\n  concurrency: 5", "spec.concurrency: expected each name once, but found it again"),
    ],
)
def test_a_mistake_in_the_spec_is_reported_with_its_line(write, spec, problem):
    text = f"# a comment\n{QUEUE}spec:\n  {spec}\n"
    line = 6 + spec.count("\n")
    [found] = problems(write("q.yaml", text))
    assert found.startswith(f"q.yaml:{line}: {problem}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("kind: Queue\nmetadata: {name: a}\n", "1: apiVersion: expected a value, but it is missing"),
        (QUEUE.replace("v1", "v2"), '1: apiVersion: expected ftjm.io/v1, but found "ftjm.io/v2"'),
        ("apiVersion: ftjm.io/v1\nkind: Queue\n", "1: metadata: expected a value, but it is missing"),
        (QUEUE.replace("{name: etl}", "{}"), "3: metadata.name: expected a value, but it is missing"),
        (
            QUEUE.replace("etl", "a b"),
            f'3: metadata.name: expected {NAME_TEXT}, but found "a b"',
        ),
        (
            QUEUE.replace("}", ", labels: {tenant: x}}"),
            "3: metadata.labels.tenant: expected a label of your own, but tenant is reserved; choose another name",
        ),
        (
            QUEUE.replace("}", f", labels: {{a: {'x' * 301}}}}}"),
            "3: metadata.labels.a: expected at most 300 characters, but found 301",
        ),
        (
            QUEUE.replace("}", f", labels: {{{', '.join(f'l{n}: x' for n in range(LABELS_MAX + 1))}}}}}"),
            "3: metadata.labels: expected at most 100 labels, but found 101; leave some out",
        ),
        (QUEUE.replace("}", ", lables: {}}"), "3: metadata.lables: unknown field; did you mean labels?"),
        (QUEUE + "Spec: {}\n", "4: Spec: unknown field; did you mean spec?"),
        (
            QUEUE + "status: {}\n",
            "4: status: expected what you declare, but a status is what ftjm tells; leave it out",
        ),
        (QUEUE + "spec: 5\n", '4: spec: expected names with values, but found "5"'),
        (
            QUEUE.replace("Queue", "Queu"),
            '2: kind: expected Queue, Schedule, Calendar, Window or Job, but found "Queu"; did you mean Queue?',
        ),
        ("metadata: {name: a}\n", "1: kind: expected Queue, Schedule, Calendar, Window or Job, but it is missing"),
        (
            "jobs:\n- command: 'true'\n",
            "1: expected a resource with apiVersion and kind, but found what looks like a job; submit it: ftjm submit",
        ),
        ("- 5\n", '1: expected a resource\'s fields, but found "5"'),
        ("a: [\n", "2: expected YAML, but did not find expected node content"),
        ("\xff".encode("latin-1"), "1: expected YAML in UTF-8, but invalid leading UTF-8 octet"),
    ],
)
def test_a_mistake_around_the_spec_is_reported_with_its_line(write, text, problem):
    [found] = problems(write("q.yaml", text))
    assert found.startswith(f"q.yaml:{problem}")


@pytest.mark.parametrize("kind", KINDS_TO_COME)
def test_a_kind_to_come_is_refused_in_words(kind):
    assert refused({"kind": kind}) == f"kind: {kind} is not supported yet; this build takes {', '.join(KINDS)}"


@pytest.mark.parametrize("field", TO_COME)
def test_a_field_to_come_is_refused_in_words(field):
    assert refused(queue(**{field: {"any": "value"}})) == f"spec.{field}: {field} is not supported yet; leave it out"


def test_all_mistakes_of_all_files_are_reported(write):
    write("q/a.yaml", QUEUE + "spec:\n  gang: 2\n  concurrency: 0\n---\n" + QUEUE.replace("etl", "mail"))
    write("q/b.json", json.dumps([queue(), {"kind": "Queue"}], indent=1))
    assert problems("q") == [
        "q/a.yaml:5: spec.gang: gang is not supported yet; leave it out",
        "q/a.yaml:6: spec.concurrency: expected 1 or more, but found 0; leave it out for no limit",
        "q/b.json:10: apiVersion: expected a value, but it is missing",
        "q/b.json:10: metadata: expected a value, but it is missing",
    ]


def test_two_resources_of_one_name_are_refused_with_both_places(write):
    write("a.yaml", "\n" + QUEUE + "---\n" + QUEUE)
    write("b.yaml", QUEUE)
    expected = "metadata.name: expected one Queue etl, but a.yaml:2 has another of this name"
    assert problems("a.yaml", "b.yaml") == [f"a.yaml:8: {expected}", f"b.yaml:3: {expected}"]


def test_a_file_over_its_limit_is_refused(write):
    labels = ", ".join(f"l{n}: {'x' * 60_000}" for n in range(20))
    [problem] = problems(write("q.yaml", QUEUE.replace("}", f", labels: {{{labels}}}}}")))
    assert problem == f"q.yaml:1: expected at most {FILE_BYTES_MAX} bytes in a file, but found more; split it"


@pytest.mark.parametrize("path", [(), ("metadata",), ("spec",), ("spec", "rate")], ids=".".join)
def test_very_many_names_are_counted_and_not_told_one_by_one(path):
    fields = queue(rate={"limit": 1, "per": "1s"})
    inner = fields
    for name in path:
        inner = inner[name]
    inner |= {f"x{n}": "y" for n in range(300)}
    where = f"{'.'.join(path)}: " if path else ""
    assert refused(fields) == f"{where}expected a resource's fields, but found {len(inner)} names"


def test_many_mistakes_are_counted_and_the_first_are_shown(write):
    with pytest.raises(InvalidResourcesError) as caught:
        read_resources([write("q.json", json.dumps([3] * 50))])
    assert len(caught.value.problems) == 50
    assert "50 errors:" in caught.value.found
    assert "… and 30 more" in caught.value.found


@pytest.mark.parametrize(
    ("sources", "expected", "found"),
    [
        (["absent.yaml"], "a readable file absent.yaml", "no such file or directory"),
        (["a\0b"], "a readable file a\0b", "embedded null byte"),
        (["empty"], "files of resources (.yaml, .yml, .json) in empty", "none"),
        (["nothing.yaml"], "at least one resource", "none in nothing.yaml"),
    ],
)
def test_what_cannot_be_read_is_refused(write, sources, expected, found):
    write("nothing.yaml", "---\n# nothing\n")
    write("empty/README.md", "")
    with pytest.raises(UsageError) as caught:
        read_resources(sources)
    assert (caught.value.expected, caught.value.found) == (expected, found)


def test_a_folder_of_too_many_files_is_refused(write, monkeypatch):
    monkeypatch.setattr(resource_files, "FILES_MAX", 2)
    for name in ("a", "b", "c"):
        write(f"q/{name}.yaml", QUEUE.replace("etl", name))
    with pytest.raises(UsageError, match="at most 2 files"):
        read_resources(["q"])


@given(st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_any_fields_are_a_resource_or_refused(value):
    for fields in (value, queue() | {"spec": value}, queue() | {"metadata": value}, queue(rate=value, ageing=value)):
        try:
            found = parse_resource(fields)
        except InvalidResourceError:
            continue
        assert parse_resource(shown(found)) == found


# ---- schema and page


def test_the_files_that_are_made_from_the_models_are_current():
    for path, text in kinds.files().items():
        assert path.read_text() == text, f"run: {kinds.COMMAND}"


@pytest.mark.parametrize("kind", KINDS)
def test_the_examples_of_a_kind_are_valid_by_its_schema_and_its_model(kind):
    schema = jsonschema_rs.validator_for(json_schema(kind))
    for example in KINDS[kind].examples:
        assert schema.is_valid(example)
        found = parse_resource(decode_item(json.dumps(example).encode()))
        assert parse_resource(shown(found)) == found
        assert shown(found)["spec"].keys() >= example["spec"].keys()


@given(SPECS, st.dictionaries(st.from_regex(r"[a-z][a-z0-9.-]{0,9}", fullmatch=True), st.text(max_size=20), max_size=3))
def test_the_schema_lets_through_what_the_model_does(spec, labels):
    schema = jsonschema_rs.validator_for(json_schema("Queue"))
    assert schema.is_valid(document("Queue", "etl", labels, written(spec))) is ("tenant" not in labels)


@pytest.mark.parametrize(
    "wrong",
    [
        queue(concurrency=0),
        queue(weight=0),
        queue(rate={"limit": 1}),
        queue() | {"kind": "Job"},
        queue() | {"metadata": {"name": "a b"}},
        queue() | {"metadata": {"name": "a", "labels": {"tenant": "x"}}},
    ],
)
def test_the_schema_refuses_what_the_model_does(wrong):
    assert not jsonschema_rs.validator_for(json_schema("Queue")).is_valid(wrong)
    assert refused(wrong)


def test_a_calendar_of_all_days_is_one_that_names_none():
    one = {"apiVersion": "ftjm.io/v1", "kind": "Calendar", "metadata": {"name": "all"}}
    week = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
    assert parse_resource({**one, "spec": {"days": week}}) == parse_resource({**one, "spec": {}})
