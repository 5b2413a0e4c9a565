"""The run of a build: every row accounted for, the same bytes again, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from astraios.data.building.build import build, read_report
from astraios.data.building.contamination import BenchmarkText
from astraios.data.building.plan import plan
from astraios.data.sources import find_corpus
from astraios.errors import (
    ConfigError,
    DataError,
    ForeignRunError,
    MissingDataError,
    StorageError,
    UnknownNameError,
)

from ._sources import (
    built,
    commit,
    config,
    conversation,
    instruction,
    kept_ids,
    lines,
    prose,
    removed,
    write,
)

pytest.importorskip("rensa", reason="needs rensa: pip install 'astraios[data]'")

COMMITS = {"kind": "commits", "data": "commits.jsonl"}
TALKS = {"kind": "conversations", "data": "talks.jsonl"}
TASKS = {"kind": "instructions", "data": "tasks.jsonl"}
OUTPUTS = ("train", "validation", "removed", "contamination")


@pytest.fixture
def data(tmp_path):
    """Rows of three kinds, good and bad."""
    folder = tmp_path / "data"
    folder.mkdir()
    refusal = [
        {"role": "user", "content": "Tell me more"},
        {"role": "assistant", "content": "As an AI language model, I cannot do that."},
    ]
    write(
        folder / "commits.jsonl",
        [
            *(commit(i) for i in range(20)),
            commit(20, license="gpl-3.0"),
            commit(21, subject="lower case is not an imperative here"),
            commit(22, new_contents=commit(22)["old_contents"]),
        ],
    )
    write(
        folder / "talks.jsonl",
        [*(conversation(i) for i in range(15)), conversation(15, messages=refusal)],
    )
    write(
        folder / "tasks.jsonl",
        [*(instruction(i) for i in range(10)), instruction(10, completion=" ")],
    )
    return folder


def outputs(folder):
    names = [f"{name}.jsonl" for name in OUTPUTS]
    return {name: (folder / name).read_bytes() for name in [*names, "report.json"]}


# --- every row is accounted for ---------------------------------------------------------------


def test_every_row_is_kept_or_counted_under_one_step(tmp_path, data):
    report = built(tmp_path / "run", config(COMMITS, TALKS, TASKS), data)
    assert report.n_read == 23 + 16 + 11
    assert removed(tmp_path / "run") == {
        f"{20:040x}:src/module20.go": "S1-licence",
        f"{21:040x}:src/module21.py": "A10-capital",
        f"{22:040x}:src/module22.java": "A3-real-change",
        "talk-15": "C1-phrases",
        "task-10": "I2-completion-not-empty",
    }
    assert len(kept_ids(tmp_path / "run")) == report.n_kept == 45


def test_counts_are_by_source_step_and_language(tmp_path, data):
    commits = built(tmp_path / "run", config(COMMITS, TALKS), data).sources["commits"]
    counts = {step.step: step.by_language for step in commits.steps if step.removed}
    assert counts == {
        "S1-licence": {"go": 1},
        "A10-capital": {"python": 1},
        "A3-real-change": {"java": 1},
    }
    assert commits.read_by_language == {"go": 7, "java": 8, "python": 8}
    assert commits.kept_by_language == {"go": 6, "java": 7, "python": 7}


def test_steps_are_declared_in_their_order(tmp_path, data):
    source = {**COMMITS, "n": 5, "languages": ["Python", "go"]}
    report = built(tmp_path / "run", config(source, TASKS), data)
    names = [step.name for step in report.steps if step.source in ("", "commits")]
    assert names[:2] == ["language", "S1-licence"]
    assert names[-6:] == [
        "not-empty",
        "secrets",
        "exact-duplicate",
        "near-duplicate",
        "sample",
        "split",
    ]
    assert all(step.keeps for step in report.steps)


def test_joined_rows_have_their_columns(tmp_path, data):
    built(tmp_path / "run", config(COMMITS, TALKS, validation=1), data)
    files = [lines(tmp_path / "run" / f"{name}.jsonl") for name in ("train", "validation")]
    rows = {row["id"]: row for file in files for row in file}
    source = commit(3)
    assert rows[f"{3:040x}:src/module3.py"] == {
        "id": f"{3:040x}:src/module3.py",
        "source": "commits",
        "language": "python",
        "prompt": f"{source['subject']}\n{source['old_contents']}",
        "completion": source["new_contents"],
    }
    assert rows["talk-3"]["messages"] == conversation(3)["messages"]


def test_instructions_keep_the_source_they_name(tmp_path, data):
    write(data / "tasks.jsonl", [instruction(i, source=f"book{i % 2}") for i in range(10)])
    report = built(tmp_path / "run", config(TASKS, validation=1), data)
    assert set(report.train.by_source) | set(report.validation.by_source) == {"book0", "book1"}


def test_a_finished_build_is_a_corpus(tmp_path, data):
    report = built(tmp_path / "run", config(COMMITS, TALKS, TASKS), data)
    corpus = find_corpus(str(tmp_path / "run"))
    records = list(corpus.records("train", 0, None))
    assert len(records) == report.train.rows
    assert len(list(corpus.records("validation", 0, None))) == report.validation.rows
    assert {record.source for record in records} == {"commits", "conversations", "instructions"}
    assert any(record.messages for record in records)


def test_openings_and_messages_of_instructions_are_kept(tmp_path, data):
    given = [
        instruction(0, opening="def f():", completion="\n    return 1"),
        instruction(1, messages=conversation(1)["messages"]),
        instruction(2),
    ]
    write(data / "tasks.jsonl", given)
    built(tmp_path / "run", config(TASKS, validation=1), data)
    files = [lines(tmp_path / "run" / f"{name}.jsonl") for name in ("train", "validation")]
    rows = {row["id"]: row for file in files for row in file}
    assert (rows["task-0"]["opening"], rows["task-0"]["completion"]) == (
        "def f():",
        "\n    return 1",
    )
    assert rows["task-1"]["messages"] == conversation(1)["messages"]
    assert "opening" not in rows["task-2"]
    assert "messages" not in rows["task-2"]


def test_rows_in_several_files_of_a_folder_are_one_source(tmp_path, data):
    (data / "many").mkdir()
    write(data / "many" / "train-0.jsonl", [instruction(i) for i in range(4)])
    write(data / "many" / "train-1.jsonl", [instruction(i) for i in range(4, 9)])
    write(data / "many" / "validation.jsonl", [instruction(9)])
    source = {"kind": "instructions", "data": "many"}
    report = built(tmp_path / "run", config(source, chunk=3), data)
    assert report.n_read == report.n_kept == 10


def test_several_files_are_one_source_in_their_order(tmp_path, data):
    write(data / "more.jsonl", [instruction(i) for i in range(8, 14)])
    source = {"kind": "instructions", "data": ["tasks.jsonl", "more.jsonl"], "n": 9}
    report = built(tmp_path / "run", config(source, chunk=4), data)
    assert (report.n_read, report.n_kept) == (11 + 6, 9)
    assert report.sources["instructions"].data == "tasks.jsonl, more.jsonl"
    equal = [
        row["place"]
        for row in lines(tmp_path / "run" / "removed.jsonl")
        if row["rule"] == "exact-duplicate"
    ]
    assert equal == ["more.jsonl:1", "more.jsonl:2"]


def test_data_set_of_the_hub_is_streamed_at_one_revision(tmp_path, data, monkeypatch):
    pytest.importorskip("datasets", reason="needs datasets: pip install 'astraios[data]'")
    monkeypatch.chdir(tmp_path)  # `datasets` reads a folder of the name as it reads the hub
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (data / "tasks.jsonl").rename(tmp_path / "owner" / "name" / "train.jsonl")
    source = {"kind": "instructions", "data": f"hub:owner/name@{'0' * 40}"}
    ready = plan(config(source, chunk=4))
    assert ready.inputs == {"source instructions": "0" * 40}
    assert build(ready, tmp_path / "run").n_kept == 10


# --- the same again ---------------------------------------------------------------------------


def test_same_input_and_seed_give_the_same_bytes(tmp_path, data):
    for name in ("one", "two"):
        built(tmp_path / name, config(COMMITS, TALKS, TASKS), data)
    assert outputs(tmp_path / "one") == outputs(tmp_path / "two")


def test_another_seed_gives_another_order_of_the_same_rows(tmp_path, data):
    for seed in (0, 1):
        built(tmp_path / str(seed), config(COMMITS, TALKS, TASKS, seed=seed), data)
    assert kept_ids(tmp_path / "0") == kept_ids(tmp_path / "1")
    first = [(tmp_path / str(seed) / "train.jsonl").read_bytes() for seed in (0, 1)]
    assert first[0] != first[1]


@pytest.mark.parametrize("chunk", [1, 7, 23, 1_000])
def test_size_of_chunks_changes_no_byte(tmp_path, data, chunk):
    built(tmp_path / "one", config(COMMITS, TALKS, TASKS), data)
    built(tmp_path / "two", config(COMMITS, TALKS, TASKS, chunk=chunk), data)
    assert outputs(tmp_path / "one") == outputs(tmp_path / "two")


def test_building_again_what_was_built_removes_nothing(tmp_path, data):
    first = built(tmp_path / "one", config(COMMITS, TALKS, TASKS), data)
    source = {"kind": "instructions", "data": str(tmp_path / "one")}
    second = built(tmp_path / "two", config(source), data)
    assert second.n_read == second.n_kept == first.n_kept


def test_finished_build_is_not_done_again(tmp_path, data):
    read = config(TASKS)
    report = built(tmp_path / "run", read, data)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*.json*")}
    assert built(tmp_path / "run", read, data) == report == read_report(tmp_path / "run")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*.json*")} == before


def test_name_of_the_folder_changes_with_rows_and_config(tmp_path, data):
    def name(**fields):
        return plan(config(TASKS, **fields), data_dir=data).folder

    before = name()
    assert name() == before == name(chunk=5)
    assert name(seed=1) != before
    write(data / "tasks.jsonl", [instruction(0)])
    assert name() != before


def test_folder_of_another_build_is_refused(tmp_path, data):
    built(tmp_path / "run", config(TASKS), data)
    with pytest.raises(ForeignRunError, match="seed"):
        built(tmp_path / "run", config(TASKS, seed=3), data)
    write(data / "tasks.jsonl", [instruction(0), instruction(1)])
    with pytest.raises(ForeignRunError, match="source instructions"):
        built(tmp_path / "run", config(TASKS), data)


def test_records_hold_no_absolute_path(tmp_path, data):
    source = {**TASKS, "data": str(data / "tasks.jsonl")}
    built(tmp_path / "run", config(source), data)
    for path in (tmp_path / "run").glob("*.json*"):
        assert str(tmp_path) not in path.read_text(encoding="utf-8"), path.name


def test_nothing_is_left_but_the_outputs(tmp_path, data):
    built(tmp_path / "run", config(TASKS), data)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {f"{name}.jsonl" for name in OUTPUTS} | {
        "report.json",
        "manifest.json",
        ".lock",
    }


# --- nothing is lost --------------------------------------------------------------------------

KILLED = """
import json, os, signal, sys
from pathlib import Path

