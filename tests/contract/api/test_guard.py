"""Nobody reads anything without the token."""

from __future__ import annotations

import pytest

from tests.contract.api.test_answers import PATHS
from tests.fixtures.read_api import ReadApi

pytestmark = pytest.mark.contract
EVERYWHERE = (*PATHS, "/v1/models/team/assistant/logs", "/openapi.json", "/", "/nowhere")


@pytest.mark.parametrize("token", [None, "", "wrong", "the-api-toke", "the-api-token2", "ünsinn"])
async def test_every_path_is_refused_without_the_right_token(token: str | None, api: ReadApi) -> None:
    for path in EVERYWHERE:
        status, problem = await api.get(path, token=token)
        assert (status, problem["code"], problem["object"]) == (401, "Unauthorized", "X-Roadstead-Api-Token"), path
        assert "ROADSTEAD_API_TOKEN_FILE" in problem["remedy"]


async def test_the_bearer_in_authorization_is_no_token(api: ReadApi) -> None:
    headers = {"Authorization": "Bearer the-api-token"}
    async with api.session.get(f"{api.url}/v1/models", headers=headers) as answer:
        assert answer.status == 401


async def test_a_token_that_is_exchanged_holds_at_once(api: ReadApi) -> None:
    assert (await api.get("/v1/nodes"))[0] == 200
    beside = api.token_file.with_suffix(".new")
    beside.write_text("another\n")
    beside.rename(api.token_file)
    assert (await api.get("/v1/nodes"))[0] == 401
    assert (await api.get("/v1/nodes", token="another"))[0] == 200


@pytest.mark.parametrize("content", [None, "", "\n"])
async def test_without_a_token_the_api_is_closed_to_everybody(content: str | None, api: ReadApi) -> None:
    if content is None:
        api.token_file.unlink()
    else:
        api.token_file.write_text(content)
    for token in (None, "", "the-api-token"):
        status, problem = await api.get("/v1/models", token=token)
        assert (status, problem["code"]) == (503, "ApiClosed")
