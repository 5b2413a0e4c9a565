"""The project in `examples/plugin`, installed is listed, tested and planned."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("hatchling", reason="needs hatchling: make setup")

from astraios.cli import app
from astraios.testing import check_method
from astraios.testing.methods import CONTRACT

pytestmark = pytest.mark.train

PROJECT = Path(__file__).resolve().parents[2] / "examples" / "plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the import path in which the project is installed; nothing is downloaded."""
    source = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(PROJECT, source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    folder = tmp_path_factory.mktemp("site")
    words = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = run(folder, *words, "--target", str(folder), str(source))
    assert done.returncode == 0, done.stderr
    return folder


def run(site: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        cwd=cwd or site,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project is on the import path of this process too."""
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "outlora", raising=False)


def test_the_list_shows_it(site: Path) -> None:
    done = run(site, "astraios", "list", "methods", "--json")
    assert done.returncode == 0, done.stderr
    assert "outlora" in {one["name"] for one in json.loads(done.stdout)["methods"]}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_it_keeps_the_whole_contract(installed: None) -> None:
    assert len(check_method("outlora").held) == len(CONTRACT)


@pytest.mark.slow
def test_its_one_line_and_the_kit_say_so_too(site: Path) -> None:
    kit = ["--pyargs", "astraios.testing", "--method", "outlora"]
    done = run(site, "pytest", "-q", "-p", "no:cacheprovider", "test_outlora.py", *kit, cwd=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{1 + len(CONTRACT)} passed" in done.stdout


def test_a_plan_names_it(installed: None, tmp_path: Path) -> None:
    words = ["study", "plan", "embedded-quick", "base_models=[minipack-0.2m]"]
    words += ["methods=[lora, outlora]", "overrides=[]", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (done.output, done.exception)
    assert '"method": "outlora"' in done.stdout
