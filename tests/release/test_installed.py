"""The wheel in an environment of its own: the half without torch works, the other one begins."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import venv
import zipfile
from pathlib import Path

import pytest

from .conftest import REPOSITORY

pytestmark = pytest.mark.slow

LOCK = REPOSITORY / "constraints.txt"
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if name not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
}
PATIENCE_S = 300


class Environment:
    """A virtual environment."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.python = folder / "bin" / "python"

    def run(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.python), "-m", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
            env=CLEAN,
            timeout=1200,
        )

    def install(self, *what: str) -> None:
        """With the known-good versions; skips where pip finds no packages."""
        done = self.run("pip", "install", "--quiet", "-c", str(LOCK), *what)
        if done.returncode and re.search(
            r"No matching distribution|Connection|Temporary failure|timed out", done.stderr
        ):
            pytest.skip(f"pip reaches no packages: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel and what its core needs."""
    made = Environment(tmp_path_factory.mktemp("core") / "venv")
    made.install(str(wheel))
    return made


def told(environment: Environment, *words: str, cwd: Path) -> str:
    done = environment.run("astraios", *words, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_core_brings_no_torch(core: Environment) -> None:
    done = core.run("pip", "list", "--format", "json")
    names = {one["name"].lower() for one in json.loads(done.stdout)}
    assert "astraios" in names
    assert not names & {"torch", "transformers", "peft", "pytest"}


def test_the_core_lists_and_looks_at_the_machine(core: Environment, tmp_path: Path) -> None:
    listed = json.loads(told(core, "list", "--json", cwd=tmp_path))
    assert {one["name"] for one in listed["methods"]} >= {"lora", "adapterh"}
    assert "sandbox" in told(core, "doctor", cwd=tmp_path).lower()


def test_the_core_grades(core: Environment, tmp_path: Path) -> None:
    program = """
import json, sys
from astraios import tasks
task = tasks.task("minipack-synthesize")
problems = task.problems(None)
texts = [[task.references(one)[n % 2].code] for n, one in enumerate(problems)]
json.dump(texts, open(sys.argv[1], "w"))
"""
    path = tmp_path / "generations.json"
    subprocess.run([core.python, "-c", program, path], check=True, env=CLEAN)
    words = ["grade", str(path), "--task", "minipack-synthesize", "--json"]
    found = json.loads(told(core, *words, "--out", str(tmp_path / "run"), cwd=tmp_path))
    assert found["outcomes"] == {"passed": 120, "failed": 120}


def test_the_core_reports(core: Environment, tmp_path: Path) -> None:
    zipfile.ZipFile(REPOSITORY / "examples" / "miniature.zip").extractall(tmp_path / "miniature")
    told(core, "report", "miniature", cwd=tmp_path)
    page = (tmp_path / "miniature" / "report" / "index.html").read_text(encoding="utf-8")
    assert "minipack-0.2m" in page
    assert page.count("<svg") > 2


def test_the_core_says_what_training_needs(core: Environment, tmp_path: Path) -> None:
    done = core.run("astraios", "demo", "--out", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install 'astraios[train]'" in done.stderr


def test_with_its_extra_the_demo_begins(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    made = Environment(tmp_path_factory.mktemp("train") / "venv")
    # First and alone, by exact version: pip then takes the build that fits this machine.
    made.install(re.search(r"^torch==\S+", LOCK.read_text(), re.M)[0])  # type: ignore[index]
    made.install(f"{wheel}[train]")
    log = tmp_path / "log"
    with log.open("wb") as out:
        running = subprocess.Popen(
            [made.python, "-m", "astraios", "demo", "--out", tmp_path / "runs"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=CLEAN,
            cwd=tmp_path,
        )
        begun = time.monotonic()
        steps: list[Path] = []
        while not steps and running.poll() is None and time.monotonic() - begun < PATIENCE_S:
            time.sleep(1)
            steps = [p for p in (tmp_path / "runs").rglob("metrics.jsonl") if p.stat().st_size]
        running.terminate()
        running.wait(timeout=120)
    assert steps, log.read_text()
    assert json.loads(steps[0].read_text().splitlines()[0])["loss"] > 0
