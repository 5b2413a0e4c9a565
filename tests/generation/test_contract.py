"""Engines x methods: what is supported keeps the contract, against a real server process."""

from __future__ import annotations

import json

import pytest

from astraios import methods, registry
from astraios.errors import ConfigError
from astraios.generation import check_supports
from astraios.generation.engines.hf import HFEngine
from astraios.generation.engines.openai import OpenAIEngine
from astraios.generation.engines.replay import ReplayEngine
from astraios.generation.engines.vllm import VLLMEngine
from astraios.records import Prompt
from astraios.studies.serving import load_tuned
from astraios.testing import check_engine
from astraios.testing import engines as contract

from .server.serving import ENGINES

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

pytestmark = pytest.mark.train

SERVED = ("openai", "vllm")
LEFT_OUT = ("qlora", "bitfit")
"""The one needs a base in four bits, the other one with biases."""
NAMES = ("base", *(name for name in registry.names(methods) if name not in LEFT_OUT))
QUICK = {
    "hf": ("base", "adapterh"),
    "openai": ("base",),
    "vllm": ("lora", "ia3", "ptuning"),
    "replay": ("base",),
}
"""What is run each time; all the others are marked slow."""


def cases():
    for name in NAMES:
        for engine, kind in ENGINES.items():
            if name == "base" or (kind.supports(name) and HFEngine.supports(name)):
                marks = () if name in QUICK[engine] else pytest.mark.slow
                yield pytest.param(engine, name, marks=marks)


@pytest.fixture(scope="module")
def prompts(make_prompts):
    return make_prompts(3)


@pytest.mark.parametrize(("engine", "name"), tuple(cases()))
def test_engine_keeps_the_contract(engine, name, served, prompts, tmp_path):
    reference = served.reference(name)
    expected = contract.answers(reference, prompts, contract.GREEDY)
    if engine == "replay":
        path = tmp_path / "samples.jsonl"
        path.write_text("".join(s.model_dump_json() + "\n" for s in expected.values()))
        replay = ReplayEngine(path)
        contract.order_is_free(replay, prompts, expected)
        contract.resumes(replay, prompts, contract.GREEDY)
        return
    with served.open(engine, name) as opened:
        contract.greedy_equals(opened, prompts, expected)
        contract.order_is_free(opened, prompts, expected)
        contract.stops_end(opened, reference, prompts)
        contract.seeds_decide(opened, prompts)
        contract.resumes(opened, prompts, contract.SAMPLED)
        contract.refuses_empty(opened, prompts)
        contract.refuses_twins(opened, prompts)
        contract.tokens_equal(opened, reference, prompts)
        if engine != "openai":
            contract.likelihoods_equal(opened, reference, prompts)


def test_the_engine_that_others_are_held_to_keeps_the_whole_contract():
    assert len(check_engine("hf").held) == len(contract.CONTRACT)


@pytest.mark.parametrize("engine", SERVED)
@pytest.mark.parametrize("per_event", [1, 3])
def test_events_and_requests_at_once_change_nothing(engine, per_event, served, make_prompts):
    prompts = make_prompts(6)
    greedy, sampled = contract.GREEDY, contract.SAMPLED
    with served.open(engine, "base") as opened:
        whole = contract.answers(opened, prompts, greedy)
        drawn = contract.answers(opened, prompts, sampled)
    served.server.control(per_event=per_event)
    with served.open(engine, "base", n_at_once=1 + 4 * (per_event == 3)) as opened:
        contract.same(contract.answers(opened, prompts, greedy), whole)
        contract.same(contract.answers(opened, prompts, sampled), drawn)


def test_batch_sizes_change_nothing(served, make_prompts):
    prompts = make_prompts(6)
    reference = contract.answers(served.reference("base"), prompts, contract.SAMPLED)
    for batch_tokens in (90, 400):
        loaded = load_tuned(served.base, None, None, None, "float32")
        with HFEngine(*loaded, batch_tokens=batch_tokens) as engine:
            contract.same(contract.answers(engine, prompts, contract.SAMPLED), reference)


def test_conversations_read_the_same(served):
    messages = [
        {"role": "user", "content": "write f"},
        {"role": "assistant", "content": "def f(x):\n  "},
    ]
    for told in (messages, messages[:1]):
        prompt = Prompt(problem_id="c", kind="chat", text=json.dumps(told))
        found = []
        for engine in ("hf", "openai", "vllm"):
            with served.open(engine, "base") as opened:
                [sample] = opened.complete([opened.spelled(prompt)], contract.GREEDY)
                found.append((sample.completion, sample.finish, sample.n_completion_tokens))
        assert found[0] == found[1] == found[2]


def test_adapters_are_refused_by_servers():
    for name in ("adapterh", "adapterp", "parallel"):
        for engine in (OpenAIEngine, VLLMEngine):
            with pytest.raises(ConfigError, match=r"cannot host method .* use --engine hf"):
                check_supports(engine, name)
    assert not VLLMEngine.supports("prefix")
    with pytest.raises(ConfigError, match=r"\(only fft, lora, merged ia3 .*ptuning by embeddings"):
        check_supports(VLLMEngine, "adapterh")
