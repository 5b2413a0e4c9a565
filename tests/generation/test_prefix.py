"""Prompts that begin alike share that beginning, and no completion shows it."""

from __future__ import annotations

import pytest

from astraios import methods, registry
from astraios.generation.engines.hf import HFEngine
from astraios.generation.keys import key
from astraios.records import Prompt, Sampling

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

pytestmark = pytest.mark.train

GREEDY = Sampling(n_samples=1, temperature=0, max_new_tokens=8)
DRAWN = Sampling(n_samples=2, temperature=0.8, top_p=0.9, max_new_tokens=8)
BEGINNING = "Question: write a function\n\nAnswer:\n" * 2


def prompts_of(n, beginning=BEGINNING):
    """Prompts of many lengths that begin alike."""
    return [
        Prompt(problem_id=f"p/{i}", text=beginning + f"def f{i}(x):" + " x + 1" * (i * 7 % 5))
        for i in range(n)
    ]


def told(engine, prompts, sampling):
    return {
        key(s): (s.completion, s.finish, s.n_prompt_tokens, s.n_completion_tokens)
        for s in engine.complete(prompts, sampling)
    }


def widths(model, work):
    """Tokens of all passes of `model` while `work` ran, padding counted."""
    seen = []
    inner = model.get_input_embeddings()
    hook = inner.register_forward_hook(lambda _m, _i, out: seen.append(out.shape[:2].numel()))
    try:
        work()
    finally:
        hook.remove()
    return sum(seen)


@pytest.mark.parametrize(
    "family", ["gpt_bigcode", "gpt_bigcode_multi_head", "llama", "mistral", "bloom", "opt"]
)
@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_a_shared_beginning_changes_no_completion(family, sampling, make_model, tokenizer):
    model, prompts = make_model(family), prompts_of(14)
    alone = told(HFEngine(model, tokenizer, batch_tokens=1), prompts, sampling)
    assert told(HFEngine(model, tokenizer, batch_tokens=100_000), prompts, sampling) == alone
    assert told(HFEngine(model, tokenizer, batch_tokens=500), prompts, sampling) == alone


@pytest.mark.parametrize("name", ["lora", "ptuning", "prompt", "ia3", "parallel"])
def test_a_shared_beginning_is_that_of_the_method(tuned, name, make_model, tokenizer):
    method = registry.load(methods, "method", name)
    model, prompts = tuned(method, make_model("llama", n_positions=160)), prompts_of(14)
    alone = told(HFEngine(model, tokenizer, method, batch_tokens=1), prompts, GREEDY)
    together = HFEngine(model, tokenizer, method, batch_tokens=100_000)
    assert told(together, prompts, GREEDY) == alone


def test_a_beginning_is_computed_once(make_model, tokenizer):
    model, prompts = make_model("gpt_bigcode"), prompts_of(20)
    short = Sampling(n_samples=1, temperature=0, max_new_tokens=1)
    n_shared = len(tokenizer(BEGINNING)["input_ids"])
    n_all = sum(len(tokenizer(prompt.text)["input_ids"]) for prompt in prompts)
    engine = HFEngine(model, tokenizer)
    n_computed = widths(model, lambda: list(engine.complete(prompts, short)))
    assert n_computed < n_all - 10 * n_shared


def test_prompts_that_go_different_ways_share_nothing(make_model, tokenizer):
    model = make_model("gpt_bigcode")
    mixed = [*prompts_of(7), *prompts_of(7, beginning="for i in range(10):\n    total += i\n")]
    mixed = [p.model_copy(update={"problem_id": f"q/{n}"}) for n, p in enumerate(mixed)]
    alone = told(HFEngine(model, tokenizer, batch_tokens=1), mixed, GREEDY)
    assert told(HFEngine(model, tokenizer), mixed, GREEDY) == alone


def test_one_prompt_may_be_the_beginning_of_all(make_model, tokenizer):
    model = make_model("gpt_bigcode")
    texts = [BEGINNING + "x" * n for n in range(14)]
    prompts = [Prompt(problem_id=f"p/{n}", text=text) for n, text in enumerate(texts)]
    alone = told(HFEngine(model, tokenizer, batch_tokens=1), prompts, GREEDY)
    assert told(HFEngine(model, tokenizer), prompts, GREEDY) == alone
