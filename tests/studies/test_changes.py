"""A study that changed after it began, parts of a study, mistakes in plans and folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from astraios import files
from astraios.config import fingerprint, parse_yaml
from astraios.errors import ConfigError, DataError, ForeignRunError, MissingDataError
from astraios.records import PlannedJob, RunKind
from astraios.runs import MANIFEST, Run, read_manifest
from astraios.studies import changes, failures
from astraios.studies import plan as planning
from astraios.studies.checks import check
from astraios.studies.outputs.run import OutputsConfig
from astraios.studies.plan import Job, in_order, plan
from astraios.studies.run import run_study
from astraios.studies.selection import behind, select
from astraios.studies.status import status
from astraios.studies.study import Study

YAML = """
name: small
base_models: [minipack-0.2m]
methods: [fft, lora]
tasks: [minipack-synthesize]
seeds: [0, 1]
training:
  optimization: {n_steps: 10, batch_size: 4, learning_rate: 0.001}
"""


def study(*overrides: str) -> Study:
    return parse_yaml(YAML, Study, overrides, source="study.yaml")


def begun(root: Path, read: Study, *kinds: RunKind) -> list[Job]:
    """A study's folder in which all jobs of `kinds` are done."""
    jobs = plan(read)
    with Run.open(root, kind=RunKind.STUDY, config=read, run_id=read.name):
        changes.write_study(read, jobs, root)
    for job in jobs:
        if job.kind in kinds:
            sealed(root / job.id, job.kind, job.config)
    return jobs


def sealed(folder: Path, kind: RunKind, config: BaseModel) -> None:
    with Run.open(folder, kind=kind, config=config) as run:
        run.seal()


def test_an_unchanged_study_has_no_changes(tmp_path: Path) -> None:
    jobs = begun(tmp_path, study(), RunKind.TRAIN)
    assert changes.changes(study(), jobs, tmp_path) is None
    assert changes.changes(study("sandbox=limits"), jobs, tmp_path) is None
    assert changes.changes(study(), jobs, tmp_path / "elsewhere") is None


def test_a_change_is_told_field_by_field_with_what_can_be_kept(tmp_path: Path) -> None:
    begun(tmp_path, study(), RunKind.TRAIN)
    wider = study("seeds=[0, 2]", "methods=[fft, lora, ia3]")
    jobs = plan(wider)
    found = changes.changes(wider, jobs, tmp_path)
    assert found is not None
    assert {(one.field, tuple(one.after)) for one in found.fields} == {
        ("seeds", (0, 2)),
        ("methods", ("fft", "lora", "ia3")),
    }
    assert len(found.reusable) == 2  # fft and lora, seed 0
    assert {job.id.split("/")[3][:5] for job in found.left_over} == {"seed1"}
    assert all("seed 2" in job.label or " ia3 " in job.label for job in found.new)


def test_changes_are_refused_until_they_are_accepted(tmp_path: Path) -> None:
    begun(tmp_path, study(), RunKind.TRAIN)
    wider = study("seeds=[0, 2]")
    with pytest.raises(ForeignRunError, match=r"(?s)seeds: \[0, 1\] -> \[0, 2\]\n.*--accept"):
        changes.settle(wider, plan(wider), tmp_path)
    assert fingerprint(changes.stored_study(tmp_path)) == fingerprint(study())
    changes.settle(wider, plan(wider), tmp_path, accept=True)
    assert fingerprint(changes.stored_study(tmp_path)) == fingerprint(wider)
    assert [job.id for job in changes.read_plan(tmp_path)] == [job.id for job in plan(wider)]
    assert read_manifest(tmp_path).fingerprint == fingerprint(wider)


def test_changes_of_a_study_that_this_version_cannot_read_are_taken_up(tmp_path: Path) -> None:
    begun(tmp_path, study(), RunKind.TRAIN)
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["of_an_older_version"] = True
    manifest["fingerprint"] = "0" * 12
    path.write_text(json.dumps(manifest))
    with pytest.raises(ForeignRunError, match="of_an_older_version: True -> None"):
        changes.settle(study(), plan(study()), tmp_path)
    changes.settle(study(), plan(study()), tmp_path, accept=True)
    assert changes.stored_study(tmp_path) == study()


