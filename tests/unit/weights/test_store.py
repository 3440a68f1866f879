"""What the store promises: a blob that is there is whole, and nothing else is ever taken for one."""

from __future__ import annotations

import asyncio
import hashlib
import stat
from pathlib import Path

import pytest

from roadstead_weights.digests import Digest, parse_digest
from roadstead_weights.errors import WeightsCode, WeightsError
from roadstead_weights.fetching import Fetcher, Wanted
from roadstead_weights.sources import SourcePolicy, parse_source
from roadstead_weights.sources_http import HttpLimits, HttpReader
from roadstead_weights.store import Origin, WeightStore
from roadstead_weights.transfers import Transfer
from tests.fixtures.patience import until


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    store = WeightStore(tmp_path / "store", reserve_bytes=0)
    store.open()
    return store


def digest_of(content: bytes) -> Digest:
    return Digest(hashlib.sha256(content).digest())


async def fetch_file(
    store: WeightStore, path: Path, *, digest: Digest | None, size: int | None = None, transfer: Transfer | None = None
) -> Digest:
    policy = SourcePolicy(roots=(path.parent,))
    http = HttpReader(policy, HttpLimits())
    try:
        wanted = Wanted(source=parse_source(path.as_uri()), digest=digest, size=size)
        return await Fetcher(store, policy, http).fetch(wanted, transfer or Transfer())
    finally:
        await http.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 64 + "\n",
        "md5:" + "a" * 64,
        "sha256:../../etc/passwd" + "a" * 42,
        "sha256:" + "٣" * 64,
    ],
)
def test_only_a_well_formed_digest_is_a_digest(text: str) -> None:
    with pytest.raises(WeightsError):
        parse_digest(text)


async def test_a_file_is_copied_verified_and_made_read_only(store: WeightStore, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"weights")
    digest = digest_of(b"weights")
    transfer = Transfer()

    assert await fetch_file(store, path, digest=digest, size=7, transfer=transfer) == digest

    blob = store.blob_path(digest)
    assert blob.read_bytes() == b"weights"
    assert stat.S_IMODE(blob.stat().st_mode) == 0o444
    assert blob.stat().st_nlink == 1, "a hard link would let the owner of the source change the blob"
    assert blob.stat().st_ino != path.stat().st_ino
    assert (transfer.done, transfer.total) == (7, 7)
    assert store.blobs() == {digest: 7}
    assert list((store.root / "partial").iterdir()) == []


@pytest.mark.parametrize(
    ("digest", "size", "says"), [(digest_of(b"other"), None, "wanted was"), (digest_of(b"weights"), 8, "7 bytes")]
)
async def test_other_bytes_than_wanted_never_become_a_blob(
    store: WeightStore, tmp_path: Path, digest: Digest, size: int | None, says: str
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"weights")
    with pytest.raises(WeightsError, match=says) as caught:
        await fetch_file(store, path, digest=digest, size=size)
    assert caught.value.code is WeightsCode.DIGEST_MISMATCH
    assert store.blobs() == {}
    assert list((store.root / "partial").iterdir()) == []


async def test_a_file_that_does_not_fit_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "store", reserve_bytes=2**62)
    store.open()
    path = tmp_path / "m.gguf"
    path.write_bytes(b"weights")
    with pytest.raises(WeightsError, match="needs 7 bytes") as caught:
        await fetch_file(store, path, digest=None)
    assert caught.value.code is WeightsCode.INSUFFICIENT_DISK
    assert list((store.root / "partial").iterdir()) == []


async def test_a_cancelled_copy_stops_and_leaves_no_blob(store: WeightStore, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    with path.open("wb") as file:
        file.truncate(2 * 1024**3)
    transfer = Transfer()
    task = asyncio.create_task(fetch_file(store, path, digest=None, transfer=transfer))
    await until(lambda: transfer.done, "the copy begins")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transfer.done < transfer.total
    done = transfer.done
    await asyncio.sleep(0)
    assert transfer.done == done
    assert store.blobs() == {}


def test_a_start_keeps_parts_that_can_be_resumed_and_removes_the_rest(tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = WeightStore(root)
    store.open()
    good, lonely, note = ("a" * 64, "b" * 64, "c" * 64)
    origin = Origin(source="https://host/m", validator='"1"', total=10)
    store.partial(good).path.write_bytes(b"12345")
    store.partial(good).remember(origin)
    store.partial(lonely).path.write_bytes(b"12345")
    store.partial(note).remember(origin)
    (root / "partial" / f"{note}.json.new").write_bytes(b"{")
    store.close()

    store = WeightStore(root)
    store.open()

    assert sorted(path.name for path in (root / "partial").iterdir()) == [f"{good}.json", f"{good}.part"]
    assert store.partial(good).origin() == origin
    store.partial(good).note.write_bytes(b'{"source": 1}')
    assert store.partial(good).origin() is None


def test_one_process_owns_a_store(tmp_path: Path) -> None:
    first = WeightStore(tmp_path)
    first.open()
    with pytest.raises(BlockingIOError):
        WeightStore(tmp_path).open()
    first.close()
    second = WeightStore(tmp_path)
    second.open()
    second.close()


def test_removing_is_idempotent_and_foreign_files_are_no_blobs(store: WeightStore) -> None:
    digest = digest_of(b"x")
    store.blob_path(digest).write_bytes(b"x")
    (store.root / "blobs" / "sha256" / "readme").write_bytes(b"x")
    (store.root / "blobs" / "sha256" / ("d" * 64)).mkdir()
    assert store.blobs() == {digest: 1}
    store.remove(digest)
    store.remove(digest)
    assert store.size_of(digest) is None
    assert store.size_of(Digest(b"\xdd" * 32)) is None


def test_a_rate_is_the_mean_of_the_last_seconds_and_ignores_what_was_there_before() -> None:
    now = 100.0
    transfer = Transfer(1000, clock=lambda: now)
    transfer.restart(500)
    now += 2.0
    transfer.advance(100)
    assert transfer.bytes_per_second == 50.0
    now += 10.0
    assert transfer.bytes_per_second == 0.0
