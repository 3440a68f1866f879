"""`python -m tools.images`: builds the container images without a container engine.

Writes one OCI layout as a tar archive for each image, its bill of materials beside it, and `images.json`, which tells
names, digests and files to whoever imports them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from roadstead.embedded.progress import Progress
from tools.images.building import Builder, Built
from tools.images.cache import Cache
from tools.images.catalog import IMAGES, ROOT, project_version
from tools.images.failures import ImageBuildError
from tools.images.oci import write_archive

_DEFAULT_REGISTRY = "docker.io"


def main() -> int:
    """Exit status 1: something could not be built, and it was said what and why."""
    parser = argparse.ArgumentParser(prog="python -m tools.images", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", choices=[image.name for image in IMAGES], help="build this one")
    parser.add_argument("--output", type=Path, default=ROOT / "build/images", help="folder for archives")
    parser.add_argument(
        "--repository", default="roadstead", help="what stands before the names, with a registry or not"
    )
    parser.add_argument("--source", help="address of the repository, for the label org.opencontainers.image.source")
    parser.add_argument("--variant", help="make another image of equal function: a label, and a tag that ends in it")
    parser.add_argument("--refresh", action="store_true", help="take Debian's newest packages")
    chosen = parser.parse_args()
    progress = Progress()
    builder = Builder(Cache.default(), progress)
    chosen.output.mkdir(parents=True, exist_ok=True)
    try:
        with builder.cache.locked():
            if chosen.refresh:
                builder.refresh()
            for image in IMAGES:
                if not chosen.only or image.name in chosen.only:
                    built = builder.build(image, source=chosen.source, variant=chosen.variant)
                    _publish(built, chosen, progress)
            builder.cache.prune()
    except ImageBuildError as error:
        progress.finish()
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _publish(built: Built, chosen: argparse.Namespace, progress: Progress) -> None:
    """Write the archive unless it is there, and the entry in `images.json`."""
    name = built.image.name + (f"-{chosen.variant}" if chosen.variant else "")
    repository = f"{chosen.repository}/{built.image.name}"
    tag = project_version() + (f"-{chosen.variant}" if chosen.variant else "")
    digest, archive = built.manifest.digest, chosen.output / f"{name}.tar"
    entry = {
        "reference": f"{repository}:{tag}",
        "byDigest": f"{repository}@{digest}",
        "digest": digest,
        "size": built.manifest.size,
        "archive": archive.name,
    }
    listing = chosen.output / "images.json"
    known = json.loads(listing.read_text()) if listing.exists() else {}
    if known.get(name) != entry or not archive.exists():
        full = repository if _has_registry(repository) else f"{_DEFAULT_REGISTRY}/{repository}"
        write_archive(built.manifest, archive, names=(f"{full}:{tag}", f"{full}@{digest}"))
        (chosen.output / f"{name}.cdx.json").write_bytes(built.bill)
        listing.write_text(json.dumps(known | {name: entry}, indent=2, sort_keys=True) + "\n")
    progress.say(f"{entry['reference']}  {digest}  {built.manifest.size / (1 << 20):.0f} MiB  {archive}")


def _has_registry(repository: str) -> bool:
    """As Docker tells a host from a name: by a dot or a port in the first part, or `localhost`."""
    first, slash, _ = repository.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


if __name__ == "__main__":
    sys.exit(main())
