"""The last steps of `roadstead up`: apply the example model, wait until it is Ready, ask it something.

Asked through the gateway with the client key, as anybody would: an answer proves every part at once.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from roadstead.embedded import example_model
from roadstead.embedded.failures import EmbeddedFleetError
from roadstead.embedded.home import Home
from roadstead.embedded.kube_door import KubeDoor, KubeError, open_door
from roadstead.embedded.progress import Progress
from roadstead.embedded.running import log_tail

QUESTION = "What is a roadstead? Answer in one sentence."
_READY_SECONDS = 180.0
_ASK_SECONDS = 60.0
_POLL_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, and what served it."""

    text: str
    seconds: float
    served_by: str
    """The gateway's headers in words: release, variant, node."""


async def first_answer(home: Home, *, gateway_url: str, api_key: str, progress: Progress) -> Answer:
    """Apply, wait, ask; raises with the condition's own words."""
    async with open_door(home.kubeconfig) as door:
        try:
            await door.apply(example_model.PATH, example_model.example_model())
        except KubeError as error:
            raise EmbeddedFleetError(
                "ExampleRefused",
                f"The API server refused the example LocalModel: {error}.",
                remedy="This is a defect of this version: the resource and its schema do not agree.",
            ) from error
        progress.say(f"applied LocalModel {example_model.NAMESPACE}/{example_model.NAME}")
        await _until_ready(home, door, progress)
    return await _ask(home, gateway_url=gateway_url, api_key=api_key)


async def _until_ready(home: Home, door: KubeDoor, progress: Progress) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    words = "no status yet"
    while time.monotonic() < deadline:
        found = await door.get(example_model.PATH) or {}
        conditions = {row["type"]: row for row in found.get("status", {}).get("conditions") or []}
        if conditions.get("Ready", {}).get("status") == "True" and _observed(found):
            progress.say(f"LocalModel {example_model.NAME} is Ready")
            return
        if conditions.get("Stalled", {}).get("status") == "True":
            words = _condition_words(conditions["Stalled"])
            break
        words = _condition_words(conditions.get("Ready", {})) if conditions else words
        progress.update(f"waiting for LocalModel {example_model.NAME}: {words}")
        await asyncio.sleep(_POLL_SECONDS)
    raise EmbeddedFleetError(
        "ModelNotReady",
        f"LocalModel {example_model.NAME} is not Ready: {words}.",
        remedy=f"`. {home.env_file} && kubectl describe lm {example_model.NAME}` says more; the fleet keeps running.",
        log_tail=log_tail(home.log("operator")),
    )


def _observed(model: dict[str, Any]) -> bool:
    observed = model.get("status", {}).get("observedGeneration")
    return bool(observed == model.get("metadata", {}).get("generation"))


def _condition_words(condition: dict[str, str]) -> str:
    return f"{condition.get('reason', 'Unknown')}: {condition.get('message', '')}".rstrip(": .")


async def _ask(home: Home, *, gateway_url: str, api_key: str) -> Answer:
    body = {
        "model": example_model.NAME,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 60,
        "temperature": 0,
    }
    started = time.monotonic()
    said = "no answer"
    # A route reaches the gateway a moment after the status says Ready.
    while time.monotonic() - started < _ASK_SECONDS:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK_SECONDS)) as session,
                session.post(
                    f"{gateway_url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {api_key}"}
                ) as response,
            ):
                text = await response.text()
                if response.status == 200:
                    served = [value for name, value in response.headers.items() if name.lower() in _SERVED_BY]
                    content = json.loads(text)["choices"][0]["message"]["content"]
                    return Answer(str(content).strip(), time.monotonic() - started, ", ".join(served))
                said = f"{response.status}: {text[:300]}"
                if response.status < 500 and response.status not in {404, 429}:
                    break
        except (aiohttp.ClientError, TimeoutError) as error:
            said = f"{type(error).__name__}: {error}"
        await asyncio.sleep(_POLL_SECONDS)
    raise EmbeddedFleetError(
        "NoAnswer",
        f"The gateway gave no answer of {example_model.NAME}: {said}.",
        remedy="See `roadstead logs gateway`; the fleet keeps running.",
        log_tail=log_tail(home.log("gateway")),
    )


_SERVED_BY = {"x-roadstead-release", "x-roadstead-variant", "x-roadstead-node"}
