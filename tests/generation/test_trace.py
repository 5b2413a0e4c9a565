"""Greedy tokens with log-probabilities: those of a plain forward pass, whatever the batch."""

from __future__ import annotations

import pytest

from astraios import methods
from astraios.generation.engines.hf import HFEngine
from astraios.records import Finish, Prompt, Sampling

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

pytestmark = pytest.mark.train

N_TOKENS = 6


def plain(method, model, tokenizer, text):
    """Greedy ids, and the five largest log-probabilities at each place."""
    ids, told = tokenizer(text)["input_ids"], []
    for _ in range(N_TOKENS):
        row = torch.tensor([ids])
        with torch.no_grad():
            inputs = method.inputs(model, row, torch.ones_like(row))
            logits = method.decoder(model)(**inputs, use_cache=False).logits[0, -1]
        top = logits.log_softmax(-1).topk(5)
        told.append((int(top.indices[0]), top.values.tolist()))
        ids = [*ids, told[-1][0]]
        if ids[-1] == 0:
            break
    return told


@pytest.mark.parametrize("name", ["fft", "lora", "ptuning", "adapterh"])
def test_it_is_that_of_a_plain_pass(name, make_model, tokenizer, make_prompts):
    method = methods.method(name)
    model = method.apply(make_model("gpt_bigcode")).eval()
    prompts = make_prompts(7)
    expected = [plain(method, model, tokenizer, prompt.text) for prompt in prompts]
    for budget in (1, 300, 100_000):
        traces = HFEngine(model, tokenizer, method, batch_tokens=budget).trace(prompts, N_TOKENS)
        assert len(traces) == len(prompts)
        for trace, told in zip(traces, expected, strict=True):
            assert [drawn.id for drawn in trace] == [token for token, _ in told]
            for drawn, (token, values) in zip(trace, told, strict=True):
                assert drawn.log_probability == pytest.approx(values[0], abs=1e-4)
                assert drawn.text == tokenizer.decode([token])
                assert drawn.others[drawn.text] == drawn.log_probability
                assert max(drawn.others.values()) == drawn.log_probability
                # pieces of characters are spelled alike, so fewer may be told
                for value in drawn.others.values():
                    assert min(abs(value - other) for other in values) < 1e-4


def test_stops_do_not_end_it_and_it_says_what_a_completion_says(model, tokenizer, make_prompts):
    engine = HFEngine(model, tokenizer)
    (sample,) = engine.complete(
        make_prompts(1), Sampling(n_samples=1, temperature=0, max_new_tokens=N_TOKENS)
    )
    assert sample.finish is Finish.LENGTH
    (trace,) = engine.trace(make_prompts(1, stops=(sample.completion[:2],)), N_TOKENS)
    assert "".join(drawn.text for drawn in trace) == sample.completion


def test_an_end_token_is_its_last_element_by_name(make_model, tokenizer):
    model = make_model("gpt_bigcode")
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.copy_(model.lm_head.weight[0] * 100)
    (trace,) = HFEngine(model, tokenizer).trace([Prompt(problem_id="a", text="x")], N_TOKENS)
    assert [drawn.text for drawn in trace] == ["<|endoftext|>"]


def test_running_out_of_memory_tells_the_same(make_model, tokenizer, make_prompts):
    expected = HFEngine(make_model("gpt_bigcode"), tokenizer).trace(make_prompts(12), N_TOKENS)
    model = make_model("gpt_bigcode")

    def small(_module, _args, kwargs):
        if kwargs["attention_mask"].numel() > 260:
            raise torch.OutOfMemoryError("too large")

    model.register_forward_pre_hook(small, with_kwargs=True)
    traces = HFEngine(model, tokenizer).trace(make_prompts(12), N_TOKENS)
    assert [[d.id for d in t] for t in traces] == [[d.id for d in t] for t in expected]
