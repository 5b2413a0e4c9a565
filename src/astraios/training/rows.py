"""The rows of a training: a corpus packed once, read from disk, in the order they are seen.

Rows and their order depend on the data, the seed and the size of a step alone: every method and
every number of devices sees the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any, overload

import numpy as np

from astraios import methods
from astraios.config import digest, identity
from astraios.data import Row
from astraios.data.batches import bucketed, shuffled
from astraios.data.blocks import Blocks, read_report
from astraios.data.config import PackConfig
from astraios.data.pack import pack, tokenizer_hash
from astraios.data.sources import find_corpus
from astraios.errors import DataError, ForeignRunError, LockedRunError, MethodError
from astraios.progress import Progress, silent
from astraios.runs import is_done, read_manifest
from astraios.training.config import TrainingConfig
from astraios.training.processes import processes

_WAIT_S = 0.5


class Ordered(Sequence[Row]):
    """Rows of `blocks` in an order of their own; each is read when it is asked for."""

    def __init__(self, blocks: Blocks, order: Sequence[int] | np.ndarray[Any, Any]) -> None:
        self._blocks, self._order = blocks, np.asarray(order, dtype=np.int64)

    @property
    def lengths(self) -> np.ndarray[Any, Any]:
        """Tokens of each row."""
        found: np.ndarray[Any, Any] = self._blocks.lengths[self._order]
        return found

    @property
    def n_distinct(self) -> int:
        """How many different rows there are."""
        return int(np.unique(self._order).size)

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Ordered: ...
    def __getitem__(self, at: int | slice) -> Row | Ordered:
        if isinstance(at, slice):
            return Ordered(self._blocks, self._order[at])
        return self._blocks[int(self._order[at])]


def data_folder(
    config: PackConfig, parent: Path, *, tokenizer: Any, data_dir: Path | None = None
) -> Path:
    """The run folder below `parent` for what `config` packs.

    Other data have another folder, and so has another tokenizer of the same name.
    """
    corpus = find_corpus(config.corpus)
    made_of = {"data": corpus.data_hash(data_dir), "tokenizer": tokenizer_hash(tokenizer)}
    mark = digest({"config": identity(config), **made_of})
    return parent / f"data-{corpus.name.rpartition('/')[2]}-{mark}"


def ensure_packed(
    config: PackConfig,
    folder: Path,
    *,
    tokenizer: Any,
    data_dir: Path | None = None,
    progress: Progress = silent,
) -> None:
    """Pack into `folder` what is not packed there yet; runs beside this one wait for it.

    Raises:
        DataError: what is wrong with the data.
        ForeignRunError: if `folder` was packed from other data, or by another tokenizer.
    """
    while not is_done(folder, config):
        if not processes().is_main_process:
            time.sleep(_WAIT_S)
            continue
        try:
            pack(config, folder, tokenizer=tokenizer, data_dir=data_dir, progress=progress)
        except LockedRunError:
            time.sleep(_WAIT_S)
    check_packed(config, folder, tokenizer=tokenizer, data_dir=data_dir)


def check_packed(
    config: PackConfig, folder: Path, *, tokenizer: Any, data_dir: Path | None = None
) -> None:
    """Refuse a packed `folder` that was made of something else; one not packed yet passes.

    Reads its manifest alone, so that every process can ask, and a folder that is not theirs too.

    Raises:
        ForeignRunError: naming what has changed.
    """
    if not is_done(folder, config):
        return
    packed = read_manifest(folder).inputs
    given = {
        "corpus": find_corpus(config.corpus).data_hash(data_dir),
        "tokenizer": tokenizer_hash(tokenizer),
    }
    names = {"corpus": config.corpus, "tokenizer": config.tokenizer}
    changed = [f"{key} {names[key]!r}" for key in given if packed.get(key) != given[key]]
    if changed:
        raise ForeignRunError(
            f"{' and '.join(changed)} changed since {str(folder)!r} was packed; restore what it "
            "was packed from, or remove that folder and what was trained on it"
        )


def training_rows(config: TrainingConfig, folder: Path) -> tuple[Ordered, list[Row]]:
    """Rows in the order they are seen, and the validation rows, of the packed `folder`.

    Raises:
        DataError: if there are fewer rows than a step takes.
        MethodError: if the method cannot learn from this layout.
    """
    if config.layout == "best_fit" and not methods.method(config.method).isolates:
        raise MethodError(
            f"method {config.method!r} cannot keep the documents of a packed row apart; "
            "set layout to bucketed"
        )
    train, held_out = Blocks(folder, "train"), Blocks(folder, "validation")
    size, n_steps = config.optimization.batch_size, config.optimization.n_steps
    if len(train) < size:
        raise DataError(
            f"corpus {config.corpus!r} gives {len(train)} rows, fewer than one batch of {size}; "
            "raise n_examples, or lower optimization.batch_size or block_length"
        )
    if config.layout == "constant_length":
        return Ordered(train, range(n_steps * size)), list(held_out)
    order_of = bucketed if config.layout == "bucketed" else shuffled
    batches = (
        batch
        for epoch in count()
        for batch in order_of(train.lengths, size, config.seed * 1_000 + epoch)
    )
    ordered = [at for batch in islice(batches, n_steps) for at in batch]
    return Ordered(train, ordered), list(held_out)


def check_positions(tuned: Any, config: TrainingConfig, folder: Path) -> None:
    """Refuse rows that reach past the positions of the model.

    Raises:
        DataError: with both lengths.
    """
    limit = getattr(tuned.config, "max_position_embeddings", None)
    if limit is None:
        return
    report = read_report(folder)
    longest = config.block_length
    if config.layout != "constant_length":
        documents = (report.train.longest_document, report.validation.longest_document)
        longest = min(longest, max(documents))
    prompt = getattr(tuned, "active_peft_config", None)
    n_virtual = int(getattr(prompt, "num_virtual_tokens", None) or 0)
    if longest + n_virtual > limit:
        virtual = f" and {n_virtual} virtual tokens" if n_virtual else ""
        raise DataError(
            f"the longest document of corpus {config.corpus!r} has {longest} tokens{virtual}, and "
            f"the model has {limit} positions; lower block_length (now {config.block_length}), and "
            "set too_long to split or drop"
        )


def check_vocabulary(tuned: Any, tokenizer: Any, pad: int, rows: Sequence[Sequence[Row]]) -> None:
    """Refuse tokens that the model has no embedding for.

    A tokenizer may know more tokens than the model if none of them occurs: only then are the rows
    looked through.

    Raises:
        DataError: with both numbers.
    """
    module = tuned.get_input_embeddings()
    n_embeddings = int(getattr(module, "original_module", module).weight.shape[0])
    if len(tokenizer) <= n_embeddings:
        return
    largest = max((max(row.ids) for part in rows for row in part), default=0)
    if max(largest, pad) >= n_embeddings:
        raise DataError(
            f"the tokenizer has {len(tokenizer)} tokens, of which {max(largest, pad)} is used, and "
            f"the model has embeddings for {n_embeddings}, from 0 on; take the tokenizer that "
            "belongs to the base, or resize the base's embeddings (resize_token_embeddings) and "
            "save it"
        )
