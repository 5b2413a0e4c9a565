"""Embedded base models: a byte-level tokenizer and a small GPTBigCode, trained from scratch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM, PreTrainedTokenizerFast

from astraios import files, runs
from astraios.data import Row
from astraios.data.batches import bucketed
from astraios.data.tokens import TokenizedRecord, row
from astraios.minipack.documents import pretraining_documents, tuning_examples
from astraios.minipack.problems import Part
from astraios.progress import Progress, silent
from astraios.records import RunKind
from astraios.templates import template
from astraios.training import checkpoints
from astraios.training.config import PretrainingConfig
from astraios.training.fit import fit

END, PAD = "<|endoftext|>", "<pad>"
MODEL = "model"


def make_tokenizer(texts: Iterator[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE that splits digits, as StarCoder's."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[END, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        bos_token=END,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )


def _tokenizer_texts(config: PretrainingConfig) -> Iterator[str]:
    """Documents and, one in four, questions: the words of both registers get tokens."""
    n = config.n_tokenizer_documents
    yield from islice(pretraining_documents(config.seed, config.imperative), n - n // 4)
    asked = template("octocoder")
    for _, instruction, opening, response in islice(
        tuning_examples(Part.TRAIN, config.seed), n // 4
    ):
        yield asked.prompt(instruction, opening) + response


def make_model(config: PretrainingConfig, n_tokens: int) -> GPTBigCodeForCausalLM:
    """StarCoder's architecture at `config`'s size, random weights."""
    torch.manual_seed(config.seed)
    return GPTBigCodeForCausalLM(
        GPTBigCodeConfig(
            vocab_size=n_tokens,
            n_positions=config.n_positions,
            n_embd=config.hidden,
            n_layer=config.n_layers,
            n_head=config.n_heads,
            n_inner=4 * config.hidden,
            multi_query=True,
            activation_function="gelu_pytorch_tanh",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=1,
        )
    )


def _rows(config: PretrainingConfig, tokenizer: Any) -> list[Row]:
    """One document a row, batches of similar length, one random offset a batch."""
    size, n_steps = config.optimization.batch_size, config.optimization.n_steps
    texts = islice(pretraining_documents(config.seed, config.imperative), size * n_steps)
    encoded: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    chance = random.Random(f"offsets/{config.seed}")
    rows = []
    for batch in bucketed([len(ids) for ids in encoded], size, config.seed):
        offset = chance.randint(0, config.max_offset)
        for at in batch:
            ids = [*encoded[at], tokenizer.eos_token_id]
            rows.append(row(TokenizedRecord(ids, [True] * len(ids)), offset=offset))
    return rows


def pretrain(config: PretrainingConfig, folder: Path, *, progress: Progress = silent) -> None:
    """Make the base model of `config` in the run folder `folder`, or finish it.

    The model and its tokenizer end up in `folder/model`, a plain transformers checkpoint.
    """
    with runs.Run.open(folder, kind=RunKind.PRETRAIN, config=config) as run:
        if run.done:
            return
        tokenizer = make_tokenizer(_tokenizer_texts(config), config.vocabulary)
        model = make_model(config, len(tokenizer))
        cost = fit(
            model,
            _rows(config, tokenizer),
            config.optimization,
            run,
            seed=config.seed,
            pad_id=tokenizer.pad_token_id,
            progress=progress,
        )
        with files.fill_folder(folder / MODEL) as scratch:
            model.save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
        size = sum(file.stat().st_size for file in (folder / MODEL).glob("*.safetensors"))
        run.write_json("cost", cost.model_copy(update={"adapter_bytes": size}))
        checkpoints.remove(folder)
        run.seal({"n_tokens": cost.n_tokens, "n_parameters": cost.total_parameters})
