"""What `helm test` runs, against a real gateway: it passes only if a model answered, and else says what to do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.chart.conftest import CHART
from tests.fixtures.fake_replica import FakeReplica, answers, completion, refuses
from tests.fixtures.fake_route_api import slot
from tests.fixtures.gateway import KEY, Client, listens, running_gateway
from tests.fixtures.patience import until

pytestmark = pytest.mark.contract

PROGRAM = (CHART / "files/chat.py").read_text()


@pytest_asyncio.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Client]:
    async with running_gateway(tmp_path, drain_seconds=1.0) as client:
        yield client


@pytest_asyncio.fixture
async def replica() -> AsyncIterator[FakeReplica]:
    async with FakeReplica(default=answers(completion("A place to anchor."))) as fake:
        yield fake


async def helm_test(gateway: Client, *, model: str = "", key: str = KEY, seconds: float = 2.0) -> tuple[int, str]:
    """Exit status and output, with the Pod's own command line and variables."""
    folder = gateway.settings.keys_file.parent
    (folder / "api-key").write_text(key)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM),
        env={
            "ROADSTEAD_URL": f"{gateway.url}/v1",
            "ROADSTEAD_API_KEY_FILE": str(folder / "api-key"),
            "ROADSTEAD_MODEL": model,
            "ROADSTEAD_SECONDS": str(seconds),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_it_prints_the_answer_of_the_first_model(gateway: Client, replica: FakeReplica) -> None:
    gateway.route(slot("s1", replica.address), name="smollm2")

    assert await helm_test(gateway) == (0, "smollm2 answers: A place to anchor.\n")


async def test_it_asks_the_model_that_is_named(gateway: Client, replica: FakeReplica) -> None:
    gateway.route(slot("s1", replica.address), name="other")
    gateway.route(slot("s2", replica.address), name="wanted")

    assert await helm_test(gateway, model="wanted") == (0, "wanted answers: A place to anchor.\n")
    assert [exchange.path for exchange in replica.requests] == ["/s2/v1/chat/completions"]


async def test_a_model_that_is_busy_at_first_is_asked_again(gateway: Client, replica: FakeReplica) -> None:
    gateway.route(slot("s1", replica.address), name="smollm2")
    replica.script.append(refuses(503, message="Loading model"))

    status, _ = await helm_test(gateway, seconds=10)

    assert status == 0


async def test_without_a_model_it_fails_and_says_how_to_add_one(gateway: Client) -> None:
    status, said = await helm_test(gateway)

    assert status == 1
    assert "no model is served yet: apply a LocalModel" in said
    assert "Traceback" not in said


async def test_a_model_without_replicas_is_named_with_the_gateways_own_words(gateway: Client) -> None:
    gateway.route(name="smollm2")

    status, said = await helm_test(gateway)

    assert status == 1
    assert "smollm2 gives no answer: HTTP 503" in said
    assert "The gateway lists: smollm2." in said


async def test_a_wrong_key_is_told_without_showing_it(gateway: Client, replica: FakeReplica) -> None:
    gateway.route(slot("s1", replica.address), name="smollm2")

    status, said = await helm_test(gateway, key="not-the-key")

    assert status == 1
    assert "HTTP 401" in said
    assert "not-the-key" not in said


async def test_a_gateway_that_is_away_is_told_with_its_address(gateway: Client) -> None:
    gateway.gateway.stop()
    await until(lambda: not listens(gateway.settings.listen), "the gateway has left")

    status, said = await helm_test(gateway, seconds=1)

    assert status == 1
    assert f"The gateway at {gateway.url}/v1 does not list its models" in said
