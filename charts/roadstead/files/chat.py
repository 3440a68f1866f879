"""What `helm test` runs: asks a model through the gateway, as any client would, and prints the answer.

Standard library only: the chart hands this text to `python3 -c`. Exit status 0: a model answered.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

QUESTION = "What is a roadstead? Answer in one sentence."
LISTED_SECONDS = 15.0
"""A route reaches the gateways a moment after the model's status says Ready."""
_PAUSE_SECONDS = 1.0
_WORTH_ANOTHER_TRY = {404, 408, 429, 500, 502, 503, 504}


class Failed(Exception):
    """In words, with what to do."""


def main() -> int:
    """Ask; say what was answered, or why nothing was."""
    url = os.environ["ROADSTEAD_URL"].rstrip("/")
    key = Path(os.environ["ROADSTEAD_API_KEY_FILE"]).read_text(encoding="utf-8").strip()
    deadline = time.monotonic() + float(os.environ["ROADSTEAD_SECONDS"])
    try:
        model = os.environ["ROADSTEAD_MODEL"] or first_model(url, key, min(deadline, time.monotonic() + LISTED_SECONDS))
        print(f"{model} answers: {answer(url, key, model, deadline)}")
    except Failed as failed:
        print(failed)
        return 1
    return 0


def first_model(url: str, key: str, deadline: float) -> str:
    """The first model by name that the gateway lists."""
    while True:
        said = models(url, key)
        if isinstance(said, list) and said:
            return said[0]
        if time.monotonic() > deadline:
            break
        time.sleep(_PAUSE_SECONDS)
    if isinstance(said, str):
        raise Failed(f"The gateway at {url} does not list its models: {said}.")
    raise Failed(
        "The gateway answers, but no model is served yet: apply a LocalModel, wait for it with"
        " `kubectl wait --for=condition=Ready lm/NAME --timeout=10m`, and run helm test again."
    )


def answer(url: str, key: str, model: str, deadline: float) -> str:
    """What the model says; asked again while that may help, because a route takes a moment to arrive."""
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 40, "temperature": 0}
    while True:
        status, said = asked(f"{url}/chat/completions", key, seconds=max(1.0, deadline - time.monotonic()), body=body)
        if status == 200:
            return str(said["choices"][0]["message"]["content"]).strip()
        if status not in _WORTH_ANOTHER_TRY and status != 0:
            break
        if time.monotonic() > deadline:
            break
        time.sleep(_PAUSE_SECONDS)
    listed = models(url, key)
    known = ", ".join(listed) if isinstance(listed, list) else ""
    raise Failed(
        f"{model} gives no answer: {words(status, said)}. The gateway lists: {known or 'no model'}."
        f" `kubectl get lm -A` says how models are."
    )


def models(url: str, key: str) -> list[str] | str:
    """Names of all models, or why there is no list."""
    status, said = asked(f"{url}/models", key, seconds=10)
    return [model["id"] for model in said["data"]] if status == 200 else words(status, said)


def asked(url: str, key: str, *, seconds: float, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Status and JSON of the answer; status 0 and a sentence if there was none."""
    request = urllib.request.Request(  # noqa: S310 - the chart gives the address
        url,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=seconds) as response:  # noqa: S310 - likewise
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except (OSError, ValueError) as error:
        return 0, str(error)


def words(status: int, said: object) -> str:
    """A failed answer in one line."""
    return f"{f'HTTP {status}, ' if status else ''}{str(said)[:300]}"


if __name__ == "__main__":
    sys.exit(main())
