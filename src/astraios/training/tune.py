"""One training run: a base model, a method, a corpus -> tuned weights, losses, costs."""

from __future__ import annotations

from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from astraios import methods, registry, runs
from astraios.data import Corpus, Row, corpora
from astraios.data.batches import bucketed
from astraios.data.packing import pack
from astraios.data.tokens import TokenizedRecord, row, tokenize
from astraios.errors import DataError, MethodError, MissingDataError
from astraios.methods import Method
from astraios.progress import Progress, silent
from astraios.records import RunKind
from astraios.templates import template
from astraios.training.config import TrainingConfig
from astraios.training.fit import fit

ADAPTER = "adapter"


def load_base(source: str | Path, revision: str | None = None) -> tuple[Any, Any]:
    """Model (fp32, in eval mode) and tokenizer of a local folder or a hub id.

    Weights are read as safetensors only, and no code of the checkpoint is run.

    Raises:
        MissingDataError: if there is no such model here or on the hub.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        model = AutoModelForCausalLM.from_pretrained(
            source, revision=revision, dtype=torch.float32, use_safetensors=True
        )
    except OSError as error:
        raise MissingDataError(
            f"base model {str(source)!r} was found neither as a local folder nor on the Hugging "
            f"Face hub ({str(error).splitlines()[0]})"
        ) from error
    return model.eval(), tokenizer


def tune(
    config: TrainingConfig,
    folder: Path,
    *,
    base: Path | None = None,
    inputs: dict[str, str] | None = None,
    data_dir: Path | None = None,
    progress: Progress = silent,
) -> None:
    """Tune the base model of `config` in the run folder `folder`, or finish that run.

    Args:
        config: what to train.
        folder: run folder; the tuned weights end up in `folder/adapter`.
        base: where the base model lies when `config.base_model` is an embedded one's name.
        inputs: run ids the manifest should name.
        data_dir: folder of data files.
        progress: called after every step.
    """
    method: Method = registry.load(methods, "method", config.method)
    run = runs.Run.open(folder, kind=RunKind.TRAIN, config=config, inputs=inputs)
    with run:
        if run.done:
            return
        model, tokenizer = load_base(base or config.base_model, config.revision)
        if tokenizer.eos_token_id is None:
            raise DataError(
                f"the tokenizer of {config.base_model!r} has no end-of-text token; "
                "set its eos_token, or generation will never end"
            )
        rows, validation = training_rows(config, tokenizer, data_dir)
        torch.manual_seed(config.seed)  # the new weights of a method are drawn from it
        tuned = method.apply(model, config.method_options)
        cost = fit(
            tuned,
            rows,
            config.optimization,
            run,
            validation=validation,
            seed=config.seed,
            pad_id=pad_id(tokenizer),
            progress=progress,
        )
        method.save(tuned, folder / ADAPTER)
        size = sum(f.stat().st_size for f in (folder / ADAPTER).rglob("*") if f.is_file())
        run.write_json("cost", cost.model_copy(update={"adapter_bytes": size}))
        run.seal({"n_tokens": cost.n_tokens, "n_trainable": cost.trainable_parameters})


def pad_id(tokenizer: Any) -> int:
    """The padding token, else end-of-text; padding never counts in a loss."""
    found = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if found is None else found)


def training_rows(
    config: TrainingConfig, tokenizer: Any, data_dir: Path | None = None
) -> tuple[list[Row], list[Row]]:
    """Rows in the order they are seen, and the validation rows.

    Depends on the corpus and the seed only, so every method sees the same rows in the same order.

    Raises:
        DataError: if the corpus gives no records, or one does not fit a row.
        MethodError: if the method cannot learn from this layout.
    """
    if config.layout == "packed" and config.method == "ptuning":
        raise MethodError(
            "method 'ptuning' puts virtual tokens before a row, where only the first of its packed "
            "documents would see them; set layout to bucketed"
        )
    train = _documents(config, tokenizer, "train", config.n_examples, data_dir)
    held_out = _documents(config, tokenizer, "validation", config.n_validation, data_dir)
    if config.layout == "packed":
        rows = list(pack(train, config.block_length))
    else:
        rows = [row(document) for document in train]
    size, n_steps = config.optimization.batch_size, config.optimization.n_steps
    if len(rows) < size:
        raise DataError(
            f"corpus {config.corpus!r} gives {len(rows)} rows, fewer than one batch of {size}; "
            "raise n_examples or lower optimization.batch_size"
        )
    epochs = (
        batch
        for epoch in count()
        for batch in bucketed([len(r.ids) for r in rows], size, config.seed * 1_000 + epoch)
    )
    ordered = [rows[at] for batch in islice(epochs, n_steps) for at in batch]
    return ordered, [row(document) for document in held_out]


def _documents(
    config: TrainingConfig, tokenizer: Any, split: str, n: int, data_dir: Path | None
) -> list[TokenizedRecord]:
    corpus: Corpus = registry.load(corpora, "corpus", config.corpus)
    asked = template(config.template)
    seed = config.seed if split == "train" else 0  # every seed is validated on the same records
    documents = []
    for record in islice(corpus.records(split, seed, data_dir), n):
        document = tokenize(record, asked, tokenizer, config.loss_on)
        if len(document.ids_T) > config.block_length:
            raise DataError(
                f"record {record.id!r} of corpus {config.corpus!r} has {len(document.ids_T)} "
                f"tokens, more than block_length {config.block_length}; raise block_length"
            )
        documents.append(document)
    if not documents:
        raise DataError(f"corpus {config.corpus!r} has no {split} records")
    return documents
