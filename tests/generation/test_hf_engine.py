"""The hf engine against transformers' own generate, and against itself in other batches."""

from __future__ import annotations

import pytest

from astraios.errors import DataError, EngineError
from astraios.generation.engines.hf import HFEngine
from astraios.records import Finish, Prompt, Sampling

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.train

GREEDY = Sampling(n_samples=1, temperature=0, max_new_tokens=24)
SAMPLED = Sampling(n_samples=4, temperature=0.9, top_p=0.95, max_new_tokens=16, seed=3)
FAMILIES = ("gpt_bigcode", "gpt_bigcode_multi_head", "llama", "opt", "mistral", "bloom")
ONE_ROW, FEW_ROWS, ALL_ROWS = 1, 260, 100_000
"""Budgets in tokens: one row at a time, about three, everything at once."""


def by_key(samples):
    return {(s.problem_id, s.index, s.turn): s for s in samples}


def alone(model, tokenizer, prompt, sampling):
    """Ids that transformers' greedy search gives a prompt on its own."""
    ids = tokenizer(prompt.text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=0,
        )
    return out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_generate_one_prompt_at_a_time(family, make_model, tokenizer, make_prompts):
    model = make_model(family)
    prompts = make_prompts(7)
    expected = {prompt.problem_id: alone(model, tokenizer, prompt, GREEDY) for prompt in prompts}
    for budget in (ONE_ROW, FEW_ROWS, ALL_ROWS):
        for sample in HFEngine(model, tokenizer, batch_tokens=budget).complete(prompts, GREEDY):
            ids = expected[sample.problem_id]
            assert sample.n_completion_tokens == len(ids)
            assert sample.completion == tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )


def test_greedy_text_is_the_same_one_three_and_sixty_four_at_a_time(
    make_model, tokenizer, make_prompts
):
    model = make_model("gpt_bigcode")
    rows = []
    model.register_forward_pre_hook(
        lambda _module, _args, kwargs: rows.append(len(kwargs["attention_mask"])), with_kwargs=True
    )
    prompts = make_prompts(64)
    short = GREEDY.model_copy(update={"max_new_tokens": 8})
    runs, most = [], []
    for budget in (ONE_ROW, FEW_ROWS, ALL_ROWS):
        rows.clear()
        runs.append(
            by_key(HFEngine(model, tokenizer, batch_tokens=budget).complete(prompts, short))
        )
        most.append(max(rows))
    assert runs[0] == runs[1] == runs[2]
    assert most[0] == 1
    assert 3 <= most[1] <= 16
    assert most[2] == 64


@pytest.mark.parametrize("family", FAMILIES)
def test_sampled_text_does_not_depend_on_the_batch(family, make_model, tokenizer, make_prompts):
    model = make_model(family)
    prompts = make_prompts(3)
    runs = [
        by_key(HFEngine(model, tokenizer, batch_tokens=budget).complete(prompts, SAMPLED))
        for budget in (ONE_ROW, FEW_ROWS, ALL_ROWS)
    ]
    assert runs[0] == runs[1] == runs[2]
    assert len(runs[0]) == 12


def test_sampled_text_does_not_depend_on_the_order(model, tokenizer, make_prompts):
    engine = HFEngine(model, tokenizer)
    prompts = make_prompts(9)
    assert by_key(engine.complete(prompts, SAMPLED)) == by_key(
        engine.complete(prompts[::-1], SAMPLED)
    )


def test_a_resumed_run_draws_what_the_whole_run_draws(model, tokenizer, make_prompts):
    engine = HFEngine(model, tokenizer)
    prompts = make_prompts(6)
    whole = by_key(engine.complete(prompts, SAMPLED))
    skip = frozenset(sorted(whole)[::3])
    rest = by_key(engine.complete(prompts, SAMPLED, skip=skip))
    assert rest == {key: sample for key, sample in whole.items() if key not in skip}


