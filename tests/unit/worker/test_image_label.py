"""The label by which a slot finds the workers of its image."""

from __future__ import annotations

import pytest

from roadstead.domain.snapshot import image_label as looked_for
from roadstead_worker.contract import image_label

DIGITS = "0123456789abcdef" * 4


@pytest.mark.parametrize("image", [f"sha256:{DIGITS}", f"registry.lan:5000/roadstead/worker-cpu@sha256:{DIGITS}"])
def test_a_worker_carries_twelve_digits_of_its_images_digest(image: str) -> None:
    assert image_label(image) == "0123456789ab"


@pytest.mark.parametrize("image", ["", "xllamacpp==0.1.0", "registry.lan/worker:1.0", f"sha256:{DIGITS[1:]}"])
def test_what_is_no_digest_makes_no_label(image: str) -> None:
    assert image_label(image) == ""


@pytest.mark.parametrize("image", [f"registry.lan/worker@sha256:{DIGITS}", "worker:1", "xllamacpp 1", ""])
def test_the_planner_looks_for_the_label_that_a_worker_carries(image: str) -> None:
    assert looked_for(image) == image_label(image)
