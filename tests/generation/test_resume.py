"""A generation run of a real model, stopped and taken up with another batch size."""

from __future__ import annotations

import pytest

from astraios import tasks
from astraios.evaluation.config import EvaluationConfig
from astraios.evaluation.generate import generate
from astraios.generation.engines.hf import HFEngine
from astraios.generation.keys import key
from astraios.records import Sample, Sampling

pytestmark = pytest.mark.train

SAMPLING = Sampling(n_samples=3, temperature=0.8, top_p=0.9, max_new_tokens=20)


@pytest.fixture(scope="module")
def model(make_model):
    return make_model("gpt_bigcode", n_positions=512)


def run_it(folder, model, tokenizer, batch_tokens, stop_after=None):
    task = tasks.task("minipack-synthesize")
    config = EvaluationConfig(
        task=task.name,
        task_version=task.version,
        template="octocoder",
        sampling=SAMPLING,
        base_model="tiny",
        limit_problems=6,
        batch_tokens=batch_tokens,
    )

    def progress(done, total, note):
        if stop_after is not None and done >= stop_after:
            raise KeyboardInterrupt

    return generate(
        task,
        HFEngine(model, tokenizer, batch_tokens=batch_tokens),
        SAMPLING,
        folder,
        config=config,
        problems=task.problems(None),
        template="octocoder",
        limit=6,
        progress=progress,
    )


def samples(folder_run):
    return {key(sample): sample for sample in folder_run.read("samples", Sample)}


@pytest.mark.parametrize("stop_after", [0, 1, 9, 17])
def test_a_stopped_run_ends_like_an_undisturbed_one(tmp_path, model, tokenizer, stop_after):
    whole = samples(run_it(tmp_path / "whole", model, tokenizer, 100_000))
    with pytest.raises(KeyboardInterrupt):
        run_it(tmp_path / "run", model, tokenizer, 700, stop_after)
    with (tmp_path / "run" / "samples.jsonl").open("ab") as torn:
        torn.write(b'{"problem_id": "minipack/')
    assert samples(run_it(tmp_path / "run", model, tokenizer, 2_000)) == whole
    assert len(whole) == 18
