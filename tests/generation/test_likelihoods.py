"""Likelihoods of fixed answers: equal to one plain forward pass for each, whatever the batch."""

from __future__ import annotations

import pytest

from astraios import methods, registry
from astraios.errors import EngineError
from astraios.generation.engines.hf import HFEngine
from astraios.records import Prompt, Sampling

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

pytestmark = pytest.mark.train

GREEDY = Sampling(n_samples=1, temperature=0, max_new_tokens=4)
ANSWERS = (" YES", " no", " naïve 数", "\n\nreturn x")


def plain(method, model, tokenizer, prompt: str, answer: str, longest: int | None = None) -> float:
    """Sum of log-probabilities by a forward pass of one row."""
    ids = tokenizer(prompt)["input_ids"]
    behind = tokenizer(prompt + answer)["input_ids"][len(ids) :]
    ids = ids[-longest:] if longest else ids
    row = torch.tensor([[*ids, *behind]])
    with torch.no_grad():
        inputs = method.inputs(model, row, torch.ones_like(row))
        logits = method.decoder(model)(**inputs, use_cache=False).logits[0, -len(behind) - 1 : -1]
    logs = logits.log_softmax(-1)
    return sum(float(logs[at, token]) for at, token in enumerate(behind))


@pytest.mark.parametrize("name", ["fft", "lora", "ptuning", "adapterh"])
@pytest.mark.parametrize("family", ["gpt_bigcode", "llama"])
def test_they_are_those_of_a_plain_pass(tuned, name, family, make_model, tokenizer, make_prompts):
    method = registry.load(methods, "method", name)
    model = tuned(method, make_model(family))
    prompts = [p.model_copy(update={"answers": ANSWERS}) for p in make_prompts(5)]
    expected = {
        p.problem_id: {a: plain(method, model, tokenizer, p.text, a) for a in ANSWERS}
        for p in prompts
    }
    for budget in (1, 300, 100_000):
        samples = list(
            HFEngine(model, tokenizer, method, batch_tokens=budget).complete(prompts, GREEDY)
        )
        assert len(samples) == len(prompts)
        for sample in samples:
            assert list(sample.likelihoods) == list(ANSWERS)
            assert sample.likelihoods == pytest.approx(expected[sample.problem_id], abs=1e-4)


def test_they_stand_with_the_first_sample_of_a_prompt(model, tokenizer, make_prompts):
    asked, silent = make_prompts(2)
    asked = asked.model_copy(update={"answers": ANSWERS})
    sampling = Sampling(n_samples=3, temperature=1.0, max_new_tokens=3)
    found = {
        (sample.problem_id, sample.index): sample.likelihoods is not None
        for sample in HFEngine(model, tokenizer).complete([asked, silent], sampling)
    }
    assert len(found) == 6
    assert [key for key, told in found.items() if told] == [(asked.problem_id, 0)]


def test_a_prompt_that_is_cut_is_asked_as_it_is_cut(model, tokenizer, make_prompts):
    method = registry.load(methods, "method", "fft")
    (prompt,) = make_prompts(1)
    cut = prompt.model_copy(update={"answers": ANSWERS[:2], "max_length": 5})
    (sample,) = HFEngine(model, tokenizer).complete([cut], GREEDY)
    expected = {a: plain(method, model, tokenizer, prompt.text, a, 5) for a in ANSWERS[:2]}
    assert sample.likelihoods == pytest.approx(expected, abs=1e-4)


def test_answers_beyond_the_context_have_none(model, tokenizer, make_prompts):
    (prompt,) = make_prompts(1)
    (sample,) = HFEngine(model, tokenizer).complete(
        [prompt.model_copy(update={"answers": (" yes", " no " * 200)})], GREEDY
    )
    assert sample.completion is not None and sample.likelihoods is None


@pytest.mark.parametrize("name", ["fft", "lora", "ptuning", "ia3", "parallel"])
def test_they_can_be_asked_alone_in_the_order_of_the_prompts(
    tuned, name, make_model, tokenizer, make_prompts
):
    method = registry.load(methods, "method", name)
    model = tuned(method, make_model("gpt_bigcode"))
    prompts = [
        p.model_copy(update={"answers": ANSWERS[: 1 + i % 3]})
        for i, p in enumerate(make_prompts(9))
    ]
    told = list(HFEngine(model, tokenizer, method).log_likelihoods(prompts))
    for prompt, values in zip(prompts, told, strict=True):
        assert list(values) == list(prompt.answers)
        expected = {a: plain(method, model, tokenizer, prompt.text, a) for a in prompt.answers}
        assert values == pytest.approx(expected, abs=1e-4)