from astraios import files, runs
from astraios.config import validate
from astraios.data.building import filtering
from astraios.data.building.build import build
from astraios.data.building.config import BuildConfig
from astraios.data.building.plan import plan

left = int(sys.argv[3])

def dying(write):
    def inner(*args, **kwargs):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return write(*args, **kwargs)
    return inner

filtering.write_bytes = dying(filtering.write_bytes)
runs.Run.append = dying(runs.Run.append)
runs.Run.rewrite = dying(runs.Run.rewrite)
runs.Run.seal = dying(runs.Run.seal)
config = validate(json.loads(sys.argv[1]), BuildConfig)
build(plan(config, data_dir=Path(sys.argv[2])), Path(sys.argv[4]))
"""


@pytest.mark.parametrize("writes", [0, 2, 9, 12, 16, 17])
def test_killed_build_goes_on_and_ends_with_the_same_bytes(tmp_path, data, writes):
    read = config(COMMITS, TALKS, TASKS, chunk=7)
    built(tmp_path / "whole", read, data)
    arguments = [read.model_dump_json(), str(data), str(writes), str(tmp_path / "killed")]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(MissingDataError):
        read_report(tmp_path / "nowhere")
    built(tmp_path / "killed", read, data)
    assert outputs(tmp_path / "killed") == outputs(tmp_path / "whole")


def test_rows_that_were_filtered_are_not_filtered_again(tmp_path, data, monkeypatch):
    read = config(TASKS, chunk=4)
    ready = plan(read, data_dir=data)

    class StopError(Exception):
        pass

    def stop(done, total, note):
        if done >= 8:
            raise StopError

    with pytest.raises(StopError):
        build(ready, tmp_path / "run", progress=stop)
    seen = []
    read_rows = type(ready.sources[0].rows[0]).read
    monkeypatch.setattr(
        type(ready.sources[0].rows[0]),
        "read",
        lambda rows, start=0: seen.append(start) or read_rows(rows, start),
    )
    build(ready, tmp_path / "run")
    assert seen == [8]


def test_full_disk_is_named_and_the_same_command_goes_on(tmp_path, data, monkeypatch):
    read = config(COMMITS, TALKS, TASKS, chunk=7)
    built(tmp_path / "whole", read, data)
    sync, left = os.fsync, [4]

    def full(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="the disk is full"):
        built(tmp_path / "run", read, data)
    monkeypatch.undo()
    assert len(list((tmp_path / "run" / ".chunks").glob("*.jsonl"))) == 3
    built(tmp_path / "run", read, data)
    assert outputs(tmp_path / "run") == outputs(tmp_path / "whole")


def test_progress_is_told_in_rows(tmp_path, data):
    told = []
    ready = plan(config(COMMITS, TALKS, chunk=10), data_dir=data)
    build(ready, tmp_path / "run", progress=lambda *state: told.append(state))
    assert told == [
        (10, 39, "commits"),
        (20, 39, "commits"),
        (23, 39, "commits"),
        (33, 39, "conversations"),
        (39, 39, "conversations"),
        (10, 39, "duplicates"),
        (20, 39, "duplicates"),
        (23, 39, "duplicates"),
        (33, 39, "duplicates"),
        (39, 39, "duplicates"),
    ]


# --- bad input --------------------------------------------------------------------------------


def test_no_row_left_names_the_rules_that_ate_them(tmp_path, data):
    write(
        data / "commits.jsonl",
        [*(commit(i, license="gpl-3.0") for i in range(3)), commit(3, subject="no")],
    )
    with pytest.raises(DataError, match=r"no row is left of 4: S1-licence 3 of commits, A\d+"):
        built(tmp_path / "run", config(COMMITS), data)


def test_empty_file_is_told(tmp_path, data):
    write(data / "tasks.jsonl", [])
    with pytest.raises(DataError, match="hold no rows"):
        built(tmp_path / "run", config(TASKS), data)


@pytest.mark.parametrize("share", [0, 0.0, 1.0, -3, 1.5, "many"])
def test_validation_is_a_number_or_a_share(share):
    with pytest.raises(ConfigError, match="validation"):
        config(TASKS, validation=share)


@pytest.mark.parametrize(
    ("source", "row", "complaint"),
    [
        (COMMITS, {"commit": "1"}, r"commits\.jsonl:2: .*'old_file'"),
        (TALKS, {"id": "1"}, r"talks\.jsonl:2: "),
        (TASKS, {"prompt": "1"}, r"tasks\.jsonl:2: "),
    ],
)
def test_row_without_the_columns_is_named(tmp_path, data, source, row, complaint):
    good = {"commits": commit, "conversations": conversation, "instructions": instruction}
    write(data / source["data"], [good[source["kind"]](0), row])
    with pytest.raises(DataError, match=complaint):
        built(tmp_path / "run", config(source), data)


def test_null_sides_are_empty_ones(tmp_path, data):
    null = [instruction(100, prompt=None), instruction(101, completion=None)]
    null.append({"id": "task-102", "instruction": None, "output": "it"})
    write(data / "tasks.jsonl", [*(instruction(i) for i in range(5)), *null])
    built(tmp_path / "run", config(TASKS), data)
    assert removed(tmp_path / "run") == {
        "task-100": "I1-prompt-not-empty",
        "task-101": "I2-completion-not-empty",
        "task-102": "I1-prompt-not-empty",
    }


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "42"},
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "add"}]},
    ],
)
@pytest.mark.parametrize("source", [TALKS, TASKS])
def test_messages_of_tools_are_counted(tmp_path, data, source, message):
    good = conversation if source is TALKS else instruction
    talk = good(100, messages=[*conversation(100)["messages"], message])
    write(data / source["data"], [*(good(i) for i in range(5)), talk])
    report = built(tmp_path / "run", config(source), data)
    assert removed(tmp_path / "run") == {talk["id"]: "messages"}
    assert report.n_kept == 5


def test_unknown_role_is_named(tmp_path, data):
    talk = conversation(100, messages=[{"role": "usr", "content": "Hello"}])
    write(data / "talks.jsonl", [conversation(0), talk])
    with pytest.raises(DataError, match=r"talks\.jsonl:2: .*unknown role 'usr'"):
        built(tmp_path / "run", config(TALKS), data)


def test_missing_file_is_named(data):
    with pytest.raises(MissingDataError, match=r"'commits': 'nowhere\.jsonl' is no file"):
        plan(config({**COMMITS, "data": "nowhere.jsonl"}), data_dir=data)


def test_unknown_rule_is_named(data):
    with pytest.raises(UnknownNameError, match="A11-tokens"):
        plan(config({**COMMITS, "without": ["A11-token"]}), data_dir=data)


def test_generated_corpus_is_refused(data):
    with pytest.raises(ConfigError, match="never ends"):
        plan(config({"kind": "instructions", "data": "minipack"}), data_dir=data)


def test_two_sources_need_two_names():
    with pytest.raises(ConfigError, match="give each a name"):
        config(TASKS, TASKS)


def test_validation_must_leave_rows_to_train_on(tmp_path, data):
    with pytest.raises(DataError, match="10 rows are to be held out of 10"):
        built(tmp_path / "run", config(TASKS, validation=10), data)


def test_search_without_any_benchmark_is_refused(data):
    with pytest.raises(ConfigError, match="no benchmark to look for"):
        plan(config(TASKS, decontaminate={}), data_dir=data)


def test_missing_tokenizer_is_named(data, tmp_path):
    pytest.importorskip("transformers", reason="needs transformers: pip install 'astraios[train]'")
    source = {**COMMITS, "without": [], "tokenizer": str(tmp_path / "nothing")}
    with pytest.raises(MissingDataError, match=r"A11 cannot be had.*without"):
        plan(config(source), data_dir=data)


# --- what the steps do ------------------------------------------------------------------------


def test_tokens_are_counted_with_the_tokenizer_named(tmp_path, data):
    tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="?", eos_token="<|endoftext|>"
    ).save_pretrained(tmp_path / "tokenizer")
    long = {"old_contents": prose(1, 400), "new_contents": prose(1, 401)}
    write(data / "commits.jsonl", [*(commit(i) for i in range(4)), commit(4, **long)])
    source = {**COMMITS, "without": [], "tokenizer": str(tmp_path / "tokenizer")}
    built(tmp_path / "run", config(source), data)
    assert removed(tmp_path / "run") == {f"{4:040x}:src/module4.java": "A11-tokens"}


def test_published_preset_drops_what_the_original_did(tmp_path, data):
    report = built(
        tmp_path / "run", config({**COMMITS, "preset": "published"}, TASKS, validation=1), data
    )
    eaten = {step.step: step.removed for step in report.sources["commits"].steps if step.removed}
    assert eaten["A5-extension"] >= 20  # it compares an extension without a dot to one with


@pytest.mark.parametrize(
    ("licences", "kept"),
    [
        (None, {"mit"}),
        ("permissive", {"mit"}),
        ("published", {"mit", "agpl-3.0"}),
        (["agpl-3.0"], {"agpl-3.0"}),
    ],
)
def test_licences_are_an_allow_list(tmp_path, data, licences, kept):
    names = ("mit", "agpl-3.0", "gpl-3.0")
    write(data / "commits.jsonl", [commit(i, license=names[i % 3]) for i in range(12)])
    built(tmp_path / "run", config(COMMITS, licences=licences), data)
    numbers = [int(name.partition(":")[0], 16) for name in kept_ids(tmp_path / "run")]
    assert {names[number % 3] for number in numbers} == kept


def test_languages_are_kept_whatever_their_case(tmp_path, data):
    source = {**COMMITS, "languages": ["PYTHON"]}
    report = built(tmp_path / "run", config(source), data)
    assert set(report.train.by_language) == {"python"}


def test_exact_and_near_duplicates_are_told_apart(tmp_path, data):
    text = prose(5, 100)
    rows = [
        instruction(0, completion=text),
        instruction(1, prompt=instruction(0)["prompt"], completion=text),
        instruction(2, prompt=instruction(0)["prompt"], completion=f"{text} end"),
        instruction(3),
        instruction(4),
    ]
    write(data / "tasks.jsonl", rows)
    built(tmp_path / "run", config(TASKS), data)
    assert removed(tmp_path / "run") == {"task-1": "exact-duplicate", "task-2": "near-duplicate"}
    details = [row["detail"] for row in lines(tmp_path / "run" / "removed.jsonl")]
    assert details[0] == "equal to tasks.jsonl:1"
    assert details[1].startswith("like tasks.jsonl:1: Jaccard 0.9")


def test_of_two_sources_the_earlier_keeps_a_shared_row(tmp_path, data):
    write(data / "other.jsonl", [instruction(0), *(instruction(i) for i in range(50, 55))])
    other = {"kind": "instructions", "data": "other.jsonl", "name": "other"}
    report = built(tmp_path / "run", config(other, TASKS), data)
    (duplicates,) = (s for s in report.sources["instructions"].steps if s.step == "exact-duplicate")
    assert duplicates.removed == 1
    assert report.sources["other"].kept == 6


def test_rows_of_one_id_get_ids_of_their_own(tmp_path, data):
    write(data / "tasks.jsonl", [instruction(i, id="same") for i in range(4)])
    built(tmp_path / "run", config(TASKS, validation=1), data)
    assert kept_ids(tmp_path / "run") == {"same", "same~2", "same~3", "same~4"}


def test_duplicates_stay_where_the_search_is_off(tmp_path, data):
    write(data / "tasks.jsonl", [instruction(0)] * 3 + [instruction(1)])
    off = {"exact_duplicates": "keep", "near_duplicates": None}
    assert built(tmp_path / "run", config(TASKS, **off, validation=1), data).n_kept == 4


LEAKY = {
    "secret": f"token = 'ghp_{'a1B2' * 9}'",
    "email": "write to ada.lovelace@analytical.engineering",
    "address": "connect to 93.184.216.34 first",
}


@pytest.mark.parametrize(
    ("settings", "gone"),
    [
        ({}, {"task-100", "task-101"}),
        ({"emails": "keep"}, {"task-100"}),
        ({"addresses": "drop"}, {"task-100", "task-101", "task-102"}),
        ({"secrets": "keep", "emails": "keep"}, set()),
    ],
)
def test_rows_with_secrets_are_dropped_as_asked_and_counted_anyhow(tmp_path, data, settings, gone):
    leaky = [
        instruction(100 + i, completion=f"{prose(i + 500)} {text}")
        for i, text in enumerate(LEAKY.values())
    ]
    write(data / "tasks.jsonl", [*(instruction(i) for i in range(5)), *leaky])
    report = built(tmp_path / "run", config(TASKS, secrets=settings), data)
    assert set(removed(tmp_path / "run")) == gone
    assert report.leaks == {"GitHub token": 1, "e-mail address": 1, "public IPv4 address": 1}


def test_what_is_removed_for_a_secret_does_not_tell_it(tmp_path, data):
    row = instruction(100, completion=LEAKY["secret"])
    write(data / "tasks.jsonl", [*(instruction(i) for i in range(5)), row])
    built(tmp_path / "run", config(TASKS), data)
    (line,) = lines(tmp_path / "run" / "removed.jsonl")
    assert line["rule"] == "secrets"
    assert line["detail"].startswith("GitHub token at character ")
    assert "ghp_" not in json.dumps(line)


@pytest.mark.parametrize("more", ["", f" {prose(777, 3)}"])
def test_row_dropped_for_a_secret_takes_no_clean_row_along(tmp_path, data, more):
    text = prose(500, 100)
    leaky = instruction(100, completion=f"{text} {LEAKY['email']}")
    clean = instruction(101, prompt=leaky["prompt"], completion=text + more)
    write(data / "tasks.jsonl", [*(instruction(i) for i in range(5)), leaky, clean])
    built(tmp_path / "run", config(TASKS), data)
    assert removed(tmp_path / "run") == {"task-100": "secrets"}


def talk_of(**said):
    """A conversation of four messages and a system's; `said` replaces contents."""
    contents = {
        "system": "Be brief",
        "user": prose(800),
        "assistant": prose(801),
        "user2": prose(802),
        "assistant2": prose(803),
        **said,
    }
    messages = [{"role": k.strip("2"), "content": content} for k, content in contents.items()]
    return conversation(100, messages=messages)


