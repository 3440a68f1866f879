"""Two ways to the same images: what the builder puts together, the Containerfiles name, and the locks agree."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tools.images import engine
from tools.images.catalog import IMAGES, PACKAGES, ROOT, USER, Image, debian_packages

WHERE = {
    "roadstead": ("roadstead.Containerfile", ""),
    "worker-cpu": ("worker.Containerfile", "cpu"),
    "postgres": ("postgres.Containerfile", ""),
}


@dataclass
class Stage:
    """One stage of a Containerfile, with what it inherits from the stages before it."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def last(self, name: str) -> str:
        return next((value for word, value in reversed(self.instructions) if word == name), "")

    @property
    def environment(self) -> dict[str, str]:
        lines = [value for word, value in self.instructions if word == "ENV"]
        return dict(pair.split("=", 1) for line in lines for pair in shlex.split(line))


def stages(containerfile: Path) -> dict[str, Stage]:
    """Stages by name; the last one also as ``''``."""
    found: dict[str, Stage] = {}
    joined = re.sub(r"\\\n\s*", " ", containerfile.read_text())
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    for line in lines:
        word, _, value = line.partition(" ")
        if word == "FROM":
            base, _, name = value.partition(" AS ")
            inherited = found[base].instructions if base in found else []
            found[name] = found[""] = Stage(base, [*inherited])
        else:
            found[""].instructions.append((word, value))
    return found


def stage_of(image: Image) -> Stage:
    file, target = WHERE[image.name]
    return stages(ROOT / "images" / file)[target]


@pytest.fixture(params=IMAGES, ids=lambda image: image.name)
def image(request: pytest.FixtureRequest) -> Image:
    chosen: Image = request.param
    return chosen


def test_every_image_starts_from_the_same_debian_packages(image: Image) -> None:
    stage = stage_of(image)
    text = " ".join(value for _, value in stage.instructions)

    assert f"COPY {PACKAGES.relative_to(ROOT)}" in "\n".join(" ".join(pair) for pair in stage.instructions)
    assert "xargs apt-get install --yes --no-install-recommends" in text
    assert {"bash", "python3.11", "ca-certificates"} <= set(debian_packages())


def test_every_image_is_made_from_its_lock(image: Image) -> None:
    text = (ROOT / "images" / WHERE[image.name][0]).read_text()

    assert f"-r /tmp/requirements/{image.lock.name}" in text
    assert "--require-hashes" in text


def test_user_variables_and_commands_are_the_same(image: Image) -> None:
    stage = stage_of(image)

    assert stage.last("USER") == f"{USER}:{USER}"
    assert stage.environment == image.variables
    assert json.loads(stage.last("CMD") or "[]") == list(image.command)
    assert json.loads(stage.last("ENTRYPOINT") or "[]") == list(image.entrypoint)
    assert (stage.last("STOPSIGNAL") or "SIGTERM") == image.stop_signal
    assert stage.last("EXPOSE") == " ".join(str(port) for port in image.ports)


def test_llama_cpp_is_built_alike_both_ways() -> None:
    text = re.sub(r"\\\n\s*", " ", (ROOT / "images/worker.Containerfile").read_text())
    left_out = re.search(r"ggml_add_cpu_backend_variant\\\(\(([a-z0-9|]+)\) ", text)

    assert left_out is not None
    assert not set(left_out[1].split("|")) & set(engine.VARIANTS)
    for name, value in engine.OPTIONS.items():
        if "GIT" not in name.upper():
            assert re.search(rf"-D {name}='?{re.escape(value)}'?(\s|$)", text), name


def test_the_containerfiles_have_a_target_for_gpus() -> None:
    cuda = stages(ROOT / "images/worker.Containerfile")["cuda"]

    assert cuda.last("USER") == f"{USER}:{USER}"
    assert "vllm==" in (ROOT / "requirements/image-worker-cuda.txt").read_text()


@pytest.mark.parametrize("lock", ["image-roadstead.txt", "image-worker.txt", "image-postgres.txt", "build-wheel.txt"])
def test_images_hold_the_versions_that_are_tested(lock: str) -> None:
    tested, shipped = (pins(ROOT / "requirements" / name) for name in ("dev.txt", lock))

    assert shipped
    assert {name: version for name, version in shipped.items() if tested.get(name) != version} == {}


def test_neither_a_second_engine_nor_ray_is_where_it_is_not_used() -> None:
    worker, control = (pins(ROOT / f"requirements/image-{name}.txt") for name in ("worker", "roadstead"))

    assert "xllamacpp" not in worker
    assert "ray" in worker
    assert "ray" not in control


def pins(lock: Path) -> dict[str, str]:
    found = re.findall(r"^([a-z0-9-]+)(?:\[[^\]]+\])?==(\S+)", lock.read_text(), re.MULTILINE)
    return dict(found)
