"""Which records are trained on, and how they become rows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from astraios.config import Config


class DataConfig(Config):
    """The data of a training: what `pack` and `train` have in common."""

    corpus: str = "minipack"
    """A name of `astraios list corpora`; a file (JSONL, Parquet, .gz too) or the folder of an
    `astraios data build`; or `hub:OWNER/NAME`, a data set of the Hugging Face hub."""
    n_examples: int | None = Field(default=None, ge=1)
    """Records taken from the corpus; None: all. A run passes over them as its steps need."""
    n_validation: int = Field(default=256, ge=1)
    """Validation records taken, at most."""
    template: str = "octocoder"
    """A name of `astraios list templates`, or `chat`: the tokenizer's own chat template."""
    loss_on: Literal["all", "response"] = "response"
    boundary: Literal["joint", "apart"] = "joint"
    """Prompt and response are tokenized as one text, as the model will read them elsewhere; or
    apart, as the original's answer-only option: ids can differ where they meet."""
    layout: Literal["best_fit", "bucketed", "constant_length"] = "best_fit"
    """Whole documents packed into rows and isolated from each other; or one document a row,
    ordered by length; or the original's: one stream of documents cut into rows, not isolated."""
    block_length: int = Field(default=2_048, ge=8)
    """Tokens a row has at most."""
    too_long: Literal["error", "split", "drop"] = "error"
    """What is done with a document longer than a row, where rows hold whole documents."""


class PackConfig(DataConfig):
    """A corpus tokenized and packed once."""

    tokenizer: str
    """Folder or hub id of a base model, or of a tokenizer."""
    revision: str | None = None
    n_rows: int | None = Field(default=None, ge=1)
    """Rows of the layout `constant_length`, passing over the corpus as often as needed, as the
    original's endless stream; None: one pass."""
    n_buffered: int = Field(default=1_024, ge=1)
    """Rows that the original's buffer is meant to hold (layout `constant_length`)."""
    characters_per_token: float | None = Field(default=None, gt=0)
    """By which the original measures its buffer; None: measured on the first 400 records."""
    seed: int = 0
