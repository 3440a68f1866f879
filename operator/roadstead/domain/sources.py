"""Where weights come from, as it may be told."""

from __future__ import annotations

from urllib.parse import urlsplit


def without_secrets(source: str) -> str:
    """A source without what may be a credential: user, query and fragment."""
    parts = urlsplit(source)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