@pytest.mark.parametrize("place", ["system", "user2", "assistant2"])
def test_every_message_of_a_conversation_is_searched(tmp_path, data, place):
    quoted = prose(900, 30)
    exam = {"exam": [BenchmarkText("exam/0", "exam/0", "solution", quoted)]}
    rows = [*(conversation(i) for i in range(5)), talk_of(**{place: LEAKY["secret"]})]
    write(data / "talks.jsonl", rows)
    built(tmp_path / "one", config(TALKS), data)
    assert removed(tmp_path / "one") == {"talk-100": "secrets"}
    write(data / "talks.jsonl", [*rows[:-1], talk_of(**{place: quoted})])
    built(tmp_path / "two", config(TALKS, decontaminate={}), data, exam)
    assert removed(tmp_path / "two") == {"talk-100": "contamination"}


def test_messages_that_are_the_exchange_are_searched_once(tmp_path, data):
    quoted = prose(900, 30)
    exam = {"exam": [BenchmarkText("exam/0", "exam/0", "solution", quoted)]}
    exchange = [{"role": "user", "content": "Tell"}, {"role": "assistant", "content": quoted}]
    rows = [*(conversation(i) for i in range(5)), conversation(100, messages=exchange)]
    write(data / "talks.jsonl", rows)
    built(tmp_path / "run", config(TALKS, decontaminate={}), data, exam)
    (line,) = lines(tmp_path / "run" / "contamination.jsonl")
    assert line["n"] == 21


