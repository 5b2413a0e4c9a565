"""One training run: a base model, a method, a corpus -> tuned weights, losses, costs."""

from __future__ import annotations

from itertools import count, islice
from pathlib import Path
from typing import Any

import torch

from astraios import methods, registry
from astraios.data import Corpus, Row, corpora
from astraios.data.batches import bucketed
from astraios.data.packing import pack
from astraios.data.tokens import TokenizedRecord, row, tokenize
from astraios.errors import DataError, MethodError
from astraios.methods import Method
from astraios.progress import Progress, silent
from astraios.records import Cost, RunKind
from astraios.runs import Run
from astraios.templates import template
from astraios.training import checkpoints
from astraios.training.base import QUANTISED, load_base, prepared
from astraios.training.config import TrainingConfig
from astraios.training.fit import fit
from astraios.training.processes import open_run, processes

ADAPTER = "adapter"
BEST = "adapter-best"


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
        folder: run folder; the tuned weights end up in `folder/adapter`, and those of the lowest
            validation loss, where that was not the last, in `folder/adapter-best`.
        base: where the base model lies when `config.base_model` is an embedded one's name.
        inputs: run ids the manifest should name.
        data_dir: folder of data files.
        progress: called after every step.
    """
    method = methods.method(config.method)
    if config.base_precision in QUANTISED and method.trains_base:
        raise MethodError(
            f"method {config.method!r} trains the base, whose weights in "
            f"{config.base_precision} cannot be trained; set base_precision to bf16 or fp32"
        )
    run = open_run(folder, kind=RunKind.TRAIN, config=config, inputs=inputs)
    with run:
        if run.done:
            return
        model, tokenizer = load_base(
            base or config.base_model, config.revision, precision=config.base_precision
        )
        if tokenizer.eos_token_id is None:
            raise DataError(
                f"the tokenizer of {config.base_model!r} has no end-of-text token; "
                "set its eos_token, or generation will never end"
            )
        rows, validation = training_rows(config, tokenizer, data_dir)
        torch.manual_seed(config.seed)  # the new weights of a method are drawn from it
        tuned = method.apply(
            prepared(model, config.base_precision),
            method.options_for(config.method_options, config.optimization.n_steps),
        )
        cost = fit(
            tuned,
            rows,
            config.optimization,
            run,
            recipe=config,
            validation=validation,
            seed=config.seed,
            pad_id=pad_id(tokenizer),
            method=method,
            progress=progress,
        )
        if processes().is_main_process:
            _finish(run, method, tuned, cost, config.optimization.n_steps)
        processes().wait_for_everyone()


def _finish(run: Run, method: Method, tuned: Any, cost: Cost, n_steps: int) -> None:
    """Save what was trained, then seal the run."""
    method.save(tuned, run.folder / ADAPTER)
    size = sum(f.stat().st_size for f in (run.folder / ADAPTER).rglob("*") if f.is_file())
    run.write_json("cost", cost.model_copy(update={"adapter_bytes": size}))
    best = checkpoints.read_best(run.folder)
    if best is not None:
        run.write_json("best", best)
        if best.step < n_steps:
            checkpoints.fill_best(tuned, run.folder)
            method.save(tuned, run.folder / BEST)
    checkpoints.remove(run.folder)
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
    if config.layout == "packed" and methods.method(config.method).adds_tokens:
        raise MethodError(
            f"method {config.method!r} puts virtual tokens before a row, where only the first of "
            "its packed documents would see them; set layout to bucketed"
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
