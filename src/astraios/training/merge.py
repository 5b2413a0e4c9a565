"""An adapter folded into its base: one ordinary checkpoint, checked against the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from astraios import methods
from astraios.errors import MethodError, RunError, TrainingError
from astraios.files import fill_folder
from astraios.records import Record
from astraios.training.base import load_base

PROBE = 64
"""Tokens that merged and unmerged are compared on."""
TOLERANCE = 1e-3
"""Largest difference of logits, over the largest logit."""


class Merged(Record):
    """What was merged, and how far it is from the unmerged model."""

    method: str
    largest_difference: float
    """Of a logit, over the probe."""
    largest_logit: float


def merge(adapter: Path, base: str | Path, out: Path, *, revision: str | None = None) -> Merged:
    """Write the base with the adapter folded in to the new folder `out`, with its tokenizer.

    Raises:
        MissingDataError: if base or adapter is not there.
        MethodError: if the method cannot be merged, or the adapter is for another base.
        RunError: if `out` holds something already.
        TrainingError: if the merged model gives other outputs than the unmerged one.
    """
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{str(out)!r} is not empty; choose a new folder for the merged model")
    if (adapter / "config.json").is_file() and not (adapter / "adapter_config.json").exists():
        raise MethodError(f"{str(adapter)!r} is a whole model already: there is nothing to merge")
    method = methods.method_of(adapter)
    model, tokenizer = load_base(base, revision)
    tuned = method.load(model, adapter)
    before = _logits(tuned)
    merged: Any = method.merge(tuned)
    after = _logits(merged)
    result = Merged(
        method=method.name,
        largest_difference=float((after - before).abs().max()),
        largest_logit=float(before.abs().max()),
    )
    if result.largest_difference > TOLERANCE * result.largest_logit:
        raise TrainingError(
            f"merging {str(adapter)!r} changed a logit by {result.largest_difference:.2g} (the "
            f"largest is {result.largest_logit:.2g}); serve the adapter unmerged"
        )
    with fill_folder(out) as scratch:
        merged.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
    return result


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    limit = getattr(model.config, "max_position_embeddings", None) or PROBE
    ids_1T = (torch.arange(min(PROBE, limit)) * 7919 % vocabulary)[None]
    found: torch.Tensor = model.eval()(input_ids=ids_1T, use_cache=False).logits.float()
    return found
