"""The stage `pack`: a corpus tokenized once and laid out in rows.

    folder/
      manifest.json            config, the corpus's hash, the tokenizer's
      report.json              counts, and name, size and SHA-256 of every shard
      cost.json                time and memory
      train-00000.arrow ...    rows, see `_shards.py`
      validation-00000.arrow ...

The same config, corpus and tokenizer give the same bytes, however many threads tokenize and however
often the packing was killed: it is then done again from the beginning, which takes about as long as
tokenizing does.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from astraios.data import Corpus
from astraios.data._layouts import lay_out
from astraios.data._report import PackReport, Shard, SplitReport
from astraios.data.blocks import REPORT, read_report
from astraios.data.chat import Chat
from astraios.data.config import DataConfig, PackConfig
from astraios.data.sources import find_corpus
from astraios.data.tokens import Encoder, TrainingText, templated
from astraios.errors import ConfigError, DataError, MissingDataError
from astraios.files import check_holds, read_json
from astraios.measure import Meter
from astraios.progress import Progress, silent
from astraios.records import Cost, InstructionRecord, RunKind
from astraios.runs import Run
from astraios.templates import CHAT, TEMPLATES, check_training_template

__all__ = [
    "PackReport",
    "Shard",
    "SplitReport",
    "encoder",
    "load_tokenizer",
    "pack",
    "read_report",
    "tokenizer_hash",
]


def pack(
    config: PackConfig,
    folder: Path,
    *,
    tokenizer: Any = None,
    data_dir: Path | None = None,
    progress: Progress = silent,
) -> PackReport:
    """Pack the corpus of `config` into the run folder `folder`, or read that it was done.

    Args:
        config: what to pack, and how.
        folder: run folder.
        tokenizer: that of `config`, if it is loaded already.
        data_dir: folder of data files.
        progress: called with the records read so far.

    Raises:
        ConfigError: if the fields of `config` contradict each other.
        DataError: if a record cannot be packed; the message names it.
        StorageError: if the disk is full; the same call begins anew.
    """
    corpus = find_corpus(config.corpus)
    _check(config, corpus)
    if tokenizer is None:
        tokenizer = load_tokenizer(config.tokenizer, config.revision)
    _check_end(tokenizer, config.tokenizer)
    inputs = {"corpus": corpus.data_hash(data_dir), "tokenizer": tokenizer_hash(tokenizer)}
    with Run.open(folder, kind=RunKind.PACK, config=config, inputs=inputs) as run:
        if run.done:
            return read_json(folder / f"{REPORT}.json", PackReport)
        meter = Meter()
        for torn in folder.glob(".*.arrow-*"):  # of a packing that was killed
            torn.unlink()
        how = encoder(config, tokenizer)
        report = lay_out(config, corpus, how, folder, data_dir=data_dir, progress=progress)
        run.write_json(REPORT, report)
        n_tokens = report.train.n_tokens + report.validation.n_tokens
        cost = Cost(
            wall_s=meter.wall_s,
            cpu_s=meter.cpu_s,
            n_tokens=n_tokens,
            tokens_per_s=n_tokens / meter.wall_s,
            peak_mib=meter.peak_mib,
            energy_j=meter.energy_j,
        )
        run.write_json("cost", cost)
        run.seal({"n_tokens": n_tokens, "n_rows": report.train.n_rows})
    return report


def load_tokenizer(source: str | Path, revision: str | None = None) -> Any:
    """The tokenizer of a local folder or a hub id; no code of it is run.

    Raises:
        MissingDataError: if there is none.
        DataError: if it cannot be read, or has no end-of-text token.
    """
    from transformers import AutoTokenizer

    check_holds(source, "config.json", "tokenizer_config.json", "tokenizer.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source, revision=revision, trust_remote_code=False
        )
    except OSError as error:
        raise MissingDataError(
            f"tokenizer {str(source)!r} was found neither as a local folder nor on the Hugging "
            f"Face hub ({str(error).splitlines()[0]})"
        ) from error
    except (ValueError, KeyError) as error:
        raise DataError(
            f"tokenizer {str(source)!r} cannot be read ({str(error).splitlines()[0]}); "
            "its tokenizer.json is damaged, or it needs code of its own, which is not run"
        ) from error
    _check_end(tokenizer, source)
    return tokenizer


def encoder(config: DataConfig, tokenizer: Any) -> Encoder:
    """What makes documents of the records of `config`."""
    if config.template == CHAT:
        chat = Chat(tokenizer, config.loss_on)
        return Encoder(tokenizer, chat.text, config.loss_on, special_tokens=False)
    asked = TEMPLATES[config.template]

    def write(record: InstructionRecord) -> TrainingText:
        return templated(record, asked)

    return Encoder(tokenizer, write, config.loss_on, config.boundary)


def _check(config: PackConfig, corpus: Corpus) -> None:
    """Refuse fields that contradict each other."""
    check_training_template(config.template)
    if config.template == CHAT and config.boundary == "apart":
        raise ConfigError(
            "boundary apart needs a prompt and a response, and the template chat renders a "
            "conversation as a whole; set boundary to joint"
        )
    if config.n_rows is not None and config.layout != "constant_length":
        raise ConfigError(
            f"n_rows is of the layout constant_length, not of {config.layout}; leave it out, and "
            "set n_examples to take fewer records"
        )
    if corpus.endless and config.n_examples is None and config.n_rows is None:
        raise ConfigError(
            f"corpus {config.corpus!r} never ends; set n_examples to the records to take"
        )


def _check_end(tokenizer: Any, source: str | Path) -> None:
    if tokenizer.eos_token_id is None:
        raise DataError(
            f"the tokenizer of {str(source)!r} has no end-of-text token; "
            "set its eos_token, or generation will never end"
        )


def tokenizer_hash(tokenizer: Any) -> str:
    """What tells a tokenizer from others: all that its ids depend on."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        state: Any = [type(tokenizer).__name__, tokenizer.get_vocab()]
    else:
        state = json.loads(backend.to_str())
        for passing in ("truncation", "padding"):  # set anew by every call
            state.pop(passing, None)
    whole = [state, tokenizer.eos_token, getattr(tokenizer, "chat_template", None)]
    return sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]
