"""Engines: prompts in, completions out. One file an engine in `engines/`, exporting `engine`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from astraios.errors import ConfigError, EngineError
from astraios.records import Prompt, Sample, Sampling

if TYPE_CHECKING:
    from astraios.methods import Method

__all__ = ["Drawn", "Engine", "Finished", "Key", "Model", "check_supports"]

Finished = Callable[[str], bool]
"""Whether a completion needs no more tokens: the rule its task truncates by."""

Key = tuple[str, int, int]
"""What identifies a sample: `(problem_id, index, turn)`."""


@dataclass(frozen=True)
class Model:
    """The model an engine is to speak for, and how it is to be run."""

    load: Callable[[], tuple[Any, Any, Method | None]]
    """Reads the tuned model: (model, tokenizer, what tuned it). Can be pickled: worker processes
    and engines that need no weights here decide themselves when to call it."""
    base_model: str
    """A local folder or a hub id."""
    revision: str | None = None
    """Of the base on the hub."""
    method: str | None = None
    """What tuned it; None for the base model itself."""
    adapter: Path | None = None
    """Folder of the tuned weights."""
    precision: str = "float32"
    device: str = "auto"
    """`auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`, ...; several, one worker process
    each, with commas between them."""
    batch_tokens: int | None = None
    """Budget of one batch: tokens whose keys and values it may hold; None: the engine's default."""
    long_prompts: str = "refuse"
    """What becomes of a prompt that leaves no room for an answer: `refuse`, or `cut` its start."""
    folder: Path | None = None
    """Where an engine may keep what it has to prepare, such as merged weights."""
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """The engine's own settings, by name."""


@dataclass(frozen=True)
class Drawn:
    """One greedily chosen token and how sure the model was."""

    text: str
    """As the engine spells the token alone; broken characters as U+FFFD."""
    log_probability: float
    """Nats."""
    others: Mapping[str, float]
    """The most probable tokens at this place, itself among them, with their log-probabilities."""
    id: int | None = None
    """The token's number, of engines that tell."""


class Engine(ABC):
    """A source of completions. A module of `engines/` exports its final subclass as `engine`.

    An engine is a context: leaving it ends processes and connections that it began.
    """

    name: str
    hosts: str = "none of ours"
    """The methods it can host, as a message tells them: `fft, lora, ...`."""
    runs_model: bool = True
    """Whether a model answers; where none does, there is nothing to compare with `hf`."""

    @classmethod
    @abstractmethod
    def supports(cls, method: str) -> bool:
        """Whether this engine can host adapters of `method`."""

    @classmethod
    def check(cls, model: Model) -> None:
        """Refuse what can be told from the settings alone: nothing is loaded and no server asked.

        Raises:
            ConfigError: if the method cannot be hosted so, or an option is unknown or wrong.
        """
        return

    @classmethod
    def check_tools(cls, model: Model) -> None:
        """Look for the programs and libraries that `open` needs here; nothing is loaded or asked.

        Raises:
            MissingToolError: if something has to be installed; says how.
        """
        return

    @classmethod
    def open(cls, model: Model) -> Engine:
        """The engine for `model`: what a config's `engine` and `engine_options` come to.

        Raises:
            ConfigError: if the method cannot be hosted, or an option is unknown or wrong.
            MissingToolError: if something has to be installed.
            EngineError: if a server is not there, or serves another model.
        """
        raise ConfigError(f"engine {cls.name!r} cannot be opened by a config; make it in Python")

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
        Its `n_completion_tokens` are all tokens drawn, an end token included. What cannot be
        answered although the request is fine is yielded with `finish` fault, and the rest goes on.

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

    def spelled(self, prompt: Prompt) -> Prompt:
        """`prompt` as the model reads it: of kind `chat`, in the model's own spelling.

        Raises:
            DataError: if the model has no spelling for conversations.
        """
        if prompt.kind == "chat":
            raise ConfigError(
                f"engine {self.name!r} cannot spell conversations; use another template than chat"
            )
        return prompt

    def trace(self, prompts: Sequence[Prompt], n_tokens: int) -> list[list[Drawn]]:
        """Greedy continuations token by token, at most `n_tokens`, one list a prompt.

        Stop strings do not end them, end tokens do and are the last element.

        Raises:
            EngineError: if the engine cannot tell tokens and their log-probabilities.
        """
        raise EngineError(f"engine {self.name!r} does not tell its tokens")

    def log_likelihoods(self, prompts: Sequence[Prompt]) -> Iterator[dict[str, float] | None]:
        """For each prompt: each of its `answers` -> log p(answer | prompt) in nats.

        None for a prompt whose answers do not fit the model's context.

        Raises:
            EngineError: if the engine cannot tell likelihoods.
        """
        raise EngineError(f"engine {self.name!r} tells no likelihoods; use hf or vllm")

    def environment(self) -> dict[str, str]:
        """Facts about the engine for a manifest: device, precision."""
        return {}

    def n_parameters(self) -> int:
        """Weights of the model behind the engine; 0 where that is not known."""
        return 0

    def peak_mib(self) -> float | None:
        """Most memory reserved on an accelerator, in MiB; None where the process holds it all."""
        return None

    def helpers_cpu_s(self) -> float:
        """CPU time, in seconds, that processes which the engine began have taken so far."""
        return 0.0

    def close(self) -> None:
        """End what the engine began: processes, connections."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_supports(engine: type[Engine], method: str | None) -> None:
    """Refuse a method that `engine` cannot host; there is no silent fallback.

    Raises:
        ConfigError: says what it can, and which engine hosts every method.
    """
    if method is not None and not engine.supports(method):
        raise ConfigError(
            f"engine {engine.name} cannot host method {method!r} (only {engine.hosts}); "
            "use --engine hf"
        )
