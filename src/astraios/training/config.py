"""Configs of training and pretraining runs."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field

from astraios.config import OPERATIONAL, Config
from astraios.data.config import DataConfig, PackConfig
from astraios.data.sources import find_corpus

BasePrecision = Literal["fp32", "bf16", "int8", "nf4"]


class Optimization(Config):
    """AdamW and its schedule."""

    n_steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    """Rows an optimizer step, over all devices."""
    rows_per_device: int | None = Field(default=None, ge=1)
    """Rows a device takes at a time; gradients are accumulated over the rest. None: all at once."""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """The last two by bitsandbytes."""
    loss: Literal["token-mean", "mean-of-means"] = "token-mean"
    """Mean over all target tokens of a step; or of the means of its accumulated parts, in which a
    token of a short part weighs more, as the original trained; parts without a target are left out.
    """
    learning_rate: float = Field(gt=0)
    """Peak."""
    schedule: Literal["cosine", "linear", "constant", "flat_then_linear"] = "cosine"
    floor: float = Field(default=0.0, ge=0, lt=1)
    """Learning rate at the end as a share of the peak (cosine and flat_then_linear)."""
    flat: float = Field(default=0.3, ge=0, lt=1)
    """Share of the steps at the peak (flat_then_linear)."""
    n_warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = Field(default=1e-8, gt=0)
    clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    log_every: int = Field(default=10, ge=1, json_schema_extra=OPERATIONAL)
    validate_every: int = Field(default=50, ge=1, json_schema_extra=OPERATIONAL)
    save_every: int = Field(default=200, ge=1, json_schema_extra=OPERATIONAL)
    """Steps between checkpoints; the most that a kill costs."""
    divergence: float = Field(default=3.0, gt=1, json_schema_extra=OPERATIONAL)
    """Times the first loss that is recorded; two records in a row above it end the run."""


class PretrainingConfig(Config):
    """An embedded base model: GPTBigCode with multi-query attention, as StarCoder, from scratch."""

    name: str
    hidden: int
    n_layers: int
    n_heads: int = 4
    n_positions: int = 256
    vocabulary: int = 768
    n_tokenizer_documents: int = 8_000
    imperative: float = 0.2
    """Chance that a comment speaks like an instruction."""
    max_offset: int = 80
    """Positions start anywhere in 0..max_offset, so that all that are used later are trained."""
    optimization: Optimization
    seed: int = 0


class TrainingConfig(DataConfig):
    """One base model tuned by one method."""

    base_model: str
    """Name of an embedded base model, a local folder, or a Hugging Face hub id."""
    revision: str | None = None
    method: str
    method_options: dict[str, Any] = Field(default_factory=dict)
    base_precision: BasePrecision = "fp32"
    """Of the base's weights; the same for every method unless a study says otherwise. Weights that
    are trained are read so and held in fp32, where small updates are not lost."""
    compute_precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: matrix products under autocast. The method's own weights stay fp32 masters."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    sharding: Literal["none", "fsdp2", "zero3"] = Field(
        default="none", json_schema_extra=OPERATIONAL
    )
    """How several devices hold the model: each a copy; or each a part, by PyTorch's FSDP2 or by
    DeepSpeed's ZeRO-3."""
    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = Field(
        default=(), json_schema_extra=OPERATIONAL
    )
    """Who is told of losses besides the run folder, by the Trainer's callbacks."""
    optimization: Optimization
    seed: int = 0


def pack_config(config: TrainingConfig) -> PackConfig:
    """What has to be packed for `config`; trainings that differ in other things share it.

    Raises:
        UnknownNameError: if there is no such corpus.
    """
    plan = config.optimization
    endless = config.layout == "constant_length"
    drawn = endless or find_corpus(config.corpus).endless
    return PackConfig(
        **{name: getattr(config, name) for name in DataConfig.model_fields},
        tokenizer=config.base_model,
        revision=config.revision,
        n_rows=plan.n_steps * plan.batch_size if endless else None,
        seed=config.seed if drawn else 0,
    )


def _base(name: str, hidden: int, n_layers: int, n_steps: int, rate: float) -> PretrainingConfig:
    return PretrainingConfig(
        name=name,
        hidden=hidden,
        n_layers=n_layers,
        optimization=Optimization(
            n_steps=n_steps,
            batch_size=12,
            learning_rate=rate,
            schedule="flat_then_linear",
            floor=0.05,
            n_warmup_steps=60,
            weight_decay=0.05,
            beta2=0.95,
            log_every=25,
            save_every=500,
        ),
    )


EMBEDDED = MappingProxyType(
    {
        config.name: config
        for config in (
            _base("minipack-0.2m", 64, 3, 4_000, 3.0e-3),
            _base("minipack-0.4m", 96, 3, 4_000, 2.5e-3),
            _base("minipack-0.7m", 128, 3, 4_000, 2.5e-3),
            _base("minipack-1.8m", 192, 4, 4_000, 2.0e-3),
        )
    }
)
"""Base models that are pretrained here, by name; the number is their size in parameters."""
