"""Config of a generation run."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from astraios.config import OPERATIONAL, Config
from astraios.records import Sampling

LATER = ("revision", "long_prompts")
"""Fields that came after runs were made without them."""


class EvaluationConfig(Config):
    """One model asked one task."""

    task: str
    """Full name, such as `humanevalsynthesize-python`."""
    task_version: str
    """Version of the task the prompts come from."""
    template: str
    """Name of the instruction template."""
    sampling: Sampling
    base_model: str
    """Name of an embedded base model, a local folder, or a Hugging Face hub id."""
    revision: str | None = None
    """Of the base on the hub."""
    method: str | None = None
    """What the base was tuned with; None for the base model itself."""
    adapter: str | None = None
    """Tuned weights: id of a training run, or a folder; None for the base model itself."""
    seed: int = 0
    """Seed the adapter was trained with; names the cell of a study. Drawing has its own seed."""
    engine: str = "hf"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of weights and activations; it can change tokens, so it is part of a run's identity."""
    limit_problems: int | None = Field(default=None, ge=1)
    """Ask only the first so many problems."""
    long_prompts: Literal["refuse", "cut"] = "refuse"
    """What becomes of a prompt that leaves no room for an answer in the model's context: the run is
    refused, or the beginning of the prompt is left out and counted."""
    batch_tokens: int | None = Field(default=None, ge=1, json_schema_extra=OPERATIONAL)
    """Tokens whose keys and values one batch may hold, padding counted; the engine's own budget by
    default."""
    device: str = Field(default="auto", json_schema_extra=OPERATIONAL)
    """Where the model runs: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`, ...;
    several with commas between them."""
    engine_options: dict[str, Any] = Field(
        default_factory=dict, exclude=True, json_schema_extra=OPERATIONAL
    )
    """Settings of the engine, such as the `url` of a server; in no manifest, for it names hosts."""
    parity: Literal["check", "skip"] = Field(default="check", json_schema_extra=OPERATIONAL)
    """Whether an engine other than `hf` has to choose the same greedy tokens as `hf` first."""

    @model_serializer(mode="wrap")
    def _said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """All fields; of those that came later only what is set, so that fingerprints of runs
        without them are what they were."""
        values: dict[str, Any] = dump(self)
        for name in LATER:
            if values.get(name) == type(self).model_fields[name].default:
                values.pop(name, None)
        return values
