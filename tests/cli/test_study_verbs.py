"""`astraios study plan`, `status`, `resume` and `export` on studies in which nothing is trained."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from astraios.cli import app
from astraios.config import parse_yaml
from astraios.errors import (
    AstraiosError,
    ConfigError,
    DataError,
    ForeignRunError,
    UnknownNameError,
    UsageError,
)
from astraios.records import Cost, RunKind, Step
from astraios.runs import Run
from astraios.studies import changes, failures
from astraios.studies.plan import Job, plan
from astraios.studies.study import Study

YAML = """
name: small
base_models: [minipack-0.2m]
methods: [fft, lora]
tasks: [minipack-synthesize]
limit_problems: 3
training:
  layout: constant_length
  block_length: 64
  optimization: {n_steps: 10, batch_size: 4, learning_rate: 0.01}
"""
N_TOKENS = 10 * 4 * 64


def said(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["study", *arguments], catch_exceptions=True)
    if isinstance(done.exception, AstraiosError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def told(*arguments: str) -> Any:
    return json.loads(said(*arguments, "--json"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(YAML)
    return tmp_path


def begin(root: Path, *done: RunKind) -> list[Job]:
    """A study's folder in which the jobs of these kinds are done."""
    read = parse_yaml(YAML, Study, source="small.yaml")
    jobs = plan(read)
    with Run.open(root, kind=RunKind.STUDY, config=read, run_id=read.name):
        changes.write_study(read, jobs, root)
    for job in jobs:
        if job.kind in done:
            with Run.open(root / job.id, kind=job.kind, config=job.config) as run:
                fill(run, job)
    return jobs


def fill(run: Run, job: Job) -> None:
    if job.kind is RunKind.TRAIN:
        cost = Cost(wall_s=2.0, cpu_s=2.0, n_tokens=N_TOKENS, tokens_per_s=1.0, peak_mib=9.0,
                    flops=4e9)  # fmt: skip
        run.write_json("cost", cost)
        run.append("metrics", Step(step=10, loss=1.0))
        for name in ("adapter", "checkpoints"):
            (run.folder / name).mkdir()
            (run.folder / name / "weights.safetensors").write_bytes(b"w" * 50)
    if job.kind is RunKind.PRETRAIN:
        (run.folder / "model").mkdir()
        (run.folder / "model" / "model.safetensors").write_bytes(b"w" * 50)
    if job.kind is RunKind.PACK:
        (run.folder / "train-00000.arrow").write_bytes(b"r" * 50)
    run.seal()


# --- plan -------------------------------------------------------------------------------------


@pytest.fixture
def _torch() -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")


