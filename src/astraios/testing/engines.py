"""What every engine keeps; one that runs a model is held to what `hf` answers for the same one.

The functions that take an opened engine can be called one by one, for engines that the registry
does not open.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import isclose
from pathlib import Path
from types import MappingProxyType
from typing import Any

from astraios import methods, registry
from astraios.errors import ConfigError, ContractError, DataError, EngineError
from astraios.generation import Engine, Model, engines
from astraios.generation.keys import key, prompt_sha, wanted
from astraios.records import Finish, Prompt, Sample, Sampling
from astraios.testing._contract import NotApplicable, Property, properties, refused, require
from astraios.testing._tiny import byte_tokenizer, needs_torch, tiny_model

__all__ = [
    "CONTRACT",
    "GREEDY",
    "SAMPLED",
    "TEXTS",
    "EngineSubject",
    "answers",
    "greedy_equals",
    "likelihoods_equal",
    "order_is_free",
    "refuses_empty",
    "refuses_twins",
    "resumes",
    "same",
    "seeds_decide",
    "some_prompts",
    "stops_end",
    "subject",
    "tokens_equal",
]

N_NEW = 8
GREEDY = Sampling(n_samples=1, temperature=0, max_new_tokens=N_NEW)
SAMPLED = Sampling(n_samples=2, temperature=0.9, top_p=0.9, max_new_tokens=N_NEW)
TEXTS = (
    "def add(x, y):\n    return x + y\n",
    "for i in range(10):\n    total += i\n",
    "Question: write a function\n\nAnswer:\ndef f(x):\n",
    "naïve café 数 déjà vu\n",
)
"""What the tiny model's tokenizer has read."""

Samples = dict[tuple[str, int, int], Sample]


def some_prompts(n: int, **fields: Any) -> list[Prompt]:
    """Prompts of many lengths, in no order of length."""
    return [
        Prompt(problem_id=f"t/{i}", text=f"def f{i}(x):" + " x + 1" * ((i * 7) % 11), **fields)
        for i in range(n)
    ]


# --- an opened engine -------------------------------------------------------------------------


def answers(engine: Engine, prompts: Sequence[Prompt], sampling: Sampling, **more: Any) -> Samples:
    """All samples by key: each that was asked, once, to the prompt that was asked.

    `more` is passed on to `Engine.complete`.

    Raises:
        ContractError: naming the sample that is missing, comes twice, or answers another prompt.
    """
    found = list(engine.complete(prompts, sampling, **more))
    by_key = {key(sample): sample for sample in found}
    require(len(by_key) == len(found), f"{len(found) - len(by_key)} samples come twice")
    skip = more.get("skip", frozenset())
    asked = {(p.problem_id, i, p.turn): p for p in prompts for i in wanted(p, sampling, skip)}
    odd = sorted(by_key.keys() ^ asked.keys())
    require(not odd, f"sample {odd[0] if odd else ''} is missing or was not asked for")
    for name, sample in by_key.items():
        sha = prompt_sha(asked[name].text)
        require(sample.prompt_sha == sha, f"{name}: prompt_sha {sample.prompt_sha}, expected {sha}")
        faulty = sample.finish is Finish.FAULT
        require(faulty == (sample.fault is not None), f"{name}: a fault has a reason, others none")
    return by_key


def same(found: Samples, expected: Samples) -> None:
    """Text, ends and counts are equal, but for what a server does not tell of a prompt."""
    for name, other in expected.items():
        here, there = (
            s and s.model_copy(update={"n_prompt_tokens": 0, "likelihoods": None})
            for s in (found.get(name), other)
        )
        require(here == there, f"{name}: {_told(here)}; expected {_told(there)}")
    require(found.keys() == expected.keys(), "there are more samples than expected")


def _told(sample: Sample | None) -> str:
    if sample is None:
        return "nothing"
    return f"{sample.completion!r} ({sample.finish}, {sample.n_completion_tokens} tokens)"


def greedy_equals(engine: Engine, prompts: Sequence[Prompt], expected: Samples) -> None:
    """Greedy completions are `expected`."""
    same(answers(engine, prompts, GREEDY), expected)