def test_a_text_after_the_end_token_has_its_perplexity(model, tokenizer):
    text = "def add(x, y):\n    return x + y\n"
    ids = tokenizer(text)["input_ids"]
    (told,) = HFEngine(model, tokenizer).log_likelihoods(
        [Prompt(problem_id="text", text="<|endoftext|>", answers=(text,))]
    )
    row = torch.tensor([[0, *ids]])
    with torch.no_grad():
        loss = model(row, labels=row).loss  # transformers' own: mean over all tokens but the first
    assert -told[text] / len(ids) == pytest.approx(float(loss), abs=1e-5)


def test_prompts_and_answers_without_room_have_none(model, tokenizer, make_prompts):
    (short,) = make_prompts(1, answers=(" yes",))
    full = short.model_copy(update={"problem_id": "full", "text": "x + 1 " * 200})
    far = short.model_copy(update={"problem_id": "far", "answers": (" no" * 200,)})
    told = list(HFEngine(model, tokenizer).log_likelihoods([full, short, far]))
    assert told[0] is None and told[1] is not None and told[2] is None
    (cut, _) = HFEngine(model, tokenizer, long_prompts="cut").log_likelihoods([full, short])
    ids = tokenizer(full.text)["input_ids"]
    n_answer = len(tokenizer(" yes")["input_ids"])
    kept = plain(
        registry.load(methods, "method", "fft"),
        model,
        tokenizer,
        full.text,
        " yes",
        model.config.n_positions - n_answer,
    )
    assert len(ids) > model.config.n_positions
    assert cut[" yes"] == pytest.approx(kept, abs=1e-4)


def test_running_out_of_memory_makes_smaller_passes_of_the_same_values(
    make_model, tokenizer, make_prompts
):
    prompts = [p.model_copy(update={"answers": ANSWERS}) for p in make_prompts(9)]
    expected = list(HFEngine(make_model("gpt_bigcode"), tokenizer).log_likelihoods(prompts))
    model = make_model("gpt_bigcode")
    sizes = []

    def small(_module, _args, kwargs):
        sizes.append(kwargs["attention_mask"].numel())
        if sizes[-1] > 200:
            raise torch.OutOfMemoryError("too large")

    model.register_forward_pre_hook(small, with_kwargs=True)
    told = list(HFEngine(model, tokenizer).log_likelihoods(prompts))
    assert max(sizes) > 200
    for values, right in zip(told, expected, strict=True):
        assert values == pytest.approx(right, abs=1e-4)

    def never(*_):
        raise torch.OutOfMemoryError("too large")

    engine = HFEngine(make_model("gpt_bigcode"), tokenizer)
    engine._decoder.register_forward_pre_hook(never)
    with pytest.raises(EngineError, match=r"memory does not hold a pass over \d+ tokens"):
        list(engine.log_likelihoods(prompts[:1]))


def test_answers_of_one_token_share_a_row(model, tokenizer, make_prompts):
    answers = tuple(f" {letter}" for letter in "abcdefghijklmnop")
    (prompt,) = make_prompts(1)
    n_prompt = len(tokenizer(prompt.text)["input_ids"])
    single = tuple(
        a for a in answers if len(tokenizer(prompt.text + a)["input_ids"]) == n_prompt + 1
    )
    assert len(single) > 1
    asked = prompt.model_copy(update={"answers": single})
    seen = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda _module, _inputs, out: seen.append(tuple(out.shape[:2]))
    )
    try:
        (told,) = HFEngine(model, tokenizer).log_likelihoods([asked])
    finally:
        hook.remove()
    assert seen[-1] == (1, n_prompt)
    method = registry.load(methods, "method", "fft")
    expected = {a: plain(method, model, tokenizer, prompt.text, a) for a in single}
    assert told == pytest.approx(expected, abs=1e-4)
