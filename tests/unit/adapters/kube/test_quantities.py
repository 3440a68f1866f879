"""Quantities are read as Kubernetes reads them, and a pool's are kept in range."""

from __future__ import annotations

import pytest

from roadstead.adapters.kube.quantities import between, number, whole_bytes


@pytest.mark.parametrize(
    ("text", "value"),
    [("8Gi", 8 * 1024**3), ("1.5Gi", 1536 * 1024**2), ("12k", 12_000), ("4", 4), ("2500m", 2), ("1Ti", 1024**4)],
)
def test_an_amount_is_read_in_whole_bytes(text: str, value: int) -> None:
    assert whole_bytes(text) == value


@pytest.mark.parametrize("text", ["", "abc", "-1", "1 Gi", "1gi", "0x10", "1e", "1e3", "٣", "1Gi\n"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        number(text)


@pytest.mark.parametrize(
    ("text", "fits"), [("1", True), ("999m", False), ("8", True), ("8001m", False), ("0.5Ki", False), ("x", False)]
)
def test_a_range_includes_both_its_ends(text: str, *, fits: bool) -> None:
    assert between("1", "8", "a number of cores").accepts(text) is fits