def test_rows_that_tell_of_a_benchmark_are_dropped_and_reported(tmp_path, data):
    secret = prose(900, 30)
    benchmarks = {
        "exam": [BenchmarkText("exam/0", "exam/0", "solution", secret)],
        "quiz": [BenchmarkText("quiz/0", "quiz/0", "prompt", prose(901, 30))],
    }
    row = instruction(100, completion=f"It is {' '.join(secret.split()[4:20]).upper()}!")
    write(data / "tasks.jsonl", [*(instruction(i) for i in range(5)), row])
    read = config(TASKS, decontaminate={})
    report = built(tmp_path / "run", read, data, benchmarks)
    assert removed(tmp_path / "run") == {"task-100": "contamination"}
    (line,) = lines(tmp_path / "run" / "contamination.jsonl")
    assert line == {
        "benchmark": "exam",
        "problem": "exam/0",
        "part": "solution",
        "ngram": " ".join(secret.split()[4:14]),
        "n": 7,
        "id": "task-100",
        "place": "tasks.jsonl:6",
    }
    assert (report.benchmarks["exam"].rows_hit, report.benchmarks["quiz"].rows_hit) == (1, 0)
    assert report.contaminated_rows == 1


def test_benchmarks_that_are_not_at_hand_are_in_the_report(tmp_path, data):
    texts = {"exam": [BenchmarkText("exam/0", "exam/0", "tests", prose(900))]}
    ready = plan(
        config(TASKS, decontaminate={}),
        data_dir=data,
        benchmarks=texts,
        absent={"quiz": "no data of quiz in the data folder"},
    )
    assert build(ready, tmp_path / "run").absent_benchmarks == {
        "quiz": "no data of quiz in the data folder"
    }


