"""From the catalog to finished images: base, wheels, engine and own code become layers, in this order.

What changes most is last and smallest: a change of our code writes a new layer of some megabytes in seconds, and every
other layer comes from the cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cyclonedx.model.component import Component

from roadstead.embedded.progress import Progress
from tools.images import bytecode, catalog, debian, engine, layers, llama_source, sbom, wheels
from tools.images.cache import Cache, key_of
from tools.images.catalog import POSTGRES_SCRIPT, PYTHON_FOLDER, ROOT, USER, Image
from tools.images.failures import ImageBuildError
from tools.images.layers import Blob, File, Tree, write_layer
from tools.images.oci import Layer, Manifest, labels, manifest_of

_OWN: Final = ("operator", "workers", "migrations", "charts/roadstead/crds")
_RECIPE: Final = ("images", "tools/images", "requirements", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Built:
    """A finished image and its bill of materials."""

    image: Image
    manifest: Manifest
    bill: bytes


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds images with one cache."""

    cache: Cache
    progress: Progress

    def build(self, image: Image, *, source: str | None = None, variant: str | None = None) -> Built:
        """One image; raises ImageBuildError."""
        packages = self._debian()
        base = self._base(packages)
        root = self._root(packages, base)
        stack = [Layer(base, f"Debian 12: {' '.join(catalog.debian_packages())}")]
        components = [*sbom.debian_components(debian.fetched(packages))]
        installed = self._wheels(image)
        wheels_blob = self._python_layer(f"wheels-{image.name}", installed, root, key=key_of(image.lock, wheels))
        stack.append(Layer(wheels_blob, f"wheels of {image.lock.relative_to(ROOT)}"))
        components += sbom.wheel_components(installed)
        if image.llama_cpp:
            stack.append(Layer(self._engine(), f"llama.cpp {llama_source.version()}: llama-server"))
            components.append(sbom.llama_cpp_component(llama_source.version()))
        stack.append(self._own_layer(image, root, components))
        words = labels(
            image, version=catalog.project_version(), revision=_revision(image), source=source, variant=variant
        )  # fmt: skip
        return Built(image, manifest_of(image, stack, words), self._bill(image, components))

    def refresh(self) -> None:
        """Forget which versions of Debian's packages were taken."""
        for folder in self.cache.root.glob("debian-*"):
            layers.remove(folder)

    def _debian(self) -> Path:
        wanted = catalog.debian_packages()
        return self.cache.folder(
            "debian", key_of(*wanted, debian.RELEASE), lambda folder: debian.fetch(folder, wanted, self.progress)
        )

    def _base(self, packages: Path) -> Blob:
        def make(path: Path) -> Blob:
            self.progress.say("writing the base: Debian's files, Python compiled")
            tree = debian.base_tree(packages, user=USER)
            with self.cache.scratch() as root:
                tree.write_to(root)
                bytecode.compile_tree(root, root / "usr/lib/python3.11", at="", base=root)
                tree.folder(root / "usr/lib/python3.11", at="usr/lib/python3.11")
                return write_layer(tree, path)

        return self.cache.layer("base", _base_key(packages), make)

    def _root(self, packages: Path, base: Blob) -> Path:
        """The base as files: its Python compiles the other layers."""

        def make(folder: Path) -> None:
            layers.unpack(base.path, folder)

        return self.cache.folder("root", _base_key(packages), make)

    def _wheels(self, image: Image) -> Path:
        def make(folder: Path) -> None:
            self.progress.say(f"installing the wheels of {image.lock.name}")
            wheels.install_locked(image.lock, folder)

        return self.cache.folder(f"wheels-{image.name}", key_of(image.lock, wheels), make)

    def _python_layer(self, name: str, installed: Path, root: Path, *, key: str) -> Blob:
        def make(path: Path) -> Blob:
            self.progress.say(f"compiling and writing the layer {name}")
            with self.cache.scratch() as folder:
                tree = _python_tree(installed)
                tree.write_to(folder)
                bytecode.compile_tree(folder, folder / PYTHON_FOLDER, at="", base=root)
                compiled = Tree()
                compiled.folder(folder, at="")
                return write_layer(compiled, path)

        return self.cache.layer(name, key_of(key, root.name, layers, bytecode), make)

    def _engine(self) -> Blob:
        key = key_of(*engine.inputs())

        def make(folder: Path) -> None:
            with tempfile.TemporaryDirectory(prefix="llama-") as scratch:
                engine.build(folder, Path(scratch), self.progress)

        built = self.cache.folder("llama.cpp", key, make)
        return self.cache.layer(
            "llama.cpp", key_of(key, layers), lambda path: write_layer(engine.engine_tree(built), path)
        )

    def _own_layer(self, image: Image, root: Path, components: list[Component]) -> Layer:
        """The last layer: our wheel or our script, and the bill of materials."""
        with self.cache.scratch() as scratch:
            tree = Tree()
            if image.own_code:
                wheels.install_wheel(_own_wheel(scratch), scratch / "installed")
                components += sbom.wheel_components(scratch / "installed")
                installed = scratch / "tree"
                _python_tree(scratch / "installed").write_to(installed)
                bytecode.compile_tree(installed, installed / PYTHON_FOLDER, at="", base=root)
                tree.folder(installed, at="")
            if image.script:
                tree.add(POSTGRES_SCRIPT, File(image.script))
            tree.add(f"usr/share/sbom/{image.name}.cdx.json", File(self._bill(image, components)))
            digest = key_of(*_described(tree))
            blob = self.cache.layer(f"own-{image.name}", key_of(digest, layers), lambda path: write_layer(tree, path))
        return Layer(blob, f"roadstead {catalog.project_version()}")

    def _bill(self, image: Image, components: Sequence[Component]) -> bytes:
        return sbom.bill(image.name, catalog.project_version(), components)


def _base_key(packages: Path) -> str:
    return key_of(packages / "packages.json", layers, debian, bytecode)


def _python_tree(installed: Path) -> Tree:
    """What uv put into a folder, at its places in the image: packages, scripts, shared files."""
    tree = Tree()
    for part in sorted(installed.iterdir()):
        place = {"bin": "usr/local/bin", "share": "usr/local/share"}.get(part.name, f"{PYTHON_FOLDER}/{part.name}")
        if part.is_dir():
            tree.folder(part, at=place)
        else:
            tree.add(place, File(part))
    return tree


def _described(tree: Tree) -> list[bytes | str]:
    described: list[bytes | str] = []
    for path, entry in sorted(tree.entries.items()):
        content = entry.content if isinstance(entry, File) else repr(entry)
        described += [path, content.read_bytes() if isinstance(content, Path) else content]
        described.append(str(isinstance(entry, File) and entry.executable))
    return described


def _own_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageBuildError(
            "OwnWheelFailed", f"Our own wheel was not built: {done.stderr.strip()[-600:]}", remedy="Run `make check`."
        )
    return next(folder.glob("*.whl"))


def _revision(image: Image) -> str:
    """The commit that last changed what is in the image: others leave its digest alone. `unknown` outside a clone."""
    parts = (*_OWN, *_RECIPE) if image.own_code else _RECIPE
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%H", "--", *parts]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
