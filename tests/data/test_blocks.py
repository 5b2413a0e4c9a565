"""Rows on disk: what was written is what is read, and nothing else is taken for it."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'astraios[train]'")

from astraios.data._shards import ShardWriter
from astraios.data.blocks import REPORT, Blocks, read_report
from astraios.data.config import PackConfig
from astraios.data.pack import PackReport, SplitReport, pack
from astraios.data.tokens import IGNORED
from astraios.errors import DataError, MissingDataError, UnfinishedRunError
from astraios.records import RunKind
from astraios.runs import Run

from ._tokenizers import Letters, rows, write_corpus

written = st.lists(
    st.lists(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.booleans()), min_size=1, max_size=9),
             min_size=1, max_size=4),
    min_size=1, max_size=12,
)  # fmt: skip
"""Rows of documents of tokens, each in the loss or not."""


def write(folder: Path, given: Any, layout: str, shard_tokens: int) -> Blocks:
    config = PackConfig(tokenizer="x", layout=layout, block_length=36)
    with Run.open(folder, kind=RunKind.PACK, config=config) as run:
        writer = ShardWriter(
            folder, "train", layout=layout, block_length=36, shard_tokens=shard_tokens
        )
        for number, documents in enumerate(given):
            tokens = [token for document in documents for token in document]
            writer.add(
                np.array([token for token, _ in tokens], np.int32),
                np.array([counts for _, counts in tokens], bool),
                np.array([len(document) for document in documents]),
                [f"{number}/{at} é" for at in range(len(documents))],
            )
        writer.close()
        none = SplitReport()
        run.write_json(REPORT, PackReport(train=none, validation=none, shards=writer.shards))
        run.seal()
    return Blocks(folder, "train")


@given(given=written, shard_tokens=st.integers(1, 200), isolated=st.booleans())
def test_rows_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, given: Any, shard_tokens: int, isolated: bool
) -> None:
    folder = tmp_path_factory.mktemp("blocks") / "run"
    found = write(folder, given, "best_fit" if isolated else "constant_length", shard_tokens)
    assert len(found) == len(given)
    assert found.lengths.tolist() == [sum(map(len, documents)) for documents in given]
    assert found.lengths.dtype == np.int32
    for number, (row, documents) in enumerate(zip(found, given, strict=True)):
        tokens = [token for document in documents for token in document]
        assert row.ids.tolist() == [token for token, _ in tokens]
        assert row.labels.tolist() == [t if counts else IGNORED for t, counts in tokens]
        apart = [at for document in documents for at in range(len(document))]
        assert row.positions.tolist() == (apart if isolated else list(range(len(tokens))))
        names = tuple(f"{number}/{at} é" for at in range(len(documents)))
        assert found.documents(number) == names


GIVEN = [[[(number, True)] * 3, [(7, False)]] for number in range(10)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "run", GIVEN, "best_fit", 12)
    return tmp_path / "run"


def test_shards_are_bounded_and_of_whole_rows(folder: Path) -> None:
    shards = read_report(folder).shards
    assert [shard.n_rows for shard in shards] == [3, 3, 3, 1]
    assert [shard.name for shard in shards] == [f"train-0000{n}.arrow" for n in range(4)]


def test_a_row_longer_than_a_shard_has_one_of_its_own(tmp_path: Path) -> None:
    assert len(write(tmp_path / "run", GIVEN, "best_fit", 1)) == len(GIVEN)


def test_rows_are_counted_from_the_end_and_cut_out(folder: Path) -> None:
    found = Blocks(folder, "train")
    assert found[-1].ids.tolist() == [9, 9, 9, 7]
    assert [row.ids[0] for row in found[2:8:3]] == [2, 5]
    with pytest.raises(IndexError, match="row 10 of 10"):
        found[10]


def test_ids_are_views_of_the_file(folder: Path) -> None:
    ids = Blocks(folder, "train")[4].ids
    assert isinstance(ids, np.ndarray)
    assert not ids.flags.owndata
    assert not ids.flags.writeable


def test_a_copy_for_another_process_maps_the_files_anew(folder: Path) -> None:
    found = Blocks(folder, "train")
    assert len(pickle.dumps(found)) < 1_000
    copied = copy.copy(found)
    assert [row.ids.tolist() for row in copied] == [row.ids.tolist() for row in found]


def test_other_programs_read_the_columns(folder: Path) -> None:
    import pyarrow as pa

    with pa.memory_map(str(folder / "train-00000.arrow")) as source:
        row = pa.ipc.open_file(source).read_all().to_pylist()[1]
    assert row == {
        "ids": [1, 1, 1, 7],
        "in_loss": [True, True, True, False],
        "lengths": [3, 1],
        "records": ["1/0 é", "1/1 é"],
    }


def test_a_torn_shard_is_refused(folder: Path) -> None:
    path = folder / "train-00001.arrow"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"train-00001\.arrow: not the shard that was written"):
        Blocks(folder, "train")


def test_a_shard_of_other_contents_is_refused(folder: Path) -> None:
    path = folder / "train-00001.arrow"
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(DataError, match=r"train-00001\.arrow: not the shard that was written"):
        Blocks(folder, "train")


def test_a_shard_without_our_mark_is_refused(folder: Path) -> None:
    import pyarrow as pa

    path = folder / "train-00003.arrow"
    schema = pa.schema([("ids", pa.list_(pa.int32()))])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as out:
        out.write_batch(pa.record_batch([[[1]]], schema=schema))
    report = json.loads((folder / "report.json").read_text())
    report["shards"][3]["n_bytes"] = path.stat().st_size
    (folder / "report.json").write_text(json.dumps(report))
    with pytest.raises(DataError, match="other contents than the report says"):
        Blocks(folder, "train")


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "train-00002.arrow").unlink()
    with pytest.raises(MissingDataError, match=r"train-00002\.arrow' is gone"):
        Blocks(folder, "train")


def test_another_run_and_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="is not a run folder"):
        Blocks(tmp_path / "nowhere", "train")
    with Run.open(tmp_path / "run", kind=RunKind.TRAIN, config=PackConfig(tokenizer="x")) as run:
        run.seal()
    with pytest.raises(DataError, match="is a train run, it has no packed rows"):
        Blocks(tmp_path / "run", "train")


def test_an_unfinished_packing_is_refused(tmp_path: Path) -> None:
    with Run.open(tmp_path / "run", kind=RunKind.PACK, config=PackConfig(tokenizer="x")):
        pass
    with pytest.raises(UnfinishedRunError, match="is not finished"):
        Blocks(tmp_path / "run", "train")


def test_there_are_two_splits(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "texts", rows(["abc", "de"]), rows(["f"]))
    config = PackConfig(corpus=str(corpus), tokenizer="x", loss_on="all")
    pack(config, tmp_path / "run", tokenizer=Letters())
    assert Blocks(tmp_path / "run", "validation").documents(0) == ("r0",)
    assert Blocks(tmp_path / "run", "train").documents(0) == ("r0", "r1")
    with pytest.raises(DataError, match="splits train and validation, not 'test'"):
        Blocks(tmp_path / "run", "test")
