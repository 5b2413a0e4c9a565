"""A run of engine openai, also as a process that can be killed: `python run.py URL FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from astraios import tasks
from astraios.evaluation.config import EvaluationConfig
from astraios.evaluation.generate import generate
from astraios.generation import Model
from astraios.generation.engines.openai import OpenAIEngine
from astraios.records import Sampling

SAMPLED = Sampling(n_samples=4, temperature=0.8, max_new_tokens=80)
N_PROBLEMS = 8


def run_it(url, folder, *, n_tries=3):
    """The run from its beginning, or from where it was left."""
    task = tasks.task("minipack-synthesize")
    config = EvaluationConfig(
        task=task.name,
        task_version=task.version,
        template="octocoder",
        sampling=SAMPLED,
        base_model="tiny",
        engine="openai",
        limit_problems=N_PROBLEMS,
    )
    options = {"url": url, "n_at_once": 3, "n_tries": n_tries, "first_pause_s": 0}
    model = Model(load=lambda: (None, None, None), base_model="tiny", options=options)
    with OpenAIEngine.open(model) as engine:
        return generate(
            task,
            engine,
            SAMPLED,
            folder,
            config=config,
            problems=task.problems(None),
            template="octocoder",
            limit=N_PROBLEMS,
        )


if __name__ == "__main__":
    run_it(sys.argv[1], Path(sys.argv[2]))
