"""Links of the documentation: which lead nowhere inside, and which lead outside.

    python tools/links.py        lists every external link with the pages that have it

Nothing is fetched. The anchors of a page are those of its headings, as Python-Markdown's toc
extension, and so the site, makes them.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^(`{3,})(\w*)[ \t]*\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+(?:\([^()\s]*\)[^()\s]*)*)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


def pages(repository: Path = REPOSITORY) -> list[Path]:
    """All pages of the site and the texts beside it."""
    beside = [repository / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*sorted((repository / "docs").rglob("*.md")), *beside]


def prose(page: Path) -> str:
    """The text of a page without blocks of code and code in lines."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "`code`", text)


def links(page: Path) -> list[str]:
    """Targets of a page's links, in order."""
    return LINK.findall(prose(page))


def slug(heading: str) -> str:
    """The anchor of a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    plain = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def anchors(page: Path) -> set[str]:
    """All anchors of a page; of equal headings the second gets `_1`."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in HEADING.findall(text):
        plain = name = slug(heading)
        n = 0
        while name in found:
            n += 1
            name = f"{plain}_{n}"
        found.add(name)
    return found


def broken(pages: Iterable[Path]) -> Iterator[str]:
    """Every internal link that leads to no file or no heading: `page: target`."""
    for page in pages:
        for target in links(page):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            goal = (page.parent / path).resolve() if path else page
            if not goal.exists() or (anchor and anchor not in anchors(goal)):
                yield f"{page.name}: {target}"


def external(pages: Iterable[Path]) -> dict[str, list[str]]:
    """Link that leads outside -> the pages that have it."""
    found: dict[str, list[str]] = defaultdict(list)
    for page in pages:
        for target in links(page):
            if re.match(r"[a-z]+:", target) and page.name not in found[target]:
                found[target].append(page.name)
    return dict(sorted(found.items()))


if __name__ == "__main__":
    for url, places in external(pages()).items():
        sys.stdout.write(f"{url}  {', '.join(places)}\n")
