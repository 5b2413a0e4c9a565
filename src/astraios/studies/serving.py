"""From the config of an evaluation to the engine that answers it: the one place that knows both.

The base model is read when an engine asks for it, so engines that speak to a server never load any.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from astraios import methods, registry
from astraios.evaluation.config import EvaluationConfig
from astraios.generation import Engine, Model, check_supports, engines
from astraios.methods import Method
from astraios.studies.study import BASE

__all__ = ["engine_class", "load_tuned", "model_of", "open_engine"]


def engine_class(name: str) -> type[Engine]:
    """The engine called `name`.

    Raises:
        UnknownNameError: if there is none.
    """
    found: type[Engine] = registry.load(engines, "engine", name)
    return found


def load_tuned(
    source: str | Path,
    revision: str | None,
    method: str | None,
    adapter: Path | None,
    precision: str,
) -> tuple[Any, Any, Method | None]:
    """Model, tokenizer and what tuned it: a base, with the adapter on it if there is one.

    Raises:
        MissingDataError: if one of them is not there.
        MethodError: if the adapter is for another base.
    """
    from astraios.training.base import load_base

    in_memory: Any = "bf16" if precision == "bfloat16" else "fp32"
    model, tokenizer = load_base(source, revision, precision=in_memory)
    if method is None:
        return model, tokenizer, None
    tuned_by = methods.method(method)
    if adapter is not None:
        model = tuned_by.load(model, adapter)
    return model, tokenizer, tuned_by


def model_of(
    config: EvaluationConfig,
    *,
    base: Path | None = None,
    adapter: Path | None = None,
    folder: Path | None = None,
) -> Model:
    """What the engine of `config` is to speak for.

    Args:
        config: names base model, method, engine and settings.
        base: where the base model lies, if not where the config says.
        adapter: folder of the tuned weights.
        folder: where an engine may keep what it has to prepare.
    """
    method = None if config.method in (None, BASE) else config.method
    source = base or config.base_model
    return Model(
        load=partial(load_tuned, source, config.revision, method, adapter, config.precision),
        base_model=str(source),
        revision=config.revision,
        method=method,
        adapter=adapter,
        precision=config.precision,
        device=config.device,
        batch_tokens=config.batch_tokens,
        long_prompts=config.long_prompts,
        folder=folder,
        options=config.engine_options,
    )


def open_engine(config: EvaluationConfig, model: Model) -> Engine:
    """The engine of `config`, which the caller closes.

    Raises:
        UnknownNameError: if there is no such engine.
        ConfigError: if it cannot host the method, or an option is unknown.
    """
    found = engine_class(config.engine)
    check_supports(found, model.method)
    return found.open(model)
