"""A generation run that is killed again and again ends like one that never was."""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import pytest

from astraios import tasks
from astraios.evaluation.config import EvaluationConfig
from astraios.evaluation.generate import generate
from astraios.generation import Model
from astraios.generation.engines.hf import HFEngine
from astraios.generation.keys import key
from astraios.records import Sample, Sampling
from astraios.runs import read_run
from astraios.studies.serving import load_tuned

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.train

GREEDY = Sampling(n_samples=1, temperature=0, max_new_tokens=40)
SAMPLED = Sampling(n_samples=3, temperature=0.8, top_p=0.9, max_new_tokens=40)
N_PROBLEMS = 12


@pytest.fixture(scope="module")
def long_enough(tmp_path_factory, make_model, tokenizer):
    """Folder of a model whose context holds the task's prompts."""
    folder = tmp_path_factory.mktemp("stored") / "base"
    make_model("gpt_bigcode", n_positions=512).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def run_it(base: Path, device: str, sampling: Sampling, folder: Path) -> None:
    """The run from its beginning, or from where it was left."""
    task = tasks.task("minipack-synthesize")
    config = EvaluationConfig(
        task=task.name,
        task_version=task.version,
        template="octocoder",
        sampling=sampling,
        base_model="tiny",
        limit_problems=N_PROBLEMS,
    )
    load = partial(load_tuned, base, None, None, None, "float32")
    model = Model(load=load, base_model="tiny", device=device, batch_tokens=900)
    with HFEngine.open(model) as engine:
        generate(
            task,
            engine,
            sampling,
            folder,
            config=config,
            problems=task.problems(None),
            template="octocoder",
            limit=N_PROBLEMS,
        )


def begin(work) -> int:
    """A process that does `work`: a fork, so that torch is not loaded again."""
    # Of a server that begins workers for this process its fork could not know whether it lives.
    forkserver._forkserver._stop()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        # what it prints is of no use, and the pipes of the test runner are not its own
        os.dup2(os.open(os.devnull, os.O_RDWR), 2)
        work()
        code = 0
    finally:
        os._exit(code)


def written(folder: Path) -> int:
    """Whole lines of samples."""
    path = folder / "samples.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_and_take_up(work, folder: Path, n_samples: int, seed: int) -> int:
    """Run `work` until it ends by itself, killed after random numbers of samples; how often."""
    chance, n_kills, before = random.Random(seed), 0, 0
    while True:
        upto = before + chance.randint(0, n_samples // 3)
        pid = begin(work)
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                assert os.waitstatus_to_exitcode(status) == 0
                return n_kills
            if written(folder) > upto:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                break
            time.sleep(0.001)
        n_kills += 1
        assert written(folder) >= before  # nothing that was there is lost
        before = written(folder)


def samples(folder: Path) -> dict:
    """All samples of a sealed run; each is there once."""
    found = list(read_run(folder).read("samples", Sample))
    by_key = {key(sample): sample for sample in found}
    assert len(by_key) == len(found)
    return by_key


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_one_process(sampling, long_enough, tmp_path):
    run_it(long_enough, "cpu", sampling, tmp_path / "whole")
    n_samples = N_PROBLEMS * sampling.n_samples
    work = partial(run_it, long_enough, "cpu", sampling, tmp_path / "run")
    n_kills = kill_and_take_up(work, tmp_path / "run", n_samples, sampling.n_samples)
    assert n_kills >= 2
    assert len(samples(tmp_path / "run")) == n_samples
    assert samples(tmp_path / "run") == samples(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_two_workers(sampling, long_enough, tmp_path):
    run_it(long_enough, "cpu", sampling, tmp_path / "whole")
    n_samples = N_PROBLEMS * sampling.n_samples
    work = partial(run_it, long_enough, "cpu,cpu", sampling, tmp_path / "run")
    n_kills = kill_and_take_up(work, tmp_path / "run", n_samples, sampling.n_samples)
    assert n_kills >= 1  # the last samples may come all at once
    assert samples(tmp_path / "run") == samples(tmp_path / "whole")
