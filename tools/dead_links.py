"""Finds links in our Markdown that lead nowhere: to a file that is not there or a heading that no page has.

Looks at files of this checkout only. Addresses on the web are not asked: a check that needs a network fails for reasons
that no change of ours can mend.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)(?:\s+\"[^\"]*\")?\)")
CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(?P<title>.+?)\s*$", re.MULTILINE)
FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.DOTALL | re.MULTILINE)


def pages() -> Iterator[Path]:
    """Every Markdown page that a reader may come to."""
    yield from sorted(ROOT.glob("*.md"))
    for folder in ("docs", "charts", "changelog.d"):
        yield from sorted((ROOT / folder).rglob("*.md"))


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them: lower case, words joined by hyphens, other signs dropped."""
    titles = (match["title"] for match in HEADING.finditer(FENCE.sub("", page.read_text())))
    plain = (re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in titles)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}


def dead_links(page: Path) -> Iterator[str]:
    """One sentence for each link of a page that leads nowhere."""
    text = CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), page.read_text())
    for match in LINK.finditer(text):
        target = match["target"]
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        where = f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}"
        path, _, anchor = unquote(target).partition("#")
        goal = (page.parent / path).resolve() if path else page
        if not goal.exists():
            yield f"{where}: {target} is not there"
        elif anchor and goal.suffix == ".md" and anchor not in anchors(goal):
            yield f"{where}: {goal.relative_to(ROOT)} has no heading #{anchor}"


def main() -> int:
    """Print every dead link; the exit status is 1 if there is any."""
    found = [sentence for page in pages() for sentence in dead_links(page)]
    for sentence in found:
        print(sentence)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
