"""The stage `pack`: every token once, the same bytes whatever happens, and what goes wrong."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("transformers", reason="needs transformers: pip install 'astraios[train]'")

from astraios.data.blocks import Blocks
from astraios.data.config import PackConfig
from astraios.data.pack import load_tokenizer, pack, read_report
from astraios.errors import (
    ConfigError,
    DataError,
    ForeignRunError,
    MissingDataError,
    StorageError,
    UnknownNameError,
)
from astraios.records import Cost

from ._tokenizers import TEXTS, Letters, bpe, rows, write_corpus

LAYOUTS = pytest.mark.parametrize("layout", ["best_fit", "bucketed", "constant_length"])
ANSWERS = [f"{text} {number}" * (1 + number % 5) for number in range(30) for text in TEXTS]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "texts"
    return write_corpus(folder, rows(ANSWERS), rows(ANSWERS[:20]))


def config(corpus: Path, **changes: Any) -> PackConfig:
    given = {"tokenizer": "small", "block_length": 64, "too_long": "split", "n_buffered": 4}
    return PackConfig(corpus=str(corpus), **{**given, **changes})


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.arrow"))}


@given(
    answers=st.lists(st.text("ab 🌳\n", min_size=1, max_size=60), min_size=1, max_size=12),
    layout=st.sampled_from(["best_fit", "bucketed"]),
    block_length=st.integers(24, 60),
)
def test_every_token_of_every_record_is_in_one_place(
    tmp_path_factory: pytest.TempPathFactory, answers: list[str], layout: str, block_length: int
) -> None:
    answers = [f"{answer}." for answer in answers]
    folder = tmp_path_factory.mktemp("pack")
    texts = write_corpus(folder / "texts", rows(answers), rows(answers[:1]))
    asked = config(texts, layout=layout, block_length=block_length, boundary="apart")
    report = pack(asked, folder / "run", tokenizer=Letters())
    found: dict[str, list[list[int]]] = defaultdict(list)
    blocks = Blocks(folder / "run", "train")
    assert max(blocks.lengths) <= block_length
    for at, row in enumerate(blocks):
        ids, starts = row.ids.tolist(), [i for i, p in enumerate(row.positions) if p == 0]
        pieces = zip(blocks.documents(at), starts, [*starts[1:], len(ids)], strict=True)
        for name, begin, end in pieces:
            found[name].append(ids[begin:end])
    for number, answer in enumerate(answers):
        text = [ord(letter) + 1 for letter in f"Question: ask\n\nAnswer:\n{answer}"] + [0]
        cut = [text[at : at + block_length] for at in range(0, len(text), block_length)]
        assert sorted(found.pop(f"r{number}")) == sorted(cut)
    assert not found
    assert report.train.n_tokens == sum(blocks.lengths)
    assert report.train.utilisation == sum(blocks.lengths) / (len(blocks) * block_length)


@LAYOUTS
def test_the_report_counts_what_the_rows_hold(corpus: Path, tmp_path: Path, layout: str) -> None:
    asked = config(corpus, layout=layout, n_examples=70, n_validation=7)
    report = pack(asked, tmp_path / "run", tokenizer=bpe())
    for split, told in (("train", report.train), ("validation", report.validation)):
        found = Blocks(tmp_path / "run", split)
        assert told.n_records == (70 if split == "train" else 7)
        assert told.n_rows == len(found)
        assert told.n_tokens == sum(len(row.ids) for row in found)
        assert told.n_target_tokens == sum((row.labels[1:] >= 0).sum() for row in found)
    assert read_report(tmp_path / "run") == report
    Cost.model_validate_json((tmp_path / "run" / "cost.json").read_text())


def test_dropped_records_are_counted_and_named(corpus: Path, tmp_path: Path) -> None:
    report = pack(config(corpus, too_long="drop"), tmp_path / "run", tokenizer=bpe())
    split = pack(config(corpus), tmp_path / "split", tokenizer=bpe())
    assert report.train.n_dropped == split.train.n_split > 20
    assert len(report.train.dropped) == 20
    assert report.train.n_documents == report.train.n_records - report.train.n_dropped
    held = {
        name
        for blocks in [Blocks(tmp_path / "run", "train")]
        for at in range(len(blocks))
        for name in blocks.documents(at)
    }
    assert not held & set(report.train.dropped)
    assert report.train.longest_document == split.train.longest_document > 64


def test_a_record_longer_than_a_row_is_named_with_the_ways_out(
    corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"record 'r\d+' of corpus .* block_length 64; raise"):
        pack(config(corpus, too_long="error"), tmp_path / "run", tokenizer=bpe())


def test_records_that_are_all_too_long_give_no_rows(corpus: Path, tmp_path: Path) -> None:
    asked = config(corpus, too_long="drop", block_length=8)
    with pytest.raises(DataError, match=r"120 train records .* give no rows: all are longer"):
        pack(asked, tmp_path / "run", tokenizer=bpe())


def test_sealed_rows_are_not_made_again(corpus: Path, tmp_path: Path) -> None:
    first = pack(config(corpus), tmp_path / "run", tokenizer=bpe())
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    assert pack(config(corpus), tmp_path / "run", tokenizer=bpe()) == first
    assert {p: p.stat().st_mtime_ns for p in times if p.name != ".lock"} == {
        p: at for p, at in times.items() if p.name != ".lock"
    }


def test_another_tokenizer_or_corpus_is_another_packing(corpus: Path, tmp_path: Path) -> None:
    texts = write_corpus(tmp_path / "texts", rows(ANSWERS), rows(ANSWERS[:3]))
    pack(config(texts), tmp_path / "run", tokenizer=bpe())
    with pytest.raises(ForeignRunError, match="other inputs \\(tokenizer\\)"):
        pack(config(texts), tmp_path / "run", tokenizer=bpe("<s> $A"))
    write_corpus(tmp_path / "texts", rows(ANSWERS[1:]), rows(ANSWERS[:3]))
    with pytest.raises(ForeignRunError, match="other inputs \\(corpus\\)"):
        pack(config(texts), tmp_path / "run", tokenizer=bpe())


def test_progress_ends_where_the_records_do(corpus: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    pack(config(corpus), tmp_path / "run", tokenizer=bpe(), progress=lambda *one: told.append(one))
    assert told[0] == (120, 120, "train")
    assert told[-1] == (20, 20, "validation")


# --- the same bytes ---------------------------------------------------------------------------

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from astraios.data.config import PackConfig
from astraios.data.pack import pack
configs, folder, end = sys.argv[1:]
def tell(done, total, note):
    if note == end:
        os.kill(os.getpid(), signal.SIGKILL)
for config in json.loads(configs):
    config = PackConfig.model_validate(config)
    pack(config, Path(folder) / config.layout, progress=tell)
"""
"""Packs each config into a folder of its layout's name; dies where progress tells `end`."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer") / "saved"
    bpe().save_pretrained(folder)
    return folder


def elsewhere(configs: list[PackConfig], folder: Path, end: str = "", **environment: str) -> int:
    """Pack in a process of its own; its exit status."""
    dumped = json.dumps([config.model_dump(mode="json") for config in configs])
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, dumped, str(folder), end],
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        check=False,
    ).returncode


@pytest.mark.slow
def test_bytes_do_not_depend_on_threads(corpus: Path, saved: Path, tmp_path: Path) -> None:
    layouts = ("best_fit", "bucketed", "constant_length")
    asked = [config(corpus, layout=layout, tokenizer=str(saved)) for layout in layouts]
    many = {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "4"}
    assert elsewhere(asked, tmp_path / "one", TOKENIZERS_PARALLELISM="false") == 0
    assert elsewhere(asked, tmp_path / "many", **many) == 0
    for layout in layouts:
        one, other = (tmp_path / name / layout for name in ("one", "many"))
        assert shards(one) == shards(other)
        assert (one / "report.json").read_bytes() == (other / "report.json").read_bytes()


def test_a_killed_packing_is_done_again_with_the_same_bytes(
    corpus: Path, saved: Path, tmp_path: Path
) -> None:
    asked = config(corpus, tokenizer=str(saved))
    killed, undisturbed = tmp_path / "best_fit", tmp_path / "undisturbed"
    assert elsewhere([asked], tmp_path, end="validation") == -signal.SIGKILL
    assert json.loads((killed / "manifest.json").read_text())["status"] == "running"
    assert {path.name for path in killed.iterdir()} >= {".spool", "train-00000.arrow"}
    pack(asked, killed)
    pack(asked, undisturbed)
    assert shards(killed) == shards(undisturbed)
    left = {path.name for path in killed.iterdir()}
    assert left == {path.name for path in undisturbed.iterdir()}


# --- what goes wrong --------------------------------------------------------------------------


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """No file grows beyond `n_bytes`: the kernel takes a part of a write, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@LAYOUTS
def test_a_full_disk_is_told_and_the_same_call_goes_on(
    corpus: Path, tmp_path: Path, layout: str
) -> None:
    asked = config(corpus, layout=layout)
    with largest_file(6_000), pytest.raises(StorageError, match=r"cannot write .*(spool|arrow)"):
        pack(asked, tmp_path / "run", tokenizer=bpe())
    assert not shards(tmp_path / "run")
    assert not (tmp_path / "run" / ".spool").exists()
    pack(asked, tmp_path / "run", tokenizer=bpe())
    pack(asked, tmp_path / "other", tokenizer=bpe())
    assert shards(tmp_path / "run") == shards(tmp_path / "other")