def order_is_free(engine: Engine, prompts: Sequence[Prompt], expected: Samples) -> None:
    """Greedy completions do not depend on the order of prompts, or on which are asked together."""
    same(answers(engine, prompts[::-1], GREEDY), expected)
    alone = answers(engine, prompts[1:2], GREEDY)
    same(alone, {name: expected[name] for name in alone})


def resumes(engine: Engine, prompts: Sequence[Prompt], sampling: Sampling) -> None:
    """What is there is not asked again, and what is missing comes out as it would have."""
    whole = answers(engine, prompts, sampling)
    skip = frozenset(sorted(whole)[::2])
    rest = answers(engine, prompts, sampling, skip=skip)
    same(rest, {name: sample for name, sample in whole.items() if name not in skip})
    require(not answers(engine, prompts, sampling, skip=frozenset(whole)), "all is there, and yet")


def stops_end(engine: Engine, reference: Engine, prompts: Sequence[Prompt]) -> None:
    """Stop strings and the task's rule end completions where they end those of `reference`."""
    plain = [sample.completion for sample in answers(reference, prompts, GREEDY).values()]
    stops = tuple(filter(None, (_letters(text, 2) for text in plain)))
    stopped = [p.model_copy(update={"stops": (*stops, "never")}) for p in prompts]
    expected = answers(reference, stopped, GREEDY)
    _some_stop(expected)
    same(answers(engine, stopped, GREEDY), expected)
    letters = [_letters(text, 1) for text in plain]

    def finished(text: str) -> bool:
        return any(letter and letter in text for letter in letters)

    ended = answers(reference, prompts, GREEDY, finished=finished)
    _some_stop(ended)
    same(answers(engine, prompts, GREEDY, finished=finished), ended)


def _some_stop(samples: Samples) -> None:
    ends = {sample.finish for sample in samples.values()}
    require(Finish.STOP in ends, "no completion of the reference meets a stop; take another model")


def _letters(text: str, n: int) -> str:
    """The first `n` letters in a row behind the beginning: servers that send text hold back what
    may become a character yet, so an end that is none is not at the same token everywhere."""
    places = (text[at : at + n] for at in range(1, len(text) - n + 1))
    return next((part for part in places if part.isascii() and part.isprintable()), "")


