"""The base of every image: files out of Debian's packages, without running a single one of their scripts.

`apt-get` resolves and downloads with lists and a cache of its own (no root, nothing of this machine is changed), and
the packages' archives are read into a tree. What only serves installing is left out. Which versions came is kept until
a refresh is asked for, and written into the bill of materials: an archive that moves on does not change an image behind
one's back.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from roadstead.embedded.progress import Progress
from tools.images.failures import ImageBuildError
from tools.images.layers import File, Folder, Link, Tree

RELEASE: Final = "bookworm"
_OMITTED: Final = frozenset({"debconf", "dpkg", "libmd0", "mawk", "openssl", "readline-common", "tar"})
"""Needed by the scripts that we do not run."""
_MERGED: Final = ("bin", "sbin", "lib", "lib64")
"""Links into /usr since Debian 12; packages still name the old places."""
_LEFT_OUT: Final = re.compile(
    r"usr/share/(?:bug|debianutils|doc-base|info|lintian|locale|man|menu|pixmaps|applications|python3)/"
    r"|usr/share/doc/(?![^/]+/copyright$)|usr/share/doc/[^/]+/(?!copyright$)"
)
_CERTIFICATES: Final = "usr/share/ca-certificates/mozilla/"
_BUNDLE: Final = "etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True)
class Package:
    """One binary package of Debian."""

    name: str
    version: str
    architecture: str
    sha256: str
    file: str
    """Its archive's name in the folder of the set."""


def fetch(folder: Path, wanted: Sequence[str], progress: Progress) -> None:
    """Resolve and download into `folder`, and write down what came."""
    demand_release()
    progress.say(f"fetching {len(wanted)} Debian packages and what they need")
    apt = _Apt(folder / "apt")
    apt.run("update", "-qq")
    names = [name for name in apt.closure(wanted) if name not in _OMITTED]
    apt.run("download", "-qq", *names, folder=folder)
    packages = [_package(apt, name, folder) for name in names]
    shutil.rmtree(apt.root)
    (folder / "packages.json").write_text(json.dumps([asdict(package) for package in packages], indent=2))
    size = sum((folder / package.file).stat().st_size for package in packages)
    progress.say(f"{len(packages)} Debian packages, {size / (1 << 20):.0f} MiB")


def fetched(folder: Path) -> list[Package]:
    """What an earlier `fetch` wrote down, sorted by name."""
    return sorted(
        (Package(**package) for package in json.loads((folder / "packages.json").read_text())),
        key=lambda package: package.name,
    )


def base_tree(folder: Path, *, user: int) -> Tree:
    """All packages of the folder as one tree, with our user, and without bytecode."""
    tree = Tree()
    for link in _MERGED:
        tree.add(link, Link(f"usr/{link}"))
    for package in fetched(folder):
        archive = folder / package.file
        for path, entry in _files(archive):
            tree.add(path, entry)
        control = subprocess.run(["dpkg-deb", "--field", archive], capture_output=True, check=True).stdout
        tree.add(f"var/lib/dpkg/status.d/{package.name}", File(control))  # where scanners of small images look
    _add_certificates(tree)
    _add_users(tree, user)
    tree.add("tmp", Folder(0o1777))
    return tree


class _Apt:
    """apt with lists, cache and state below a folder of ours."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("state/lists/partial", "cache/archives/partial"):
            (root / name).mkdir(parents=True)
        (root / "status").touch()
        options = {
            "Dir::State": root / "state",
            "Dir::State::status": root / "status",  # nothing is installed: all that is needed is named
            "Dir::Cache": root / "cache",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "",
            "APT::Get::List-Cleanup": "false",
            "Debug::NoLocking": "true",
        }
        self._options = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]

    def run(self, *arguments: str, folder: Path | None = None, program: str = "apt-get") -> str:
        done = subprocess.run(
            [program, *self._options, *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ImageBuildError(
                "DebianUnreachable",
                f"{program} {arguments[0]} failed: {done.stderr.strip()[-600:]}",
                remedy="Check that this machine's apt sources are those of Debian 12 and can be reached.",
            )
        return done.stdout

    def closure(self, wanted: Sequence[str]) -> list[str]:
        plan = self.run("install", "-y", "-qq", "--simulate", "--no-install-recommends", *wanted)
        return sorted({line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")})

    def sha256(self, name: str, version: str) -> str:
        shown = self.run("show", f"{name}={version}", program="apt-cache")
        found = re.search(r"^SHA256: ([0-9a-f]{64})$", shown, re.MULTILINE)
        return found[1] if found else ""


def demand_release() -> None:
    """Raises ImageBuildError where apt is not Debian 12's."""
    release = Path("/etc/os-release")
    codename = re.search(r"^VERSION_CODENAME=(\S+)$", release.read_text() if release.exists() else "", re.MULTILINE)
    if codename is None or codename[1] != RELEASE or shutil.which("apt-get") is None:
        raise ImageBuildError(
            "NotDebian12",
            "Images are put together from Debian 12's packages, which this machine's apt does not offer.",
            remedy="Build on Debian 12, in a container of it, or from the Containerfiles in images/ with an engine.",
        )


def _package(apt: _Apt, name: str, folder: Path) -> Package:
    archive = next(folder.glob(f"{name}_*.deb"))
    fields = subprocess.run(
        ["dpkg-deb", "--show", "--showformat", "${Version}\n${Architecture}", archive],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    version, architecture = fields.split("\n")
    return Package(name, version, architecture, apt.sha256(name, version), archive.name)


def _files(archive: Path) -> Iterator[tuple[str, File | Link]]:
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as members:
        for member in members:
            path = _place(member.name)
            if member.isdir() or _LEFT_OUT.match(path):
                continue
            if member.issym():
                yield path, Link(member.linkname)
            elif content := members.extractfile(member):  # a hard link's too
                yield path, File(content.read(), executable=bool(member.mode & 0o100))


def _place(name: str) -> str:
    path = name.removeprefix("./")
    return f"usr/{path}" if path.partition("/")[0] in _MERGED else path


def _add_certificates(tree: Tree) -> None:
    certificates = [
        entry.content.rstrip() + b"\n"
        for path, entry in sorted(tree.entries.items())
        if path.startswith(_CERTIFICATES) and isinstance(entry, File) and isinstance(entry.content, bytes)
    ]
    if not certificates:
        raise ValueError("ca-certificates holds no certificate where it used to")
    tree.add(_BUNDLE, File(b"".join(certificates)))
    tree.add("usr/lib/ssl/cert.pem", Link(f"/{_BUNDLE}"))  # where OpenSSL looks
    tree.add("usr/lib/ssl/certs", Link("/etc/ssl/certs"))


def _add_users(tree: Tree, user: int) -> None:
    tree.text(
        "etc/passwd",
        f"root:x:0:0:root:/root:/usr/sbin/nologin\nroadstead:x:{user}:{user}:Roadstead:/tmp:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    )
    tree.text("etc/group", f"root:x:0:\nroadstead:x:{user}:\nnogroup:x:65534:\n")
    tree.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