def test_a_tokenizer_without_an_end_is_refused(corpus: Path, tmp_path: Path) -> None:
    bpe(eos_token=None).save_pretrained(tmp_path / "endless")
    message = r"the tokenizer of '.*endless' has no end-of-text token; set its eos_token"
    with pytest.raises(DataError, match=message):
        load_tokenizer(tmp_path / "endless")
    with pytest.raises(DataError, match="the tokenizer of 'small' has no end-of-text token"):
        pack(config(corpus), tmp_path / "run", tokenizer=bpe(eos_token=None))


def test_a_missing_tokenizer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingDataError, match=r"tokenizer '.*nowhere' was found neither"):
        load_tokenizer(tmp_path / "nowhere")


def test_a_folder_above_the_tokenizer_is_told_where_it_is(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    for path in saved.iterdir():
        (run / "model" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(MissingDataError, match=r"run' holds no config.json.*mean '.*run/model'\?"):
        load_tokenizer(run)


def test_a_damaged_tokenizer_is_named(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"tokenizer '.*damaged' cannot be read"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": "octocode"}, "unknown template 'octocode'.*Did you mean 'octocoder'"),
        ({"template": "chat", "boundary": "apart"}, "set boundary to joint"),
        ({"n_rows": 5}, "n_rows is of the layout constant_length, not of best_fit"),
        ({"corpus": "minipack"}, "corpus 'minipack' never ends; set n_examples"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(
    corpus: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        pack(config(corpus).model_copy(update=changes), tmp_path / "run", tokenizer=bpe())


def test_a_chat_template_is_used_where_it_is_asked_for(corpus: Path, tmp_path: Path) -> None:
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    template += "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    tokenizer = bpe(chat_template=template)
    pack(config(corpus, template="chat"), tmp_path / "run", tokenizer=tokenizer)
    ids = Blocks(tmp_path / "run", "train")[0].ids
    assert tokenizer.decode(ids).startswith("<|user|>ask<|assistant|>def add(")


def test_the_shared_instructions_fill_rows(shared: Path, tmp_path: Path) -> None:
    train = shared / "data/instructions/train.jsonl.gz"
    asked = config(train, block_length=2_048)
    report = pack(asked, tmp_path / "run", tokenizer=bpe())
    assert report.train.n_records == 724
    assert report.train.utilisation >= 0.98
