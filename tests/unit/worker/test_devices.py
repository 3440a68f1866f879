"""Accelerators as the vendors' own words tell of them: a library that answers as NVIDIA's, a tree as AMD's driver's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from roadstead_worker.agent import devices as devices_module
from roadstead_worker.agent.device_reading import DeviceReading
from roadstead_worker.agent.devices import Devices
from roadstead_worker.agent.devices_amd import read_amd
from roadstead_worker.agent.devices_nvidia import NvidiaDevices
from roadstead_worker.contract import DeviceState
from tests.fixtures.fake_nvml import fake_nvml

MIB = 1024**2
L40S = DeviceState(
    id="GPU-11111111",
    vendor="NVIDIA",
    product="NVIDIA-L40S",
    memory_bytes=46068 * MIB,
    free_bytes=45000 * MIB,
    compute_capability=(8, 9),
)


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fake_nvml(tmp_path_factory.mktemp("nvml"))


def test_a_card_is_told_whole_and_one_in_mig_mode_as_its_slices(nvml: str) -> None:
    reading = NvidiaDevices(nvml).read()
    assert reading.ambiguities == ()
    assert reading.devices[0] == L40S
    assert [(each.id, each.product, each.mig_profile, each.memory_bytes) for each in reading.devices[1:]] == [
        ("MIG-44444444", "NVIDIA-A100-SXM4-40GB", "3g.20gb", 19968 * MIB),
        ("MIG-55555555", "NVIDIA-A100-SXM4-40GB", "1g.5gb", 4864 * MIB),
    ]
    assert {each.compute_capability for each in reading.devices[1:]} == {(8, 0)}, "that of the card"


def test_a_driver_from_before_mig_has_whole_cards(tmp_path: Path) -> None:
    reading = NvidiaDevices(fake_nvml(tmp_path, old=True)).read()
    assert [each.product for each in reading.devices] == ["NVIDIA-L40S", "NVIDIA-A100-SXM4-40GB"]


def test_a_card_that_cannot_be_asked_is_told_and_the_others_stay(nvml: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NVML_LOST", "1")
    reading = NvidiaDevices(nvml).read()
    assert len(reading.devices) == 3
    assert reading.ambiguities == (
        "NVIDIA's library does not tell of device 2: nvmlDeviceGetHandleByIndex_v2: GPU is lost",
    )


def test_a_library_that_does_not_start_is_told_and_tried_again(nvml: str, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = NvidiaDevices(nvml)
    monkeypatch.setenv("FAKE_NVML_INIT", "9")
    assert devices.read() == DeviceReading(
        ambiguities=("NVIDIA's library does not tell of its devices: nvmlInit_v2: Driver Not Loaded",)
    )
    monkeypatch.delenv("FAKE_NVML_INIT")
    assert len(devices.read().devices) == 3


def test_a_machine_without_the_library_has_no_such_devices() -> None:
    assert NvidiaDevices("libnothing-of-that-name.so.1").read() == DeviceReading()


def test_a_library_that_is_another_is_told() -> None:
    (told,) = NvidiaDevices("libc.so.6").read().ambiguities
    assert told == "NVIDIA's library does not tell of its devices: it has no nvmlInit_v2"


def card(root: Path, name: str, *, render: int, files: dict[str, str]) -> None:
    """As ``amdgpu`` shows a card."""
    device = root / "sys/devices/pci0000:00" / f"0000:{render:x}:00.0"
    (device / "drm" / f"renderD{render}").mkdir(parents=True)
    (root / "sys/class/drm" / name).mkdir(parents=True)
    (root / "sys/class/drm" / name / "device").symlink_to(device)
    for file, content in {"vendor": "0x1002", "device": "0x74a1", **files}.items():
        (device / file).write_text(content + "\n")


def topology(root: Path, node: int, *, render: int, version: int) -> None:
    """As the compute driver shows a node; the processor is one as well."""
    folder = root / "sys/class/kfd/kfd/topology/nodes" / str(node)
    folder.mkdir(parents=True)
    properties = f"cpu_cores_count 0\nsimd_count 1216\ngfx_target_version {version}\ndrm_render_minor {render}\n"
    (folder / "properties").write_text(properties)


MI300X = {
    "mem_info_vram_total": "206141652992",
    "mem_info_vram_used": "297955328",
    "product_name": "AMD Instinct MI300X OAM",
    "unique_id": "adaa93110835edcd",
    "current_compute_partition": "SPX",
}


def test_cards_of_amd_are_read_from_the_kernel(tmp_path: Path) -> None:
    card(tmp_path, "card1", render=128, files=MI300X)
    other = {key: value for key, value in MI300X.items() if key.startswith("mem_info")}
    card(tmp_path, "card2", render=129, files={**other, "device": "0x740f", "unique_id": "00a1b2c3d4e5f607"})
    topology(tmp_path, 0, render=0, version=0)
    topology(tmp_path, 1, render=128, version=90402)
    topology(tmp_path, 2, render=129, version=90010)
    first, second = read_amd(tmp_path).devices
    assert first == DeviceState(
        id="GPU-adaa93110835edcd",
        vendor="AMD",
        product="AMD-Instinct-MI300X-OAM",
        memory_bytes=206141652992,
        free_bytes=206141652992 - 297955328,
        architecture="gfx942",
    )
    assert (second.id, second.product, second.architecture) == ("GPU-00a1b2c3d4e5f607", "AMD-740f", "gfx90a")


def test_what_is_no_card_of_amd_is_passed_over(tmp_path: Path) -> None:
    card(tmp_path, "card0", render=128, files={"vendor": "0x10de"})
    (tmp_path / "sys/class/drm/card0-HDMI-A-1").mkdir()
    (tmp_path / "sys/class/drm/version").write_text("drm 1.1.0\n")
    assert read_amd(tmp_path) == DeviceReading()
    assert read_amd(tmp_path / "nothing") == DeviceReading()


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"current_compute_partition": "CPX"}, "card0 of AMD is cut in partitions (CPX)"),
        ({"mem_info_vram_used": ""}, "card0 of AMD does not tell its memory"),
        ({"unique_id": ""}, "card0 of AMD has no unique id to name it by"),
        ({"unique_id": "0" * 16}, "card0 of AMD has no unique id to name it by"),
    ],
)
def test_a_card_of_amd_that_is_not_whole_or_not_told_is_left_out(
    tmp_path: Path, files: dict[str, str], why: str
) -> None:
    card(tmp_path, "card0", render=128, files=MI300X | files)
    assert read_amd(tmp_path) == DeviceReading(ambiguities=(why,))


async def test_a_look_that_finds_something_else_is_told_and_one_that_does_not_is_not(
    nvml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = Devices(nvml=nvml, root=tmp_path, look_every_seconds=0.01)
    await devices.look()
    told = asyncio.Event()
    task = asyncio.create_task(devices.run(told.set))
    await asyncio.wait([task], timeout=0.2)
    assert not told.is_set()
    card(tmp_path, "card1", render=128, files=MI300X)
    async with asyncio.timeout(5):
        await told.wait()
    task.cancel()
    assert {each.vendor for each in devices.current.devices} == {"NVIDIA", "AMD"}


async def test_an_agent_does_not_wait_for_cards_that_hang(
    nvml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices_module, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setenv("FAKE_NVML_HANGS", "1")
    devices = Devices(nvml=nvml, root=tmp_path, look_every_seconds=1)
    await devices.first_look()
    assert devices.current == DeviceReading(ambiguities=("accelerators have not answered yet",))
    monkeypatch.delenv("FAKE_NVML_HANGS")
    await devices.look()
    assert len(devices.current.devices) == 3


async def test_a_reader_that_fails_stops_nobody(tmp_path: Path) -> None:
    devices = Devices(nvml="no\0path", root=tmp_path, look_every_seconds=1)
    await devices.look()
    (told,) = devices.current.ambiguities
    assert told.startswith("accelerators cannot be read: ValueError")
