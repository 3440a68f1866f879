"""Which sources are understood, and which of them a node may read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from roadstead_weights.errors import WeightsCode, WeightsError
from roadstead_weights.sources import FileSource, HttpSource, SourcePolicy, parse_source, redirected
from roadstead_weights.sources_file import open_local
from roadstead_weights.sources_http import GuardedResolver


def http(uri: str) -> HttpSource:
    source = parse_source(uri)
    assert isinstance(source, HttpSource)
    return source


def file(path: Path | str) -> FileSource:
    source = parse_source(f"file://{path}")
    assert isinstance(source, FileSource)
    return source


def code_of_opening(path: Path | str, *roots: Path) -> WeightsCode | None:
    try:
        open_local(file(path), roots).file.close()
    except WeightsError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "model.gguf",
        "/models/model.gguf",
        "ftp://host/model.gguf",
        "hf://org/model",
        "file://host/model.gguf",
        "file:///a/../b.gguf",
        "file:///a/%2e%2e/b.gguf",
        "file:///a/%2E%2E%2Fb.gguf",
        "file:///a//b.gguf",
        "file:///a/b.gguf%00",
        "file:///a/%ff.gguf",
        "file:///a/b.gguf?x=1",
        "file:relative.gguf",
        "https://",
        "https:///model.gguf",
        "https://user:secret@host/model.gguf",
        "https://host:99999/model.gguf",
        "https://host/model.gguf#part",
        "https://host/a b.gguf",
        "https://host/a\nb.gguf",
        "https://host\\@evil/model.gguf",
        "https://hóst/model.gguf",
        "https://host/" + "a" * 5000,
    ],
)
def test_a_uri_that_is_not_one_of_the_plain_forms_is_not_allowed(uri: str) -> None:
    with pytest.raises(WeightsError) as caught:
        parse_source(uri)
    assert caught.value.code is WeightsCode.SOURCE_NOT_ALLOWED
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.pt", "model.PTH", "model.ckpt", "model.pkl"])
def test_a_pickle_is_refused_by_its_name_before_anything_is_read(name: str) -> None:
    with pytest.raises(WeightsError) as caught:
        parse_source(f"https://host/{name}")
    assert caught.value.code is WeightsCode.UNSAFE_FORMAT


def test_the_label_of_a_source_leaves_out_the_query_which_may_be_a_signature() -> None:
    assert http("https://host:8443/m.gguf?X-Signature=abc").label == "https://host:8443/m.gguf"


@pytest.mark.parametrize(
    ("named", "uri", "passes"),
    [
        ("", "https://models.example/m.gguf", True),
        ("", "https://10.0.0.7:8443/m.gguf", True),
        ("", "http://models.example/m.gguf", False),
        ("models.example", "http://models.example/m.gguf", True),
        ("models.example", "http://MODELS.example.:8080/m.gguf", True),
        ("models.example:8080", "http://models.example:8080/m.gguf", True),
        ("models.example:8080", "http://models.example/m.gguf", False),
        ("models.example", "http://models.example.evil/m.gguf", False),
        ("models.example", "http://evil-models.example/m.gguf", False),
        ("127.0.0.1", "http://127.0.0.1:40001/m.gguf", True),
        ("[::1]", "http://[::1]:40001/m.gguf", True),
        ("", "https://127.0.0.1/m.gguf", False),
        ("", "https://169.254.169.254/latest", False),
        ("", "https://[::1]/m.gguf", False),
        ("", "https://[fe80::1]/m.gguf", False),
        ("", "https://[::ffff:127.0.0.1]/m.gguf", False),
        ("", "https://0.0.0.0/m.gguf", False),
    ],
)
def test_https_may_be_anywhere_else_http_and_the_node_itself_must_be_named(named: str, uri: str, passes: bool) -> None:
    policy = SourcePolicy(http_hosts=frozenset({named}) - {""})
    if passes:
        policy.allow_host(http(uri))
    else:
        with pytest.raises(WeightsError) as caught:
            policy.allow_host(http(uri))
        assert caught.value.code is WeightsCode.SOURCE_NOT_ALLOWED


async def test_a_name_that_leads_to_the_node_itself_is_refused_unless_it_is_named() -> None:
    with pytest.raises(WeightsError) as caught:
        await GuardedResolver(SourcePolicy()).resolve("localhost", 443)
    assert caught.value.code is WeightsCode.SOURCE_NOT_ALLOWED
    assert await GuardedResolver(SourcePolicy(http_hosts=frozenset({"localhost"}))).resolve("localhost", 443)


def test_a_redirect_leads_neither_to_a_file_nor_from_https_to_http() -> None:
    source = http("https://host/a/model.gguf")
    assert redirected(source, "../b.gguf").uri == "https://host/b.gguf"
    for location in ("file:///etc/passwd", "http://host/model.gguf", ""):
        if location:
            with pytest.raises(WeightsError):
                redirected(source, location)


def test_a_file_under_a_root_is_opened_and_identified(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "größe 1.gguf"
    path.write_bytes(b"12345")
    with_blank = parse_source(path.as_uri())
    assert isinstance(with_blank, FileSource)
    local = open_local(with_blank, (tmp_path,))
    with local.file:
        assert local.size == 5
        assert local.unchanged()
        path.write_bytes(b"54321!")
        assert not local.unchanged()


def test_what_lies_outside_the_roots_is_refused_whether_it_exists_or_not(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "rootless"
    root.mkdir()
    other.mkdir()
    (other / "m.gguf").write_bytes(b"x")
    assert code_of_opening(other / "m.gguf", root) is WeightsCode.SOURCE_NOT_ALLOWED
    assert code_of_opening(other / "missing.gguf", root) is WeightsCode.SOURCE_NOT_ALLOWED
    assert code_of_opening(root / "missing.gguf", root) is WeightsCode.SOURCE_NOT_FOUND
    assert code_of_opening(root, root) is WeightsCode.SOURCE_NOT_ALLOWED
    assert code_of_opening(root / "m.gguf") is WeightsCode.SOURCE_NOT_ALLOWED, "no roots: nothing may be read"


def test_symbolic_links_are_followed_inside_the_roots_and_never_out_of_them(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (root / "real" / "m.gguf").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"x")
    (root / "inside.gguf").symlink_to(root / "real" / "m.gguf")
    (root / "folder").symlink_to(root / "real")
    (root / "outside.gguf").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    assert code_of_opening(root / "inside.gguf", root) is None
    assert code_of_opening(root / "folder" / "m.gguf", root) is None
    assert code_of_opening(root / "outside.gguf", root) is WeightsCode.SOURCE_NOT_ALLOWED
    assert code_of_opening(root / "up" / "secret", root) is WeightsCode.SOURCE_NOT_ALLOWED
    assert code_of_opening(root / "loop", root) is WeightsCode.SOURCE_UNAVAILABLE


def test_a_root_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "m.gguf").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert code_of_opening(tmp_path / "link" / "m.gguf", tmp_path / "link") is None
    assert code_of_opening(tmp_path / "real" / "m.gguf", tmp_path / "link") is None


def test_pipes_sockets_and_devices_are_refused_without_hanging(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.gguf"))
        assert code_of_opening(tmp_path / "pipe.gguf", tmp_path) is WeightsCode.SOURCE_NOT_ALLOWED
        assert code_of_opening(tmp_path / "socket.gguf", tmp_path) is WeightsCode.SOURCE_UNAVAILABLE
    assert code_of_opening("/dev/zero", Path("/dev")) is WeightsCode.SOURCE_NOT_ALLOWED
