"""A base model that stays in memory gives what one gives that was read for the job alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

from tests.studies.tiny import pretrained

from astraios import methods, registry, tasks
from astraios.evaluation.config import EvaluationConfig
from astraios.files import read_records
from astraios.progress import silent
from astraios.records import RunKind, Sample, Sampling, Step
from astraios.runs import is_done
from astraios.studies.bases import Bases, base_of
from astraios.studies.launchers import Phase, Setting
from astraios.studies.plan import Job
from astraios.studies.work import work
from astraios.studies.worker import Worker
from astraios.training import base as training_base
from astraios.training.config import Optimization, TrainingConfig, pack_config

OPTIMIZATION = Optimization(n_steps=3, batch_size=4, learning_rate=5e-3, validate_every=2)
ADAPTERS = tuple(
    name
    for name in registry.names(methods)
    if not methods.method(name).trains_base and name not in ("qlora", "prefix", "prompt")
)
QUICK = ("lora", "bitfit", "pissa")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder with a tiny base model."""
    root = tmp_path_factory.mktemp("study")
    pretrained(root / "base/tiny", n_steps=6)
    job = Job(
        "data/tiny", RunKind.PACK, pack_config(training("lora")), inputs={"base": "base/tiny"}
    )
    work(job, root, sandbox="none", data_dir=None, progress=silent)
    return root


def training(method: str, **more: object) -> TrainingConfig:
    settings = {"n_examples": 24, "n_validation": 4, "layout": "bucketed", **more}
    return TrainingConfig(base_model="tiny", method=method, optimization=OPTIMIZATION, **settings)


def train(method: str, folder: str, **more: object) -> Job:
    inputs = {"base": "base/tiny", "data": "data/tiny"}
    return Job(f"{folder}/{method}", RunKind.TRAIN, training(method, **more), inputs=inputs)


def ask(adapter: Job | None, folder: str) -> Job:
    task = tasks.task("minipack-synthesize")
    config = EvaluationConfig(
        task=task.name,
        task_version=task.version,
        template=task.template,
        sampling=Sampling(n_samples=2, temperature=0.8, top_p=0.95, max_new_tokens=12),
        base_model="tiny",
        method="base" if adapter is None else adapter.config.method,
        adapter=adapter and adapter.id,
        limit_problems=3,
        device="cpu",
    )
    inputs = {"base": "base/tiny"} | ({"adapter": adapter.id} if adapter else {})
    name = adapter.config.method if adapter else "base"
    return Job(f"{folder}/asked-{name}", RunKind.GENERATE, config, inputs=inputs)


def left(root: Path, job: Job) -> dict[str, object]:
    """What of a run must not depend on how its base came into memory."""
    folder = root / job.id
    assert is_done(folder)
    found: dict[str, object] = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*.safetensors"))
    }
    found["steps"] = [
        (step.step, step.loss, step.validation_loss, step.gradient_norm)
        for step in read_records(folder / "metrics.jsonl", Step)
    ]
    samples = sorted(
        read_records(folder / "samples.jsonl", Sample), key=lambda one: (one.problem_id, one.index)
    )
    found["samples"] = [one.model_dump_json() for one in samples]
    return found


def alone(root: Path, job: Job) -> None:
    work(job, root, sandbox="none", data_dir=None, progress=silent)


@pytest.fixture
def n_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes every reading of a base model."""
    read: list[str] = []
    load = training_base.load_base

    def counted(source: object, *more: object, **how: object) -> object:
        read.append(str(source))
        return load(source, *more, **how)

    monkeypatch.setattr(training_base, "load_base", counted)
    from astraios.training import tune

    monkeypatch.setattr(tune, "load_base", counted)
    return read


@pytest.mark.slow
def test_trainings_and_answers_on_one_base_are_those_of_bases_of_their_own(
    place: Path, n_read: list[str]
) -> None:
    setting = Setting(place, "none", None)
    names = QUICK
    for method in names:
        alone(place, train(method, "alone"))
    with Worker(setting) as worker:
        n_read.clear()
        for method in names:
            assert worker.do(train(method, "shared")).phase is Phase.DONE
        assert len(n_read) == 1
    for method in names:
        assert left(place, train(method, "shared")) == left(place, train(method, "alone"))

    tuned = [None, *(train(method, "shared") for method in names)]
    for one in tuned:
        alone(place, ask(one, "alone"))
    with Worker(setting) as worker:
        n_read.clear()
        for one in [*tuned, None]:
            assert worker.do(ask(one, "shared")).phase is Phase.DONE
        assert len(n_read) == 1
    for one in tuned:
        found = left(place, ask(one, "shared"))
        assert found["samples"] and found == left(place, ask(one, "alone"))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_adapter_trains_alike_on_a_shared_base(place: Path, precision: str) -> None:
    def job(method: str, folder: str) -> Job:
        return train(
            method,
            f"{folder}-{precision}",
            base_precision=precision,
            compute_precision="bf16",
            method_options={"oft_block_size": 8} if method == "oft" else {},
        )

    with Worker(Setting(place, "none", None)) as worker:
        for method in ADAPTERS:
            end = worker.do(job(method, "shared"))
            assert end.phase is Phase.DONE, end.note
    for method in ADAPTERS:
        alone(place, job(method, "alone"))
        assert left(place, job(method, "shared")) == left(place, job(method, "alone")), method


def test_a_base_that_a_method_wrote_to_is_read_again(place: Path, n_read: list[str]) -> None:
    job = train("lora", "x")
    bases = Bases()
    source = place / "base/tiny/model"
    for spoil in (True, False, False):
        with bases.trainable("name", job.config, source) as model:
            weight = next(model.parameters())
            if spoil:
                weight.data += 1
            before = weight.data.clone()
    assert len(n_read) == 2
    import torch

    fresh, _ = training_base.load_base(source)
    assert torch.equal(before, next(fresh.parameters()).data)


def test_what_is_shared_is_named_by_all_that_decides_it() -> None:
    job = train("lora", "x")
    assert base_of(job) == base_of(train("ia3", "x"))
    assert base_of(job) != base_of(train("lora", "x", base_precision="bf16"))
    assert base_of(job) != base_of(replace(job, inputs={"base": "other", "data": "data/tiny"}))
    for other in (train("fft", "x"), train("lora", "x", base_precision="int8")):
        assert base_of(other) is None
    asked = ask(job, "x")
    assert base_of(asked) == base_of(ask(None, "x")) != base_of(job)
    for change in (
        {"precision": "bfloat16"},
        {"device": "cuda:1"},
        {"engine_options": {"threads": 2}},
    ):
        other = replace(asked, config=asked.config.model_copy(update=change))
        assert base_of(other) not in (None, base_of(asked))
    for change in ({"engine": "vllm"}, {"device": "cuda:0,cuda:1"}):
        assert base_of(replace(asked, config=asked.config.model_copy(update=change))) is None


@pytest.mark.slow
def test_a_failed_job_leaves_no_base_behind(place: Path, n_read: list[str]) -> None:
    bad = train("lora", "bad", method_options={"r": -1})
    with Worker(Setting(place, "none", None)) as worker:
        assert worker.do(bad).phase is Phase.FAILED
        assert worker.holds is None
        assert worker.do(train("lora", "good")).phase is Phase.DONE
        assert worker.holds == base_of(train("ia3", "x"))
    assert len(n_read) == 2
