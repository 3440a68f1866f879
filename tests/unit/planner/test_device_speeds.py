"""Names of devices as labels write them."""

from __future__ import annotations

import pytest

from roadstead.domain.inventory import Device, Sharing, Vendor
from roadstead.planner.device_speeds import speed_of


def device(product: str, *, mig: str = "", sharing: Sharing = Sharing.NONE, clients: int = 1) -> Device:
    return Device(
        id="0",
        vendor=Vendor.NVIDIA,
        product=product,
        memory_bytes=0,
        mig_profile=mig,
        sharing=sharing,
        clients=clients,
    )


def gigabytes(found: Device) -> float | None:
    speed = speed_of(found)
    return None if speed is None else speed.bandwidth / 1e9


@pytest.mark.parametrize(
    ("product", "bandwidth"),
    [
        ("Tesla-T4", 320),
        ("NVIDIA-L4", 300),
        ("NVIDIA-L40", 864),
        ("NVIDIA-L40S", 864),
        ("NVIDIA-A10", 600),
        ("NVIDIA-A10G", 600),
        ("A100-SXM4-40GB", 1555),
        ("NVIDIA-A100-PCIE-40GB", 1555),
        ("NVIDIA-A100-SXM4-80GB", 2039),
        ("NVIDIA-A100-80GB-PCIe", 1935),
        ("NVIDIA-H100-80GB-HBM3", 3350),
        ("NVIDIA-H100-PCIe", 2039),
        ("NVIDIA-H100-NVL-SHARED", 3938),
        ("NVIDIA-H200", 4800),
        ("NVIDIA-H20", 4000),
        ("Tesla-V100-SXM2-32GB", 900),
        ("NVIDIA-GeForce-RTX-4090", 1008),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", 1597),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition", 1792),
        ("AMD_Instinct_MI300X_OAM", 5300),
        ("Habana-Gaudi3", 3700),
    ],
)
def test_a_product_is_found_by_its_label(product: str, bandwidth: float) -> None:
    assert gigabytes(device(product)) == bandwidth


@pytest.mark.parametrize(
    "product",
    ["", "NVIDIA", "NVIDIA-H100", "NVIDIA-GeForce-GTX-1080", "NVIDIA-A1000", "NVIDIA-GeForce-RTX-4090-Laptop-GPU"],
)
def test_a_product_that_is_not_known_is_not_guessed(product: str) -> None:
    assert speed_of(device(product)) is None


@pytest.mark.parametrize(
    ("product", "profile", "of_memory", "of_compute"),
    [
        ("NVIDIA-A100-SXM4-40GB", "1g.5gb", 1 / 8, 1 / 7),
        ("NVIDIA-A100-SXM4-80GB", "3g.40gb", 4 / 8, 3 / 7),
        ("NVIDIA-H100-80GB-HBM3", "1g.20gb", 2 / 8, 1 / 7),
        ("NVIDIA-H200", "1g.18gb", 1 / 8, 1 / 7),
        ("NVIDIA-H200", "7g.141gb", 1, 1),
        ("NVIDIA-A30", "2g.12gb", 4 / 8, 2 / 4),
    ],
)
def test_a_slice_has_its_part_of_the_card(product: str, profile: str, of_memory: float, of_compute: float) -> None:
    whole = speed_of(device(product))
    for part in (device(product, mig=profile), device(f"{product}-MIG-{profile}")):
        found = speed_of(part)

        assert whole is not None
        assert found is not None
        assert found.bandwidth == pytest.approx(of_memory * whole.bandwidth)
        assert found.fp16 == pytest.approx(of_compute * whole.fp16)


def test_a_slice_of_a_card_that_cannot_be_sliced_is_not_known() -> None:
    assert speed_of(device("NVIDIA-L4", mig="1g.5gb")) is None


def test_clients_of_mps_divide_a_card_and_those_that_take_turns_may_have_it_to_themselves() -> None:
    assert gigabytes(device("NVIDIA-L4", sharing=Sharing.MPS, clients=4)) == 75
    assert gigabytes(device("NVIDIA-L4", sharing=Sharing.TIME_SLICING, clients=4)) == 300


def test_without_arithmetic_of_8_bits_that_of_16_counts() -> None:
    speed = speed_of(device("Tesla-V100-PCIE-16GB"))

    assert speed is not None
    assert speed.int8 == speed.fp8 == speed.fp16 == 125e12
