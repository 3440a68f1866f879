"""``python -m tests.kubernetes_oldest``: builds that control plane if need be and says in which folder it lies."""

from __future__ import annotations

import sys

from roadstead.embedded.failures import EmbeddedFleetError
from roadstead.embedded.go_programs import ensure_programs
from roadstead.embedded.progress import Progress
from tests.kubernetes_oldest.programs import OLDEST

if __name__ == "__main__":
    try:
        ensure_programs([OLDEST], Progress())
    except EmbeddedFleetError as error:
        sys.exit(f"{error}\n{error.remedy}\n{error.log_tail}")
    sys.stdout.write(f"{OLDEST.cached}\n")
