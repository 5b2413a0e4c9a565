"""How a server of vLLM is asked: with token ids, or with embeddings after virtual tokens."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from astraios.errors import ConfigError, MissingDataError
from astraios.generation import Model

__all__ = ["Embeddings", "Ids", "Reading"]


class Reading(Protocol):
    """Prompts in tokens to the fields of a request."""

    tokenizer: Any
    config: Any
    generation_config: Any
    n_virtual: int
    """Tokens that come before each prompt."""

    def body(self, ids: Sequence[int]) -> dict[str, Any]:
        """The fields that say the prompt."""


class Ids:
    """Prompts as token ids; tokenizer and config of the base are read, and no weights.

    Raises:
        MissingDataError: if they are not there.
    """

    n_virtual = 0

    def __init__(self, model: Model) -> None:
        how: Mapping[str, Any] = {"revision": model.revision}
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(model.base_model, **how)
            self.config = AutoConfig.from_pretrained(model.base_model, **how)
        except OSError as error:
            raise MissingDataError(
                f"tokenizer and config of base model {model.base_model!r} were found neither in a "
                f"local folder nor on the Hugging Face hub ({str(error).splitlines()[0]})"
            ) from error
        try:
            self.generation_config = GenerationConfig.from_pretrained(model.base_model, **how)
        except OSError:  # it has none
            self.generation_config = None

    def body(self, ids: Sequence[int]) -> dict[str, Any]:
        return {"prompt": list(ids)}


class Embeddings:
    """Prompts as embeddings: the virtual tokens that were trained, then the prompt's tokens.

    The tuned model is loaded for them once; all but its embedding is let go of.

    Raises:
        ConfigError: if the tuning does more than put tokens in front of a prompt.
    """

    def __init__(self, model: Model) -> None:
        loaded, self.tokenizer, method = model.load()
        if method is None:
            raise ConfigError(f"{model.base_model!r} was loaded untuned; there are no embeddings")
        decoder: Any = method.decoder(loaded)
        self.config, self.generation_config = decoder.config, decoder.generation_config
        self._embedding = decoder.get_input_embeddings()
        self._dtype: torch.dtype = getattr(torch, model.precision)
        ids_1T = torch.arange(2)[None]
        with torch.inference_mode():
            told_TD = method.inputs(loaded, ids_1T, torch.ones_like(ids_1T))["inputs_embeds"][0]
            self._virtual_VD = told_TD[:-2].clone()
            same = torch.equal(told_TD[-2:], self._embedding(ids_1T)[0].to(told_TD.dtype))
        if not same:
            raise ConfigError(
                f"what {model.method!r} does to a prompt is more than tokens in front of it; use "
                "--engine hf"
            )
        self.n_virtual = len(self._virtual_VD)

    def body(self, ids: Sequence[int]) -> dict[str, Any]:
        with torch.inference_mode():
            prompt_TD = self._embedding(torch.tensor(ids))
            whole_SD = torch.cat([self._virtual_VD.to(self._dtype), prompt_TD.to(self._dtype)])
        data = io.BytesIO()
        torch.save(whole_SD.clone(), data)  # a clone: a view would be saved with all it is of
        return {"prompt_embeds": base64.b64encode(data.getvalue()).decode("ascii")}