def seeds_decide(engine: Engine, prompts: Sequence[Prompt]) -> None:
    """A sample is a function of seed, problem, index and turn."""
    first = answers(engine, prompts, SAMPLED)
    same(answers(engine, prompts[::-1], SAMPLED), first)
    fewer = answers(engine, prompts[:2], SAMPLED.model_copy(update={"n_samples": 1}))
    same(fewer, {name: first[name] for name in fewer})
    texts = [sample.completion for sample in first.values()]
    require(len(set(texts)) > len(texts) // 2, f"{len(texts)} samples, {len(set(texts))} texts")
    other = answers(engine, prompts, SAMPLED.model_copy(update={"seed": 7}))
    require(
        [s.completion for s in other.values()] != [first[name].completion for name in other],
        "another seed draws the same",
    )
    later = [p.model_copy(update={"turn": 1, "index": 0}) for p in prompts]
    again = answers(engine, later, SAMPLED)
    require(
        [s.completion for s in again.values()]
        != [first[problem, 0, 0].completion for problem, _, _ in again],
        "another turn draws the same",
    )


def refuses_empty(engine: Engine, prompts: Sequence[Prompt]) -> None:
    """An empty prompt is refused by its problem, before anything is asked."""
    asked = [*prompts, Prompt(problem_id="nothing", text="")]
    words = ("'nothing'", "turn 0", "the prompt is empty")
    refused(lambda: next(engine.complete(asked, GREEDY)), DataError, *words, what="an empty prompt")


def refuses_twins(engine: Engine, prompts: Sequence[Prompt]) -> None:
    """Two prompts that ask for one sample are refused."""
    asked, words = [*prompts, prompts[0]], (repr(prompts[0].problem_id), "turn 0 is asked twice")
    refused(lambda: next(engine.complete(asked, GREEDY)), DataError, *words, what="a prompt twice")


def tokens_equal(engine: Engine, reference: Engine, prompts: Sequence[Prompt]) -> None:
    """Greedy tokens are those of `reference`, about as probable."""
    pairs = zip(engine.trace(prompts, 5), reference.trace(prompts, 5), strict=True)
    for prompt, (one, other) in zip(prompts, pairs, strict=True):
        require(len(one) == len(other), f"{prompt.problem_id}: {len(one)} tokens, not {len(other)}")
        for here, there in zip(one, other, strict=True):
            what = f"{prompt.problem_id}: token {here.text!r}"
            _near(here.log_probability, there.log_probability, 1e-3, what)
            if here.id is not None:  # text alone does not tell pieces of characters apart
                equal = (here.id, here.text) == (there.id, there.text)
                require(equal, f"{what} ({here.id}), not {there.text!r} ({there.id})")
                _near(max(here.others.values()), here.log_probability, 1e-5, f"{what}, best other")


def likelihoods_equal(engine: Engine, reference: Engine, prompts: Sequence[Prompt]) -> None:
    """Likelihoods of answers are those of `reference`, and come with the first sample alone."""
    asked = [p.model_copy(update={"answers": (" x", "\n    return x", " total")}) for p in prompts]
    expected = list(reference.log_likelihoods(asked))
    found = list(engine.log_likelihoods(asked))
    require(len(found) == len(expected), f"{len(found)} likelihoods for {len(expected)} prompts")
    for prompt, here, there in zip(asked, found, expected, strict=True):
        _alike(prompt.problem_id, here, there)
    place = {prompt.problem_id: n for n, prompt in enumerate(asked)}
    for (problem, index, _), sample in answers(engine, asked[:2], SAMPLED).items():
        _alike(problem, sample.likelihoods, None if index else expected[place[problem]])


def _alike(
    problem: str, found: Mapping[str, float] | None, expected: Mapping[str, float] | None
) -> None:
    require((found or {}).keys() == (expected or {}).keys(), f"{problem}: {found}, not {expected}")
    for answer, value in (expected or {}).items():
        _near((found or {})[answer], value, 1e-3, f"{problem}: answer {answer!r}")


def _near(found: float, expected: float, tolerance: float, what: str) -> None:
    near = isclose(found, expected, rel_tol=1e-6, abs_tol=tolerance)
    require(near, f"{what}: log-probability {found:.5f}, expected {expected:.5f}")


# --- an engine of the registry ----------------------------------------------------------------


@dataclass(frozen=True)
class EngineSubject:
    """An engine, opened once for all properties, and `hf` for the same model.

    It is a context; leaving it closes both.
    """

    engine: type[Engine]
    model: Model
    prompts: tuple[Prompt, ...] = field(default_factory=lambda: tuple(some_prompts(3)))

    @cached_property
    def opened(self) -> Engine:
        """The engine for the model."""
        return self.engine.open(self.model)

    @cached_property
    def reference(self) -> Engine:
        """`hf` for the same model.

        Raises:
            NotApplicable: if the engine runs no model.
        """
        if not self.engine.runs_model:
            raise NotApplicable("runs no model that could be compared")
        hf: type[Engine] = registry.load(engines, "engine", "hf")
        return hf.open(replace(self.model, options={}))

    def close(self) -> None:
        """Close what was opened."""
        for name in ("opened", "reference"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()


@contextmanager
def subject(
    name: str, options: Mapping[str, Any] | None = None, base_model: str | None = None
) -> Iterator[EngineSubject]:
    """The engine called `name` for a model.

    Args:
        name: what the registry calls it.
        options: its own settings: the address of a server, ...
        base_model: folder or hub id of the model it speaks for; by default a tiny random one is
            written to a temporary folder, if the engine runs a model.

    Raises:
        UnknownNameError: if there is no such engine.
        MissingToolError: for one that runs a model, without torch.
    """
    engine: type[Engine] = registry.load(engines, "engine", name)
    if engine.runs_model:
        needs_torch("engines that run a model are")
    with tempfile.TemporaryDirectory() as scratch:
        if base_model is None and engine.runs_model:
            base_model = str(_stored(Path(scratch) / "base"))
        model = Model(
            load=partial(_load, base_model),
            base_model=base_model or "none",
            device="cpu" if base_model and base_model.startswith(scratch) else "auto",
            folder=Path(scratch),
            options=MappingProxyType(dict(options or {})),
        )
        made = EngineSubject(engine, model)
        try:
            yield made
        finally:
            made.close()


def _stored(folder: Path) -> Path:
    """A folder with a tiny random model, whose logits are spread, and its tokenizer."""
    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    tiny_model(vocab_size=320, n_positions=96, initializer_range=0.1, **ends).save_pretrained(
        folder
    )
    byte_tokenizer(TEXTS).save_pretrained(folder)
    return folder


def _load(folder: str | None) -> tuple[Any, Any, None]:
    if folder is None:
        raise ContractError("runs_model is False, and yet the engine loads the model")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder), None


def _it_is_found_by_its_name(of: EngineSubject) -> None:
    listed = registry.names(engines)
    name = of.engine.name
    require(name in listed, f"its name is {name!r}; listed are {', '.join(listed)}")
    require(registry.load(engines, "engine", name) is of.engine, f"{name!r} loads another one")


def _it_says_what_it_hosts(of: EngineSubject) -> None:
    answers_ = {name: of.engine.supports(name) for name in registry.names(methods)}
    odd = [name for name, answer in answers_.items() if not isinstance(answer, bool)]
    require(not odd, f"supports({odd[0] if odd else ''!r}) is neither True nor False")
    told = of.engine.hosts != Engine.hosts
    require(told or not any(answers_.values()), "hosts: tell in words which methods it supports")


def _an_unknown_option_is_refused_by_name(of: EngineSubject) -> None:
    model = replace(of.model, options={**of.model.options, "tmie_s": 1})
    refused(lambda: of.engine.check(model), ConfigError, "'tmie_s'", what="check, option 'tmie_s',")
    refused(lambda: of.engine.open(model), ConfigError, "'tmie_s'", what="open, option 'tmie_s',")


def _every_sample_comes_once(of: EngineSubject) -> None:
    for sampling in (GREEDY, SAMPLED):
        answers(of.opened, of.prompts, sampling)


def _order_changes_no_greedy_completion(of: EngineSubject) -> None:
    order_is_free(of.opened, of.prompts, answers(of.opened, of.prompts, GREEDY))


def _a_resumed_run_asks_for_the_rest(of: EngineSubject) -> None:
    for sampling in (GREEDY, SAMPLED):
        resumes(of.opened, of.prompts, sampling)


def _a_sample_depends_on_its_seed_and_key_alone(of: EngineSubject) -> None:
    _ = of.reference
    seeds_decide(of.opened, of.prompts)


def _an_empty_prompt_is_refused(of: EngineSubject) -> None:
    _ = of.reference
    refuses_empty(of.opened, of.prompts)


def _a_prompt_that_comes_twice_is_refused(of: EngineSubject) -> None:
    refuses_twins(of.opened, of.prompts)


def _greedy_completions_are_those_of_hf(of: EngineSubject) -> None:
    greedy_equals(of.opened, of.prompts, answers(of.reference, of.prompts, GREEDY))


def _stops_end_completions_where_they_end_those_of_hf(of: EngineSubject) -> None:
    stops_end(of.opened, of.reference, of.prompts)


def _tokens_are_those_of_hf_and_about_as_probable(of: EngineSubject) -> None:
    reference = of.reference
    try:
        of.opened.trace(of.prompts[:1], 1)
    except EngineError as error:
        raise NotApplicable(str(error)) from None
    tokens_equal(of.opened, reference, of.prompts)


def _likelihoods_are_those_of_hf(of: EngineSubject) -> None:
    reference = of.reference
    try:
        list(of.opened.log_likelihoods([of.prompts[0].model_copy(update={"answers": (" x",)})]))
    except EngineError as error:
        raise NotApplicable(str(error)) from None
    likelihoods_equal(of.opened, reference, of.prompts)


CONTRACT: tuple[Property[EngineSubject], ...] = properties(
    _it_is_found_by_its_name,
    _it_says_what_it_hosts,
    _an_unknown_option_is_refused_by_name,
    _every_sample_comes_once,
    _order_changes_no_greedy_completion,
    _a_resumed_run_asks_for_the_rest,
    _a_sample_depends_on_its_seed_and_key_alone,
    _an_empty_prompt_is_refused,
    _a_prompt_that_comes_twice_is_refused,
    _greedy_completions_are_those_of_hf,
    _stops_end_completions_where_they_end_those_of_hf,
    _tokens_are_those_of_hf_and_about_as_probable,
    _likelihoods_are_those_of_hf,
)
