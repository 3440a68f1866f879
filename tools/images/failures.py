"""What can go wrong while images are built, in words that say what to do."""

from __future__ import annotations


class ImageBuildError(Exception):
    """A step that failed; `code` is one word, `remedy` the next thing to try."""

    def __init__(self, code: str, sentence: str, *, remedy: str) -> None:
        super().__init__(f"{code}: {sentence}\n{remedy}")
        self.code = code
