"""The bill of materials of an image, as CycloneDX 1.6 in JSON: Debian's packages, wheels, llama.cpp and our own.

Serial number and date follow from the content, so that equal images have equal bills.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.parser import Parser
from pathlib import Path
from typing import Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from tools.images.debian import Package
from tools.images.layers import source_date_epoch

_NAMESPACE: Final = uuid.UUID("5b1c1d0e-0a7e-5d55-9a3c-7d3f6c1f0b11")


def bill(name: str, version: str, components: Iterable[Component]) -> bytes:
    """The document for the image `name`."""
    parts = sorted(components)
    bom = Bom(components=parts)
    bom.metadata.timestamp = datetime.fromtimestamp(source_date_epoch(), tz=UTC)
    bom.metadata.component = Component(
        name=name, version=version, type=ComponentType.CONTAINER, bom_ref=f"{name}@{version}"
    )
    bom.register_dependency(bom.metadata.component, parts)
    bom.serial_number = uuid.uuid5(_NAMESPACE, _written(bom, uuid.UUID(int=0)))
    return _written(bom, bom.serial_number).encode()


def debian_components(packages: Iterable[Package]) -> Iterator[Component]:
    for package in packages:
        qualifiers = {"arch": package.architecture, "distro": "debian-12"}
        purl = PackageURL("deb", "debian", package.name, package.version, qualifiers)
        hashes = [HashType(alg=HashAlgorithm.SHA_256, content=package.sha256)] if package.sha256 else []
        yield _component(purl, ComponentType.LIBRARY, hashes=hashes)


def wheel_components(folder: Path) -> Iterator[Component]:
    """Every distribution that is installed in that folder."""
    licences = LicenseFactory()
    for metadata in sorted(folder.glob("*.dist-info/METADATA")):
        head = Parser().parsestr(metadata.read_text(), headersonly=True)
        purl = PackageURL("pypi", None, head["Name"].lower().replace("_", "-"), head["Version"])
        expression = head["License-Expression"]
        found = [licences.make_with_expression(expression)] if expression else []
        yield _component(purl, ComponentType.LIBRARY, licenses=found)


def llama_cpp_component(version: str) -> Component:
    purl = PackageURL("github", "ggml-org", "llama.cpp", version)
    return _component(purl, ComponentType.APPLICATION, licenses=[LicenseFactory().make_with_id("MIT")])


def _component(purl: PackageURL, kind: ComponentType, **more: Iterable[object]) -> Component:
    return Component(
        name=purl.name, version=purl.version, type=kind, purl=purl, bom_ref=purl.to_string(),
        **more,  # type: ignore[arg-type] # hashes or licences, as the callers above have them
    )  # fmt: skip


def _written(bom: Bom, serial: uuid.UUID) -> str:
    bom.serial_number = serial
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    return json.dumps(document, sort_keys=True, indent=1)
