"""Links lead somewhere, the navigation has every page, and what names a page names one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.docs.pages import DOCS, REPOSITORY, hand_written, tool

NAV = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
MENTION = re.compile(r"\bdocs/[\w/-]+\.md\b")
SOURCES = ("src", "tests", "benchmarks", "examples", "experiments", "tools")


def leaves(entry: object) -> list[str]:
    """Pages of a part of the navigation, in order."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    assert not isinstance(parts, object.__class__)
    return [page for part in parts for page in leaves(part)]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def site(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the pages with those that are generated."""
    root = tmp_path_factory.mktemp("site")
    for page in (*hand_written(), REPOSITORY / "CHANGELOG.md", *DOCS.glob("images/*")):
        copy = root / page.relative_to(REPOSITORY)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(page.read_bytes())
    for name in ("LICENSE", "CITATION.cff"):
        (root / name).touch()
    shutil.copytree(reference, root / "docs" / "reference")
    return root


def test_internal_links_and_anchors_lead_somewhere(site: Path) -> None:
    links = tool("links")
    assert list(links.broken(links.pages(site))) == []


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text("# One\n[a](two.md#b-c) [d](two.md#no) [e](no.md) [f](#one)")
    (tmp_path / "two.md").write_text("# Two\n\n```text\n# no\n[x](no.md)\n```\n\n## `B` *c*\n")
    broken = list(tool("links").broken([tmp_path / "one.md", tmp_path / "two.md"]))
    assert broken == ["one.md: two.md#no", "one.md: no.md"]


def test_external_links_are_listed_and_go_by_https() -> None:
    links = tool("links")
    found = links.external(links.pages())
    assert all(re.match(r"https://[\w.-]+/?", url) for url in found)
    listed = subprocess.run(
        [sys.executable, "tools/links.py"], cwd=REPOSITORY, capture_output=True, check=True
    )
    assert len(listed.stdout.splitlines()) == len(found) > 10


def test_the_navigation_has_every_page_once(site: Path) -> None:
    named = leaves(NAV)
    pages = {page.relative_to(site / "docs").as_posix() for page in (site / "docs").rglob("*.md")}
    assert len(named) == len(set(named))
    assert set(named) == pages


def test_the_readme_has_every_page_that_is_not_generated() -> None:
    linked = {target.partition("#")[0] for target in tool("links").links(REPOSITORY / "README.md")}
    pages = {page.relative_to(REPOSITORY).as_posix() for page in hand_written()}
    assert pages - linked == {"README.md", "docs/index.md"}


@pytest.mark.parametrize("folder", SOURCES)
def test_pages_that_the_code_names_are_there(folder: str) -> None:
    missing = [
        f"{path.relative_to(REPOSITORY)}: {named}"
        for path in sorted((REPOSITORY / folder).rglob("*"))
        if path.suffix in (".py", ".yaml", ".md") and path.name != Path(__file__).name
        for named in MENTION.findall(path.read_text(encoding="utf-8"))
        if not (REPOSITORY / named).exists()
    ]
    assert missing == []
