"""What every engine has to keep, as functions that take an engine of any kind.

`expected` are the samples of the hf engine, greedy, of the same prompts.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from astraios.errors import DataError
from astraios.generation import Engine
from astraios.generation.keys import key, prompt_sha, wanted
from astraios.records import Finish, Prompt, Sample, Sampling

N_NEW = 8
GREEDY = Sampling(n_samples=1, temperature=0, max_new_tokens=N_NEW)
SAMPLED = Sampling(n_samples=2, temperature=0.9, top_p=0.9, max_new_tokens=N_NEW)

Samples = dict[tuple[str, int, int], Sample]


def answers(engine: Engine, prompts: Sequence[Prompt], sampling: Sampling, **more) -> Samples:
    """All samples by key: each that was asked, once, to the prompt that was asked."""
    found = list(engine.complete(prompts, sampling, **more))
    by_key = {key(sample): sample for sample in found}
    assert len(by_key) == len(found)
    skip = more.get("skip", frozenset())
    asked = {(p.problem_id, i, p.turn): p for p in prompts for i in wanted(p, sampling, skip)}
    assert by_key.keys() == asked.keys()
    for name, sample in by_key.items():
        assert sample.prompt_sha == prompt_sha(asked[name].text)
        assert (sample.finish is Finish.FAULT) == (sample.fault is not None)
    return by_key


def told(sample: Sample) -> Sample:
    """What engines have to agree on: all but what a server does not tell of a prompt."""
    return sample.model_copy(update={"n_prompt_tokens": 0, "likelihoods": None})


def same(found: Samples, expected: Samples) -> None:
    """Text, ends and counts are equal."""
    assert {k: told(s) for k, s in found.items()} == {k: told(s) for k, s in expected.items()}


def greedy_equals(engine: Engine, prompts: Sequence[Prompt], expected: Samples) -> None:
    same(answers(engine, prompts, GREEDY), expected)


def order_is_free(engine: Engine, prompts: Sequence[Prompt], expected: Samples) -> None:
    same(answers(engine, prompts[::-1], GREEDY), expected)
    alone = answers(engine, prompts[1:2], GREEDY)
    same(alone, {name: expected[name] for name in alone})


def resumes(engine: Engine, prompts: Sequence[Prompt], sampling: Sampling) -> None:
    """What is there is not asked again, and what is missing comes out as it would have."""
    whole = answers(engine, prompts, sampling)
    skip = frozenset(sorted(whole)[::2])
    rest = answers(engine, prompts, sampling, skip=skip)
    same(rest, {name: sample for name, sample in whole.items() if name not in skip})
    assert answers(engine, prompts, sampling, skip=frozenset(whole)) == {}


def stops_end(engine: Engine, reference: Engine, prompts: Sequence[Prompt]) -> None:
    """Stop strings and the task's rule end completions where they end those of `reference`."""
    plain = [sample.completion for sample in answers(reference, prompts, GREEDY).values()]
    stops = tuple(filter(None, (_letters(text, 2) for text in plain)))
    stopped = [p.model_copy(update={"stops": (*stops, "never")}) for p in prompts]
    expected = answers(reference, stopped, GREEDY)
    assert Finish.STOP in {sample.finish for sample in expected.values()}
    same(answers(engine, stopped, GREEDY), expected)
    letters = [_letters(text, 1) for text in plain]

    def finished(text: str) -> bool:
        return any(letter and letter in text for letter in letters)

    ended = answers(reference, prompts, GREEDY, finished=finished)
    assert Finish.STOP in {sample.finish for sample in ended.values()}
    same(answers(engine, prompts, GREEDY, finished=finished), ended)


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
    assert len(set(texts)) > len(texts) // 2
    other = answers(engine, prompts, SAMPLED.model_copy(update={"seed": 7}))
    assert [s.completion for s in other.values()] != [first[name].completion for name in other]
    later = [p.model_copy(update={"turn": 1, "index": 0}) for p in prompts]
    again = answers(engine, later, SAMPLED)
    assert [s.completion for s in again.values()] != [
        first[problem, 0, 0].completion for problem, _, _ in again
    ]


def empty_is_refused(engine: Engine, prompts: Sequence[Prompt]) -> None:
    empty = Prompt(problem_id="nothing", text="")
    with pytest.raises(DataError, match="'nothing', turn 0: the prompt is empty"):
        next(engine.complete([*prompts, empty], GREEDY))


def twins_are_refused(engine: Engine, prompts: Sequence[Prompt]) -> None:
    with pytest.raises(DataError, match=f"{prompts[0].problem_id!r}, turn 0 is asked twice"):
        next(engine.complete([*prompts, prompts[0]], GREEDY))


def tokens_equal(engine: Engine, reference: Engine, prompts: Sequence[Prompt]) -> None:
    """Greedy tokens are the same, about as probable."""
    for one, other in zip(engine.trace(prompts, 5), reference.trace(prompts, 5), strict=True):
        assert len(one) == len(other)
        for here, there in zip(one, other, strict=True):
            assert here.log_probability == pytest.approx(there.log_probability, abs=1e-3)
            if here.id is not None:  # text alone does not tell pieces of characters apart
                assert (here.id, here.text) == (there.id, there.text)
                assert max(here.others.values()) == pytest.approx(here.log_probability)


def likelihoods_equal(engine: Engine, reference: Engine, prompts: Sequence[Prompt]) -> None:
    asked = [p.model_copy(update={"answers": (" x", "\n    return x", " total")}) for p in prompts]
    expected = list(reference.log_likelihoods(asked))
    assert list(engine.log_likelihoods(asked)) == [pytest.approx(e, abs=1e-3) for e in expected]
    samples = answers(engine, asked[:2], SAMPLED)
    for (problem, index, _), sample in samples.items():
        place = next(n for n, p in enumerate(asked) if p.problem_id == problem)
        if index == 0:
            assert sample.likelihoods == pytest.approx(expected[place], abs=1e-3)
        else:
            assert sample.likelihoods is None
