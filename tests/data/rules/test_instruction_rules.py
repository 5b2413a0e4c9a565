"""Instructions: the shapes of their rows, their rules, the records made of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from astraios.data.rules import PRESETS, sift
from astraios.data.rules.instructions import Instruction, instruction_rules, joined
from astraios.errors import DataError, UnknownNameError
from astraios.records import InstructionRecord


@pytest.mark.parametrize(
    ("row", "prompt", "completion"),
    [
        ({"prompt": "a", "completion": "b"}, "a", "b"),
        ({"instruction": "a", "response": "b"}, "a", "b"),
        ({"instruction": "a", "output": "b"}, "a", "b"),
        ({"instruction": "a", "input": "", "output": "b"}, "a", "b"),
        ({"instruction": "a", "input": None, "output": "b"}, "a", "b"),
        ({"instruction": "a", "input": "x", "output": "b"}, "a\nx", "b"),
        ({"instruction": "a", "input": "x", "response": "b"}, "a\nx", "b"),
        ({"prompt": "a", "completion": "b", "input": "x"}, "a", "b"),
    ],
)
def test_shapes_of_rows(row: dict[str, Any], prompt: str, completion: str) -> None:
    found = Instruction.of(row, "here")
    assert (found.prompt, found.completion) == (prompt, completion)


def test_id_language_and_source_are_read_where_they_are() -> None:
    row = {"prompt": "a", "completion": "b", "id": "7", "language": "go", "source": "mine"}
    assert Instruction.of(row, "here") == Instruction("7", "a", "b", "go", "mine")


def test_id_without_a_column_is_made_of_both_sides() -> None:
    first = Instruction.of({"prompt": "a", "completion": "b"}, "here:1")
    again = Instruction.of({"completion": "b", "prompt": "a", "id": None}, "here:2")
    other = Instruction.of({"prompt": "", "completion": "ab"}, "here:3")
    assert first.id == again.id != other.id


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "a", "text": "b"}, "columns there: 'prompt', 'text'"),
        ({"prompt": 3, "completion": "b"}, "column 'prompt' is int"),
        ({"prompt": "a", "completion": None}, "column 'completion' is NoneType"),
        ({"instruction": "a", "input": 3, "output": "b"}, "column 'input' is int"),
        ({"prompt": "a", "completion": "b", "id": []}, "column 'id' is list"),
    ],
)
def test_row_of_another_shape_is_refused_with_its_place(row: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=f"^part.jsonl:3: .*{told}"):
        Instruction.of(row, "part.jsonl:3")


CASES = [
    ("I1-prompt-not-empty", ("a", "b"), True),
    ("I1-prompt-not-empty", ("", "b"), False),
    ("I1-prompt-not-empty", (" \n", "b"), False),
    ("I2-completion-not-empty", ("a", "b"), True),
    ("I2-completion-not-empty", ("a", ""), False),
    ("I2-completion-not-empty", ("a", "\t\n"), False),
    ("I3-no-echo", ("a", "A"), True),
    ("I3-no-echo", ("a", "a\n"), False),
]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("name", "sides", "kept"), CASES)
def test_rule_keeps_or_drops_its_cases(
    preset: str, name: str, sides: tuple[str, str], kept: bool
) -> None:
    row = Instruction("1", *sides)
    expected = (row, "") if kept else (None, name)
    assert sift(row, instruction_rules(preset)) == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_table_has_a_kept_and_a_dropped_case_of_every_rule(preset: str) -> None:
    names = {rule.name for rule in instruction_rules(preset)}
    assert {name for name, _, kept in CASES if kept} == names
    assert {name for name, _, kept in CASES if not kept} == names


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown preset"):
        instruction_rules("")


def test_prompt_asks_for_completion() -> None:
    assert joined(Instruction("7", "a", "b", "go", "mine")) == InstructionRecord(
        id="7", instruction="a", response="b", source="mine", language="go"
    )


def test_records_of_the_reference_data_are_all_kept(shared: Path) -> None:
    with gzip.open(shared / "data/instructions/train.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [Instruction.of(json.loads(line), f"train:{i}") for i, line in enumerate(lines)]
    dropped = {sift(row, instruction_rules())[1] for row in rows}
    assert (len(rows), dropped) == (724, {""})
