"""The bill of materials: CycloneDX that others' tools read, the same for the same parts."""

from __future__ import annotations

import json
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tools.images.debian import Package
from tools.images.sbom import bill, debian_components, llama_cpp_component, wheel_components

PACKAGES = [
    Package("bash", "5.2.15-2+b13", "amd64", "8" * 64, "bash.deb"),
    Package("zlib1g", "1:1.2.13.dfsg-1", "amd64", "", "zlib.deb"),
]


def installed(folder: Path) -> Path:
    information = folder / "some_wheel-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Name: some_wheel\nVersion: 1.0\nLicense-Expression: MIT OR Apache-2.0\n\n")
    return folder


def document(folder: Path, packages: list[Package]) -> bytes:
    parts = [*debian_components(packages), *wheel_components(folder), llama_cpp_component("b11434")]
    return bill("worker-cpu", "1.2.3", parts)


def test_it_is_valid_cyclonedx_1_6(tmp_path: Path) -> None:
    text = document(installed(tmp_path), PACKAGES).decode()

    assert json.loads(text)["specVersion"] == "1.6"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_it_names_every_part_as_scanners_look_for_it(tmp_path: Path) -> None:
    found = json.loads(document(installed(tmp_path), PACKAGES))

    assert {component["purl"] for component in found["components"]} == {
        "pkg:deb/debian/bash@5.2.15-2%2Bb13?arch=amd64&distro=debian-12",
        "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?arch=amd64&distro=debian-12",
        "pkg:pypi/some-wheel@1.0",
        "pkg:github/ggml-org/llama.cpp@b11434",
    }


def test_equal_parts_give_equal_bills_and_other_parts_another_serial_number(tmp_path: Path) -> None:
    folder = installed(tmp_path)
    first, reordered = document(folder, PACKAGES), document(folder, PACKAGES[::-1])
    fewer = document(folder, PACKAGES[:1])

    assert first == reordered
    assert json.loads(first)["serialNumber"] != json.loads(fewer)["serialNumber"]
