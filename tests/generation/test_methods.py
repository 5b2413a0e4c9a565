"""The hf engine with every tuning method: equal to a plain loop without cache and batch."""

from __future__ import annotations

import pytest

from astraios import methods, registry
from astraios.generation.engines.hf import HFEngine
from astraios.records import Sampling

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

pytestmark = pytest.mark.train

GREEDY = Sampling(n_samples=1, temperature=0, max_new_tokens=8)


def slow(method, model, tokenizer, prompt):
    """Greedy tokens by whole forward passes of one row."""
    ids = tokenizer(prompt.text)["input_ids"]
    n_prompt = len(ids)
    while len(ids) - n_prompt < GREEDY.max_new_tokens:
        row = torch.tensor([ids])
        with torch.inference_mode():
            inputs = method.inputs(model, row, torch.ones_like(row))
            logits = method.decoder(model)(**inputs, use_cache=False).logits[0, -1]
        ids.append(int(logits.argmax()))
        if ids[-1] == 0:
            break
    return ids[n_prompt:]


NAMES = tuple(
    name
    for name in registry.names(methods)
    if HFEngine.supports(name) and name != "qlora"  # LoRA, and needs a base in four bits
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family", ["gpt_bigcode", "llama"])
def test_batched_text_equals_a_plain_loop(tuned, name, family, make_model, tokenizer, make_prompts):
    method = registry.load(methods, "method", name)
    if name == "bitfit" and family == "llama":
        pytest.skip("the architecture has no biases")
    model = tuned(method, make_model(family))
    prompts = make_prompts(6)
    expected = {p.problem_id: slow(method, model, tokenizer, p) for p in prompts}
    for budget in (1, 300, 100_000):
        for sample in HFEngine(model, tokenizer, method, batch_tokens=budget).complete(
            prompts, GREEDY
        ):
            ids = expected[sample.problem_id]
            assert sample.n_completion_tokens == len(ids)
            assert sample.completion == tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
