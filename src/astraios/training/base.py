"""Base models: found, read without running anything in them, in the precision that is asked for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from astraios.errors import DataError, MissingDataError, TrainingError
from astraios.files import check_holds
from astraios.training.config import BasePrecision
from astraios.training.processes import processes

QUANTISED = ("int8", "nf4")


def load_base(
    source: str | Path, revision: str | None = None, *, precision: BasePrecision = "fp32"
) -> tuple[Any, Any]:
    """Model (in eval mode) and tokenizer of a local folder or a hub id.

    Weights are read as safetensors only, and no code of the checkpoint is run.

    Args:
        source: folder or hub id.
        revision: of the hub's repository.
        precision: of the weights in memory; `int8` and `nf4` by bitsandbytes.

    Raises:
        MissingDataError: if there is no such model here or on the hub.
        DataError: if it is there and cannot be read.
        TrainingError: if bitsandbytes is needed and not installed.
    """
    check_holds(source, "config.json")
    how: dict[str, Any] = {"dtype": torch.float32}
    if precision == "bf16":
        how = {"dtype": torch.bfloat16}
    elif precision in QUANTISED:
        how = _quantised(precision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        model, loaded = AutoModelForCausalLM.from_pretrained(
            source, revision=revision, use_safetensors=True, output_loading_info=True, **how
        )
    except OSError as error:
        raise MissingDataError(
            f"base model {str(source)!r} was found neither as a local folder nor on the Hugging "
            f"Face hub ({str(error).splitlines()[0]})"
        ) from error
    except (ValueError, KeyError, SafetensorError) as error:
        raise DataError(
            f"base model {str(source)!r} cannot be read ({str(error).splitlines()[0]}); a file of "
            "its weights or of its tokenizer is damaged or missing: copy it again. Or it needs "
            "code of its own, which is not run"
        ) from error
    if lacking := sorted(loaded["missing_keys"]):  # filled by lot otherwise, with a warning only
        raise DataError(
            f"base model {str(source)!r} lacks {len(lacking)} of its weights, such as "
            f"{lacking[0]!r}; copy it again, or name a checkpoint of a language model"
        )
    return model.eval(), tokenizer


def prepared(model: Any, precision: BasePrecision) -> Any:
    """`model` made ready for training: where it is quantised, frozen and the rest of it in fp32.

    As PEFT's `prepare_model_for_kbit_training`, which also switches checkpointing on: here that is
    a choice of the recipe, the same for every method.
    """
    if precision in QUANTISED:
        for weight in model.parameters():
            weight.requires_grad = False
            if weight.dtype in (torch.bfloat16, torch.float16):
                weight.data = weight.data.to(torch.float32)
    for module in model.modules():
        # On a CPU, bitsandbytes lays 4-bit weights out anew when a layer is first used in eval
        # mode, as in a validation, and cannot train with them after it.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def _quantised(precision: BasePrecision) -> dict[str, Any]:
    if find_spec("bitsandbytes") is None:
        raise TrainingError(
            f"base_precision {precision!r} needs bitsandbytes; install it with: "
            "pip install 'astraios[quant]', or set base_precision to bf16"
        )
    half = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    settings = (
        BitsAndBytesConfig(load_in_8bit=True)
        if precision == "int8"
        else BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=half,
        )
    )
    device = processes().device
    return {"quantization_config": settings, "dtype": half, "device_map": {"": device}}