def test_samples_of_one_prompt_differ(model, tokenizer, make_prompts):
    samples = list(HFEngine(model, tokenizer).complete(make_prompts(1), SAMPLED))
    assert len({sample.completion for sample in samples}) == 4


def test_another_seed_gives_other_text(model, tokenizer, make_prompts):
    engine = HFEngine(model, tokenizer)
    one = by_key(engine.complete(make_prompts(3), SAMPLED))
    other = by_key(engine.complete(make_prompts(3), SAMPLED.model_copy(update={"seed": 4})))
    assert all(one[key].completion != other[key].completion for key in one)


def test_a_temperature_near_zero_is_greedy(model, tokenizer, make_prompts):
    engine = HFEngine(model, tokenizer)
    prompts = make_prompts(5)
    cold = Sampling(n_samples=1, temperature=1e-9, top_p=1.0, max_new_tokens=24)
    assert by_key(engine.complete(prompts, cold)) == by_key(engine.complete(prompts, GREEDY))


def test_a_prompt_with_an_index_is_answered_once_with_the_sample_it_belongs_to(
    model, tokenizer, make_prompts
):
    engine = HFEngine(model, tokenizer)
    (prompt,) = make_prompts(1)
    shared = by_key(engine.complete([prompt], SAMPLED))
    own = by_key(engine.complete([prompt.model_copy(update={"index": 2})], SAMPLED))
    assert own == {("t/0", 2, 0): shared["t/0", 2, 0]}


def test_generation_ends_with_the_token_that_completes_a_stop(model, tokenizer, make_prompts):
    engine = HFEngine(model, tokenizer)
    (plain,) = engine.complete(make_prompts(1), GREEDY)
    stop = plain.completion[5:8]
    (cut,) = engine.complete(make_prompts(1, stops=("never said", stop)), GREEDY)
    assert cut.finish is Finish.STOP
    assert stop in cut.completion
    assert plain.completion.startswith(cut.completion)
    last = tokenizer(cut.completion)["input_ids"]
    assert stop not in tokenizer.decode(last[:-1])


def test_generation_ends_once_the_rule_says_so(model, tokenizer, make_prompts):
    seen = []

    def finished(completion):
        seen.append(completion)
        return len(completion) >= 12

    (sample,) = HFEngine(model, tokenizer).complete(make_prompts(1), GREEDY, finished=finished)
    assert sample.finish is Finish.STOP
    assert sample.completion == seen[-1]
    assert all(len(text) < 12 for text in seen[:-1])


def test_an_end_token_ends_and_is_not_text(model, tokenizer, make_prompts):
    hot = Sampling(n_samples=40, temperature=3.0, top_p=1.0, max_new_tokens=60)
    samples = list(HFEngine(model, tokenizer).complete(make_prompts(1), hot))
    ended = [sample for sample in samples if sample.finish is Finish.EOS]
    assert ended
    assert all("endoftext" not in sample.completion for sample in ended)


def test_finish_is_length_at_max_new_tokens(model, tokenizer, make_prompts):
    short = GREEDY.model_copy(update={"max_new_tokens": 3})
    for sample in HFEngine(model, tokenizer).complete(make_prompts(5), short):
        assert sample.finish is Finish.LENGTH
        assert sample.n_completion_tokens == 3


def test_finish_is_length_where_the_context_ends(make_model, tokenizer, make_prompts):
    model = make_model("gpt_bigcode", n_positions=40)
    long = GREEDY.model_copy(update={"max_new_tokens": 1_000})
    samples = list(HFEngine(model, tokenizer).complete(make_prompts(3), long))
    ends = {s.n_prompt_tokens + s.n_completion_tokens for s in samples if s.finish != Finish.EOS}
    assert ends == {40}


