"""The gate in front of a real server: a tuned model behind HTTP, and the wrong one."""

from __future__ import annotations

from functools import partial

import pytest

from astraios import methods
from astraios.errors import EngineError
from astraios.evaluation.config import EvaluationConfig
from astraios.evaluation.generate import generate
from astraios.generation import Model
from astraios.records import Sample, Sampling
from astraios.studies.serving import load_tuned, trusted_engine
from astraios.tasks import task as task_named

from .server.running import Running

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

pytestmark = pytest.mark.train

SAMPLING = Sampling(n_samples=1, temperature=0, max_new_tokens=8)


@pytest.fixture(scope="module")
def place(tmp_path_factory, make_model, tokenizer):
    """A base model and a LoRA adapter that is not the identity."""
    folder = tmp_path_factory.mktemp("models")
    base = make_model("gpt_bigcode", n_positions=512)
    base.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    lora = methods.method("lora")
    tuned = lora.apply(base, {})
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in tuned.parameters():
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn_like(weight))
    lora.save(tuned, folder / "adapter")
    return folder


@pytest.fixture(scope="module")
def server(place, tmp_path_factory):
    base = {"folder": str(place / "base")}
    spec = {"models": {"plain": base, "tuned": {**base, "adapter": str(place / "adapter")}}}
    with Running(tmp_path_factory.mktemp("server"), spec) as running:
        yield running


def generated(place, server, root, *, name, parity="check"):
    task = task_named("minipack-synthesize")
    config = EvaluationConfig(
        task=task.name,
        task_version=task.version,
        template="octocoder",
        sampling=SAMPLING,
        base_model=str(place / "base"),
        method="lora",
        adapter="adapter",
        engine="openai",
        engine_options={"url": server.url, "model": name},
        limit_problems=3,
        parity=parity,
    )
    base, adapter = place / "base", place / "adapter"
    model = Model(
        load=partial(load_tuned, base, None, "lora", adapter, "float32"),
        base_model=str(base),
        method="lora",
        adapter=adapter,
        options=config.engine_options,
    )
    problems = task.problems(None)
    with trusted_engine(config, model, task, problems, root) as (engine, found):
        return generate(
            task,
            engine,
            SAMPLING,
            root / "run",
            config=config,
            problems=problems,
            template=config.template,
            limit=config.limit_problems,
            parity=found,
        )


def test_a_server_of_the_tuned_model_is_trusted_and_recorded(place, server, tmp_path):
    run = generated(place, server, tmp_path, name="tuned")
    assert run.manifest.environment["parity"].startswith("3 prompts, ")
    assert " tokens equal to hf" in run.manifest.environment["parity"]
    assert len(list(run.read("samples", Sample))) == 3
    manifest = (run.folder / "manifest.json").read_text()
    assert server.url not in manifest


def test_a_server_of_the_base_model_is_refused_before_it_is_asked(place, server, tmp_path):
    with pytest.raises(EngineError, match=r"engine 'openai' is not equal to hf.*under openai"):
        generated(place, server, tmp_path, name="plain")
    assert not (tmp_path / "run").exists()
    skipped = generated(place, server, tmp_path, name="plain", parity="skip")
    assert skipped.manifest.environment["parity"] == "not checked (parity=skip)"
