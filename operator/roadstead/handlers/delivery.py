"""Where events go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Deliver = Callable[[str | None, dict[str, Any]], None]
"""Takes the type of an event (None for what was found when watching began) and the object."""
