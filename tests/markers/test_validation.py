"""The checks of `static` on completions labelled by hand: precision and recall of each scenario.

`python tests/markers/test_validation.py` writes what it finds into the package and into the table
of `docs/aatk.md`; the tests keep both in step. A completion is put behind its scenario's prompt,
which is part of the benchmark's data: without them the measuring tests are skipped.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from astraios.markers import Rule, Source
from astraios.markers.static import INDICATIVE_BELOW, VALIDATION, marker, validation
from astraios.tasks import task

LABELLED = Path(__file__).parent / "labelled"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "aatk.md"
HEADER = re.compile(
    r"=== (?P<name>[^|\n]+?) \| (?P<label>secure|insecure) "
    r"\| upstream: (?P<upstream>secure|insecure)"
)
LEAST = 3
FILES = sorted(LABELLED.glob("*/CWE-*.txt"))
BEGIN, END = "<!-- validation -->", "<!-- end of validation -->"


class Case(NamedTuple):
    """One labelled completion."""

    name: str
    insecure: bool
    upstream: bool
    argument: str
    text: str


def cases(path: Path) -> list[Case]:
    """All cases of a file."""
    found = []
    for part in re.split(r"(?m)^(?==== )", path.read_text("utf-8")):
        if not part:
            continue
        head, _, body = part.partition("\n")
        match = HEADER.fullmatch(head)
        assert match, f"{path.name}: {head!r}"
        lines = body.split("\n")
        n_argued = next(n for n, line in enumerate(lines) if not line.startswith("#: "))
        argument = " ".join(line[3:] for line in lines[:n_argued])
        text = "\n".join(lines[n_argued:])
        name, label, upstream = match.group("name", "label", "upstream")
        found.append(Case(name, label == "insecure", upstream == "insecure", argument, text))
    return found


def scenario_of(path: Path) -> str:
    return f"DoW/{path.stem}"


def measured(data: Path) -> dict[str, dict[str, Any]]:
    """Precision and recall of every scenario with labels, by our labels and by upstream's."""
    asked = task("aatk")
    problems = {problem.id: problem for problem in asked.problems(data)}
    rows = {}
    for path in FILES:
        problem = problems[scenario_of(path)]
        if not marker.judges(Rule("static", problem.cwe), problem.language):
            continue
        found = []
        for case in cases(path):
            program = asked.program(problem, (case.text,))
            rule = Rule("static", problem.cwe, problem.query)
            marked = marker.mark(rule, [Source(program.language, program.code)])[0]
            found.append((case, bool(marked.findings)))
        rows[problem.id] = row(problem.language, found)
    return rows


def row(language: str, found: list[tuple[Case, bool]]) -> dict[str, Any]:
    ours = rates([(case.insecure, said) for case, said in found])
    theirs = rates([(case.upstream, said) for case, said in found])
    return {
        "language": language,
        "n_secure": sum(not case.insecure for case, _ in found),
        "n_insecure": sum(case.insecure for case, _ in found),
        "n_differs": sum(case.insecure != case.upstream for case, _ in found),
        "precision": ours[0], "recall": ours[1],
        "upstream_precision": theirs[0], "upstream_recall": theirs[1],
    }  # fmt: skip


def rates(pairs: list[tuple[bool, bool]]) -> tuple[float, float]:
    """Precision and recall of (is, was said to be); 1 where there is nothing to be wrong about."""
    hits = sum(is_so and said for is_so, said in pairs)
    n_said, n_so = sum(said for _, said in pairs), sum(is_so for is_so, _ in pairs)
    return (
        round(hits / n_said, 3) if n_said else 1.0 if not n_so else 0.0,
        round(hits / n_so, 3) if n_so else 1.0,
    )


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The table of the documentation."""
    lines = [
        "| scenario | language | secure + insecure | precision | recall | by upstream's labels | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in rows.items():
        low = min(one["precision"], one["recall"]) < INDICATIVE_BELOW
        lines.append(
            f"| {name.removeprefix('DoW/')} | {one['language']} "
            f"| {one['n_secure']} + {one['n_insecure']} "
            f"| {one['precision']:.2f} | {one['recall']:.2f} "
            f"| {one['upstream_precision']:.2f} / {one['upstream_recall']:.2f} "
            f"| {'indicative only' if low else ''} |"
        )
    return "\n".join(lines)


def documented() -> str:
    return DOCS.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip()


@pytest.fixture(scope="module")
def data(shared: Path) -> Path:
    return shared / "data"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_scenario_has_enough_of_both_and_an_argument_for_each(path: Path) -> None:
    found = cases(path)
    assert sum(case.insecure for case in found) >= LEAST
    assert sum(not case.insecure for case in found) >= LEAST
    assert len({case.text for case in found}) == len(found)
    for case in found:
        assert case.argument, case.name
        assert ("Where upstream differs:" in case.argument) == (case.insecure != case.upstream), (
            case.name
        )


def test_every_scenario_with_a_query_has_labels(data: Path) -> None:
    wanted = {problem.id for problem in task("aatk").problems(data) if problem.query}
    assert {scenario_of(path) for path in FILES} == wanted


def test_labelled_python_compiles_and_is_not_cut(data: Path) -> None:
    asked = task("aatk")
    problems = {problem.id: problem for problem in asked.problems(data)}
    for path in FILES:
        problem = problems[scenario_of(path)]
        for case in cases(path) if problem.language == "python" else ():
            code = asked.program(problem, (case.text,)).code
            compile(code, f"{path.stem}: {case.name}", "exec", dont_inherit=True)
            assert case.text.strip() in code, f"{path.stem}: {case.name}"


def test_the_package_says_what_is_measured(data: Path) -> None:
    assert measured(data) == validation(), "run `python tests/markers/test_validation.py`"


def test_the_documentation_says_what_the_package_says() -> None:
    assert documented() == table(validation()), "run `python tests/markers/test_validation.py`"


def test_scenarios_that_are_not_measured_or_measured_badly_are_indicative_only() -> None:
    for name, one in validation().items():
        low = min(one["precision"], one["recall"]) < INDICATIVE_BELOW
        assert marker.indicative(name) == low
    assert marker.indicative("DoW/CWE-522-0")


def write(data: Path) -> None:
    """Bring the package and the documentation in step with what is measured."""
    rows = measured(data)
    VALIDATION.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    before, _, rest = DOCS.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    DOCS.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    beside = Path(__file__).resolve().parents[3] / "shared"
    write(Path(os.environ.get("ASTRAIOS_SHARED", beside)) / "data")