def test_imported_outputs_never_give_way_to_a_study(tmp_path: Path) -> None:
    with Run.open(tmp_path, kind=RunKind.STUDY, config=OutputsConfig()):
        pass
    with pytest.raises(ForeignRunError, match="`astraios import-outputs` laid out; choose another"):
        changes.settle(study(), plan(study()), tmp_path, accept=True)
    assert read_manifest(tmp_path).fingerprint == fingerprint(OutputsConfig())


def test_a_plan_that_this_machine_makes_otherwise_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = study("sandbox=none")
    begun(tmp_path, read)
    for job in plan(read):
        sealed(tmp_path / job.id, job.kind, job.config)
    run_study(read, tmp_path)
    assert read_manifest(tmp_path).status == "done"
    judge_config = planning.judge_config

    def with_other_tools(*some: Any, **more: Any) -> Any:
        made = judge_config(*some, **more)
        return made.model_copy(update={"tools": {**made.tools, "compiler": "another"}})

    monkeypatch.setattr(planning, "judge_config", with_other_tools)
    run_study(read, tmp_path, launcher="slurm", launcher_options={"dry_run": True})
    assert changes.read_plan(tmp_path)[-1].id == plan(read)[-1].id
    assert {one.state for one in status(tmp_path)} == {"done", "waiting"}
    assert read_manifest(tmp_path).status == "running"


def test_a_study_of_which_only_bases_are_there_may_change(tmp_path: Path) -> None:
    begun(tmp_path, study(), RunKind.PRETRAIN, RunKind.PACK)
    changes.settle(study("seeds=[3]"), plan(study("seeds=[3]")), tmp_path)
    assert changes.stored_study(tmp_path).seeds == (3,)


def test_a_kill_while_changes_are_taken_up_leaves_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path, study(), RunKind.TRAIN)
    wider = study("seeds=[0, 2]")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(changes, "write_study", killed)
        with pytest.raises(KeyboardInterrupt):
            changes.settle(wider, plan(wider), tmp_path, accept=True)
    assert fingerprint(changes.stored_study(tmp_path)) == fingerprint(wider)


# --- folders ----------------------------------------------------------------------------------


def test_a_folder_that_holds_no_study_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="is not a folder"):
        changes.stored_study(tmp_path / "nowhere")
    with pytest.raises(MissingDataError, match="holds no study"):
        changes.stored_study(tmp_path)
    (job, *_) = begun(tmp_path, study(), RunKind.PRETRAIN)
    with pytest.raises(MissingDataError, match="is a pretrain run and no study"):
        changes.stored_study(tmp_path / job.id)


