"""What can go wrong before a fleet runs, in words a person can act on.

Every failure carries a stable code, one sentence that says what happened, and the remedy. The command line prints
exactly these three; nothing below it prints.
"""

from __future__ import annotations


class EmbeddedFleetError(Exception):
    """A step of `roadstead up` or `down` could not be done; never used for faults inside a running process."""

    def __init__(self, code: str, sentence: str, *, remedy: str, log_tail: str = "") -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        """A stable CamelCase word, for scripts and for searching the documentation."""
        self.sentence = sentence
        """What happened, with the names and numbers that matter."""
        self.remedy = remedy
        """What to do next."""
        self.log_tail = log_tail
        """The last lines of the log of the process that failed, or nothing."""
