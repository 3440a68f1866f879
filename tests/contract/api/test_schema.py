"""What the API says of itself is true: schemathesis asks everything that the schema allows, and what it forbids."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.fixtures.read_api import TOKEN, VARIANTS, read_api_in_a_thread, two_nodes

pytestmark = pytest.mark.contract
UNREAD = (positive_data_acceptance,)
HEADERS = {"X-Roadstead-Api-Token": TOKEN}
GET = (
    "/v1/models", "/v1/models/{namespace}/{name}", "/v1/models/{namespace}/{name}/explain",
    "/v1/models/{namespace}/{name}/logs", "/v1/nodes", "/v1/plan", "/v1/pools", "/v1/what-if",
)  # fmt: skip
POST = ("/v1/fit", "/v1/what-if")
OPERATIONS = (*(("GET", path) for path in GET), *(("POST", path) for path in POST))


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    fleet = two_nodes()
    fleet.apply("assistant", *VARIANTS, replicas=2)
    asyncio.run(fleet.settle())
    with read_api_in_a_thread(tmp_path_factory.mktemp("api"), fleet=fleet) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json", headers=HEADERS)


def test_the_schema_has_these_operations_and_no_other(schema: Any) -> None:  # noqa: ANN401 - schemathesis
    found = [each.ok() for each in schema.get_all_operations()]
    assert sorted((each.method.upper(), each.path) for each in found) == sorted(OPERATIONS)
    assert "422" not in schema["/v1/models/{namespace}/{name}"]["GET"].definition.raw["responses"]


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_answer_is_as_the_schema_says(method: str, path: str, mode: GenerationMode, schema: Any) -> None:  # noqa: ANN401
    operation = schema[path][method]
    if method == "GET" and mode is GenerationMode.NEGATIVE and not (operation.path_parameters or operation.query):
        return  # nothing about it can be wrong

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(mode), model=st.sampled_from((None, "assistant")))
    def asked(case: Any, model: str | None) -> None:  # noqa: ANN401
        if model is not None and mode is GenerationMode.POSITIVE and case.path_parameters:
            case.path_parameters |= {"namespace": "team", "name": model}
        if (case.query or {}).get("follow") in (True, "true"):
            case.query["follow"] = False  # an endless answer
        # What a spec may hold is for the parser of LocalModels to say, and it says no to what is drawn by chance.
        case.call_and_validate(headers=HEADERS, timeout=20, excluded_checks=() if method == "GET" else UNREAD)

    asked()
