"""A study's jobs keep to the edition of a task that the study names."""

from __future__ import annotations

from pathlib import Path

from astraios import tasks
from astraios.evaluation.judge import judge_config
from astraios.progress import silent
from astraios.records import Finish, RunKind, Sample, Verdict
from astraios.runs import read_run
from astraios.studies.plan import Job
from astraios.studies.work import work

ROWS = Path(__file__).parents[1] / "tasks" / "rows"


def test_samples_are_judged_by_the_edition_that_was_asked(tmp_path):
    """The two editions of Devign read "I know." otherwise, and cut it into other slices."""
    task = tasks.task("devign@clean")
    (tmp_path / "asked").mkdir()
    with (tmp_path / "asked" / "samples.jsonl").open("w") as out:
        for problem in task.problems(ROWS):
            fields = {"problem_id": problem.id, "completion": " I know.", "finish": Finish.EOS}
            out.write(Sample(index=0, prompt_sha="", **fields).model_dump_json() + "\n")
    job = Job("judged", RunKind.JUDGE, judge_config(task), inputs={"samples": "asked"})
    work(job, tmp_path, sandbox="best", data_dir=ROWS, progress=silent)
    verdicts = list(read_run(tmp_path / "judged").read("verdicts", Verdict))
    assert {verdict.outcome for verdict in verdicts} == {"unparsed"}
    assert all(verdict.readings is None for verdict in verdicts)
