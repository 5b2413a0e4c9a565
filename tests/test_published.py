"""The paper's models by short name."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from astraios import methods, registry
from astraios.cli import app
from astraios.errors import UnknownNameError
from astraios.published import MODELS, SIZES, find, published


def test_there_are_four_sizes_of_seven_methods_each_known_here():
    assert len(MODELS) == 28
    assert {(m.size, m.method) for m in MODELS.values()} == {
        (size.name, method)
        for size in SIZES
        for method in ("fft", "lora", "ptuning", "ia3", "adapterh", "adapterp", "parallel")
    }
    assert {m.method for m in MODELS.values()} <= set(registry.names(methods))
    assert len({m.hub_id for m in MODELS.values()}) == 28


def test_the_sizes_are_those_of_the_paper(shared):
    text = (shared / "reference" / "paper_facts.md").read_text()
    rows = re.findall(r"^\| (\d+b).*\| ([\d,]+) \|$", text, re.MULTILINE)
    told = {name.replace("15b", "16b"): int(n.replace(",", "")) for name, n in rows}
    assert {size.name: size.n_parameters for size in SIZES} == told


def test_the_readme_of_the_original_names_them_so(shared):
    text = (shared / "reference" / "original_readme.md").read_text()
    named = re.findall(r"--model (\S+) +\\\n--peft_model (\S+)", text)
    assert set(named) == {(published("astraios-1b-lora").base_model, find(named[0][1]).hub_id)}
    assert f"--model {published('astraios-1b-fft').hub_id} " in text


@pytest.mark.parametrize("name", ["astraios-16b-lora", "bigcode/astraios-lora"])
def test_a_model_is_found_by_short_name_and_by_hub_id(name):
    found = find(name)
    assert (found.base_model, found.size) == ("bigcode/starcoderbase", "16b")
    assert found.is_adapter


def test_the_fully_tuned_one_is_no_adapter():
    assert not published("astraios-16b-fft").is_adapter


def test_other_names_are_not_theirs():
    assert find("bigcode/starcoderbase-1b") is None


@pytest.mark.parametrize("name", ["astraios-1b-lroa", "astraios-15b-fft"])
def test_a_name_written_like_theirs_is_answered_with_the_nearest(name):
    with pytest.raises(UnknownNameError, match="Did you mean 'astraios-1"):
        find(name)


def test_they_are_listed():
    done = CliRunner().invoke(app, ["list", "models", "--json"])
    rows = {row["name"]: row for row in json.loads(done.stdout)["models"]}
    assert len(rows) == 28
    assert rows["astraios-7b-ia3"] == {
        "name": "astraios-7b-ia3",
        "base": "bigcode/starcoderbase-7b",
        "hub id": "bigcode/astraios-7b-ia3",
        "method": "ia3",
        "size": "7b",
    }
