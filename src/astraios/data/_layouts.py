"""The records of a corpus laid out in rows: what runs between its reading and the shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from astraios.data import Corpus
from astraios.data._report import N_LISTED, PackReport, Shard, SplitReport, Tally
from astraios.data._shards import ShardWriter
from astraios.data._spool import Spool
from astraios.data.config import PackConfig
from astraios.data.constant_length import MEASURED, buffers, measure
from astraios.data.packing import best_fit, documents_by_row, fitted, isolated
from astraios.data.tokens import BATCH, Counts, Documents, Encoder, Ids, Mask, TrainingText
from astraios.errors import DataError
from astraios.progress import Progress, silent


def lay_out(
    config: PackConfig,
    corpus: Corpus,
    encoder: Encoder,
    folder: Path,
    *,
    data_dir: Path | None = None,
    progress: Progress = silent,
) -> PackReport:
    """Write the shards of both splits into `folder`.

    Raises:
        DataError: if a split has no records or gives no rows, or a record cannot be laid out.
        StorageError: if a shard cannot be written.
    """
    train, validation = (
        _Split(config, corpus, encoder, folder, split, data_dir, progress)
        for split in ("train", "validation")
    )
    if config.layout != "constant_length":
        fill = _Split.best_fit if config.layout == "best_fit" else _Split.one_each
        return PackReport(
            train=fill(train), validation=fill(validation), shards=train.shards + validation.shards
        )
    ratio = config.characters_per_token
    if ratio is None:
        ratio = measure(list(islice(train.texts(silent), MEASURED)), encoder)
    return PackReport(
        characters_per_token=ratio,
        train=train.constant_length(ratio, config.n_rows),
        validation=validation.constant_length(ratio, None),
        shards=train.shards + validation.shards,
    )


class _Split:
    """One split on its way into shards."""

    def __init__(
        self,
        config: PackConfig,
        corpus: Corpus,
        encoder: Encoder,
        folder: Path,
        split: str,
        data_dir: Path | None,
        progress: Progress,
    ) -> None:
        self._config, self._corpus, self._encoder = config, corpus, encoder
        self._folder, self._split, self._data_dir = folder, split, data_dir
        self._progress = progress
        self._tally = Tally()
        self._writer = ShardWriter(
            folder, split, layout=config.layout, block_length=config.block_length
        )

    @property
    def shards(self) -> tuple[Shard, ...]:
        return tuple(self._writer.shards)

    def best_fit(self) -> SplitReport:
        """All documents are laid aside, for the fit is of all lengths; then row by row."""
        with Spool(self._folder) as spool:
            for documents in self._documents():
                spool.append(documents)
            if not self._tally.n_documents:
                raise self._no_rows()
            laid_aside = spool.read()
            numbers = best_fit(laid_aside.lengths, self._config.block_length)
            for members in documents_by_row(numbers):
                self._add(*laid_aside.take(members))
            return self._finish()

    def one_each(self) -> SplitReport:
        """A row for every document."""
        for documents in self._documents():
            ends = np.cumsum(documents.lengths)
            places = zip((ends - documents.lengths).tolist(), ends.tolist(), strict=True)
            for at, (begin, end) in enumerate(places):
                self._add(
                    documents.ids[begin:end],
                    documents.in_loss[begin:end],
                    documents.lengths[at : at + 1],
                    documents.names[at : at + 1],
                )
        return self._finish()

    def constant_length(self, characters_per_token: float, n_rows: int | None) -> SplitReport:
        """The original's blocks: those of one pass, or `n_rows` of an endless stream."""
        config, tally = self._config, self._tally
        for buffer in buffers(
            self.texts,
            self._encoder,
            config.block_length,
            config.block_length * characters_per_token * config.n_buffered,
            config.seed,
            endless=n_rows is not None,
        ):
            self._count(buffer.documents)
            tally.n_documents += len(buffer.documents.lengths)
            tally.n_passes = buffer.n_passes
            before = tally.n_tokens
            wanted = None if n_rows is None else n_rows - tally.n_rows
            for block in buffer.blocks[:wanted]:
                self._add(block.ids, block.in_loss, block.lengths, block.names)
            tally.n_left_over += len(buffer.documents.ids) - (tally.n_tokens - before)
            if tally.n_rows == n_rows:
                break
        return self._finish()

    def texts(self, progress: Progress | None = None) -> Iterator[TrainingText]:
        """The texts of one pass.

        Raises:
            DataError: if there are none.
        """
        config, tell = self._config, progress or self._progress
        wanted = config.n_examples if self._split == "train" else config.n_validation
        # every seed is validated on the same records
        seed = config.seed if self._split == "train" else 0
        n = 0
        for record in islice(self._corpus.records(self._split, seed, self._data_dir), wanted):
            yield self._encoder.write(record)
            n += 1
            if n % BATCH == 0:
                tell(n, max(n, wanted or 0), self._split)
        if not n:
            raise DataError(f"corpus {config.corpus!r} has no {self._split} records")
        tell(n, n, self._split)

    def _documents(self) -> Iterator[Documents]:
        """Documents that fit a row and do not see each other, a batch at a time."""
        config, tally = self._config, self._tally
        texts = self.texts()
        while batch := list(islice(texts, BATCH)):
            documents = self._encoder.encode(batch)
            self._count(documents)
            found = fitted(documents, config.block_length, config.too_long, config.corpus)
            tally.n_split += found.n_split
            tally.n_dropped += len(found.dropped)
            tally.dropped = (tally.dropped + found.dropped)[:N_LISTED]
            tally.n_documents += len(found.documents.lengths)
            if found.documents.names:
                yield isolated(found.documents)

    def _count(self, documents: Documents) -> None:
        tally = self._tally
        tally.n_records += len(documents.lengths)
        tally.n_straddling += documents.n_straddling
        tally.longest_document = max(tally.longest_document, int(documents.lengths.max()))

    def _add(self, ids: Ids, in_loss: Mask, lengths: Counts, names: Sequence[str]) -> None:
        self._writer.add(ids, in_loss, lengths, names)
        self._tally.n_rows += 1
        self._tally.n_tokens += len(ids)
        # what comes first in a row is predicted by nothing
        self._tally.n_target_tokens += int(np.count_nonzero(in_loss[1:]))

    def _finish(self) -> SplitReport:
        if not self._tally.n_rows:
            raise self._no_rows()
        self._writer.close()
        return self._tally.report(self._config.block_length)

    def _no_rows(self) -> DataError:
        tally, config = self._tally, self._config
        if config.layout == "constant_length":
            why = (
                f"their {tally.n_left_over} tokens do not fill one row of block_length "
                f"{config.block_length}; lower block_length or take more records "
                "(n_examples, n_validation)"
            )
        else:
            why = (
                f"all are longer than block_length {config.block_length}; raise it "
                f"(the longest has {tally.longest_document} tokens)"
            )
        return DataError(
            f"the {tally.n_records} {self._split} records of corpus {config.corpus!r} give no "
            f"rows: {why}"
        )
