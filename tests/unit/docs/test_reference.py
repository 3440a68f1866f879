"""The reference says everything the code can say, and nothing it cannot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from roadstead.domain.reasons import Reason

REASONS = Path(__file__).resolve().parents[3] / "docs" / "reference" / "reasons.md"
ENTRIES = {
    match["code"]: match["text"]
    for match in re.finditer(
        r"^### (?P<code>\w+)\n(?P<text>.*?)(?=^##|\Z)", REASONS.read_text(), flags=re.DOTALL | re.MULTILINE
    )
}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_code_has_an_entry_with_cause_and_remedy(reason: Reason) -> None:
    assert reason.value in ENTRIES, f"add a section '### {reason.value}' with Cause and Remedy to {REASONS.name}"

    assert re.search(r"^Cause: \S", ENTRIES[reason.value], flags=re.MULTILINE)
    assert re.search(r"^Remedy: \S", ENTRIES[reason.value], flags=re.MULTILINE)


def test_the_reference_has_no_entry_for_a_code_that_does_not_exist() -> None:
    assert set(ENTRIES) == {reason.value for reason in Reason}
