"""Corpora by name, file, folder or hub data set: one record a row, held out by a stable rule."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest

from astraios import registry
from astraios.config import Config
from astraios.data import Corpus, corpora
from astraios.data.corpora.guanaco_commits import corpus as guanaco
from astraios.data.sources import find_corpus
from astraios.errors import DataError, MissingDataError, UnfinishedRunError, UnknownNameError
from astraios.records import RunKind
from astraios.runs import Run

ROWS = [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(200)]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def records(corpus, split="train", data_dir=None):
    return list(corpus.records(split, 0, data_dir))


def test_every_registered_corpus_is_one():
    for name in registry.names(corpora):
        corpus = registry.load(corpora, "corpus", name)
        assert isinstance(corpus, Corpus)
        assert find_corpus(name) is corpus
        assert corpus.name and corpus.title and corpus.licence


@pytest.mark.parametrize(
    "spec",
    [
        "guanaco-commits",
        "guanaco_commits",
        "bigcode/guanaco-commits",
        "hub:bigcode/guanaco-commits",
    ],
)
def test_the_study_mix_has_many_names(spec):
    assert find_corpus(spec) is guanaco


def test_unknown_name_tells_the_nearest():
    with pytest.raises(UnknownNameError, match="'instructions'"):
        find_corpus("instruction")


def test_path_that_leads_nowhere_is_named():
    with pytest.raises(MissingDataError, match=r"'nowhere/rows\.jsonl'"):
        find_corpus("nowhere/rows.jsonl")


def test_split_that_no_corpus_has_is_refused(tmp_path):
    with pytest.raises(DataError, match="'test'"):
        records(find_corpus(str(write(tmp_path / "rows.jsonl", ROWS))), "test")


# --- columns ----------------------------------------------------------------------------------

TURNS = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "and?"},
    {"role": "assistant", "content": "b"},
]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "q", "completion": "a"}, ("q", "", "a")),
        ({"instruction": "q", "response": "a"}, ("q", "", "a")),
        ({"instruction": "q", "opening": "def f():", "response": "a"}, ("q", "def f():", "a")),
        ({"prompt": "q", "opening": "def f():", "completion": "a"}, ("q", "def f():", "a")),
        ({"messages": TURNS}, ("q", "", "a")),
    ],
)
def test_a_row_is_read_by_its_columns(tmp_path, row, expected):
    write(tmp_path / "train.jsonl", [row])
    write(tmp_path / "validation.jsonl", [row])
    (record,) = records(find_corpus(str(tmp_path)))
    assert (record.instruction, record.opening, record.response) == expected
    assert [turn.content for turn in record.messages] == [
        turn["content"] for turn in row.get("messages", ())
    ]


def test_id_language_and_source_are_taken_where_they_are(tmp_path):
    row = {"id": 7, "language": "rust", "source": "oasst", "prompt": "q", "completion": "a"}
    write(tmp_path / "train.jsonl", [row])
    write(tmp_path / "validation.jsonl", [row])
    (record,) = records(find_corpus(str(tmp_path)))
    assert (record.id, record.language, record.source) == ("7", "rust", "oasst")


def test_id_of_a_row_without_one_depends_on_its_text_alone(tmp_path):
    one = records(find_corpus(str(write(tmp_path / "rows.jsonl", ROWS))))
    other = records(find_corpus(str(write(tmp_path / "more" / "rows.jsonl", ROWS[::-1]))))
    assert {r.id: r.instruction for r in one} == {r.id: r.instruction for r in other}
    assert len({record.id for record in one}) == len(one)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"text": "q"}, r"rows\.jsonl:2: expected the columns prompt and completion.*found 'text'"),
        ({"prompt": "q"}, r"rows\.jsonl:2: no column 'completion'"),
        ({"prompt": "q", "completion": None}, r"rows\.jsonl:2: column 'completion' holds null"),
        ({"prompt": " ", "completion": "a"}, r"rows\.jsonl:2: the prompt is empty"),
        ({"prompt": "q", "completion": "\n"}, r"rows\.jsonl:2: the completion is empty"),
        ({"prompt": "q", "completion": 3}, r"rows\.jsonl:2: column 'completion' holds a number"),
        ({"messages": "q"}, r"rows\.jsonl:2: column 'messages' holds no list"),
        ({"messages": [TURNS[2], TURNS[1]]}, r"rows\.jsonl:2: a conversation begins with"),
        ({"messages": [{"role": "robot", "content": ""}]}, r"message 1: role 'robot'"),
        ({"messages": ["q"]}, r"message 1: expected an object"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, row, complaint):
    path = write(tmp_path / "rows.jsonl", [ROWS[0], row])
    with pytest.raises(DataError, match=complaint):
        records(find_corpus(str(path)))


# --- splits -----------------------------------------------------------------------------------


def test_one_row_in_twenty_is_held_out_by_its_text(tmp_path):
    corpus = find_corpus(str(write(tmp_path / "rows.jsonl", ROWS)))
    held = {record.instruction for record in records(corpus, "validation")}
    trained = {record.instruction for record in records(corpus)}
    expected = {
        row["prompt"]
        for row in ROWS
        if int(hashlib.sha256("\0".join(row.values()).encode()).hexdigest()[:8], 16) % 20 == 0
    }
    assert held == expected
    assert trained == {row["prompt"] for row in ROWS} - expected


def test_rows_that_are_added_move_no_other(tmp_path):
    few = find_corpus(str(write(tmp_path / "few.jsonl", ROWS[:120])))
    all_ = find_corpus(str(write(tmp_path / "all.jsonl", ROWS)))
    held = {record.instruction for record in records(few, "validation")}
    assert held <= {record.instruction for record in records(all_, "validation")}


def test_too_few_rows_to_hold_one_out_is_told(tmp_path):
    corpus = find_corpus(str(write(tmp_path / "rows.jsonl", ROWS[:2])))
    with pytest.raises(DataError, match="1 in 20 is held out"):
        records(corpus, "validation")


@pytest.mark.parametrize("beside", ["validation.jsonl", "validation.jsonl.gz", "test.jsonl"])
def test_validation_file_beside_the_training_file_is_found(tmp_path, beside):
    path = write(tmp_path / "train.jsonl", ROWS[:20])
    write(tmp_path / beside, ROWS[20:25])
    corpus = find_corpus(str(path))
    assert len(records(corpus)) == 20
    assert len(records(corpus, "validation")) == 5


def test_folder_may_have_a_part_in_several_files(tmp_path):
    for i in range(3):
        write(tmp_path / f"train-0000{i}-of-00003.jsonl", ROWS[10 * i : 10 * i + 10])
    write(tmp_path / "test.jsonl.gz", ROWS[190:])
    corpus = find_corpus(str(tmp_path))
    assert [r.instruction for r in records(corpus)] == [row["prompt"] for row in ROWS[:30]]
    assert len(records(corpus, "validation")) == 10


def test_folder_without_training_rows_is_named(tmp_path):
    write(tmp_path / "other.jsonl", ROWS)
    with pytest.raises(MissingDataError, match=r"train\.jsonl"):
        records(find_corpus(str(tmp_path)))


def test_order_is_that_of_the_file_whatever_the_seed(tmp_path):
    corpus = find_corpus(str(write(tmp_path / "rows.jsonl", ROWS)))
    assert list(corpus.records("train", 1, None)) == list(corpus.records("train", 2, None))


def test_hash_changes_with_any_file_that_is_read(tmp_path):
    write(tmp_path / "train.jsonl", ROWS)
    write(tmp_path / "validation.jsonl", ROWS[:3])
    corpus = find_corpus(str(tmp_path))
    before = corpus.data_hash(None)
    assert before == corpus.data_hash(None)
    write(tmp_path / "validation.jsonl", ROWS[:4])
    assert corpus.data_hash(None) != before


# --- run folders ------------------------------------------------------------------------------


class Nothing(Config):
    pass


def run_folder(path, kind, *, sealed=True):
    with Run.open(path, kind=kind, config=Nothing()) as run:
        write(path / "train.jsonl", ROWS[:20])
        write(path / "validation.jsonl", ROWS[20:25])
        if sealed:
            run.seal()
    return str(path)


def test_finished_build_is_a_corpus(tmp_path):
    corpus = find_corpus(run_folder(tmp_path / "built", RunKind.DATA))
    assert corpus.name == "built"
    assert len(records(corpus)) == 20


def test_unfinished_build_is_refused(tmp_path):
    corpus = find_corpus(run_folder(tmp_path / "built", RunKind.DATA, sealed=False))
    with pytest.raises(UnfinishedRunError):
        records(corpus)


def test_run_of_another_kind_is_refused(tmp_path):
    corpus = find_corpus(run_folder(tmp_path / "tuned", RunKind.TRAIN))
    with pytest.raises(DataError, match="is a train run"):
        records(corpus)


# --- registered corpora -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_study_mix_is_read_from_the_data_folder_first(tmp_path, name):
    write(tmp_path / "guanaco-commits" / name, ROWS[:20])
    write(tmp_path / "guanaco-commits" / name.replace("train", "test"), ROWS[20:25])
    assert len(records(guanaco, "train", tmp_path)) == 20
    assert len(records(guanaco, "validation", tmp_path)) == 5
    assert {record.source for record in records(guanaco, "train", tmp_path)} == {"guanaco-commits"}


def test_study_mix_comes_from_the_hub_else(tmp_path):
    parts = guanaco.parts(tmp_path)
    assert [rows.name for rows in (*parts.train, *parts.validation)] == [
        "bigcode/guanaco-commits/train",
        "bigcode/guanaco-commits/test",
    ]


def test_instructions_need_a_data_folder(tmp_path):
    corpus = find_corpus("instructions")
    with pytest.raises(MissingDataError, match="--data-dir"):
        records(corpus)
    with pytest.raises(MissingDataError, match=r"instructions/train\.jsonl\.gz"):
        records(corpus, "train", tmp_path)


def test_shared_instructions_are_complete(shared):
    corpus = find_corpus("instructions")
    trained = records(corpus, "train", shared / "data")
    held = records(corpus, "validation", shared / "data")
    assert (len(trained), len(held)) == (724, 40)
    assert trained[0].id == "octopack-manual-0000"
    assert {record.source for record in trained} == {"oasst", "commitpackft"}


def test_shared_split_follows_the_rule_for_rows_held_out(shared, tmp_path):
    rows = [
        json.loads(line)
        for name in ("train", "validation")
        for line in gzip.decompress(
            (shared / "data" / "instructions" / f"{name}.jsonl.gz").read_bytes()
        ).splitlines()
    ]
    corpus = find_corpus(str(write(tmp_path / "all.jsonl", rows)))
    held = {record.id for record in records(corpus, "validation")}
    given = {
        record.id for record in records(find_corpus("instructions"), "validation", shared / "data")
    }
    assert held == given
