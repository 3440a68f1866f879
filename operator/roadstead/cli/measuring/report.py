"""What `roadstead measure-quality` says that it found."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table
from rich.text import Text

from roadstead.cli.measuring.measure import Outcome
from roadstead.domain.quality import to_object


def print_outcome(outcome: Outcome, console: Console | None = None) -> None:
    """A row for each variant, the base first."""
    table = Table(box=None, pad_edge=False)
    for heading in ("VARIANT", "QUALITY", "DIVERGENCE", "SAME TOP TOKEN", "PERPLEXITY"):
        table.add_column(heading)
    base = outcome.base
    table.add_row(Text(base.variant), f"{base.quality:g}", "the base", "", f"{outcome.base_perplexity:.3f}")
    for rung, record in outcome.measured:
        table.add_row(
            Text(rung.variant),
            f"{record.quality:.4f}",
            f"{record.divergence:.4f}",
            f"{100 * record.same_top:.1f} %",
            f"{record.perplexity:.3f}",
        )
    (console or Console()).print(table)


def as_json(outcome: Outcome) -> str:
    """Records as they are stored, with the names of their variants."""
    base = outcome.base
    told = {
        "base": {
            "variant": base.variant,
            "artifact": base.digest,
            "quality": base.quality,
            "perplexity": outcome.base_perplexity,
        },
        "measured": [
            {"variant": rung.variant, "artifact": record.artifact} | to_object(record)
            for rung, record in outcome.measured
        ],
    }
    return json.dumps(told, indent=2)
