"""Working with a model that PEFT tuned: wrap, save, load with every check, call.

The most damaging fault of a study is a score of the wrong weights, and PEFT reports few of them:
missing and surplus keys pass, and so does another base of the same shape. Each is an error here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftModel
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from astraios.errors import MethodError
from astraios.methods._base_record import BaseRecord
from astraios.methods._folder import (
    ENCODER,
    SavedAdapter,
    check_weights,
    read_folder,
    read_tensors,
    write_folder,
)
from astraios.methods._padding import positions, takes_positions
from astraios.methods._prompt import EMBEDDED, PeftModelForCausalLM, prompt_inputs
from astraios.methods._rollback import all_or_nothing

__all__ = ["as_tuned", "decoder", "inputs", "load_tuned", "refuse_tuned", "save_tuned", "wrap"]

ADAPTER = "default"
PROBE_LENGTH = 8


def refuse_tuned(model: nn.Module) -> None:
    """Refuse a model that has adapters already.

    Raises:
        MethodError: if it has.
    """
    if isinstance(model, PeftModel):
        raise MethodError(
            f"the model is already tuned ({model.active_peft_config.peft_type.value}); "
            "load the base model afresh"
        )


def as_tuned(model: nn.Module, method: str, peft_type: str) -> Any:
    """`model` as a PEFT model of the method; compiled models are unwrapped.

    Raises:
        MethodError: if it is none.
    """
    model = cast("nn.Module", getattr(model, "_orig_mod", model))
    if not isinstance(model, PeftModel):
        raise MethodError(f"the model is not tuned by {method!r}: it has no adapter")
    found = model.active_peft_config.peft_type.value
    if found != peft_type:
        raise MethodError(f"the model is not tuned by {method!r}: its adapter is {found}")
    return model


def wrap(model: nn.Module, config: Any, doing: str) -> Any:
    """The PEFT model of `model` and `config`; on an error `model` is as before.

    Raises:
        MethodError: if PEFT refuses the config for this model.
    """
    kind = MODEL_TYPE_TO_PEFT_MODEL_MAPPING["CAUSAL_LM"]
    if config.is_prompt_learning and not issubclass(kind, PeftModelForCausalLM):
        kind = PeftModelForCausalLM
    if config.base_model_name_or_path is None:
        config.base_model_name_or_path = getattr(model, "name_or_path", None) or None
    with all_or_nothing(model, doing):
        return kind(model, config, ADAPTER)


# --- saving and loading -----------------------------------------------------------------------


def save_tuned(tuned: Any, folder: Path, method: str) -> None:
    """Write the adapter of `tuned` into the existing `folder`, and check what is there."""
    config = tuned.peft_config[ADAPTER]
    encoder = None
    if config.is_prompt_learning and not config.inference_mode:
        encoder = tuned.prompt_encoder[ADAPTER].state_dict()
    with warnings.catch_warnings():
        # AdaLoRA can leave a layer without any direction; PEFT takes that for a shard.
        if config.peft_type.value == "ADALORA":
            warnings.filterwarnings("ignore", message=r".*LoRA tensor\(s\) have invalid shape")
        # Resized or targeted embeddings are no part of an adapter: they would need the network.
        weights = get_peft_model_state_dict(
            tuned, adapter_name=ADAPTER, save_embedding_layers=False
        )
    write_folder(
        folder,
        config=config,
        weights=weights,
        method=method,
        base=BaseRecord.of(decoder(tuned)),
        encoder=encoder,
    )


def load_tuned(
    model: nn.Module,
    folder: Path,
    *,
    method: str,
    peft_type: str,
    trainable: bool = False,
    is_identity: Callable[[Mapping[str, Tensor]], bool],
) -> Any:
    """The adapter of `folder` on base `model`; on an error `model` is as before.

    Raises:
        MissingDataError: if files are missing.
        MethodError: if the adapter is of another method or base, or changes nothing.
    """
    saved = read_folder(folder)
    _check_method(saved, method, peft_type)
    if saved.base is not None:
        saved.base.check(model, folder)
    config = saved.config
    config.task_type = "CAUSAL_LM"
    config.inference_mode = not trainable
    with all_or_nothing(model, f"adapter {str(folder)!r}"):
        tuned = wrap(model, config, f"adapter {str(folder)!r}")
        _fill(tuned, saved, trainable=trainable)
        tuned.eval()
        _check_effect(tuned, saved, is_identity)
        if trainable:
            return tuned.train()
        # PEFT leaves prompts trainable, and thaws an adapter that was disabled for a moment.
        return tuned.requires_grad_(False)


def _check_method(saved: SavedAdapter, method: str, peft_type: str) -> None:
    found = saved.config.peft_type.value
    if found != peft_type or saved.method not in (None, method):
        held = f"method {saved.method!r}" if saved.method else f"PEFT type {found}"
        raise MethodError(
            f"{str(saved.folder)!r} holds an adapter of {held}, not of method {method!r}; "
            "load it by the method that made it"
        )


def _fill(tuned: Any, saved: SavedAdapter, *, trainable: bool) -> None:
    expected = get_peft_model_state_dict(tuned, adapter_name=ADAPTER, save_embedding_layers=False)
    check_weights(saved.folder, saved.weights, expected)
    if tuned.peft_config[ADAPTER].is_prompt_learning and trainable:
        _fill_encoder(tuned, saved)
        return
    set_peft_model_state_dict(tuned, dict(saved.weights), adapter_name=ADAPTER)


def _fill_encoder(tuned: Any, saved: SavedAdapter) -> None:
    """Put back what computes the virtual tokens, and check that it computes those saved."""
    path = saved.folder / ENCODER
    if not path.is_file():
        raise MethodError(
            f"{str(saved.folder)!r} has the finished virtual tokens only, and no {ENCODER} to "
            "train on from; load it for inference, or train again"
        )
    encoder = tuned.prompt_encoder[ADAPTER]
    state = read_tensors(path)
    check_weights(path, state, encoder.state_dict())
    encoder.load_state_dict(state)
    finished = tuned.get_prompt_embedding_to_save(ADAPTER).to(torch.float32)
    recorded = saved.weights["prompt_embeddings"].to(torch.float32)
    if not torch.allclose(finished, recorded, rtol=1e-3, atol=1e-4):
        raise MethodError(
            f"{ENCODER} and the virtual tokens in {str(saved.folder)!r} are of different states; "
            "the folder was mixed from two: restore it"
        )


@torch.no_grad()
def _check_effect(
    tuned: Any, saved: SavedAdapter, is_identity: Callable[[Mapping[str, Tensor]], bool]
) -> None:
    weight = next(tuned.parameters())
    if weight.is_meta or is_identity(saved.weights):
        return
    vocabulary = int(decoder(tuned).get_input_embeddings().weight.shape[0])
    ids_1T = (torch.arange(PROBE_LENGTH, device=weight.device) * 7919 % vocabulary)[None]
    after = tuned(input_ids=ids_1T).logits[:, -1]
    with warnings.catch_warnings():
        # The probe is after the adapter; biases trained besides it are in both passes.
        warnings.filterwarnings("ignore", message="Careful, disabling adapter layers with bias")
        with tuned.disable_adapter():
            before = tuned(input_ids=ids_1T).logits[:, -1]
    if torch.equal(before, after):
        raise MethodError(
            f"the adapter in {str(saved.folder)!r} changes nothing on this model although its "
            "weights are not those of the identity; it is for another base, or its files changed"
        )


# --- calling ----------------------------------------------------------------------------------


def decoder(model: nn.Module) -> Any:
    """The transformers model inside."""
    model = cast("nn.Module", getattr(model, "_orig_mod", model))
    return model.get_base_model() if isinstance(model, PeftModel) else model


def inputs(model: nn.Module, ids_BT: Tensor, mask_BT: Tensor) -> dict[str, Any]:
    """Arguments of one forward pass of `decoder(model)` on left-padded rows.

    Raises:
        MethodError: for a prompt-learning method whose prompt is no row of embeddings.
    """
    model = cast("nn.Module", getattr(model, "_orig_mod", model))
    if isinstance(model, PeftModel) and not model._adapters_disabled:
        config = model.active_peft_config
        if config.peft_type in EMBEDDED:
            return prompt_inputs(model, mask_BT, ids_BT)
        if config.is_prompt_learning:
            raise MethodError(
                f"{config.peft_type.value} puts its prompt into the cache, not into the input; "
                "use the PEFT model's own generate"
            )
    found = {"input_ids": ids_BT, "attention_mask": mask_BT}
    if takes_positions(decoder(model)):
        found["position_ids"] = positions(mask_BT)
    return found