def test_a_torn_study_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    begun(tmp_path, study())
    path = tmp_path / "study.yaml"
    whole = path.read_text()
    for torn in (whole[: len(whole) // 2], whole.replace("seeds:", "sedes:"), "", "[\n"):
        path.write_text(torn)
        with pytest.raises(DataError, match=r"study\.yaml.*remove it: it is written again"):
            changes.stored_study(tmp_path)
    path.unlink()
    assert changes.stored_study(tmp_path) == study()


def test_a_study_file_that_was_edited_by_hand_is_told(tmp_path: Path) -> None:
    begun(tmp_path, study())
    path = tmp_path / "study.yaml"
    path.write_text(path.read_text().replace("n_steps: 10", "n_steps: 11"))
    with pytest.raises(DataError, match=r"not the study that manifest\.json names"):
        changes.stored_study(tmp_path)


def test_a_folder_of_a_newer_version_is_told(tmp_path: Path) -> None:
    begun(tmp_path, study())
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    files.write_json(tmp_path / MANIFEST, {**manifest, "format": 99})
    with pytest.raises(DataError, match=r"run format 99 is newer .*: upgrade"):
        changes.stored_study(tmp_path)
    with pytest.raises(DataError, match="run format 99 is newer"):
        changes.changes(study(), plan(study()), tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((("a", ("b",)), ("b", ("c",)), ("c", ("a",))), "circle: a -> b -> c -> a"),
        ((("a", ("a",)),), "circle: a -> a"),
        ((("a", ()), ("a", ())), "'a' is there twice"),
        ((("a", ("x",)),), "'a' comes after 'x', which is no job"),
    ],
)
def test_a_plan_that_cannot_be_done_is_told(
    tmp_path: Path, lines: tuple[tuple[str, tuple[str, ...]], ...], message: str
) -> None:
    jobs = [PlannedJob(id=name, kind=RunKind.TRAIN, after=after) for name, after in lines]
    with pytest.raises(ConfigError, match=message):
        in_order(jobs)
    text = "".join(job.model_dump_json() + "\n" for job in jobs)
    (tmp_path / "plan.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        changes.read_plan(tmp_path)


def test_jobs_in_another_order_are_put_behind_those_they_build_on() -> None:
    jobs = [
        PlannedJob(id="c", kind=RunKind.TRAIN, after=("b",)),
        PlannedJob(id="b", kind=RunKind.TRAIN, after=("a",)),
        PlannedJob(id="a", kind=RunKind.TRAIN),
    ]
    assert [job.id for job in in_order(jobs)] == ["a", "b", "c"]


# --- mistakes in a study ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("overrides=[{where: {method: ia3}, set: {training.seed: 1}}]", "method 'ia3'.*nothing"),
        ("overrides=[{where: {method: loar}, set: {}}]", "Did you mean 'lora'"),
        ("overrides=[{where: {seed: 7}, set: {}}]", "seed 7, which is not in the study"),
        (
            "overrides=[{where: {method: base}, set: {training.loss_on: all}}]",
            "'base', which is not trained",
        ),
        (
            "overrides=[{where: {seed: 1}, set: {training.loss_on: all}}, "
            "{where: {seed: 1}, set: {training.loss_on: response}}]",
            r"overrides\.1: sets 'training.loss_on' for the same arms as overrides\.0",
        ),
    ],
)
def test_an_override_that_does_nothing_is_told(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(study(override))


def test_editions_of_tasks_are_named_and_sampled_by_name() -> None:
    read = study("tasks=[devign@clean, devign@original]", "sampling={devign@clean: {n_samples: 3}}")
    check(read)
    drawn = {
        (job.config.task_version, job.config.sampling.n_samples)
        for job in plan(read)
        if job.kind is RunKind.GENERATE
    }
    assert {n for version, n in drawn if version.startswith("clean")} == {3}
    assert {n for version, n in drawn if version.startswith("original")} == {1}


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ("[devign@claen]", "unknown edition of devign 'claen'.*clean"),
        ("[devign, devign@original]", "'devign@original' is 'devign' by another name"),
    ],
)
def test_a_mistake_in_an_edition_is_told(tasks: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        study(f"tasks={tasks}")


# --- parts of a study -------------------------------------------------------------------------


def kinds(jobs: list[Job]) -> set[str]:
    return {str(job.kind) for job in jobs}


def test_a_part_is_chosen_by_axes_with_what_it_builds_on() -> None:
    jobs = plan(study())
    some = select(jobs, ["method=lora", "seed=1"])
    own = {j.id for j in some if j.id.startswith(("train", "eval/minipack-0.2m/lora"))}
    assert all("/lora/seed1" in name for name in own) and own
    assert kinds(some) == {"pretrain", "pack", "train", "generate", "judge"}
    assert kinds(select(jobs, ["kind=train"])) == {"pretrain", "pack", "train"}
    assert select(jobs, ["method=lora", "method=fft", "method=base"]) == jobs
    assert {j.id.split("/")[2] for j in select(jobs, ["train/*/fft/*"]) if j.kind == "train"} == {
        "fft"
    }


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["metod=lora"], "unknown axis 'metod'.*Did you mean 'method'"),
        (["method=loar"], "matches no job.*there are: base, fft, lora.*Did you mean 'lora'"),
        (["train/x/*"], "matches no job"),
        (["kind=train", "task=minipack-synthesize"], "no job matches all"),
    ],
)
def test_a_part_that_is_nothing_is_told(patterns: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        select(plan(study()), patterns)


def test_what_failed_is_done_again_with_what_builds_on_it() -> None:
    jobs = plan(study())
    failed = next(job for job in jobs if job.kind is RunKind.TRAIN)
    again = behind(jobs, [failed.id])
    assert kinds(again) == {"pretrain", "pack", "train", "generate", "judge"}
    trained = [job.id for job in again if job.kind is RunKind.TRAIN]
    assert trained == [failed.id]
    assert behind(jobs, failures.read(Path("nowhere"))) == []
