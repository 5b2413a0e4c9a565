"""Any other method of PEFT, by its type: what PEFT registers, this can enter into a study.

    peft-loha        PeftType.LOHA, with PEFT's own defaults

Options are the fields of PEFT's config. Where targets are left out they are the layers that LoRA
adapts in the study, so that methods are compared at the same places. There is no formula for the
parameters; the tuned model's are counted.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from astraios.errors import MethodError
from astraios.methods import ANY, adalora, lora
from astraios.methods._peft import PeftMethod
from astraios.methods._shape import Shape

__all__ = ["REFUSED", "generic", "peft_types"]

REFUSED = MappingProxyType(
    {
        "adaption_prompt": "it rewrites the attention of older releases of three architectures",
        "cartridge": "its cache is distilled from a long context, which instruction data has not",
        "cpt": "it needs to be told the kind of every token, which instruction rows do not say",
        "multitask_prompt_tuning": "every row has to name its task, and there is one task here",
        "poly": "every row has to name its task, and there is one task here",
        "shadow": "it trains a second, smaller model beside the base; its forward pass is its own",
        "xlora": "it mixes LoRAs that were trained before; there is none to begin with",
    }
)
"""Types that cannot be tuned on instructions with a decoder alone -> why."""

_OWN = frozenset(
    [
        "task_type",
        "peft_type",
        "auto_mapping",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
    ]
)
"""Fields of a config that Astraios or PEFT sets."""
_NOT_LINEAR = frozenset({"ln_tuning", "trainable_tokens"})
"""Types whose targets are no linear layers: PEFT's own defaults hold."""


@functools.lru_cache(maxsize=1)
def peft_types() -> tuple[str, ...]:
    """PEFT's types in small letters."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    return tuple(sorted(kind.value.lower() for kind in PEFT_TYPE_TO_CONFIG_MAPPING))


@functools.lru_cache
def generic(kind: str) -> PeftMethod:
    """The method of PEFT's type `kind`, one of `peft_types()`."""
    from peft import PeftType, PromptLearningConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

    from astraios.methods._prompt import EMBEDDED

    member = PeftType(kind.upper())
    config = PEFT_TYPE_TO_CONFIG_MAPPING[member]
    tuner = PEFT_TYPE_TO_TUNER_MAPPING.get(member)
    names = tuple(field.name for field in fields(config) if field.name not in _OWN)
    prompts = issubclass(config, PromptLearningConfig)
    moves_ranks = hasattr(tuner, "update_and_allocate")
    return PeftMethod(
        name=f"{ANY}{kind}",
        title=f"{member.value} of PEFT",
        paper=f"PEFT, {config.__name__}",
        peft_type=member.value,
        mergeable=not prompts,
        more_options=names,
        targets=lora.targets if "target_modules" in names and kind not in _NOT_LINEAR else None,
        check=functools.partial(_refuse, kind) if kind in REFUSED else None,
        formula=functools.partial(_uncounted, kind),
        is_identity=functools.partial(_may_be_silent, kind),
        length="total_step" if "total_step" in names else None,
        each_step=adalora.each_step if moves_ranks else None,
        remembered=adalora.remembered if kind == "adalora" else None,
        batched=not prompts or member in EMBEDDED,
        adds_tokens=prompts,
        isolates=not prompts or member in EMBEDDED,
    )


def _may_be_silent(kind: str, weights: Any) -> bool:
    """Whether a probe can miss what was trained: it need not hold those tokens."""
    return kind == "trainable_tokens"


def _refuse(kind: str, model: Any) -> None:
    raise MethodError(f"method '{ANY}{kind}' cannot be entered: {REFUSED[kind]}")


def _uncounted(kind: str, shape: Shape, settings: Mapping[str, Any]) -> int:
    raise MethodError(
        f"there is no parameter formula for '{ANY}{kind}'; count the trainable weights of the "
        "tuned model instead"
    )
