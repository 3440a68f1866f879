"""Installs locked wheels into a folder, such that only the lock decides what is in it.

uv does it for the image's Python and platform, whatever this machine's are, from wheels only: no line of a package runs
here. Afterwards whatever tells of this machine is removed: where the wheel came from, when, and the interpreter's path
in scripts.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Final

from tools.images.failures import ImageBuildError

_PLATFORM: Final = "x86_64-manylinux_2_36"
"""glibc of Debian 12."""
_TELLTALES: Final = ("direct_url.json", "uv_cache.json", "uv_build.json", "REQUESTED")
_SCRIPT: Final = """#!/usr/bin/python3
import sys
from {module} import {function}
sys.exit({call}())
"""


def install_locked(lock: Path, target: Path) -> None:
    """Everything that the lock names, by hash; scripts in `target/bin`."""
    _install(target, "--require-hashes", "--only-binary", ":all:", "-r", str(lock))


def install_wheel(wheel: Path, target: Path) -> None:
    """One wheel from this disk, without what it needs."""
    _install(target, "--offline", str(wheel))


def client_environment() -> dict[str, str]:
    """Ours, and the mirror and the certificates that pip was told of: uv does not read pip's configuration."""
    environment = dict(os.environ)
    for variable, ours, setting in (
        ("UV_DEFAULT_INDEX", "PIP_INDEX_URL", "global.index-url"),
        ("SSL_CERT_FILE", "PIP_CERT", "global.cert"),
    ):
        value = environment.get(variable) or environment.get(ours) or _pip_setting(setting)
        if value:
            environment[variable] = value
    return environment


def _pip_setting(name: str) -> str:
    command = [sys.executable, "-m", "pip", "config", "get", name]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _install(target: Path, *what: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    command = [
        *(str(uv), "pip", "install", "--quiet", "--no-deps", "--no-config", "--link-mode", "copy"),
        *("--python", sys.executable, "--python-version", "3.11", "--python-platform", _PLATFORM),
        *("--target", str(target), *what),
    ]
    done = subprocess.run(command, env=client_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageBuildError(
            "WheelsUnavailable",
            f"The locked wheels could not be installed: {done.stderr.strip()[-800:]}",
            remedy="Check that the package index can be reached; `make lock` writes the locks again.",
        )
    _forget_this_machine(target)


def _forget_this_machine(target: Path) -> None:
    shutil.rmtree(target / "__pycache__", ignore_errors=True)
    (target / ".lock").unlink(missing_ok=True)
    scripts = _console_scripts(target)
    for information in target.glob("*.dist-info"):
        for name in _TELLTALES:
            (information / name).unlink(missing_ok=True)
        _cut_record(information / "RECORD")
    programs = target / "bin"
    for program in sorted(programs.iterdir()) if programs.is_dir() else ():
        if program.name in scripts:
            program.write_text(scripts[program.name])
        else:
            _set_interpreter(program)


def _console_scripts(target: Path) -> dict[str, str]:
    scripts = {}
    for listing in sorted(target.glob("*.dist-info/entry_points.txt")):
        parser = ConfigParser(delimiters=("=",))
        parser.optionxform = str  # type: ignore[assignment,method-assign] # as it stands in the documentation
        parser.read(listing)
        for name, entry in parser["console_scripts"].items() if parser.has_section("console_scripts") else ():
            module, _, call = entry.partition(":")
            call = re.sub(r"\s*\[.*\]$", "", call).strip()
            scripts[name] = _SCRIPT.format(module=module.strip(), function=call.partition(".")[0], call=call)
    return scripts


def _cut_record(record: Path) -> None:
    """Sorted, and without scripts, which differ from what was recorded, and what was removed."""
    lines = record.read_text().splitlines()
    kept = sorted(
        line for line in lines if not line.startswith(("bin/", "../")) and not line.split(",")[0].endswith(_TELLTALES)
    )
    record.write_text("".join(f"{line}\n" for line in kept))


def _set_interpreter(program: Path) -> None:
    content = program.read_bytes()
    first, _, rest = content.partition(b"\n")
    if first.startswith(b"#!") and b"python" in first:
        program.write_bytes(b"#!/usr/bin/python3\n" + rest)
