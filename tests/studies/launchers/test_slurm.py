"""The launcher `slurm`: scripts as `sbatch` is given them, run by a `sbatch` of our own."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest
from cheap_jobs import ended, fill, grid, job, records, setting
from typer.testing import CliRunner

from astraios.cli import app
from astraios.errors import MissingToolError, WorkError
from astraios.studies import failures
from astraios.studies.arraytask import work_on
from astraios.studies.jobfiles import read_tasks
from astraios.studies.launchers import Phase
from astraios.studies.launchers.slurm import Options, launcher, stages

HERE = Path(__file__).parent

SBATCH = f"""#!{sys.executable}
# Runs an array at once, one task after the other, or leaves it in the queue.
import os, pathlib, re, subprocess, sys
place = pathlib.Path({{place!r}})
script = pathlib.Path(sys.argv[-1])
number = 100 + len(list(place.glob("*.taken")))
(place / f"{{{{number}}}}.taken").write_text(" ".join(sys.argv[1:]))
if script.name.endswith({{refuse!r}}):
    sys.exit("sbatch: error: Batch job submission failed: no such partition")
print(f"{{{{number}}}};cluster")
last = int(re.search(r"--array=0-(\\d+)", script.read_text())[1])
for task in range(last + 1):
    if {{hold!r}}:
        with (place / "queue").open("a") as queue:
            queue.write(f"{{{{number}}}}_{{{{task}}}}\\n")
    else:
        at = {{{{**os.environ, "SLURM_ARRAY_TASK_ID": str(task), "PYTHONPATH": {str(HERE)!r}}}}}
        subprocess.run(["bash", str(script)], env=at, capture_output=True)
"""

SQUEUE = """#!/bin/sh
cat {place}/queue 2>/dev/null || true
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Commands of Slurm on PATH; gives the arguments of all calls of sbatch."""
    place = tmp_path / "cluster"
    place.mkdir()

    def install(*, hold=False, refuse="no stage"):
        for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE)):
            path = place / name
            path.write_text(text.format(place=str(place), hold=hold, refuse=refuse))
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    install()
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")

    class Cluster:
        configure = staticmethod(install)
        queue = place / "queue"

        @property
        def taken(self):
            return [path.read_text() for path in sorted(place.glob("*.taken"))]

    return Cluster()


def launch(jobs, root, **options):
    events = []
    launcher.launch(jobs, setting(root, Options(**options), n_workers=3), events.append)
    return events


def script_of(root, name):
    return (root / ".slurm" / name).read_text()


def test_a_dry_run_writes_what_would_be_submitted(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    events = launch(
        grid(),
        tmp_path,
        dry_run=True,
        partition="gpu",
        time="4:00:00",
        setup=("module load cuda",),
        more=("--constraint=a100",),
        python="/opt/python",
    )
    assert set(ended(events).values()) == {Phase.WRITTEN}
    first, second = tmp_path / ".slurm/1/01-judge.sh", tmp_path / ".slurm/1/02-judge.sh"
    told = f"{first}, task 0; to submit it: ARRAY_01_judge=$(sbatch --parsable {first})\n"
    assert told in events[0].note
    assert f"--dependency=afterany:$ARRAY_01_judge {second})\n" in events[1].note
    assert script_of(tmp_path, "1/01-judge.sh") in events[0].note
    assert (
        script_of(tmp_path, "1/02-judge.sh")
        == f"""#!/bin/bash
