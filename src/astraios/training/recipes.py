"""Recipes by name: whole trainings that differ only in the base model and the method.

    paper    the original's command line, its confounds included
    fair     the same data and steps, and nothing but the method differs

A recipe is plain values of `TrainingConfig`: a start for a file of one's own, or for a study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from astraios import methods
from astraios.config import apply_override, read_yaml, validate
from astraios.errors import ConfigError, UnknownNameError
from astraios.methods import LABEL
from astraios.training.config import TrainingConfig


def names() -> tuple[str, ...]:
    """Names of the recipes."""
    return tuple(sorted(RECIPES))


def summary(name: str) -> str:
    """One line on a recipe.

    Raises:
        UnknownNameError: if there is no such recipe.
    """
    return (_made_by(name).__doc__ or "").splitlines()[0]


def recipe(name: str, base_model: str, method: str) -> dict[str, Any]:
    """Fields of the `TrainingConfig` that trains `base_model` by `method` as the recipe says.

    `optimization.learning_rate` is left out where the recipe knows none for the method.

    Raises:
        UnknownNameError: if there is no such recipe or method.
    """
    fields = _made_by(name)(method)
    return {"base_model": base_model, "method": method, **fields}


def read_recipe(given: str, overrides: Sequence[str] = ()) -> TrainingConfig:
    """A training by the name of its recipe, or from a YAML file.

    Raises:
        UnknownNameError: if it is neither.
        ConfigError: if the file or an override is wrong, or a recipe's base model or method is not
            among the overrides.
    """
    path = Path(given)
    if given not in names():
        if not path.exists() and path.suffix not in (".yaml", ".yml"):
            raise UnknownNameError("recipe (nor file)", given, names())
        return read_yaml(path, TrainingConfig, overrides)
    chosen: dict[str, Any] = {}
    for override in overrides:
        apply_override(chosen, override)
    missing = [name for name in ("base_model", "method") if name not in chosen]
    if missing:
        raise ConfigError(
            f"recipe {given!r} leaves open {' and '.join(missing)}; say for example: "
            f"astraios train {given} base_model=bigcode/starcoderbase-1b method=lora"
        )
    values = recipe(given, str(chosen["base_model"]), str(chosen["method"]))
    for override in overrides:
        apply_override(values, override)
    return validate(values, TrainingConfig, source=f"recipe {given!r}")


def paper(method: str) -> dict[str, Any]:
    """The original's command line: 2,048 tokens, 200 steps of 32 rows, 1e-4 for every method."""
    trains_base = methods.method(method).trains_base
    return {
        **_data(),
        # One stream cut into rows: a document sees the ones before it, and may begin in the middle.
        "layout": "constant_length",
        "loss_on": "all",
        # The original's scripts: adapters stand on a base in 8 bits, full tuning on one in fp32.
        "base_precision": "fp32" if trains_base else "int8",
        "compute_precision": "fp32",
        # Its flag is inverted: off for full tuning, on for adapters by the preparation for 8 bits.
        "gradient_checkpointing": not trains_base,
        "optimization": {
            **_steps(),
            # Each accumulated row counts alike, however few of its tokens are targets.
            "loss": "mean-of-means",
            "learning_rate": 1e-4,  # high for full tuning of 15B, low for IA3 and P-Tuning
        },
        "seed": 0,
    }


def fair(method: str) -> dict[str, Any]:
    """Equal precision, rows and loss for every method, each at a learning rate of its own."""
    rate = RATES.get(method.partition(LABEL)[0])
    return {
        **_data(),
        "layout": "best_fit",  # whole documents that do not see each other
        "loss_on": "response",
        "base_precision": "bf16",
        "compute_precision": "bf16",
        "gradient_checkpointing": True,
        "optimization": {
            **_steps(),
            "loss": "token-mean",
            **({} if rate is None else {"learning_rate": rate}),
        },
        "seed": 0,
    }


RATES = MappingProxyType(
    {
        "fft": 2e-5,  # WizardCoder tuned StarCoder so, arXiv:2306.08568
        "lora": 2e-4,  # QLoRA up to 13B, arXiv:2305.14314
        "qlora": 2e-4,
        "dora": 2e-4,  # LLaMA-7B, arXiv:2402.09353
        "adapterh": 3e-4,  # series adapters of LLM-Adapters, arXiv:2304.01933
        "adapterp": 3e-4,
        "parallel": 3e-4,
        "ia3": 3e-3,  # T-Few, by Adafactor, arXiv:2205.05638
        "ptuning": 1e-3,  # PEFT's guide to P-Tuning
    }
)
"""Peaks to begin a sweep from, by method: published for other data, and chosen by nobody for these.

What decides is the validation loss of a few rates around them (docs/embedded-study.md has such a
sweep, for models a thousand times smaller)."""


def _data() -> dict[str, Any]:
    return {
        "corpus": "guanaco-commits",
        "template": "question_answer",
        "block_length": 2_048,
        "n_validation": 629,
        "too_long": "split",
    }


def _steps() -> dict[str, Any]:
    return {
        "n_steps": 200,
        "batch_size": 32,  # over all devices: 1 x 32 on one, 1 x 4 on eight
        "rows_per_device": 1,
        "schedule": "cosine",
        "n_warmup_steps": 12,
        "weight_decay": 0.05,
        # The rest is what transformers' Trainer does where it is told nothing.
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "clip": 1.0,
        "log_every": 5,
        "validate_every": 10,
        "save_every": 10,
    }


RECIPES: Mapping[str, Callable[[str], dict[str, Any]]] = MappingProxyType(
    {"fair": fair, "paper": paper}
)


def _made_by(name: str) -> Callable[[str], dict[str, Any]]:
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    return RECIPES[name]
