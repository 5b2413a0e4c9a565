"""Records to token ids and a loss mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from astraios.data import Row
from astraios.records import InstructionRecord
from astraios.templates import Template

IGNORED = -100
"""Label of a token that is not in the loss (PyTorch's default `ignore_index`)."""


@dataclass(frozen=True)
class TokenizedRecord:
    """One document with its end-of-text token."""

    ids_T: list[int]
    in_loss_T: list[bool]


def tokenize(
    record: InstructionRecord,
    template: Template,
    tokenizer: Any,
    loss_on: Literal["all", "response"],
) -> TokenizedRecord:
    """Tokenize prompt and response apart and close with the end-of-text token.

        Question: ...  Answer: def f(v):   |   return v   <eos>
        loss_on="response"  0 0 0 0 0 0 0  |   1 1 1 1    1

    The boundary is tokenized exactly as at evaluation, where the prompt stands alone.

    Args:
        record: what to learn.
        template: how it becomes text.
        tokenizer: a Hugging Face tokenizer with an end-of-text token.
        loss_on: `all` counts every token, `response` only those after the prompt.
    """
    prompt, response = template.training_text(record)
    prompt_ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    response_ids: list[int] = tokenizer(response, add_special_tokens=False)["input_ids"]
    ids = [*prompt_ids, *response_ids, tokenizer.eos_token_id]
    n_masked = len(prompt_ids) if loss_on == "response" else 0
    return TokenizedRecord(ids, [at >= n_masked for at in range(len(ids))])


def row(document: TokenizedRecord, *, offset: int = 0) -> Row:
    """A row of one document whose positions start at `offset`."""
    labels = [
        token if counts else IGNORED
        for token, counts in zip(document.ids_T, document.in_loss_T, strict=True)
    ]
    return Row(document.ids_T, labels, list(range(offset, offset + len(labels))))
