"""Tokenizers that need no download, and records to tokenize."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from astraios.records import InstructionRecord

TEXTS = (
    "def add(a, b):\n    return a + b\n",
    "Question: What is a naïve café?\n\nAnswer: a place, 12 o'clock 🌳🌳\n",
    "for (int i = 0; i < 10; i++) { total += i; }",
    "Write a function that returns the longest of the given words.",
)


class Letters:
    """A tokenizer of one token a character; it tells no places, as slow ones."""

    eos_token, eos_token_id = "<end>", 0

    def __call__(self, texts: Sequence[str], **options: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(letter) + 1 for letter in text] for text in texts]}

    def get_vocab(self) -> dict[str, int]:
        return {}


@cache
def _trained() -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<s>", "<|user|>", "<|assistant|>", "<|system|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXTS * 3, trainer)
    return str(bpe.to_str())


def bpe(template: str | None = None, *, trim_offsets: bool | None = None, **options: Any) -> Any:
    """A small byte-level tokenizer.

    Args:
        template: what it makes of a text, such as `<s> $A`; None: the text alone.
        trim_offsets: whether places leave white space out; None: as `template` needs it.
    """
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer.from_str(_trained())
    if template is not None:
        specials = [(name, made.token_to_id(name)) for name in ("<|endoftext|>", "<s>")]
        made.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=specials
        )
    elif trim_offsets is not None:
        made.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    given = {"eos_token": "<|endoftext|>", "bos_token": "<s>", **options}
    return PreTrainedTokenizerFast(
        tokenizer_object=made, clean_up_tokenization_spaces=False, **given
    )


def record(response: str, instruction: str = "ask", opening: str = "", id: str = "1") -> Any:
    return InstructionRecord(
        id=id, instruction=instruction, opening=opening, response=response, source="test"
    )


def write_corpus(
    folder: Path, train: Iterable[dict[str, Any]], validation: Iterable[dict[str, Any]]
) -> Path:
    """A folder that is a corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in (("train", train), ("validation", validation)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines)
    return folder


def rows(texts: Iterable[str]) -> list[dict[str, Any]]:
    """A record of every response, with an id of its place."""
    return [
        {"id": f"r{number}", "prompt": "ask", "completion": text}
        for number, text in enumerate(texts)
    ]
