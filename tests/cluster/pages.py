"""The shell snippets of how-to pages, and a reader who types them one after the other."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.home import CHECKOUT

PAGE_FOLDER: Final = CHECKOUT / "docs" / "how-to"
_SNIPPET: Final = re.compile(r"^```shell\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Snippet:
    """One block of a page, as it is printed there."""

    page: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}.md: {self.text.splitlines()[0]}"


def snippets(page: str) -> tuple[Snippet, ...]:
    """All of a page, from top to bottom."""
    return tuple(Snippet(page, text) for text in _SNIPPET.findall((PAGE_FOLDER / f"{page}.md").read_text()))


@dataclass(frozen=True, slots=True)
class Change:
    """What is typed in place of what a page shows, and why it must be."""

    shown: str
    typed: str
    why: str


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody with a kubeconfig and a shell in the checkout; what one snippet sets, the next ones have."""

    folder: Path
    environment: Mapping[str, str]
    changes: tuple[Change, ...]
    typed: list[Snippet] = field(default_factory=list)
    """Snippets that ended well."""

    @classmethod
    def of(
        cls,
        cluster: Cluster,
        *,
        folder: Path,
        changes: tuple[Change, ...],
        has: Mapping[str, str],
        kubeconfig: Path | None = None,
    ) -> Self:
        """With these variables besides; the administrator, unless another kubeconfig is given."""
        folder.mkdir(parents=True, exist_ok=True)
        programs = (cluster.programs.control_plane.kubectl, cluster.programs.helm, Path(sys.executable))
        path = [*(str(program.parent) for program in programs), os.environ["PATH"]]
        own = {"PATH": ":".join(path), "KUBECONFIG": str(kubeconfig or cluster.kubeconfig), "HOME": str(folder)}
        return cls(folder=folder, environment={**own, **has}, changes=changes)

    def types(self, snippet: Snippet, *, seconds: float) -> str:
        """Type it as printed but for the changes; what it printed. Fails if a command of it does, or takes longer."""
        text = snippet.text
        for change in self.changes:
            text = text.replace(change.shown, change.typed)
        said = self.runs(text, seconds=seconds)
        self.typed.append(snippet)
        return said

    def runs(self, text: str, *, seconds: float) -> str:
        """The same for a line that no page shows as a snippet."""
        code, said = self.tries(text, seconds=seconds)
        assert code == 0, f"exit status {code} of\n{text}\n{said}"
        return said

    def tries(self, text: str, *, seconds: float) -> tuple[int, str]:
        """Exit status and what was printed. What is left running in the background ends with it."""
        variables, printed = self.folder / "variables", self.folder / "printed"
        variables.touch()
        script = f"set -euo pipefail; . {variables}; set -a\n{text}\nexport -p > {variables}\n"
        with printed.open("w") as out:
            shell = subprocess.Popen(
                ["bash", "-c", script],
                cwd=CHECKOUT,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = shell.wait(seconds)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"not over after {seconds:.0f} s:\n{text}\n{printed.read_text()}") from None
            finally:
                _end_group(shell.pid)
        return code, printed.read_text()


def _end_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