@pytest.mark.usefixtures("_torch")
def test_a_plan_tells_what_each_cell_costs_and_where_that_is_from(place: Path) -> None:
    found = told("plan", "small.yaml")
    cells = {cell["method"]: cell for cell in found["cells"]}
    assert list(cells) == ["base", "fft", "lora"]
    assert cells["fft"]["trainable_parameters"]["value"] == 196_896
    assert cells["lora"]["trainable_parameters"]["value"] == 8 * (9 * 64 + 256 // 8) * 3
    assert "formula" in cells["lora"]["trainable_parameters"]["source"]
    for method in ("fft", "lora"):
        assert cells[method]["training_tokens"] == {
            "value": N_TOKENS, "source": "steps x rows x block_length", "bound": False
        }  # fmt: skip
        assert cells[method]["memory_mib"]["value"] > 0
        assert cells[method]["training_s"]["value"] is None
        assert "--calibrate" in cells[method]["training_s"]["source"]
    assert cells["base"]["completion_tokens"]["value"] == 3 * 96
    assert found["totals"]["training_tokens"]["value"] == 2 * N_TOKENS
    assert found["undeclared"] == []
    assert not (place / "runs").exists()


@pytest.mark.usefixtures("_torch")
def test_a_dry_run_is_the_plan_and_starts_nothing(place: Path) -> None:
    assert said("run", "small.yaml", "--dry-run") == said("plan", "small.yaml")
    assert not (place / "runs").exists()


@pytest.mark.usefixtures("_torch")
def test_time_follows_from_recorded_runs_by_operations(place: Path) -> None:
    begin(place / "runs" / "small", RunKind.TRAIN)
    cells = {cell["method"]: cell for cell in told("plan", "small.yaml")["cells"]}
    lora = cells["lora"]["training_s"]
    assert lora["source"] == "recorded runs" and lora["value"] > 0
    longer = told("plan", "small.yaml", "name=other", "training.optimization.n_steps=20",
                  "--from", "runs/small")  # fmt: skip
    again = {cell["method"]: cell for cell in longer["cells"]}["lora"]["training_s"]
    assert again["value"] == pytest.approx(2 * lora["value"])
    assert "by operations" in again["source"]


@pytest.mark.usefixtures("_torch")
def test_a_method_that_does_not_fit_is_refused_with_the_number(place: Path) -> None:
    fits_not = r"1 cells do not.* 20GiB .*\n  bigcode/starcoderbase-1b fft needs about 2\d\.\d GiB"
    with pytest.raises(UsageError, match=fits_not):
        said("plan", "small.yaml", "base_models=[bigcode/starcoderbase-1b]",
             "--max-memory", "20GiB")  # fmt: skip


@pytest.mark.usefixtures("_torch")
def test_memory_of_a_run_is_of_all_jobs_and_refuses_no_cell_of_its_dry_run(place: Path) -> None:
    large = ("small.yaml", "base_models=[bigcode/starcoderbase-1b]", "--max-memory", "1GiB")
    assert "TOO MUCH" not in said("run", *large, "--dry-run")


@pytest.mark.usefixtures("_torch")
def test_a_refusal_suggests_nothing_that_is_set_already(place: Path) -> None:
    saving = ("training.base_precision=bf16", "training.optimization.rows_per_device=1")
    large = ("plan", "small.yaml", "base_models=[bigcode/starcoderbase-1b]")
    with pytest.raises(UsageError) as plain:
        said(*large, "--max-memory", "1GiB")
    with pytest.raises(UsageError) as saved:
        said(*large, *saving, "--max-memory", "1GiB")
    for name in ("base_precision: bf16", "rows_per_device: 1"):
        assert name in str(plain.value) and name not in str(saved.value)
    assert "gradient_checkpointing: true" in str(saved.value)


@pytest.mark.usefixtures("_torch")
def test_methods_of_unknown_memory_are_named_as_not_checked(place: Path) -> None:
    unknown = ("plan", "small.yaml", "base_models=[some/model-nobody-has]")
    text = said(*unknown, "--max-memory", "20GiB")
    assert re.search(r"NOT CHECKED by --max-memory.*: some/model-nobody-has fft, some", text)
    assert "NOT CHECKED" not in said(*unknown)
    assert "NOT CHECKED" not in said("plan", "small.yaml", "--max-memory", "20GiB")


def test_a_base_folder_without_a_model_is_refused_with_where_it_lies(place: Path) -> None:
    inner = place / "mine" / "model"
    inner.mkdir(parents=True)
    (inner / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"'small', base_models: .*mine' holds no config.json; .*"
                                         r"did you mean '.*mine/model'\?"):  # fmt: skip
        said("plan", "small.yaml", f"base_models=[{place / 'mine'}]")


@pytest.mark.parametrize(
    ("base_model", "told"),
    [
        ("minipack-9m", "unknown embedded base model 'minipack-9m'"),
        ("/nowhere/model", "base_models: model '/nowhere/model' is not a folder here, and no hub"),
    ],
)
def test_a_base_model_that_cannot_be_one_is_refused(
    place: Path, base_model: str, told: str
) -> None:
    for verb in ("plan", "run"):
        with pytest.raises(UsageError, match=told):
            said(verb, "small.yaml", f"base_models=[{base_model}]")


def test_a_folder_that_only_nodes_have_may_be_a_base_model(place: Path) -> None:
    slurm = ("--launcher", "slurm", "--launcher-option", "dry_run=true", "--only", "kind=pack")
    said("run", "small.yaml", "base_models=[/nowhere/model]", *slurm)
    assert list(place.glob("runs/*/.slurm/1/01-pack.sh"))


@pytest.mark.usefixtures("_torch")
def test_a_base_model_that_nobody_has_here_is_planned_without_its_figures(place: Path) -> None:
    text = said("plan", "small.yaml", "base_models=[some/model-nobody-has]", "--jobs-list")
    assert "the base model's config is not on this machine" in text
    assert re.search(r"model-nobody-has +lora +0 +- ", text)
    assert "train/model-nobody-has/lora/seed0-" in text


@pytest.mark.usefixtures("_torch")
def test_a_plan_shows_differences_changes_and_warnings(place: Path) -> None:
    begin(place / "runs" / "small", RunKind.TRAIN)
    override = "overrides=[{where: {method: fft}, set: {training.optimization.learning_rate: 2.0}}]"
    text = said("plan", "small.yaml", override)
    assert "fft: training.optimization.learning_rate = 2.0, not 0.01" in text
    assert "changed since it was begun" in text
    assert "1 finished jobs are the same and are kept" in text
    assert "warning: fft on minipack-0.2m: no learning rate is searched" in text


# --- status -----------------------------------------------------------------------------------


def test_status_counts_what_is_done_running_failed_and_missing(place: Path) -> None:
    root = place / "runs" / "small"
    jobs = begin(root, RunKind.PRETRAIN, RunKind.PACK)
    trains = [job for job in jobs if job.kind is RunKind.TRAIN]
    failures.note(root, trains[0].id, "out of memory")
    with Run.open(root / trains[1].id, kind=RunKind.TRAIN, config=trains[1].config) as run:
        run.append("metrics", Step(step=7, loss=1.0))
        found = told("status", "runs/small")
        text = said("status", "small.yaml")
    assert found["kinds"]["pretrain"]["done"] == found["kinds"]["pack"]["done"] == 1
    assert (found["kinds"]["train"]["failed"], found["kinds"]["train"]["running"]) == (1, 1)
    assert found["kinds"]["generate"]["waiting"] == 3
    assert found["arms"]["minipack-0.2m fft seed0"]["failed"] == 1
    states = {job["job"]: job for job in found["jobs"]}
    assert states[trains[0].id]["message"] == "out of memory"
    assert states[trains[1].id]["progress"] == "7 of 10 steps"
    assert "out of memory" in text and "7 of 10 steps" in text
    assert "2 of 10 jobs are done" in text
    stopped = {job["job"]: job["state"] for job in told("status", "runs/small")["jobs"]}
    assert stopped[trains[1].id] == "stopped"


def test_status_tells_a_dead_holder_from_one_elsewhere(place: Path) -> None:
    root = place / "runs" / "small"
    jobs = begin(root)
    train = next(job for job in jobs if job.kind is RunKind.TRAIN)
    Run.open(root / train.id, kind=RunKind.TRAIN, config=train.config).close()
    lock = root / train.id / ".lock"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for host, state in ((platform.node(), "stopped"), ("another-node", "running")):
        lock.write_text(json.dumps({"process": dead.pid, "host": host, "since": ""}))
        found = {job["job"]: job["state"] for job in told("status", "runs/small")["jobs"]}
        assert found[train.id] == state


def test_status_needs_no_torch_and_not_the_study_file(place: Path) -> None:
    begin(place / "runs" / "small", RunKind.TRAIN)
    (place / "small.yaml").unlink()
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from astraios.cli import app; app(['study', 'status', 'runs/small', '--json'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=place
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_done"] == 2


# --- resume and parts -------------------------------------------------------------------------


def ran(place: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """What the verb asks of `run_study`."""
    seen: dict[str, Any] = {}

    def run_study(study: Study, root: Path, **how: Any) -> None:
        seen.update(study=study, root=root, **how)
        raise ConfigError("as far as needed")

    monkeypatch.setattr("astraios.studies.run.run_study", run_study)
    with pytest.raises(ConfigError, match="as far as needed"):
        said(*arguments)
    return seen


def test_resume_takes_the_study_from_its_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(place / "runs" / "small")
    (place / "small.yaml").unlink()
    (place / "runs" / "small").rename(place / "moved")
    seen = ran(place, monkeypatch, "resume", "moved", "sandbox=limits", "--only", "method=lora")
    assert seen["study"] == parse_yaml(YAML, Study, ["sandbox=limits"])
    assert (seen["root"], seen["only"], seen["retry"]) == (Path("moved"), ["method=lora"], True)
    with pytest.raises(ConfigError, match="makes another study"):
        said("resume", "moved", "seeds=[4]")


def test_flags_of_a_run_reach_its_launcher(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = ran(
        place, monkeypatch, "run", "small.yaml", "--launcher", "ray", "--address", "auto",
        "--launcher-option", "retries=5", "--max-memory", "2GiB", "--retry-failed", "--jobs", "3",
        "--accept-changes",
    )  # fmt: skip
    assert seen["launcher"] == "ray"
    assert seen["launcher_options"] == {"address": "auto", "retries": 5}
    assert (seen["max_memory_mib"], seen["n_workers"]) == (2048, 3)
    assert (seen["failed_only"], seen["retry"], seen["accept_changes"]) == (True, True, True)
    seen = ran(place, monkeypatch, "run", "small.yaml", "--devices", "0,1", "--no-retry")
    assert seen["launcher_options"] == {"devices": ("0", "1")}
    assert seen["retry"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--address", "auto"), "--address is of launcher 'ray', and 'local'"),
        (("--launcher", "slurm", "--devices", "0"), "--devices is of launcher 'local'"),
        (("--no-retry", "--retry-failed"), "contradict each other"),
        (("--max-memory", "lots"), "--max-memory"),
        (("--only", "method=loar"), "Did you mean 'lora'"),
        (("--launcher", "locale"), "Did you mean 'local'"),
        (("--launcher-option", "grace=3"), "grace"),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_flags_that_cannot_be_meant_are_told(
    place: Path, arguments: tuple[str, ...], message: str, dry: tuple[str, ...]
) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        said("run", "small.yaml", *arguments, *dry)
    assert not (place / "runs").exists()


def test_a_changed_study_is_refused_with_what_to_do(place: Path) -> None:
    begin(place / "runs" / "small", RunKind.TRAIN)
    with pytest.raises(ForeignRunError, match=r"(?s)seeds: \[0\] -> \[0, 1\].*--accept-changes"):
        said("run", "small.yaml", "seeds=[0, 1]")


# --- export -----------------------------------------------------------------------------------


def exported(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix().split("-")[0]
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_export_has_records_and_sums_and_no_weights(place: Path) -> None:
    root = place / "runs" / "small"
    begin(root, RunKind.PRETRAIN, RunKind.PACK, RunKind.TRAIN)
    done = told("export", "runs/small", "public")
    names = [path.relative_to("public").as_posix() for path in Path("public").rglob("*.*")]
    assert not [name for name in names if name.endswith((".safetensors", ".arrow"))]
    assert not [name for name in names if "/." in name or "checkpoints" in name]
    assert sum(name.endswith("cost.json") for name in names) == 2
    lines = Path("public/SHA256SUMS").read_text().splitlines()
    assert len(lines) == done["files"] - 1
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((Path("public") / name).read_bytes()).hexdigest() == digest
    readme = Path("public/README.md").read_text()
    assert "# small" in readme and "| train | 2 | 0 |" in readme and "tuned weights" in readme
    assert told("status", "public")["n_done"] == done["runs"] - 1


def test_an_export_takes_tuned_weights_if_asked_and_base_models_never(place: Path) -> None:
    begin(place / "runs" / "small", RunKind.PRETRAIN, RunKind.TRAIN)
    said("export", "runs/small", "public", "--weights")
    weights = [path.parent.name for path in Path("public").rglob("*.safetensors")]
    assert weights == ["adapter", "adapter"]


def test_an_archive_is_equal_whenever_and_by_whomever_it_is_made(place: Path) -> None:
    begin(place / "runs" / "small", RunKind.TRAIN)
    said("export", "runs/small", "one.tar.gz")
    said("export", "runs/small", "two.tar.gz")
    assert Path("one.tar.gz").read_bytes() == Path("two.tar.gz").read_bytes()
    with tarfile.open("one.tar.gz") as archive:
        names = archive.getnames()
        assert {entry.uname for entry in archive.getmembers()} == {""}
    assert "small/README.md" in names and all(name.startswith("small/") for name in names)


def test_unfinished_runs_are_left_out_of_an_export(place: Path) -> None:
    root = place / "runs" / "small"
    jobs = begin(root, RunKind.PACK)
    train = next(job for job in jobs if job.kind is RunKind.TRAIN)
    Run.open(root / train.id, kind=RunKind.TRAIN, config=train.config).close()
    said("export", "runs/small", "public")
    assert not (Path("public") / train.id).exists()


@pytest.mark.parametrize("leak", ["/home/somebody/models/base", "HOST"])
def test_what_names_this_machine_is_not_published(place: Path, leak: str) -> None:
    root = place / "runs" / "small"
    jobs = begin(root, RunKind.TRAIN)
    name = platform.node() if leak == "HOST" else leak
    if len(name) <= 3:
        pytest.skip("the host's name is too short to be told from words")
    train = next(job for job in jobs if job.kind is RunKind.TRAIN)
    (root / train.id / "card.md").write_text(f"one line\nmade from {name} here\n")
    with pytest.raises(DataError, match=rf"card\.md:2: names '{re.escape(name)}"):
        said("export", "runs/small", "public")
    assert not Path("public").exists()


def test_an_export_never_replaces_or_enters_anything(place: Path) -> None:
    begin(place / "runs" / "small", RunKind.TRAIN)
    (place / "there").mkdir()
    with pytest.raises(ForeignRunError, match="is there already"):
        said("export", "runs/small", "there")
    with pytest.raises(ConfigError, match="study's own folder"):
        said("export", "runs/small", "runs/small/public")
