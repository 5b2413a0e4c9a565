"""Prompts to rows, one a completion that is missing, and rows that ended to samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from astraios.generation import Finished, Key
from astraios.generation.engines._loop import in_order
from astraios.generation.engines._questions import Reader
from astraios.generation.engines._rows import Ending, Row
from astraios.generation.engines._text import Detokenizer
from astraios.generation.keys import check_distinct, stream, wanted
from astraios.records import Prompt, Sample, Sampling

__all__ = ["Maker", "sample_of"]


@dataclass(frozen=True)
class Maker:
    """Makes the rows of one model."""

    reader: Reader
    detokenizer: Detokenizer
    ends: frozenset[int]
    """Tokens that end every completion."""
    special: dict[str, int]
    """Tokens that are no text, by name. A stop string that is such a name would never become a part
    of the text, so the token itself ends the completion."""

    def rows(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        finished: Finished | None,
        skip: frozenset[Key],
        adapter: int,
    ) -> list[Row]:
        """See `HFEngine.rows`."""
        check_distinct(prompts)
        asked = [(prompt, wanted(prompt, sampling, skip)) for prompt in prompts]
        asked = [(prompt, indices) for prompt, indices in asked if indices]
        questions = self.reader.read([p for p, _ in asked], sampling.max_new_tokens)
        if adapter:
            questions = [replace(question, adapter=adapter) for question in questions]
        endings = {
            stops: self.ending(sampling.max_new_tokens, finished, stops)
            for stops in {prompt.stops for prompt, _ in asked}
        }
        return in_order(
            Row(question, index, stream(sampling.seed, *place), endings[prompt.stops])
            for question, (prompt, indices) in zip(questions, asked, strict=True)
            for index in indices
            for place in [(prompt.problem_id, index, prompt.turn)]
        )

    def ending(
        self, max_new_tokens: int, finished: Finished | None = None, stops: Sequence[str] = ()
    ) -> Ending:
        """What ends completions of prompts with these `stops`."""
        named = {self.special[stop] for stop in stops if stop in self.special}
        return Ending(self.ends | named, max_new_tokens, finished, self.detokenizer)


def sample_of(row: Row, likelihoods: dict[str, float] | None) -> Sample:
    """What `row`, which has ended, says."""
    assert row.finish is not None
    question = row.question
    return Sample(
        problem_id=question.problem_id,
        index=row.index,
        turn=question.turn,
        prompt_sha=question.sha,
        completion=row.text(),
        finish=row.finish,
        n_prompt_tokens=len(question.ids),
        n_completion_tokens=len(row.ids),
        n_cut_tokens=question.n_cut,
        likelihoods=likelihoods,
    )
