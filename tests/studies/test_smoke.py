"""The whole path on a tiny model: run, interrupt, continue, report."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

from tests.studies.tiny import command, pretrained, run

from astraios.files import read_records
from astraios.records import Outcome, Sample, Score, Step, Verdict
from astraios.runs import Run, find_runs

ONE = ("--jobs", "1")

STUDY = """
name: tiny
base_models: [base/model]
methods: [lora, adapterh]
tasks: [minipack-synthesize, minipack-robust]
limit_problems: 8
training:
  n_examples: 40
  layout: bucketed
  n_validation: 8
  optimization: {n_steps: 30, batch_size: 4, learning_rate: 0.01, save_every: 5}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny base model and a study."""
    folder = tmp_path_factory.mktemp("study")
    pretrained(folder / "base", n_steps=40, batch_size=8, n_warmup_steps=5)
    (folder / "study.yaml").write_text(STUDY)
    return folder


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Path:
    done = run(place, "whole", *ONE)
    assert done.returncode == 0, done.stderr
    assert "report: whole/tiny/report/index.html" in done.stdout
    return place / "whole" / "tiny"


def test_the_report_is_made_from_executed_programs(undisturbed: Path) -> None:
    runs = find_runs(undisturbed)
    judged = [r for r in runs if r.manifest.kind == "judge"]
    assert len(judged) == 3 * 2
    for made in judged:
        verdicts = list(made.read("verdicts", Verdict))
        assert len(verdicts) == 8
        assert Outcome.FAULT not in {v.outcome for v in verdicts}
        assert made.manifest.environment["sandbox"]
        scores = json.loads((made.folder / "scores.json").read_text())
        assert {Score.model_validate(score).n_samples for score in scores}
    html = (undisturbed / "report" / "index.html").read_text()
    assert "AdapterH" in html and "LoRA" in html


def test_manifests_hold_no_absolute_paths(undisturbed: Path) -> None:
    for made in find_runs(undisturbed):
        text = (made.folder / "manifest.json").read_text()
        assert str(undisturbed.parent.parent) not in text
        assert str(Path.home()) not in text or str(Path.home()) == "/"


def test_a_second_run_does_nothing_and_says_so(undisturbed: Path, place: Path) -> None:
    stamps = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("manifest.json")}
    done = run(place, "whole", *ONE)
    assert done.returncode == 0
    assert "is complete: all" in done.stderr
    assert stamps == {p: p.stat().st_mtime_ns for p in undisturbed.rglob("manifest.json")}


def records(root: Path) -> dict[str, Any]:
    """Everything of a study that is a result, keyed by run, without times."""
    found: dict[str, Any] = {}
    for made in find_runs(root):
        found[made.manifest.run_id] = [
            sorted((s.problem_id, s.completion) for s in made.read("samples", Sample)),
            sorted((v.problem_id, v.outcome, v.detail) for v in made.read("verdicts", Verdict)),
            [
                (s.step, s.loss, s.validation_loss)
                for s in read_records(made.folder / "metrics.jsonl", Step)
            ],
        ]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "sign",
    [
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGKILL,
    ],
)
def test_an_interrupted_study_continues_and_ends_the_same(
    sign: signal.Signals, undisturbed: Path, place: Path
) -> None:
    out = f"cut-{sign.name}"
    process = subprocess.Popen(
        command(out, *ONE),
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # what started the tests may ignore it, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    root = place / out / "tiny"
    deadline = time.monotonic() + 120
    while not list(root.glob("train/*/*/*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    if sign is signal.SIGINT:
        os.killpg(process.pid, sign)  # as a terminal does it
    else:
        process.send_signal(sign)
    _, told = process.communicate(timeout=60)
    if sign is not signal.SIGKILL:
        assert process.returncode == 130
        assert "run the same command again to continue" in told
    done = run(place, out, *ONE)
    assert done.returncode == 0, done.stderr
    assert records(root) == records(undisturbed)


def test_another_study_in_the_same_folder_is_refused(undisturbed: Path, place: Path) -> None:
    done = run(place, "whole", "seeds=[3]", *ONE)
    assert done.returncode == 2
    assert "holds another run" in done.stderr and "seeds" in done.stderr


@pytest.mark.slow
def test_a_failed_job_stops_only_what_builds_on_it(place: Path) -> None:
    override = "overrides=[{where: {method: lora}, set: {training.block_length: 8}}]"
    done = run(place, "failing", override, "tasks=[minipack-synthesize]", *ONE)
    assert done.returncode == 1
    assert "block_length 8" in done.stderr
    kinds = [
        (r.manifest.kind, r.manifest.config.get("method")) for r in find_runs(place / "failing")
    ]
    assert ("train", "adapterh") in kinds
    assert ("train", "lora") not in kinds


def test_two_runs_of_one_study_at_once_are_refused(undisturbed: Path, place: Path) -> None:
    from astraios.studies.presets import read_study

    study = read_study(str(place / "study.yaml"))
    from astraios.records import RunKind

    with Run.open(undisturbed, kind=RunKind.STUDY, config=study):
        done = run(place, "whole", *ONE)
    assert done.returncode == 2
    assert "is being written by process" in done.stderr
