"""One loaded base model, and an engine for every adapter that is to be put on it.

    with SharedBase(base) as shared:
        for method, folder in adapters:
            with shared.engine(method, folder) as engine:
                ...

Reading a base can take longer than asking it a small task, and a study asks one base with one
adapter after the other. Here the base is read once; its weights are in memory once and stay as they
are, whatever is put on them (`engines/_view.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

from astraios.errors import ConfigError
from astraios.generation import Engine, Finished, Key, Model, check_supports
from astraios.generation.engines._view import bits, view
from astraios.generation.engines.hf import HFEngine
from astraios.records import Prompt, Sample, Sampling

__all__ = ["Mixed", "SharedBase", "bits", "view"]


@final
class SharedBase:
    """A base model in memory that several adapters are served from, one after another or at once.

    Args:
        base: the base model itself: its `load` gives it untuned, `method` and `adapter` are None.
            Precision, device, budget and options hold for every engine. What `load` reads has to
            be of that precision and for that device already, or is converted once.

    Raises:
        ConfigError: if `base` is tuned, or as `HFEngine.open`.
        MissingDataError: if there is no such model.
    """

    def __init__(self, base: Model) -> None:
        if base.method is not None or base.adapter is not None:
            raise ConfigError(
                f"a shared base is the base model itself, and {base.base_model!r} was given with "
                f"method {base.method!r}; name the adapter to `engine`"
            )
        self._engine = HFEngine.open(base)

    def engine(self, method: str | None = None, adapter: Path | None = None) -> Engine:
        """An engine for the adapter in folder `adapter`, or for the base itself.

        Its completions are those of an engine that loaded base and adapter for itself. Closing it
        frees the adapter and leaves the base; others may be open beside it.

        Args:
            method: what the adapter was trained by.
            adapter: folder of the tuned weights; None only without a method.

        Raises:
            ConfigError: if the method cannot be hosted.
            MissingDataError: if files are missing.
            MethodError: if the adapter is of another method or base; the base is as before.
        """
        if (method is None) != (adapter is None):
            raise ConfigError("give a method and the folder of its adapter, or neither")
        check_supports(HFEngine, method)
        return self._engine.tuned(method, adapter)

    def mixed(self, adapters: Mapping[str, tuple[str, Path]]) -> Mixed:
        """Several LoRA adapters asked at once, their rows in one batch.

        It is faster than one after the other where each is asked so little that its rows alone
        would leave most of a batch empty; `docs/generation.md` has figures.

        Args:
            adapters: a name of the caller's choice -> method and folder, two to be of use.

        Raises:
            ConfigError: if the base is on several devices, or there is no adapter.
            MethodError: if an adapter is no plain LoRA, or for another base.
        """
        if not isinstance(self._engine, HFEngine):
            raise ConfigError("adapters are mixed on one device; this base is on several")
        if not adapters:
            raise ConfigError("there is no adapter to mix; name some, or use SharedBase.engine")
        return Mixed(self._engine, adapters)

    def close(self) -> None:
        """Let go of the base; end the processes that hold it."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@final
class Mixed:
    """Adapters that are asked in one batch; made by `SharedBase.mixed`."""

    def __init__(self, base: HFEngine, adapters: Mapping[str, tuple[str, Path]]) -> None:
        self._names = tuple(adapters)
        self._engine = base.tuned_by_many(tuple(adapters.values()))

    def complete(
        self,
        asked: Mapping[str, Sequence[Prompt]],
        sampling: Sampling,
        *,
        finished: Finished | None = None,
        skip: Mapping[str, frozenset[Key]] | None = None,
        progress: Callable[[int], Any] | None = None,
    ) -> Iterator[tuple[str, Sample]]:
        """As `Engine.complete` of each adapter, in any order: its name and a sample.

        Args:
            asked: name of an adapter -> its prompts.
            skip: name -> keys that are there already.

        Raises:
            ConfigError: if a name is none of the adapters'.
        """
        from astraios.generation.engines._loop import Queue

        rows = []
        for name, prompts in asked.items():
            if name not in self._names:
                raise ConfigError(
                    f"no adapter is called {name!r}; there are: {', '.join(self._names)}"
                )
            rows += self._engine.rows(
                prompts,
                sampling,
                finished=finished,
                skip=(skip or {}).get(name, frozenset()),
                adapter=self._names.index(name),
            )
        for row, sample in self._engine.answers(Queue(rows), sampling, progress):
            yield self._names[row.question.adapter], sample
