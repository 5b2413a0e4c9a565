"""Engine hf on several devices: a worker process each, which take what is left of the work.

Completions are those of one process: greedy ones do not depend on the batch they are made in, and
sampled ones on (seed, problem, index, turn) only. A worker that dies is done without.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, final

from astraios import methods
from astraios.errors import ConfigError, EngineError
from astraios.generation import Drawn, Engine, Finished, Key, Model
from astraios.generation.engines._placing import devices_of, options_of
from astraios.generation.engines._pool import BASE, Pool
from astraios.generation.engines._stealing import Request
from astraios.generation.keys import wanted
from astraios.records import Prompt, Sample, Sampling

__all__ = ["WorkersEngine"]

N_PROMPTS = 16
"""Prompts whose likelihoods a worker is asked for at a time."""


@final
class WorkersEngine(Engine):
    """What `HFEngine.open` gives for several devices; see `HFEngine`.

    Args:
        opener: makes the engine in each worker: `HFEngine.open`.
        model: what each worker loads; its `load` is pickled.

    Raises:
        ConfigError: if a device is not there, an option is wrong, or `load` cannot be pickled.
        AstraiosError: what a worker raises while it loads.
    """

    name = "hf"
    hosts = "every method whose prompt can be given row by row"

    def __init__(
        self,
        opener: Callable[[Model], Any],
        model: Model,
        *,
        _shared: tuple[Pool, Any] | None = None,
    ) -> None:
        self._opener = opener
        self._model = model
        self._devices = devices_of(model)
        options_of(model)
        self._adapter: tuple[int, str, Path] | None = None
        """On the base that the workers share: its engine there, method and folder."""
        self._numbers = itertools.count(1) if _shared is None else _shared[1]
        if _shared is None:
            _must_pickle(model.load, "the model's `load`")
        self._pool = Pool(opener, model, self._devices) if _shared is None else _shared[0]
        self._owns = _shared is None
        self._opened = self._pool.generation
        self._facts = self._pool.facts

    @classmethod
    def supports(cls, method: str) -> bool:
        """As one process does."""
        return methods.method(method).batched

    def tuned(self, method: str | None, adapter: Path | None) -> Self:
        """An engine for an adapter on the base that all workers have loaded; see `SharedBase`."""
        made = type(self)(self._opener, self._model, _shared=(self._pool, self._numbers))
        if method is not None and adapter is not None:
            made._adapter = (next(self._numbers), method, adapter)
            made._open()
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
        """See `Engine.complete`. An iterator that is closed early ends the workers' processes; the
        next call begins them anew."""
        n_rows = sum(len(wanted(prompt, sampling, skip)) for prompt in prompts)
        if not n_rows:
            return
        _must_pickle(finished, "the rule that ends completions")
        asked = {"prompts": list(prompts), "finished": finished, "skip": skip}
        request = Request(
            self._ready(), ("answer", self._engine, asked, sampling), n_rows
        ).answers()
        try:
            for told in request:
                if isinstance(told, Sample):
                    yield told
                elif progress is not None and told:
                    progress(told)
        finally:
            request.close()

    def spelled(self, prompt: Prompt) -> Prompt:
        """See `HFEngine.spelled`."""
        if prompt.kind != "chat":
            return prompt
        told: Prompt = self._ready().call(self._engine, "spelled", prompt)
        return told

    def trace(self, prompts: Sequence[Prompt], n_tokens: int) -> list[list[Drawn]]:
        """See `HFEngine.trace`; one worker answers."""
        told: list[list[Drawn]] = self._ready().call(self._engine, "trace", prompts, n_tokens)
        return told

    def log_likelihoods(self, prompts: Sequence[Prompt]) -> Iterator[dict[str, float] | None]:
        """See `HFEngine.log_likelihoods`; all workers answer."""
        parts = [
            (list(prompts[start : start + N_PROMPTS]),)
            for start in range(0, len(prompts), N_PROMPTS)
        ]
        for told in self._ready().map(self._engine, "log_likelihoods", parts):
            yield from told

    def environment(self) -> dict[str, str]:
        """Device and precision of one worker, and how many there were to begin with."""
        return {**self._facts[0], "workers": str(len(self._devices))}

    def n_parameters(self) -> int:
        """Weights of the model, which every worker holds."""
        return self._facts[1]

    def peak_mib(self) -> float | None:
        """On accelerators the most that one of them reserved; on a CPU the sum of the workers'
        largest resident memories, which is in no other process."""
        peaks = self._pool.peaks_mib.values()
        return max(peaks, default=0.0) if self._facts[0].get("device") != "cpu" else sum(peaks)

    def helpers_cpu_s(self) -> float:
        """CPU time of all workers, those that have ended included."""
        return sum(self._pool.cpu_s.values())

    def close(self) -> None:
        """End the processes; an adapter on a shared base is only forgotten."""
        if self._owns:
            self._pool.end()
        elif self._adapter is not None and self._opened == self._pool.generation:
            with suppress(EngineError):  # of workers that are gone there is nothing to forget
                self._pool.close(self._engine)

    @property
    def _engine(self) -> int:
        return BASE if self._adapter is None else self._adapter[0]

    def _ready(self) -> Pool:
        """The pool, with this engine open in each of its workers."""
        self._pool.begin()
        if self._opened != self._pool.generation:
            self._open()
        return self._pool

    def _open(self) -> None:
        self._pool.begin()
        if self._adapter is not None:
            self._facts = self._pool.open(*self._adapter)
        self._opened = self._pool.generation


def _must_pickle(what: Any, name: str) -> None:
    try:
        pickle.dumps(what)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{name} cannot be sent to worker processes ({error}); make it of functions of a "
            "module, or use one device"
        ) from None
