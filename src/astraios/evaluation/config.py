"""Config of a generation run."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from astraios.config import OPERATIONAL, Config
from astraios.records import Sampling


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
    batch_tokens: int = Field(default=24_576, ge=1, json_schema_extra=OPERATIONAL)
    """Tokens whose keys and values one batch may hold, padding counted."""
    device: str = Field(default="cpu", json_schema_extra=OPERATIONAL)
    """Where the model runs: `cpu`, `cuda`, `cuda:1`, ..."""

    @model_serializer(mode="wrap")
    def _said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """All fields; a revision only where there is one, and a fingerprint does not depend on it
        otherwise."""
        values: dict[str, Any] = dump(self)
        if values.get("revision") is None:
            values.pop("revision", None)
        return values
