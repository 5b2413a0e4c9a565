"""What of a tuned model vLLM can serve, and how.

base       the base model's own checkpoint
adapter    LoRA, served beside the base
merged     a checkpoint of the base with the tuned weights in it, written once
embeds     the base, asked with embeddings: trained virtual tokens, then the prompt's
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from astraios import methods
from astraios.config import digest
from astraios.errors import MethodError, MissingDataError
from astraios.files import fill_folder, readable
from astraios.generation import Model

__all__ = ["Route", "adapter_name", "max_rank", "merged", "route_of", "unseen"]

log = logging.getLogger(__name__)

AS_ADAPTER = frozenset({"lora", "rslora", "qlora"})
"""Methods whose adapters are LoRA as vLLM computes it; others that PEFT calls LORA are not."""
CONFIG = "adapter_config.json"
FUSED: Mapping[str, tuple[str, ...]] = {"gpt_bigcode": ("c_attn",)}
"""Model type -> targets of LoRA that vLLM does not see."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as the largest rank."""
INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Starts of LoRA that leave the base as it is; vLLM's list (`vllm/lora/peft_helper.py`)."""
UNKNOWN_TO_VLLM = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "alora_invocation_tokens",
    "layer_replication",
    "use_qalora",
    "trainable_token_indices",
    "target_parameters",
)
"""Fields of a LoRA config that have to be unset; vLLM refuses most of them, and ignores some."""


class Route(StrEnum):
    """How a tuned model is served; see the module."""

    BASE = "base"
    ADAPTER = "adapter"
    MERGED = "merged"
    EMBEDS = "embeds"


def route_of(method: str | None, *, merge: bool = False) -> Route | None:
    """The route for what `method` tuned; None if there is none.

    Raises:
        UnknownNameError: if there is no such method.
    """
    if method is None:
        return Route.BASE
    found = methods.method(method)
    if found.adds_tokens:
        return Route.EMBEDS if found.batched else None
    if found.name in AS_ADAPTER and not merge:
        return Route.ADAPTER
    return Route.MERGED if found.mergeable else None


def unseen(folder: Path, model_type: str) -> str | None:
    """A target of the adapter in `folder` that vLLM leaves out without an error, if there is one.

    Its Transformers backend fuses the attention of some architectures into a layer that its LoRA
    does not wrap; 0.32 says so in its log ("It will be ignored") and serves the rest.
    """
    targets = (methods.adapter_config(folder) or {}).get("target_modules")
    names = [targets] if isinstance(targets, str) else targets or ()
    fused = FUSED.get(model_type, ())
    return next((name for name in fused if any(name in str(target) for target in names)), None)


def max_rank(folder: Path) -> int:
    """`--max-lora-rank` for the adapter in `folder`.

    Raises:
        MissingDataError: if it is no adapter's folder.
        MethodError: if vLLM would not compute what PEFT does.
    """
    config = methods.adapter_config(folder)
    if config is None:
        raise MissingDataError(f"{str(folder)!r} is not an adapter's folder: it has no {CONFIG}")
    wrong = [name for name in UNKNOWN_TO_VLLM if config.get(name)]
    if config.get("bias", "none") != "none":
        wrong.append("bias")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower() not in INITS:
        wrong.append(f"init_lora_weights={start}")
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    rank = max((n for n in ranks if isinstance(n, int)), default=0)
    if rank > RANKS[-1]:
        wrong.append(f"rank {rank} (at most {RANKS[-1]})")
    if wrong:
        raise MethodError(
            f"vllm cannot serve the adapter in {str(folder)!r} beside its base: it has "
            f"{', '.join(wrong)}; fold it into the base (engine_options.merge=true), or use "
            "--engine hf"
        )
    return next(n for n in RANKS if n >= rank)


def adapter_name(folder: Path) -> str:
    """A name for the adapter in `folder`, by what is in it."""
    return f"astraios-{digest(_files(folder))}"


def merged(model: Model, folder: Path) -> Path:
    """The checkpoint of `model` with its tuned weights folded in, in a folder below `folder`.

    It is written once, complete or not at all, and found again by what it was made of.

    Raises:
        MethodError: if the tuned weights cannot be folded into this base.
    """
    target = folder / f"checkpoint-{digest(_made_of(model))}"
    if (target / "config.json").is_file():
        log.info("the merged checkpoint is there already: %s", target)
        return target
    log.info("writing a merged checkpoint: %s", target)
    loaded, tokenizer, method = model.load()
    if method is None:
        raise MethodError(f"nothing to merge: {model.base_model!r} was loaded untuned")
    whole: Any = method.merge(loaded)
    with fill_folder(target) as scratch:
        whole.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
    return target


def _made_of(model: Model) -> dict[str, Any]:
    base = Path(model.base_model)
    weights = sorted(base.glob("*.safetensors")) if base.is_dir() else []
    return {
        "base": model.base_model,
        "revision": model.revision,
        "weights": [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in weights],
        "method": model.method,
        "adapter": None if model.adapter is None else _files(model.adapter),
        "precision": model.precision,
    }


def _files(folder: Path) -> dict[str, str]:
    """Name -> hash of the files of an adapter."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".bin", ".json"):
            whole = hashlib.sha256()
            with readable(path) as data:
                while part := data.read(2**20):
                    whole.update(part)
            found[path.name] = whole.hexdigest()
    return found
