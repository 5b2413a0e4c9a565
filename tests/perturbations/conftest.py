"""HumanEval and minipack as perturbations see them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from astraios.minipack.problems import benchmark
from astraios.perturbations import Told


def rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def nominal(shared: Path) -> Mapping[str, dict[str, Any]]:
    """HumanEval as ReCode has it, by id."""
    return {row["task_id"]: row for row in rows(shared / "data/recode/nominal.jsonl.gz")}


@pytest.fixture(scope="session")
def humaneval(nominal: Mapping[str, dict[str, Any]]) -> Mapping[str, Told]:
    """All 164 problems."""
    return {
        name: Told(
            id=name,
            entry_point=row["entry_point"],
            prompt=row["prompt"],
            rest=row["canonical_solution"],
            test=f"{row['test']}\ncheck({row['entry_point']})\n",
        )
        for name, row in nominal.items()
    }


@pytest.fixture(scope="session")
def minipack() -> tuple[Told, ...]:
    """All test problems, with documentation and instruction."""
    return tuple(
        Told(
            id=problem.task_id,
            entry_point=problem.entry_point,
            prompt=problem.prompt,
            rest=problem.canonical_solution,
            test=problem.test,
            text=problem.instruction,
        )
        for problem in benchmark()
    )
