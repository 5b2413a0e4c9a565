"""Base models that stay in memory from one job of a worker to the next.

Reading a base can take longer than what is done with it. One base is kept for generation and one
for training; a job that needs another one lets go of its kind's first.

What is held: completions and trained weights are those of a base that was read for the job alone
(`generation/shared_base.py`; for training, a view of its weights that the method may change as it
likes, and a base whose bits are compared before it is used again). What is not shared: quantised
bases, whose weights carry a state that training changes; full fine-tuning, which would need a
second copy; engines other than `hf` and several devices, whose weights are in other processes.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from astraios import methods
from astraios.evaluation.config import EvaluationConfig
from astraios.generation import Engine, Model
from astraios.studies.plan import Job
from astraios.training.config import TrainingConfig

if TYPE_CHECKING:
    from astraios.generation.shared_base import SharedBase

__all__ = ["Bases", "base_of"]

log = logging.getLogger(__name__)


def base_of(job: Job) -> str | None:
    """Names the base model in memory that `job` can share with others; None if it shares none."""
    config = job.config
    source = job.inputs.get("base")
    if isinstance(config, EvaluationConfig):
        if config.engine != "hf" or "," in config.device:
            return None
        settings = (
            source or config.base_model,
            config.revision,
            config.precision,
            config.device,
            config.batch_tokens,
            config.long_prompts,
            sorted(config.engine_options.items()),
        )
        return f"generate {settings!r}"
    if isinstance(config, TrainingConfig):
        shares = config.base_precision in ("fp32", "bf16") and config.sharding == "none"
        if not shares or methods.method(config.method).trains_base:
            return None
        return f"train {(source or config.base_model, config.revision, config.base_precision)!r}"
    return None


@final
class Bases:
    """What one worker has in memory."""

    def __init__(self) -> None:
        self._shared: tuple[str, SharedBase] | None = None
        self._trained: tuple[str, Any, int] | None = None
        """Name, model, a sum over its bits."""

    @contextmanager
    def engine(self, name: str, config: EvaluationConfig, model: Model) -> Iterator[Engine]:
        """An `hf` engine for `model` on the base called `name`, which is read unless it is here.

        Raises:
            As `generation.shared_base.SharedBase` and its `engine`.
        """
        from astraios.generation.shared_base import SharedBase
        from astraios.studies.serving import model_of

        if self._shared is None or self._shared[0] != name:
            self.forget()
            untuned = config.model_copy(update={"method": None, "adapter": None})
            self._shared = name, SharedBase(model_of(untuned, base=_folder(model)))
        try:
            with self._shared[1].engine(model.method, model.adapter) as engine:
                yield engine
        except BaseException:  # out of memory, or a base that was written to: read it afresh
            self.forget()
            raise

    @contextmanager
    def trainable(self, name: str, config: TrainingConfig, source: str | Path) -> Iterator[Any]:
        """A model over the weights of the base called `name`, for a method to be put on.

        Raises:
            As `training.base.load_base`.
        """
        from astraios.generation.shared_base import bits, view
        from astraios.training.base import load_base

        if self._trained is None or self._trained[0] != name:
            self.forget()
            model, _ = load_base(source, config.revision, precision=config.base_precision)
            self._trained = name, model, bits(model)
        _, base, before = self._trained
        try:
            yield view(base, methods.method(config.method))
        except BaseException:
            self.forget()
            raise
        if bits(base) != before:
            log.info("method %r wrote into its base, which is read again", config.method)
            self.forget()

    def forget(self) -> None:
        """Let go of everything."""
        if self._shared is not None:
            self._shared[1].close()
        self._shared = self._trained = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


def _folder(model: Model) -> Path | None:
    """Where the base lies, if it is a folder."""
    path = Path(model.base_model)
    return path if path.is_dir() else None
