"""The reference engine: any causal language model of transformers, tuned by any method.

Text and counts of a greedy completion are the same for every batch size, and those of a sampled one
depend on (seed, problem, index, turn) only. What is held: equality in float32 up to ties nearer
than rounding, as a batch of another shape adds numbers in another order. What is not held: equality
of long completions across batch sizes in bfloat16 and float16, whose rounding is coarse enough to
meet such ties often.

Several devices are several processes (`_workers.py`). The module imports torch inside functions, so
asking what the engine supports costs nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, final

from astraios import methods
from astraios.errors import EngineError
from astraios.generation import Drawn, Engine, Finished, Key, Model
from astraios.methods import Method
from astraios.records import Prompt, Sample, Sampling

if TYPE_CHECKING:
    import torch
    from torch import nn

    from astraios.generation.engines._loop import Choose, Loop, Source, Watch
    from astraios.generation.engines._rows import Row
    from astraios.generation.engines._workers import WorkersEngine

N_WAITING = 64
"""Prompts whose likelihoods are told together."""


@final
class HFEngine(Engine):
    """Batched decoding with a key-value cache, every method supported.

    Args:
        model: a loaded causal language model, or one that `method` has tuned. It is switched to
            evaluation mode.
        tokenizer: its tokenizer.
        method: what tuned the model; None for a plain model and for full fine-tuning.
        batch_tokens: budget of a batch: tokens whose keys and values it may hold, padding counted.
        memory_mib: the same budget as memory that generation may take beside the weights, in MiB.
            Neither changes a completion. By default a batch may take what the device has left.
        long_prompts: what becomes of a prompt that is too long: `refuse`, or `cut` its beginning.
        device: moves the model there; None leaves it.
        dtype: converts the model to it (`bfloat16`, ...); None leaves it.

    Raises:
        ConfigError: if there is no such device, precision or policy here, or two budgets are given.
        EngineError: if the model remembers more than keys and values (recurrent layers).
    """

    name = "hf"
    hosts = "every method whose prompt can be given row by row"

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        method: Method | None = None,
        *,
        batch_tokens: int | None = None,
        memory_mib: float | None = None,
        long_prompts: str = "refuse",
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> None:
        from astraios.generation.engines._budget import budget
        from astraios.generation.engines._cache import check_model
        from astraios.generation.engines._making import Maker
        from astraios.generation.engines._placing import (
            end_tokens,
            inputs_of,
            n_positions,
            n_virtual,
            placed,
            special_tokens,
        )
        from astraios.generation.engines._questions import Reader
        from astraios.generation.engines._text import Detokenizer

        self._model: Any = placed(model, device, dtype).eval()
        self._decoder: Any = self._model if method is None else method.decoder(self._model)
        check_model(self._decoder.config)
        self._tokenizer = tokenizer
        self._n_positions = n_positions(self._decoder.config)
        self._inputs = inputs_of(self._model, method)
        self._n_virtual = n_virtual(self._inputs, next(self._decoder.parameters()).device)
        self._detokenizer = Detokenizer(tokenizer)
        self._reader = Reader(
            tokenizer,
            self._n_positions,
            self._n_virtual,
            long_prompts,
            self._detokenizer.pieces,
        )
        self._maker = Maker(
            self._reader,
            self._detokenizer,
            end_tokens(self._decoder, tokenizer),
            special_tokens(tokenizer),
        )
        self._budget = budget(self._decoder, batch_tokens, memory_mib)
        self._choose: Choose | None = None
        self._owns = False
        """Whether the model was loaded, or made a view, for this engine."""
        self._settings: dict[str, Any] = {
            "batch_tokens": batch_tokens,
            "memory_mib": memory_mib,
            "long_prompts": long_prompts,
            "dtype": dtype,
        }

    @classmethod
    def supports(cls, method: str) -> bool:
        """Every method whose input can be given row by row: the adapter runs as it was trained."""
        return methods.method(method).batched

    @classmethod
    def check(cls, model: Model) -> None:
        """See `Engine.check`."""
        from astraios.generation.engines._placing import devices_of, options_of

        options_of(model)
        devices_of(model)

    @classmethod
    def open(cls, model: Model) -> HFEngine | WorkersEngine:
        """Load the model here, or in a process for each of several devices.

        Options: `memory_mib` (see the class) and `threads` (of torch on a CPU, in each process).
        """
        from astraios.generation.engines._placing import options_of

        options = options_of(model)
        if "," in model.device:
            from astraios.generation.engines._workers import WorkersEngine

            return WorkersEngine(cls.open, model)
        if options.threads is not None:
            import torch

            torch.set_num_threads(options.threads)
        loaded, tokenizer, method = model.load()
        made = cls(
            loaded,
            tokenizer,
            method,
            batch_tokens=model.batch_tokens,
            memory_mib=options.memory_mib,
            long_prompts=model.long_prompts,
            device=model.device,
            dtype=model.precision,
        )
        made._owns = True
        return made

    def tuned(self, method: str | None, adapter: Path | None) -> Self:
        """An engine for an adapter on this engine's model, which has to be a base model.

        The weights of the base are shared and stay as they are; see `SharedBase`.
        """
        from astraios.generation.engines._view import put_on

        self._must_be_open()
        if method is None or adapter is None:
            return type(self)(self._model, self._tokenizer, **self._settings)
        tuned, tuned_by = put_on(self._model, method, adapter)
        made = type(self)(tuned, self._tokenizer, tuned_by, **self._settings)
        made._owns = True
        return made

    def tuned_by_many(self, adapters: Sequence[tuple[str, Path]]) -> Self:
        """An engine whose rows may each be for another of `adapters`; see `SharedBase.mixed`."""
        from astraios.generation.engines._mixed import mixed
        from astraios.generation.engines._placing import placed
        from astraios.generation.engines._view import put_on

        self._must_be_open()
        tuned = [put_on(self._model, method, adapter) for method, adapter in adapters]
        for one, _ in tuned:
            placed(one, None, self._settings["dtype"])
        model, choose = mixed(self._model, tuned)
        made = type(self)(self._model, self._tokenizer, **self._settings)
        made._model = made._decoder = model
        made._choose = choose
        return made

    def complete(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        finished: Finished | None = None,
        skip: frozenset[Key] = frozenset(),
        progress: Callable[[int], Any] | None = None,
    ) -> Iterator[Sample]:
        """See `Engine.complete`. All prompts are checked before the first token is drawn."""
        from astraios.generation.engines._loop import Queue

        rows = self.rows(prompts, sampling, finished=finished, skip=skip)
        for _, sample in self.answers(Queue(rows), sampling, progress):
            yield sample

    def rows(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        finished: Finished | None = None,
        skip: frozenset[Key] = frozenset(),
        adapter: int = 0,
    ) -> list[Row]:
        """One row a completion that is missing, in the order they are taken; the same everywhere.

        `adapter` is the one to ask, where the model has several (`tuned_by_many`).

        Raises:
            DataError: if a prompt cannot be asked, or two ask for one sample.
        """
        self._must_be_open()
        return self._maker.rows(prompts, sampling, finished, skip, adapter)

    def answers(
        self, source: Source, sampling: Sampling, progress: Callable[[int], Any] | None
    ) -> Iterator[tuple[Row, Sample]]:
        """Decode what `source` gives until it gives no more; each row with its sample."""
        from astraios.generation.engines._likelihoods import Likelihoods
        from astraios.generation.engines._making import sample_of
        from astraios.generation.engines._sampling import Drawing

        loop = self._loop(Drawing(sampling.temperature, sampling.top_p))
        likelihoods: Likelihoods = self._likelihoods()
        for row, told in likelihoods.of(loop.run(source, progress)):
            yield row, sample_of(row, told)

    def spelled(self, prompt: Prompt) -> Prompt:
        """`prompt` as the model reads it: a conversation by the tokenizer's chat template."""
        from astraios.generation.engines._chat import spelled

        return spelled(prompt, self._tokenizer) if prompt.kind == "chat" else prompt

    def trace(self, prompts: Sequence[Prompt], n_tokens: int) -> list[list[Drawn]]:
        """See `Engine.trace`; with the five most probable tokens at each place."""
        from astraios.generation.engines._loop import Queue
        from astraios.generation.engines._rows import Row
        from astraios.generation.engines._sampling import Drawing
        from astraios.generation.engines._trace import Record

        self._must_be_open()
        plain = [p.model_copy(update={"stops": (), "answers": ()}) for p in prompts]
        ending = self._maker.ending(n_tokens)
        rows = [Row(question, 0, 0, ending) for question in self._reader.read(plain, n_tokens)]
        record = Record()
        for _ in self._loop(Drawing(temperature=0), record).run(Queue(rows), None):
            pass
        return [record.of(row, self._detokenizer.spelling) for row in rows]

    def log_likelihoods(self, prompts: Sequence[Prompt]) -> Iterator[dict[str, float] | None]:
        """See `Engine.log_likelihoods`; prompts of similar length share a forward pass."""
        self._must_be_open()
        questions = self._reader.read(prompts, 0, may_fill=True)
        likelihoods = self._likelihoods()
        for start in range(0, len(questions), N_WAITING):
            yield from likelihoods.told(questions[start : start + N_WAITING])

    def environment(self) -> dict[str, str]:
        """Device and precision of the model."""
        self._must_be_open()
        weight = next(self._decoder.parameters())
        precision = str(weight.dtype).removeprefix("torch.")
        return {"device": weight.device.type, "precision": precision}

    def n_parameters(self) -> int:
        """All weights of the tuned model, tied ones counted once."""
        self._must_be_open()
        return sum(weight.numel() for weight in self._model.parameters())

    def peak_mib(self) -> float | None:
        """Memory reserved on the accelerator; None on a CPU."""
        import torch

        self._must_be_open()
        device = next(self._decoder.parameters()).device
        if device.type == "cuda":
            return torch.cuda.max_memory_reserved(device) / 2**20
        return None

    def close(self) -> None:
        """Let go of the model, or of the adapter on a shared base; what was handed in stays."""
        if self._owns and self._model is not None:
            self._model = self._decoder = None
            del self._inputs  # it holds the model too
            gc.collect()  # modules and their hooks refer to each other

    def _must_be_open(self) -> None:
        if self._decoder is None:
            raise EngineError("the engine is closed; open it again")

    def _loop(self, drawing: Any, watch: Watch | None = None) -> Loop:
        from astraios.generation.engines._loop import Loop

        return Loop(
            self._decoder,
            self._inputs,
            self._n_virtual,
            self._n_positions,
            drawing,
            self._budget,
            watch,
            self._choose,
        )

    def _likelihoods(self) -> Any:
        from astraios.generation.engines._budget import prefill_tokens
        from astraios.generation.engines._likelihoods import Likelihoods

        return Likelihoods(
            self._decoder,
            self._inputs,
            self._n_virtual,
            self._n_positions,
            prefill_tokens(next(self._decoder.parameters()).device),
            self._choose,
        )


engine = HFEngine
