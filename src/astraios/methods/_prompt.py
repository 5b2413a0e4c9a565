"""Prompt learning (P-Tuning, prompt tuning) that is right on left-padded and on packed batches.

PEFT puts the virtual tokens before the padding and drops positions, relying on the model to derive
them from the mask; transformers 5 models do not, so that left-padded rows come out wrong in
`forward` and in `generate`. The class here puts the virtual tokens where they belong. `import
astraios.peft` makes PEFT use it for causal language models.
"""

from __future__ import annotations

from typing import Any

import peft
import torch
from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftType
from torch import Tensor, nn

from astraios.errors import MethodError
from astraios.methods._packed_prompt import is_packed, packed_forward
from astraios.methods._padding import insert, leading, positions, take_out, takes_positions

__all__ = ["PeftModelForCausalLM", "prompt_inputs", "repair_left_padding"]

EMBEDDED = (PeftType.P_TUNING, PeftType.PROMPT_TUNING)
"""Methods whose virtual tokens are rows of input embeddings, the same for every row."""


def prompt_inputs(
    model: Any, mask_BT: Tensor, ids_BT: Tensor | None = None, embeds_BTD: Tensor | None = None
) -> dict[str, Any]:
    """Arguments of the base model for rows with their virtual tokens in place.

    Args:
        model: a PEFT model of one of the `EMBEDDED` methods.
        mask_BT: 1 on tokens, 0 on padding.
        ids_BT: the rows as token ids, or
        embeds_BTD: as embeddings.
    """
    if embeds_BTD is None:
        embeds_BTD = model.word_embeddings(ids_BT)
    virtual_BVD = model.get_prompt(batch_size=len(mask_BT)).to(embeds_BTD.dtype)
    mask_BS = virtual_mask(mask_BT, virtual_BVD.shape[1])
    inputs = {
        "inputs_embeds": insert(virtual_BVD, embeds_BTD, leading(mask_BT)),
        "attention_mask": mask_BS,
    }
    if takes_positions(model.base_model):
        inputs["position_ids"] = positions(mask_BS)
    return inputs


def virtual_mask(mask_BT: Tensor, n_virtual: int) -> Tensor:
    """The mask of rows with `n_virtual` tokens put in."""
    return insert(mask_BT.new_ones(len(mask_BT), n_virtual), mask_BT, leading(mask_BT))


class PeftModelForCausalLM(peft.PeftModelForCausalLM):  # type: ignore[misc]
    """PEFT's class of this name, right for prompt learning on left-padded rows.

    Logits keep PEFT's layout: the virtual positions first, then the row. Of packed rows, whose
    positions start again inside of them, every document gets the virtual tokens and the logits are
    the row's alone. For all other methods, and in `forward` where no row starts with padding, it is
    PEFT's own code that runs.
    """

    # PEFT compares the names of these classes, so this one has the name of its parent.

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As PEFT's; see the class."""
        positions_BT = kwargs.get("position_ids")
        if attention_mask is None and self._embeds_prompt() and is_packed(positions_BT):
            if inputs_embeds is None:
                inputs_embeds = self.word_embeddings(input_ids)
            for name in ("position_ids", "token_type_ids", "task_ids", "use_cache"):
                kwargs.pop(name, None)
            return packed_forward(self, inputs_embeds, positions_BT, labels, **kwargs)
        if attention_mask is None or not self._needs_repair(attention_mask):
            return super().forward(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                labels=labels,
                **kwargs,
            )
        lead_B, n_virtual = leading(attention_mask), self.active_peft_config.num_virtual_tokens
        for name in ("position_ids", "token_type_ids", "task_ids"):
            kwargs.pop(name, None)
        as_dict = kwargs.pop("return_dict", None)
        if labels is not None:
            ignored = labels.new_full((len(labels), n_virtual), -100)
            kwargs["labels"] = insert(ignored, labels, lead_B)
        inputs = prompt_inputs(self, attention_mask, input_ids, inputs_embeds)
        outputs = self.base_model(**inputs, **kwargs, return_dict=True)
        if outputs.logits.shape[1] == inputs["inputs_embeds"].shape[1]:
            outputs.logits = take_out(outputs.logits, n_virtual, lead_B)
        return outputs.to_tuple() if as_dict is False else outputs

    def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As PEFT's; see the class."""
        mask_BT = kwargs.get("attention_mask")
        if not self._embeds_prompt() or (mask_BT is not None and mask_BT.dim() != 2):
            prepared: dict[str, Any] = super().prepare_inputs_for_generation(*args, **kwargs)
            return prepared
        if mask_BT is None:  # generation drops a mask of ones
            mask_BT = torch.ones_like(args[0] if args else kwargs["input_ids"])
        kwargs.pop("task_ids", None)
        inputs: dict[str, Any] = self.base_model_prepare_inputs_for_generation(*args, **kwargs)
        for name in ("cache_position", "position_ids", "token_type_ids"):
            inputs.pop(name, None)
        cache = inputs.get("past_key_values")
        if cache is None or cache.get_seq_length() == 0:
            ids_BT = inputs.pop("input_ids")
            return {**inputs, "input_ids": None, **prompt_inputs(self, mask_BT, ids_BT)}
        mask_BS = virtual_mask(mask_BT, self.active_peft_config.num_virtual_tokens)
        inputs["input_ids"] = inputs["input_ids"][:, -1:]
        inputs["attention_mask"] = mask_BS
        if takes_positions(self.base_model):
            inputs["position_ids"] = positions(mask_BS)[:, -1:]
        return inputs

    def generate_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Continuous batching of the base model, which cannot hold virtual tokens.

        Raises:
            MethodError: for a prompt-learning method, whose prompt would be left out.
        """
        if self.active_peft_config.is_prompt_learning and not self._adapters_disabled:
            raise MethodError(
                f"generate_batch leaves out the virtual tokens of "
                f"{self.active_peft_config.peft_type.value}; use generate"
            )
        return self.get_base_model().generate_batch(*args, **kwargs)

    def _embeds_prompt(self) -> bool:
        return self.active_peft_config.peft_type in EMBEDDED and not self._adapters_disabled

    def _needs_repair(self, mask: Tensor) -> bool:
        return self._embeds_prompt() and mask.dim() == 2 and bool((mask[:, 0] == 0).any())


def repair_left_padding() -> None:
    """Make PEFT build causal language models from the class here.

    Does nothing if that is done already, or if another package has put in a class of its own.
    """
    current: type[nn.Module] = MODEL_TYPE_TO_PEFT_MODEL_MAPPING["CAUSAL_LM"]
    if current is peft.PeftModelForCausalLM:
        MODEL_TYPE_TO_PEFT_MODEL_MAPPING["CAUSAL_LM"] = PeftModelForCausalLM
