"""The notebook runs on the study that lies beside it and says what is stored in it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import yaml
from tests.docs.pages import REPOSITORY, tool

EXAMPLES = REPOSITORY / "examples"
NOTEBOOK = EXAMPLES / "analysis.ipynb"


def test_every_cell_runs_and_says_what_is_stored() -> None:
    runner = tool("notebook")
    notebook, found = runner.run(NOTEBOOK)
    stored = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert runner.texts(found) == runner.texts(stored), (
        "see what has changed, then: python tools/notebook.py examples/analysis.ipynb --write"
    )
    drawn = [output for cell in found for output in cell["outputs"] if "data" in output]
    assert any("image/svg+xml" in output["data"] for output in drawn)


def test_a_cell_that_fails_is_named(tmp_path: Path) -> None:
    cells = [{"cell_type": "code", "source": [line]} for line in ("x = 1", "x / 0")]
    path = tmp_path / "broken.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    with pytest.raises(ZeroDivisionError) as failed:
        tool("notebook").run(path)
    assert failed.value.__notes__ == [f"in code cell 2 of {path}"]


def test_the_stored_study_is_the_one_that_its_file_asks_for() -> None:
    with zipfile.ZipFile(EXAMPLES / "miniature.zip") as archive:
        names = archive.namelist()
        stored = yaml.safe_load(archive.read("study.yaml"))
        manifests = [archive.read(name) for name in names if name.endswith("manifest.json")]
    asked = yaml.safe_load((EXAMPLES / "miniature.yaml").read_text())
    assert {key: stored[key] for key in ("name", "base_models", "methods", "tasks", "seeds")} == {
        key: asked[key] for key in ("name", "base_models", "methods", "tasks", "seeds")
    }
    n_arms = 1 + len(asked["methods"])
    assert sum(name.endswith("verdicts.jsonl") for name in names) == n_arms * len(asked["tasks"])
    assert all(json.loads(text)["status"] == "done" for text in manifests)
    assert (EXAMPLES / "miniature.zip").stat().st_size < 100_000
