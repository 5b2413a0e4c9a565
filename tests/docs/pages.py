"""What the tests of the documentation read: pages, their blocks of code, the tools beside them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
BLOCK = re.compile(
    r"(?:^<!-- needs: (?P<needs>.+) -->\n)?"
    r"^(?P<fence>`{3,})(?P<language>\w*)[ \t]*\n(?P<text>.*?)^(?P=fence)[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
PAGE_NEEDS = re.compile(r"^<!-- all blocks need: (.+) -->$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block of code."""

    page: str
    """Path below the repository."""
    line: int
    language: str
    text: str
    needs: str
    """What it takes to run it that a test has not; empty if nothing."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def tool(name: str) -> ModuleType:
    """`tools/<name>.py`, loaded by path."""
    full = f"astraios_tools_{name}"
    spec = spec_from_file_location(full, REPOSITORY / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[full] = module
    spec.loader.exec_module(module)
    return module


@cache
def hand_written() -> tuple[Path, ...]:
    """Pages of the site that are not generated, and the two texts beside it that have commands."""
    inside = (page for page in DOCS.rglob("*.md") if page.parent.name != "reference")
    return (*sorted(inside), REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md")


def _of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    whole = PAGE_NEEDS.search(text)
    for match in BLOCK.finditer(text):
        yield Block(
            page=page.relative_to(REPOSITORY).as_posix(),
            line=text.count("\n", 0, match.start("fence")) + 1,
            language=match["language"],
            text=match["text"],
            needs=match["needs"] or (whole[1] if whole else ""),
        )


@cache
def blocks(*languages: str) -> tuple[Block, ...]:
    """All blocks of these languages; of all without any."""
    found = (block for page in hand_written() for block in _of(page))
    return tuple(block for block in found if not languages or block.language in languages)
