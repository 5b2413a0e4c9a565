"""The comparison of engines on real models: `hf` equals itself under every method, and is told from
a model whose adapter was left out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from astraios import methods, registry
from astraios.errors import EngineError
from astraios.evaluation.parity import compare
from astraios.generation.engines.hf import HFEngine

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

pytestmark = pytest.mark.train

N_TOKENS = 12
NAMES = tuple(
    name
    for name in registry.names(methods)
    if HFEngine.supports(name) and name != "qlora"  # LoRA, and needs a base in four bits
)


def unnumbered(traces):
    """As of an engine that does not tell the numbers of tokens."""
    return [[replace(drawn, id=None) for drawn in one] for one in traces]


def compared(prompts, reference, candidate):
    return compare(
        prompts, reference, candidate, engine="other", precision="float32", n_tokens=N_TOKENS
    )


@pytest.mark.parametrize("name", NAMES)
def test_hf_equals_itself_and_not_the_model_without_its_adapter(
    tuned, name, make_model, tokenizer, make_prompts
):
    method = registry.load(methods, "method", name)
    model = tuned(method, make_model("gpt_bigcode"))
    prompts = make_prompts(4)
    ours = HFEngine(model, tokenizer, method).trace(prompts, N_TOKENS)
    again = HFEngine(model, tokenizer, method, batch_tokens=1).trace(prompts, N_TOKENS)
    untuned = HFEngine(make_model("gpt_bigcode"), tokenizer).trace(prompts, N_TOKENS)
    for told, by in ((list, "id"), (unnumbered, "text")):
        found = compared(prompts, told(ours), told(again))
        assert (found.by, found.n_ties) == (by, 0)
        assert found.n_tokens == sum(map(len, ours))
        assert found.largest_difference < 1e-3
        with pytest.raises(EngineError, match="is not equal to hf"):
            compared(prompts, told(ours), told(untuned))


def test_an_engine_that_joins_broken_characters_equals_hf(make_model, tokenizer, make_prompts):
    """A server spells text as it streams: nothing for half a character, then all of it."""
    engine = HFEngine(make_model("gpt_bigcode"), tokenizer)
    prompts = make_prompts(5)
    ours = engine.trace(prompts, N_TOKENS)
    assert any("\N{REPLACEMENT CHARACTER}" in drawn.text for one in ours for drawn in one)
    theirs = []
    for one in ours:
        streamed, before = [], ""
        for n, drawn in enumerate(one, 1):
            text = tokenizer.decode([drawn.id for drawn in one[:n]], skip_special_tokens=True)
            settled = text.rstrip("\N{REPLACEMENT CHARACTER}") if n < len(one) else text
            streamed.append(replace(drawn, id=None, text=settled[len(before) :]))
            before = max(before, settled, key=len)
        theirs.append(streamed)
    assert compared(prompts, ours, theirs).by == "text"
