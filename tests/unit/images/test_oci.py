"""Manifests and archives: what a Pod names by digest, and what containerd reads."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tools.images.catalog import IMAGES, Image
from tools.images.layers import Tree, write_layer
from tools.images.oci import Layer, Manifest, labels, manifest_of, write_archive


def image(name: str) -> Image:
    return next(image for image in IMAGES if image.name == name)


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    tree = Tree()
    tree.text("etc/words", "words")
    return Layer(write_layer(tree, tmp_path / "layer.tar"), "words")


def made(layer: Layer, name: str = "worker-cpu", *, variant: str | None = None) -> Manifest:
    chosen = image(name)
    words = labels(chosen, version="1.2.3", revision="abc", source="https://example.org/code", variant=variant)
    return manifest_of(chosen, [layer], words)


def read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def blob(archive: tarfile.TarFile, digest: str) -> dict[str, Any]:
    content = read(archive, f"blobs/{digest.replace(':', '/')}")
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == digest
    found: dict[str, Any] = json.loads(content)
    return found


def test_equal_input_gives_an_equal_digest(layer: Layer) -> None:
    assert made(layer).digest == made(layer).digest


def test_a_variant_is_another_image_of_the_same_files(layer: Layer) -> None:
    plain, variant = made(layer), made(layer, variant="second")

    assert variant.digest != plain.digest
    assert variant.layers == plain.layers


def test_an_archive_holds_all_that_its_index_leads_to(layer: Layer, tmp_path: Path) -> None:
    manifest = made(layer)

    write_archive(manifest, tmp_path / "image.tar", names=("docker.io/a/b:1",))

    with tarfile.open(tmp_path / "image.tar") as archive:
        assert json.loads(read(archive, "oci-layout")) == {"imageLayoutVersion": "1.0.0"}
        found = blob(archive, json.loads(read(archive, "index.json"))["manifests"][0]["digest"])
        config = blob(archive, found["config"]["digest"])
        content = read(archive, f"blobs/{found['layers'][0]['digest'].replace(':', '/')}")
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(content).hexdigest()}"]
    assert found["layers"][0]["size"] == len(content)


def test_containerd_finds_an_image_by_its_tag_and_by_its_digest(layer: Layer, tmp_path: Path) -> None:
    manifest = made(layer)
    names = ("docker.io/roadstead/worker-cpu:1.2.3", f"docker.io/roadstead/worker-cpu@{manifest.digest}")

    write_archive(manifest, tmp_path / "image.tar", names=names)

    with tarfile.open(tmp_path / "image.tar") as archive:
        entries = json.loads(read(archive, "index.json"))["manifests"]
    assert tuple(entry["annotations"]["io.containerd.image.name"] for entry in entries) == names
    assert {entry["digest"] for entry in entries} == {manifest.digest}


def test_the_names_of_an_archive_do_not_change_the_digest(layer: Layer, tmp_path: Path) -> None:
    manifest = made(layer)
    for number, name in enumerate(("docker.io/a/b:1", "registry.lan/a/b:1")):
        write_archive(manifest, tmp_path / f"{number}.tar", names=(name,))

    digests = []
    for number in range(2):
        with tarfile.open(tmp_path / f"{number}.tar") as archive:
            digests.append(json.loads(read(archive, "index.json"))["manifests"][0]["digest"])
    assert digests == [manifest.digest] * 2


@pytest.mark.parametrize("name", [image.name for image in IMAGES])
def test_every_image_runs_as_a_user_by_number_and_says_what_it_is(name: str, layer: Layer) -> None:
    manifest = made(layer, name)

    config = json.loads(manifest.config)["config"]
    annotations = json.loads(manifest.manifest)["annotations"]
    assert config["User"] == "10001:10001"
    assert "HOME=/tmp" in config["Env"]
    assert config["Labels"] == annotations
    assert {key.rpartition(".")[2] for key in annotations} == {
        "title", "version", "revision", "source", "licenses", "created",
    }  # fmt: skip