#SBATCH --job-name={tmp_path.name}/1/02-judge
#SBATCH --array=0-3%3
#SBATCH --cpus-per-task=1
#SBATCH --mem=448M
#SBATCH --time=4:00:00
#SBATCH --partition=gpu
#SBATCH --output={tmp_path}/.slurm/1/02-judge-%a.log
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --constraint=a100
# after 01-judge, however they end
set -eu
cd {Path.cwd()}
module load cuda
exec /opt/python -m astraios study work {tmp_path} --of 1/02-judge --index "$SLURM_ARRAY_TASK_ID"
"""
    )


def test_a_dry_run_says_what_was_written_and_what_submits_it(tmp_path, monkeypatch):
    plan = "optimization: {n_steps: 10, batch_size: 4, learning_rate: 0.001}"
    grid_of = "name: small, base_models: [a/one], methods: [fft], tasks: [minipack-synthesize]"
    (tmp_path / "small.yaml").write_text(f"{{{grid_of}, training: {{{plan}}}}}")
    monkeypatch.chdir(tmp_path)
    command = ("study", "run", "small.yaml", "--launcher", "slurm")
    said = CliRunner().invoke(app, [*command, "--launcher-option", "dry_run=true"])
    assert said.exit_code == 0
    assert "written pack" in said.stderr
    assert "the scripts of 6 jobs are written and nothing is submitted" in said.stderr
    assert "without dry_run=true submits them" in said.stderr
    assert "wait for a cluster" not in said.stderr


def test_scripts_of_a_study_fill_its_folder(tmp_path, cluster):
    root = tmp_path / "study"
    jobs = [*grid(2), job("fails", ends="fails"), job("next", "fails")]
    launch(jobs, root, per_task=2)
    assert [call.rpartition("/")[2] for call in cluster.taken] == [
        "01-judge.sh",
        "02-judge.sh",
        "03-judge.sh",
    ]
    assert "--dependency" not in cluster.taken[0]
    assert "--dependency=afterany:100 " in cluster.taken[1]
    assert "--dependency=afterany:101 " in cluster.taken[2]
    whole = tmp_path / "whole"
    for one in grid(2):
        fill(one, setting(whole), lambda *told: None, None)
    assert records(root, grid(2)) == records(whole, grid(2))
    assert list(failures.read(root)) == ["fails"]
    assert str(tmp_path) not in (root / "failures.jsonl").read_text()


def test_what_is_in_the_queue_is_not_submitted_again(tmp_path, cluster):
    root = tmp_path / "study"
    cluster.configure(hold=True)
    launch(grid(2), root)
    n_calls = len(cluster.taken)
    events = launch(grid(2), root)
    assert len(cluster.taken) == n_calls
    assert {event.note for event in events} == {f"in the queue: array {n}" for n in (100, 101, 102)}

    # The last stage has left the queue without being done: it alone is submitted, behind the rest.
    cluster.queue.write_text("100_0\n101_0\n101_1\n")
    launch(grid(2), root)
    assert len(cluster.taken) == n_calls + 1
    assert "--dependency=afterany:101 " in cluster.taken[-1]
    assert read_tasks(root / ".slurm/2/01-judge.jsonl")[0][0].id == "last"


def test_a_refusal_of_slurm_is_told_and_what_was_submitted_stays(tmp_path, cluster):
    root = tmp_path / "study"
    cluster.configure(hold=True, refuse="02-judge.sh")
    with pytest.raises(WorkError, match=r"sbatch refused .*02-judge\.sh.*no such partition"):
        launch(grid(2), root)
    cluster.configure(hold=True)
    events = launch(grid(2), root)
    assert [event.job.id for event in events if "in the queue" in event.note] == ["first"]


def test_without_slurm_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingToolError, match="needs sbatch, which was not found"):
        launch(grid(), tmp_path)


def test_long_stages_are_parted_and_later_ones_wait_for_all_parts(tmp_path):
    made = stages(grid(7), setting(tmp_path), Options(array_size=3))
    assert [(stage.name, len(stage.tasks)) for stage in made] == [
        ("01-judge", 1),
        ("02-judge", 3),
        ("02-judge-2", 3),
        ("02-judge-3", 1),
        ("03-judge", 1),
    ]
    assert made[-1].after == ("02-judge", "02-judge-2", "02-judge-3")


def test_jobs_are_read_as_they_were_written(tmp_path):
    jobs = grid(2, every_s=0.5)
    launch(jobs, tmp_path, dry_run=True)
    found = [
        one
        for path in sorted((tmp_path / ".slurm/1").glob("*.jsonl"))
        for jobs in read_tasks(path)
        for one in jobs
    ]
    assert found == jobs


def test_a_task_whose_forerunner_failed_does_nothing(tmp_path):
    launch(grid(1), tmp_path, dry_run=True)
    (end,) = work_on(tmp_path, of="1/02-judge", index=0)
    assert end.phase is Phase.SKIPPED
    assert not (tmp_path / "middle-0").exists()


def test_a_failure_that_cannot_be_written_down_does_not_end_the_jobs_behind_it(tmp_path, caplog):
    launch([job("fails", ends="fails"), job("well")], tmp_path, dry_run=True, per_task=2)
    (tmp_path / failures.FAILURES).mkdir()
    ends = work_on(tmp_path, of="1/01-judge", index=0)
    assert [end.phase for end in ends] == [Phase.FAILED, Phase.DONE]
    assert "the failure of fails was not written down" in caplog.text


def test_a_task_that_is_not_there_is_refused(tmp_path):
    from astraios.errors import ConfigError, DataError, MissingDataError

    launch(grid(1), tmp_path, dry_run=True)
    with pytest.raises(ConfigError, match="has the tasks 0 to 0, and not 5"):
        work_on(tmp_path, of="1/01-judge", index=5)
    with pytest.raises(MissingDataError, match="does not exist"):
        work_on(tmp_path, of="1/09-train", index=0)
    (tmp_path / ".slurm/1/01-judge.jsonl").write_text('[{"~type": "os:nothing", "fields": {}}]\n')
    with pytest.raises(DataError, match="not what this version writes"):
        work_on(tmp_path, of="1/01-judge", index=0)