def test_a_completion_that_fills_the_context_may_wait_for_the_others(make_model, tokenizer):
    model = make_model("gpt_bigcode", n_positions=40)
    long = "x" * 36
    texts = [long, *(f"def f{i}" for i in range(30))]
    prompts = [Prompt(problem_id=str(i), text=text) for i, text in enumerate(texts)]
    sampling = GREEDY.model_copy(update={"max_new_tokens": 20})
    together = by_key(HFEngine(model, tokenizer).complete(prompts, sampling))
    assert together == by_key(
        HFEngine(model, tokenizer, batch_tokens=1).complete(prompts, sampling)
    )
    first = together["0", 0, 0]
    assert first.n_prompt_tokens + first.n_completion_tokens <= 40


def test_a_prompt_longer_than_the_context_is_named(make_model, tokenizer, make_prompts):
    model = make_model("gpt_bigcode", n_positions=40)
    prompts = [*make_prompts(2), Prompt(problem_id="long one", text="x + 1" * 100)]
    n_tokens = len(tokenizer(prompts[-1].text)["input_ids"])
    with pytest.raises(DataError, match=rf"'long one'.* {n_tokens} tokens.* 40 positions"):
        next(HFEngine(model, tokenizer).complete(prompts, GREEDY))


def test_an_empty_prompt_is_named(model, tokenizer):
    with pytest.raises(DataError, match=r"'nothing'.*empty"):
        next(HFEngine(model, tokenizer).complete([Prompt(problem_id="nothing", text="")], GREEDY))


def test_no_prompts_give_no_samples(model, tokenizer):
    assert list(HFEngine(model, tokenizer).complete([], GREEDY)) == []


def test_logits_that_are_no_numbers_are_an_error_that_names_the_problem(
    make_model, tokenizer, make_prompts
):
    model = make_model("gpt_bigcode")
    with torch.no_grad():
        model.transformer.ln_f.weight.fill_(float("nan"))
    with pytest.raises(EngineError, match=r"'t/\d'.*not numbers"):
        list(HFEngine(model, tokenizer).complete(make_prompts(3), GREEDY))


def test_running_out_of_memory_makes_smaller_batches_of_the_same_text(
    make_model, tokenizer, make_prompts
):
    prompts = make_prompts(20)
    expected = by_key(HFEngine(make_model("gpt_bigcode"), tokenizer).complete(prompts, SAMPLED))
    model = make_model("gpt_bigcode")
    seen = []

    def small(_module, _args, kwargs):
        rows, columns = kwargs["attention_mask"].shape
        seen.append(rows * columns)
        if rows * columns > 700:
            raise torch.OutOfMemoryError("too large")

    model.register_forward_pre_hook(small, with_kwargs=True)
    assert by_key(HFEngine(model, tokenizer).complete(prompts, SAMPLED)) == expected
    assert max(seen) > 700


def test_a_model_that_does_not_fit_at_all_is_an_error(make_model, tokenizer, make_prompts):
    model = make_model("gpt_bigcode")

    def never(*_):
        raise torch.OutOfMemoryError("too large")

    model.register_forward_pre_hook(never)
    with pytest.raises(EngineError, match="memory"):
        list(HFEngine(model, tokenizer).complete(make_prompts(2), GREEDY))


def test_the_budget_bounds_every_batch(make_model, tokenizer, make_prompts):
    model = make_model("gpt_bigcode")
    held = []

    def note(_module, _args, kwargs):
        held.append(kwargs["attention_mask"].numel())

    model.register_forward_pre_hook(note, with_kwargs=True)
    budget = 400
    samples = list(
        HFEngine(model, tokenizer, batch_tokens=budget).complete(make_prompts(30), GREEDY)
    )
    assert len(samples) == 30
    assert max(held) <= budget


def test_samples_of_one_prompt_share_its_prefill(make_model, tokenizer, make_prompts):
    model = make_model("gpt_bigcode")
    widths = []

    def note(_module, _args, kwargs):
        if kwargs["input_ids"].shape[1] > 1:
            widths.append(len(kwargs["input_ids"]))

    model.register_forward_pre_hook(note, with_kwargs=True)
    assert len(list(HFEngine(model, tokenizer).complete(make_prompts(3), SAMPLED))) == 12
    assert sum(widths) == 3


