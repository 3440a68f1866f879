"""Turning a source into an identity, over the agent's door."""

from __future__ import annotations

from pathlib import Path

import pytest

from roadstead_worker.contract import Resolution
from tests.fixtures.gguf_files import Gguf, string
from tests.fixtures.model_host import Fault, model_host
from tests.fixtures.node_agent import node_agent

pytestmark = pytest.mark.contract
OTHER = "sha256:" + "b" * 64
BIG = Gguf(keys=[*Gguf().keys, string("general.description", "x" * 3_000_000)]).bytes()


def put(folder: Path, content: bytes, name: str = "tiny.gguf") -> str:
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models" / name).write_bytes(content)
    return (folder / "models" / name).as_uri()


async def test_a_file_is_hashed_once_for_each_state_it_is_in(tmp_path: Path) -> None:
    source = put(tmp_path, Gguf().bytes())
    async with node_agent(tmp_path) as agent:
        first = await agent.resolve(source)
        assert first.status == 200
        resolution = Resolution.model_validate(first.body)
        assert (resolution.facts.architecture, resolution.bytes) == ("llama", len(Gguf().bytes()))
        assert (await agent.resolve(source, resolution.digest)).body == first.body
        put(tmp_path, Gguf(data=b"\x66" * (1088 + 2304 + 256)).bytes())
        changed = await agent.resolve(source)
        assert changed.status == 200
        assert changed.body["digest"] != resolution.digest, "same size, other content"
        mismatch = await agent.resolve(source, resolution.digest)
        assert (mismatch.status, mismatch.code) == (422, "DigestMismatch")
        assert resolution.digest in mismatch.body["message"]


@pytest.mark.parametrize(
    ("content", "name", "status", "code"),
    [
        (Gguf().bytes()[:200], "short.gguf", 422, "CorruptHeader"),
        (b"not a model at all, but long enough", "text.gguf", 422, "CorruptHeader"),
        (Gguf(version=3 << 24).bytes(), "big.gguf", 422, "UnsupportedVersion"),
        (b"PK\x03\x04" + b"\0" * 99, "zip.gguf", 422, "UnsafeFormat"),
        (b"\x80\x02" + b"\0" * 99, "model.pt", 422, "UnsafeFormat"),
        (b"\x20\0\0\0\0\0\0\0{" + b" " * 99, "model.safetensors", 422, "NoFormatEngine"),
    ],
)
async def test_a_file_that_cannot_be_served_says_why(
    tmp_path: Path, content: bytes, name: str, status: int, code: str
) -> None:
    source = put(tmp_path, content, name)
    async with node_agent(tmp_path) as agent:
        answer = await agent.resolve(source)
        assert (answer.status, answer.code) == (status, code)
        assert name in answer.body["message"]


async def test_missing_and_forbidden_files_say_which(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent:
        missing = await agent.resolve((tmp_path / "models" / "gone.gguf").as_uri())
        assert (missing.status, missing.code) == (404, "SourceNotFound")
        outside = await agent.resolve("file:///etc/passwd")
        assert (outside.status, outside.code) == (403, "SourceNotAllowed")
        host = await agent.resolve("http://169.254.169.254/latest/meta-data")
        assert (host.status, host.code) == (403, "SourceNotAllowed")


async def test_with_a_digest_only_the_header_is_read_over_http(tmp_path: Path) -> None:
    content = BIG + b"\0" * 8_000_000
    async with node_agent(tmp_path) as agent, model_host(content) as host:
        answer = await agent.resolve(host.url, host.digest)
        assert answer.status == 200, answer
        assert (answer.body["bytes"], answer.body["digest"]) == (len(content), host.digest)
        assert answer.body["facts"]["architecture"] == "llama"
        assert len(host.ranges) == 3
        assert host.sent < len(BIG) * 2 + 1024 * 1024, "the header, and at most as much again"
        assert (await agent.resolve(host.url, host.digest)).body == answer.body
        assert len(host.ranges) == 3, "asked again: answered from memory"
        assert (await agent.state()).weights == ()


async def test_a_server_without_ranges_is_read_no_further_than_needed(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent, model_host(Gguf().bytes()) as host:
        host.faults(Fault(ignore_range=True))
        answer = await agent.resolve(host.url, host.digest)
        assert (answer.status, answer.body.get("bytes")) == (200, len(host.content))


async def test_without_a_digest_the_file_is_downloaded_once_to_learn_it(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent, model_host(Gguf().bytes()) as host:
        answer = await agent.resolve(host.url)
        assert (answer.status, answer.body.get("digest")) == (200, host.digest)
        state = await agent.state()
        assert [(weight.digest, weight.phase) for weight in state.weights] == [(host.digest, "Ready")]
        asked = len(host.ranges)
        assert (await agent.resolve(host.url)).body == answer.body
        assert (await agent.fetch(host.url, host.digest, len(host.content))).body["phase"] == "Ready"
        assert len(host.ranges) == asked, "what is here is not asked for again"


async def test_a_blob_that_is_here_is_resolved_without_its_source(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent:
        async with model_host(Gguf().bytes()) as host:
            assert (await agent.resolve(host.url)).status == 200
        assert (await agent.resolve(host.url, host.digest)).status == 200, "the server is gone, the blob is here"
        gone = (tmp_path / "models" / "gone.gguf").as_uri()
        assert (await agent.resolve(gone, host.digest)).status == 200
        assert (await agent.resolve(gone, OTHER)).code == "SourceNotFound"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault(status=404), 404, "SourceNotFound"),
        (Fault(status=401), 403, "SourceUnauthorized"),
        (Fault(status=403), 403, "SourceUnauthorized"),
        (Fault(status=429), 502, "SourceUnavailable"),
        (Fault(status=500), 502, "SourceUnavailable"),
        (Fault(stall_after=10), 502, "SourceUnavailable"),
        (Fault(close_after=10), 502, "SourceUnavailable"),
        (Fault(gzip=True), 502, "SourceUnavailable"),
        (Fault(hide_length=True, ignore_range=True), 502, "SourceUnavailable"),
        (Fault(redirect="file:///etc/passwd"), 403, "SourceNotAllowed"),
        (Fault(redirect="http://169.254.169.254/x"), 403, "SourceNotAllowed"),
        (Fault(redirect="http://[::1]:9/x"), 403, "SourceNotAllowed"),
        (Fault(redirect="https://localhost:9/x"), 403, "SourceNotAllowed"),
    ],
)
async def test_each_fault_of_a_server_has_its_code_and_names_the_host(
    tmp_path: Path, fault: Fault, status: int, code: str
) -> None:
    async with node_agent(tmp_path) as agent, model_host(Gguf().bytes()) as host:
        host.faults(fault)
        answer = await agent.resolve(host.url, host.digest)
        assert (answer.status, answer.code) == (status, code), answer
        if code != "SourceNotAllowed":
            assert "127.0.0.1" in answer.body["message"]
        requests = len(host.ranges)
        again = await agent.resolve(host.url, host.digest)
        if code == "SourceUnavailable":
            assert again.code == code, "a failure that may pass is remembered for a moment"
            assert len(host.ranges) == requests
        else:
            assert again.status == 200


async def test_redirects_to_allowed_hosts_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    async with node_agent(tmp_path) as agent, model_host(Gguf().bytes()) as host:
        host.faults(Fault(redirect="/elsewhere.gguf?signature=s"))
        assert (await agent.resolve(host.url, host.digest)).status == 200
        host.faults(*[Fault(redirect="/again.gguf")] * 9)
        assert "redirects more than" in (await agent.resolve(host.url + "2", host.digest)).body["message"]
