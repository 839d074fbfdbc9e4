"""Random requests, valid and invalid by the OpenAPI document: none causes a server error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ftjm.local.kafka import EmbeddedKafka
from integration.apis import Api, start_api
from integration.workers import Site

CASES = 420
"""Requests of each operation that has parameters or a body; more than 5,000 in all."""
ENDLESS = {"events"}
"""Streams, which have no end; `test_api.py` reads them."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def api(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with Site.on(kafka, tmp_path_factory.mktemp("openapi")) as site:
        site.start_worker("default", "q", slots=2)
        yield start_api(site)


@pytest.mark.timeout(3_600)
def test_no_request_causes_a_server_error(api: Api) -> None:
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{api.port}/openapi.json")
    asked = 0
    with requests.Session() as session:
        for found in schema.get_all_operations():
            assert isinstance(found, Ok)
            operation = found.ok()
            if operation.definition.raw["operationId"] in ENDLESS:
                continue

            def ask(case: schemathesis.Case) -> None:
                nonlocal asked
                asked += 1
                if case.query and "wait" in case.query:
                    case.query["wait"] = "20ms" if case.query["wait"] == "10s" else case.query["wait"]
                case.call_and_validate(session=session, checks=CHECKS, timeout=120)

            for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
                # An operation without parameters has no invalid variants.
                with contextlib.suppress(Unsatisfiable):
                    _run(operation.as_strategy(generation_mode=mode), ask)
    assert asked >= 5_000
    assert api.error_lines() == []
    assert api.ready().get("/jobs").status == 200


def _run(strategy, ask) -> None:
    test = given(strategy)(ask)
    settings(
        max_examples=CASES // 2,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(test)()