def test_progress_counts_every_new_token(model, tokenizer, make_prompts):
    told = []
    samples = list(
        HFEngine(model, tokenizer, batch_tokens=FEW_ROWS).complete(
            make_prompts(7), SAMPLED, progress=told.append
        )
    )
    assert sum(told) == sum(sample.n_completion_tokens for sample in samples)


def test_inference_mode_does_not_leak_to_the_caller(model, tokenizer, make_prompts):
    samples = HFEngine(model, tokenizer).complete(make_prompts(3), GREEDY)
    next(samples)
    assert not torch.is_inference_mode_enabled()


class VirtualTokens:
    """Stands in for a method that puts three trained embeddings in front of a prompt."""

    def __init__(self, model):
        torch.manual_seed(1)
        self.virtual = torch.randn(3, model.config.hidden_size)

    def decoder(self, model):
        return model

    def inputs(self, model, ids, mask):
        embedded = model.get_input_embeddings()(ids)
        rows = []
        for row, keep in zip(embedded, mask.bool(), strict=True):
            rows.append(torch.cat([row[~keep], self.virtual, row[keep]]))
        wide = torch.cat([mask, mask.new_ones(len(mask), 3)], dim=1)
        wide = wide.sort(dim=1).values
        return {
            "inputs_embeds": torch.stack(rows),
            "attention_mask": wide,
            "position_ids": (wide.cumsum(-1) - 1).clamp(min=0),
        }


def test_a_method_with_virtual_tokens_gives_the_same_text_in_every_batch(
    model, tokenizer, make_prompts
):
    method = VirtualTokens(model)
    runs = [
        by_key(
            HFEngine(model, tokenizer, method, batch_tokens=budget).complete(
                make_prompts(9), GREEDY
            )
        )
        for budget in (ONE_ROW, FEW_ROWS, ALL_ROWS)
    ]
    assert runs[0] == runs[1] == runs[2]
    plain = by_key(HFEngine(model, tokenizer).complete(make_prompts(9), GREEDY))
    assert runs[0] != plain


def test_virtual_tokens_count_as_positions(make_model, tokenizer):
    model = make_model("gpt_bigcode", n_positions=40)
    text = "x" * 38
    n_tokens = len(tokenizer(text)["input_ids"])
    with pytest.raises(DataError, match=f"{n_tokens} tokens and 3 virtual tokens"):
        next(
            HFEngine(model, tokenizer, VirtualTokens(model)).complete(
                [Prompt(problem_id="a", text=text)], GREEDY
            )
        )


def test_half_precision_is_that_of_transformers(make_model, tokenizer, make_prompts, tmp_path):
    transformers = pytest.importorskip("transformers")
    make_model("llama").save_pretrained(str(tmp_path))
    load = transformers.AutoModelForCausalLM.from_pretrained
    engine = HFEngine(load(tmp_path, dtype=torch.float32), tokenizer, dtype="bfloat16")
    theirs = load(tmp_path, dtype=torch.bfloat16)
    assert engine._decoder.model.rotary_emb.inv_freq.dtype == torch.float32
    own = dict(engine._decoder.named_parameters())
    assert all(torch.equal(own[name], weight) for name, weight in theirs.named_parameters())
    few = GREEDY.model_copy(update={"max_new_tokens": 6})
    for prompt in make_prompts(5):
        (sample,) = engine.complete([prompt], few)
        ids = alone(theirs, tokenizer, prompt, few)
        assert sample.completion == tokenizer.decode(ids, skip_special_tokens=True)


def test_an_empty_stop_string_stops_nothing(model, tokenizer, make_prompts):
    engine = HFEngine(model, tokenizer)
    (plain,) = engine.complete(make_prompts(1), GREEDY)
    (same,) = engine.complete(make_prompts(1, stops=("",)), GREEDY)
    assert same == plain
