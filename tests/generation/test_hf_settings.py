"""What the hf engine is opened with, what it refuses, and what is left of it when it is closed."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest

from astraios import registry
from astraios.errors import ConfigError, DataError, EngineError
from astraios.generation import Model, engines
from astraios.generation.engines.hf import HFEngine
from astraios.records import Finish, Prompt, Sampling

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.train

GREEDY = Sampling(n_samples=1, temperature=0, max_new_tokens=8)
SAMPLED = Sampling(n_samples=4, temperature=0.9, top_p=0.95, max_new_tokens=16, seed=3)


def test_the_engine_is_found_by_its_name():
    assert registry.load(engines, "engine", "hf") is HFEngine
    assert HFEngine.supports("adapterh")


def test_a_recurrent_model_is_refused(tokenizer):
    transformers = pytest.importorskip("transformers")
    config = transformers.MambaConfig(
        vocab_size=320, hidden_size=16, num_hidden_layers=1, state_size=4
    )
    with pytest.raises(EngineError, match="'mamba'"):
        HFEngine(transformers.MambaForCausalLM(config), tokenizer)


@pytest.mark.parametrize(
    "place", [{"device": "nowhere"}, {"device": "cuda:99"}, {"dtype": "float17"}]
)
def test_a_device_or_precision_that_is_not_here_is_refused(place, model, tokenizer):
    with pytest.raises(ConfigError, match=next(iter(place.values()))):
        HFEngine(model, tokenizer, **place)


def test_the_precision_is_named_in_the_environment(make_model, tokenizer, make_prompts):
    engine = HFEngine(make_model("gpt_bigcode"), tokenizer, dtype="bfloat16", device="cpu")
    assert engine.environment() == {"device": "cpu", "precision": "bfloat16"}
    assert len(list(engine.complete(make_prompts(3), SAMPLED))) == 12


def test_asking_what_the_engine_supports_needs_no_torch(tmp_path: Path):
    import subprocess
    import sys

    code = (
        "import sys; from astraios.generation.engines.hf import engine; "
        "assert engine.supports('lora'); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"options": {"memory_mib": 50}, "batch_tokens": 100}, "either batch_tokens or memory_mib"),
        ({"options": {"memory_mib": math.nan}}, "memory_mib.*nan"),
        ({"options": {"memory_mib": math.inf}}, "memory_mib.*inf"),
        ({"options": {"memory_mib": "50"}}, "memory_mib.*'50'"),
        ({"options": {"rows": 4}}, "no option 'rows'"),
    ],
)
def test_settings_are_refused_before_anything_is_loaded(fields, said):
    with pytest.raises(ConfigError, match=said):
        HFEngine.check(Model(load=lambda: pytest.fail("loaded"), base_model="tiny", **fields))


def test_two_prompts_for_one_sample_are_refused(model, tokenizer, make_prompts):
    engine = HFEngine(model, tokenizer)
    (prompt,) = make_prompts(1)
    second = prompt.model_copy(update={"index": 1})
    for twice in ([prompt, prompt], [prompt, second], [second, prompt], [second, second]):
        with pytest.raises(DataError, match=r"'t/0', turn 0.* asked twice"):
            next(engine.complete(twice, SAMPLED))
    indexed = [prompt.model_copy(update={"index": index}) for index in range(4)]
    whole = {s.index: s.completion for s in engine.complete([prompt], SAMPLED)}
    assert {s.index: s.completion for s in engine.complete(indexed, SAMPLED)} == whole


def test_a_stop_that_names_a_special_token_ends_with_it(model, tokenizer):
    """Such a token is no text, so that its name never appears in a completion."""
    engine = HFEngine(model, tokenizer)
    hot = Sampling(n_samples=60, temperature=3.0, top_p=1.0, max_new_tokens=60)
    prompt = Prompt(problem_id="0", text="def f", stops=("never said",))
    plain = {s.index: s for s in engine.complete([prompt], hot)}
    asked = prompt.model_copy(update={"stops": ("<fim>",)})
    ended = {s.index: s for s in engine.complete([asked], hot)}
    shorter = [i for i in plain if ended[i].n_completion_tokens < plain[i].n_completion_tokens]
    assert shorter
    for index in shorter:
        assert ended[index].finish is Finish.EOS
        assert plain[index].completion.startswith(ended[index].completion.rstrip("\ufffd"))
    same = set(plain).difference(shorter)
    assert all(ended[index].completion == plain[index].completion for index in same)


def test_what_a_tokenizer_puts_around_a_text_is_no_part_of_an_answer(model, tokenizer):
    processors = pytest.importorskip("tokenizers.processors")
    framing = copy.deepcopy(tokenizer)
    framing.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<fim> $A <|endoftext|>", special_tokens=[("<fim>", 1), ("<|endoftext|>", 0)]
    )
    framed, plain = HFEngine(model, framing), HFEngine(model, tokenizer)
    answers = (" x", "<|endoftext|>", " x<|endoftext|>")
    for text in ("def f(x):", "a<|endoftext|>"):
        told = [
            next(engine.log_likelihoods([Prompt(problem_id="0", text=said, answers=answers)]))
            for engine, said in ((framed, text), (plain, "<fim>" + text))
        ]
        assert told[0] == pytest.approx(told[1], abs=1e-4)
        (one,) = framed.complete([Prompt(problem_id="0", text=text)], GREEDY)
        (other,) = plain.complete([Prompt(problem_id="0", text="<fim>" + text)], GREEDY)
        assert one.completion == other.completion
        assert one.n_prompt_tokens == other.n_prompt_tokens


def test_a_closed_engine_says_so(described, make_prompts):
    engine = HFEngine.open(described())
    weights = engine.n_parameters()
    assert weights > 0
    engine.close()
    engine.close()
    for ask in (
        lambda: next(engine.complete(make_prompts(1), GREEDY)),
        lambda: next(engine.log_likelihoods(make_prompts(1))),
        lambda: engine.trace(make_prompts(1), 2),
        lambda: engine.tuned(None, None),
        engine.environment,
        engine.n_parameters,
        engine.peak_mib,
    ):
        with pytest.raises(EngineError, match="closed"):
            ask()


def test_a_model_that_was_handed_in_stays_when_the_engine_is_closed(model, tokenizer, make_prompts):
    with HFEngine(model, tokenizer) as engine:
        pass
    assert len(list(engine.complete(make_prompts(1), GREEDY))) == 1
