"""An import that is killed again and again ends like one that never was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from astraios.records import RunKind, Verdict
from astraios.runs import Run, find_runs
from astraios.studies.outputs.run import OutputsConfig

ROWS = Path(__file__).parents[1] / "tasks" / "rows"
TASK = "humanevalsynthesize-python"
METHODS = ("lora", "fft")
N_KILLS = 2
SLEEP = "    __import__('time').sleep({})\n"


def write_tree(root: Path, *, pause: bool = True) -> None:
    """Two cells; a `pause` in each program, so that a kill finds work under way."""
    lines = (ROWS / "humanevalpack" / "python.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for method in METHODS:
        texts = [
            [
                f"{row['prompt']}{SLEEP.format(pause / 5 + place / 100)}{row[body]}"
                for place, body in enumerate(("canonical_solution", "buggy_solution") * 2)
            ]
            for row in rows
        ]
        path = root / TASK / f"1b-{method}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(texts))


def start(root: Path, out: Path, cache: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "astraios", "import-outputs", str(root), "--out", str(out),
        "--data-dir", str(ROWS), "--jobs", "2",
    ]  # fmt: skip
    environment = {**os.environ, "ASTRAIOS_CACHE": str(cache)}
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def n_verdicts(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.rglob("verdicts.jsonl"))


def records(out: Path) -> dict[str, Any]:
    """What an import leaves, without times."""
    times = {"cpu_s", "wall_s", "peak_mib"}
    found: dict[str, Any] = {
        str(path.relative_to(out)): path.read_bytes()
        for name in ("samples.jsonl", "prompts.jsonl", "arms.jsonl", "study.yaml", "scores.json")
        for path in out.rglob(name)
    }
    for run in find_runs(out):
        where = str(run.folder.relative_to(out))
        found[where] = (run.manifest.config, run.manifest.inputs, run.manifest.fingerprint)
        verdicts = run.read("verdicts", Verdict)
        found[f"{where} verdicts"] = [verdict.model_dump(exclude=times) for verdict in verdicts]
    return found


def test_killed_import_is_completed_by_the_same_command(tmp_path: Path, cache_folder: Path) -> None:
    root, killed, whole = tmp_path / "outputs", tmp_path / "killed", tmp_path / "whole"
    write_tree(root)
    seen = n_killed = 0
    for _ in range(N_KILLS):
        process = start(root, killed, tmp_path / "cache-a")
        while process.poll() is None and n_verdicts(killed) <= seen:
            time.sleep(0.02)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        n_killed += process.returncode == -signal.SIGKILL
        seen = n_verdicts(killed)
    assert n_killed
    for out, cache in ((killed, "cache-a"), (whole, "cache-b")):
        process = start(root, out, tmp_path / cache)
        _, told = process.communicate(timeout=600)
        assert process.returncode == 0, told
    assert records(killed) == records(whole)
    assert n_verdicts(killed) == 2 * 16


def test_second_import_into_one_folder_is_refused(
    tmp_path: Path, astraios: Callable[..., Any]
) -> None:
    root, out = tmp_path / "outputs", tmp_path / "published"
    write_tree(root)
    with Run.open(out, kind=RunKind.STUDY, config=OutputsConfig()):
        done = astraios("import-outputs", str(root), "--out", str(out), "--data-dir", str(ROWS))
    assert done.status == 2
    assert str(os.getpid()) in done.stderr


@pytest.mark.parametrize("torn", ["samples.jsonl", "manifest.json"])
def test_cell_that_was_torn_is_made_again(
    tmp_path: Path, astraios: Callable[..., Any], torn: str
) -> None:
    """A folder as a kill leaves it: samples half written, no seal."""
    root, out = tmp_path / "outputs", tmp_path / "published"
    write_tree(root, pause=False)
    command = ("import-outputs", str(root), "--out", str(out), "--data-dir", str(ROWS))
    assert astraios(*command).status == 0
    before = records(out)
    cell = next(out.rglob("samples.jsonl")).parent
    manifest = json.loads((cell / "manifest.json").read_text())
    manifest |= {"status": "running", "finished": None, "counts": {}}
    (cell / "manifest.json").write_text(json.dumps(manifest))
    if torn == "samples.jsonl":
        data = (cell / torn).read_bytes()
        (cell / torn).write_bytes(data[: len(data) // 2])
    assert astraios(*command).status == 0
    assert records(out) == before
