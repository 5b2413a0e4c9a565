"""Adapters from the Hugging Face hub: configs and tensors, no code."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from astraios import methods
from astraios.errors import MissingDataError
from astraios.studies.subjects import Adapter, Base, check_base, check_method
from astraios.training.weights import adapter_mark

__all__ = ["fetch"]

log = logging.getLogger(__name__)

CONFIG, SAFETENSORS, PICKLED = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
FIRST = (CONFIG, "astraios.json", SAFETENSORS)
"""What is asked for; `adapter_model.bin` only where there is no other file of weights. It is read
by torch's reader of tensors, which runs nothing in it (see `methods._folder`)."""


def fetch(adapter: Adapter, base: Base, *, offline: bool = False) -> Adapter:
    """`adapter` with its files here, downloaded if need be, and what they say of it.

    Args:
        adapter: any; one that lies in a folder is given back as it is.
        base: what it is for.
        offline: ask the local cache only; where that lacks it, `adapter` is given back as it is.

    Raises:
        MissingDataError: if it cannot be had, or there is no adapter.
        MethodError: if it is for another base, or made by another method.
    """
    hub_id = adapter.hub_id
    if adapter.folder is not None or hub_id is None:
        return adapter
    folder = _download(adapter, hub_id, FIRST, offline)
    if folder is not None and not (folder / SAFETENSORS).exists():
        folder = _download(adapter, hub_id, (*FIRST, PICKLED), offline)
    if folder is None:
        return adapter
    if not (folder / CONFIG).exists():
        if offline:
            return adapter
        raise MissingDataError(
            f"{adapter.name} on the Hugging Face hub is no adapter: it has no {CONFIG}. "
            "A whole model is given as MODEL"
        )
    if not any((folder / name).exists() for name in (SAFETENSORS, PICKLED)):
        if offline:
            return adapter
        raise MissingDataError(
            f"{adapter.name} on the Hugging Face hub has no weights: neither {SAFETENSORS} nor "
            f"{PICKLED}; name another revision by {adapter.hub_id}@REVISION"
        )
    told = methods.told(folder)
    if adapter.method is not None:
        check_method(adapter.name, told, adapter.method)
    here = replace(
        adapter,
        folder=folder,
        method=adapter.method or told.method,
        mark=adapter_mark(folder),
        base=told.base_model,
        is_recorded=told.is_recorded,
    )
    check_base(here, base)
    return here


def _download(adapter: Adapter, hub_id: str, names: tuple[str, ...], offline: bool) -> Path | None:
    """The folder of those of the files that are there; None where `offline` and not here."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        if offline:
            return None
        raise MissingDataError(
            f"adapter {adapter.name!r} is not a folder here, and huggingface_hub, which would load "
            "it, is not installed: pip install 'astraios[train]'"
        ) from None
    try:
        found = snapshot_download(
            hub_id,
            revision=adapter.revision,
            allow_patterns=list(names),
            local_files_only=offline,
        )
    except Exception as error:  # its errors have no common root: httpx, OSError and ValueError
        if offline:
            return None
        raise MissingDataError(
            f"adapter {adapter.name!r} is not a folder here and could not be loaded from the "
            f"Hugging Face hub ({type(error).__name__}); check the name, the network and, for a "
            "private or gated one, `hf auth login`"
        ) from error
    return Path(found)