def test_sample_is_drawn_of_what_is_left(tmp_path, data):
    report = built(tmp_path / "run", config({**COMMITS, "n": 8}, TALKS), data)
    assert report.sources["commits"].kept == 8
    assert report.sources["conversations"].kept == 15
    assert list(removed(tmp_path / "run").values()).count("sample") == 12


def test_rows_of_one_prompt_are_on_one_side(tmp_path, data):
    rows = [instruction(i, prompt=f"Tell of {prose(i // 4, 6)}") for i in range(40)]
    write(data / "tasks.jsonl", rows)
    report = built(tmp_path / "run", config(TASKS, validation=8), data)
    sides = [
        {row["prompt"] for row in lines(tmp_path / "run" / f"{name}.jsonl")}
        for name in ("train", "validation")
    ]
    assert not sides[0] & sides[1]
    assert report.validation.rows == 8


def test_shared_instructions_build_whole(tmp_path, shared: Path):
    source = {"kind": "instructions", "data": "instructions"}
    report = built(tmp_path / "run", config(source), shared / "data")
    assert report.n_read == 764
    assert report.n_kept == 764
    assert report.validation.rows == 38


ENDINGS = {"java": "java", "rust": "rs", "python": "py", "c++": "cpp", "go": "go"}


@pytest.mark.parametrize(("preset", "kept"), [("mended", 47), ("published", 0)])
def test_published_commits_pass_the_mended_rules_and_fall_at_the_published_fault(
    tmp_path, shared: Path, preset, kept
):
    corpus = find_corpus("instructions")
    records = [
        record
        for split in ("train", "validation")
        for record in corpus.records(split, 0, shared / "data")
        if record.source == "commitpackft"
    ]
    rows = []
    for number, record in enumerate(records):
        subject, _, old = record.instruction.partition("\n")
        file = f"file{number}.{ENDINGS[record.language]}"
        changes = {"old_file": file, "new_file": file, "subject": subject, "message": subject}
        contents = {"old_contents": old, "new_contents": record.response}
        rows.append(commit(number, lang=record.language, **changes, **contents))
    write(tmp_path / "commits.jsonl", rows)
    write(tmp_path / "tasks.jsonl", [instruction(i) for i in range(3)])
    read = config({**COMMITS, "preset": preset}, TASKS)
    commits = built(tmp_path / "run", read, tmp_path).sources["commits"]
    assert (commits.read, commits.kept) == (47, kept)
    eaten = {step.step: step.removed for step in commits.steps if step.removed}
    assert eaten == ({} if kept else {"A5-extension": 47})
