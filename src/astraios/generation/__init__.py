"""Engines: prompts in, completions out. One file an engine in `engines/`, exporting `engine`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from astraios.records import Prompt, Sample, Sampling

__all__ = ["Engine", "Finished", "Key"]

Finished = Callable[[str], bool]
"""Whether a completion needs no more tokens: the rule its task truncates by."""

Key = tuple[str, int, int]
"""What identifies a sample: `(problem_id, index, turn)`."""


class Engine(ABC):
    """A source of completions. A module of `engines/` exports its final subclass as `engine`."""

    name: str

    @classmethod
    @abstractmethod
    def supports(cls, method: str) -> bool:
        """Whether this engine can host adapters of `method`."""

    @abstractmethod
    def complete(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        finished: Finished | None = None,
        skip: frozenset[Key] = frozenset(),
        progress: Callable[[int], Any] | None = None,
    ) -> Iterator[Sample]:
        """Yield samples as they finish, in any order.

        A completion is the raw text after the prompt, special tokens left out, up to the token
        that ended it: an end token, or the one that completed a stop string or met `finished`.
        Its `n_completion_tokens` are all tokens drawn, an end token included.

        Args:
            prompts: what to ask; a prompt with an `index` is answered once, others
                `sampling.n_samples` times.
            sampling: how tokens are drawn. Greedy results do not depend on the batch size; sampled
                ones depend on (seed, problem, index, turn) only.
            finished: ends a completion early where the task's truncation cannot change any more.
            skip: keys `(problem_id, index, turn)` that a resumed run already has.
            progress: called with the number of new tokens after every step.

        Raises:
            DataError: if a prompt is empty or does not fit the model's context.
            EngineError: if the model answers what is not a number, or the engine dies.
        """

    def environment(self) -> dict[str, str]:
        """Facts about the engine for a manifest: device, precision."""
        return {}

    def n_parameters(self) -> int:
        """Weights of the model behind the engine; 0 where that is not known."""
        return 0

    def peak_mib(self) -> float | None:
        """Most memory reserved on an accelerator, in MiB; None where the process holds it all."""
        return None
