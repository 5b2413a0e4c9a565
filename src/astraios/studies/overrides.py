"""What differs for a part of a study's grid, and what of a study changes no record.

overrides:
  - {where: {method: fft}, set: {training.base_precision: fp32}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from astraios.config import OPERATIONAL, Config
from astraios.evaluation.config import EvaluationConfig

__all__ = ["AXES", "EVALUATE", "EVALUATION", "OPTIONS", "Override", "parted"]

AXES = ("base_model", "method", "seed")
TRAIN, EVALUATE, SEARCH = STAGES = ("training.", "evaluation.", "search.")
"""How overrides name a field of a stage's config."""

EVALUATION = (
    "template",
    "engine",
    "precision",
    "long_prompts",
    "device",
    "batch_tokens",
    "engine_options",
    "parity",
)
"""Fields of `EvaluationConfig` that a study may set; the others follow from its grid."""
HERE = frozenset(
    name for name in EVALUATION if EvaluationConfig.model_fields[name].json_schema_extra
)
"""Those of them that change no record."""
OPTIONS = "engine_options"
ASKS = ("model", "endpoint")
"""The options that say which of a server's models is asked, and by which of its endpoints: other
answers may come of another. Each is a part of a run's identity."""


def parted(values: Any, field: str, at: str = "") -> Any:
    """`values` with what is `HERE` moved from the mapping `field` to `here`.

    So a study can go on with another device or server, and its manifest names no host. What says
    who answers (`ASKS`) stays.
    """
    given = values.get(field) if isinstance(values, Mapping) else None
    if isinstance(values, Mapping) and "here" in values:
        raise ValueError(f"'here' is no field of a study; write it under {field!r}")
    if not isinstance(given, Mapping):
        return values
    kept: dict[str, Any] = {}
    here: dict[str, Any] = {}
    options = f"{at}{OPTIONS}"
    for name, value in given.items():
        if name == options and isinstance(value, Mapping) and not value.keys().isdisjoint(ASKS):
            kept[name] = {one: v for one, v in value.items() if one in ASKS}
            here |= {f"{name}.{one}": v for one, v in value.items() if one not in ASKS}
        elif name in [f"{options}.{one}" for one in ASKS] or not _is_here(str(name), at):
            kept[name] = value
        else:
            here[name] = value
    return {**values, field: kept, "here": here}


def _is_here(name: str, at: str) -> bool:
    return name.startswith(at) and name.removeprefix(at).partition(".")[0] in HERE


class Override(Config):
    """Settings that differ for a part of the grid."""

    where: dict[str, str | int]
    """`base_model`, `method` or `seed` -> value; all must match."""
    set: dict[str, Any]
    """`training.<field>`, `evaluation.<field>`, `search.<field>` or deeper -> value."""
    here: dict[str, Any] = Field(default_factory=dict, exclude=True, json_schema_extra=OPERATIONAL)
    """What of `set` changes no record; written under `set`, and in no manifest."""

    @model_validator(mode="before")
    @classmethod
    def _part(cls, values: Any) -> Any:
        return parted(values, "set", EVALUATE)

    @field_validator("where")
    @classmethod
    def _known_axes(cls, where: dict[str, str | int]) -> dict[str, str | int]:
        for axis in where:
            if axis not in AXES:
                raise ValueError(f"unknown axis {axis!r}; known: {', '.join(AXES)}")
        return where

    @field_validator("set")
    @classmethod
    def _stages_only(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for name in settings:
            if not name.startswith(STAGES):
                raise ValueError(
                    f"{name!r} cannot be overridden; write training.<field>, evaluation.<field> "
                    "or search.<field>"
                )
        return settings

    @model_validator(mode="after")
    def _one_search_for_all_seeds(self) -> Self:
        if "seed" in self.where and any(name.startswith(SEARCH) for name in self.set):
            raise ValueError("a search is one for all seeds; leave seed out of where")
        return self
