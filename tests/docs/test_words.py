"""The glossary has one meaning a word; the diagram has every package; pages keep to the words."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from tests.docs.pages import DOCS, REPOSITORY, hand_written

from astraios import records
from astraios.records import Outcome
from astraios.studies import plan, study
from astraios.tasks import Problem

GLOSSARY = (DOCS / "glossary.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\*\*.+?) \| (.+) \|$", GLOSSARY, re.MULTILINE)
ASKED = {
    "arm", "cell", "job", "run", "study", "seed", "problem", "sample", "completion", "verdict",
    "outcome", "fault", "unit", "edition", "base", "probe", "slice",
}  # fmt: skip
"""Words of help, messages and reports that a reader cannot guess."""


def words() -> list[str]:
    return [word for heads, _ in ROWS for word in re.findall(r"\*\*(.+?)\*\*", heads)]


def test_a_word_has_one_meaning() -> None:
    found = words()
    assert sorted(set(found)) == sorted(found)
    assert set(found) >= ASKED
    assert all(meaning.strip() for _, meaning in ROWS)


def test_outcomes_and_types_of_the_glossary_are_those_of_the_code() -> None:
    (outcome,) = (meaning for heads, meaning in ROWS if heads == "**outcome**")
    assert re.findall(r"`(\w+)`", outcome) == [str(one) for one in Outcome]
    known = {*vars(records), *vars(study), *vars(plan), Problem.__name__}
    named = set(re.findall(r"`([A-Z]\w+)`", GLOSSARY))
    assert len(named) > 10
    assert named <= known


def test_the_diagram_has_every_package_and_shared_module() -> None:
    image = ET.parse(DOCS / "images" / "architecture.svg")
    drawn = {word for node in image.iter() for word in re.findall(r"\w+", node.text or "")}
    source = REPOSITORY / "src" / "astraios"
    units = {path.parent.name for path in source.glob("*/__init__.py")}
    units |= {path.stem for path in source.glob("*.py") if not path.stem.startswith("__")}
    assert units - drawn == set()


def test_no_page_names_a_folder_of_one_machine() -> None:
    named = re.compile(r"/(root|home|work|tmp)/\w")
    assert [page.name for page in hand_written() if named.search(page.read_text())] == []
