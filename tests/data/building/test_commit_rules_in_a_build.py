"""A build of commits takes its rows through every rule, and each is counted where it fell."""

from __future__ import annotations

import pytest

from astraios.data.building.steps import declared

from ._sources import LANGUAGES, built, commit, config, lines, prose, removed, write

pytest.importorskip("rensa", reason="needs rensa: pip install 'astraios[data]'")
tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers")
transformers = pytest.importorskip("transformers", reason="needs transformers")

SHA = "0123456789abcdef0123456789abcdef01234567"
FALLS = {
    "S1-licence": {"license": "agpl-3.0"},
    "S2-message-length": {"message": "short"},
    "S3-noise-message": {"message": "Merge branch 'main' of the project"},
    "S4-one-file": {"n_files": 2},
    "S5-opted-out": {"repos": "ada/project"},
    "A1-old-size": {"old_contents": "x" * 50_000},
    "A2-new-not-empty": {"new_contents": ""},
    "A3-real-change": {"old_contents": prose(5), "new_contents": prose(5)},
    "A4-hash-sign": {"subject": "Fix the parser of numbers, see #12"},
    "A5-extension": {"lang": "Python", "new_file": "src/reader.pyx"},
    "A6-file-name": {
        "lang": "Ruby",
        "new_file": "src/reader.rb",
        "subject": "Fix the reader of numbers",
    },
    "A7-length": {"subject": "Fix the parser now"},
    "A9-length-again": {"subject": "[parser] core: Fix a bad leak"},
    "A10-capital": {"subject": "fix the parser of all numbers"},
    "A11-tokens": {"new_contents": prose(6, 800)},
    "A12-verb": {"subject": "The parser of numbers is better"},
    "A13-noise": {"subject": "Use merge branch 'x' of the project"},
    "B1-cherry-pick": {"subject": "Fix the parser (cherry picked from commit 12)"},
    "B2-sha": {"subject": f"Revert commit {SHA} of the parser"},
    "B4-down-sample": {"subject": "Bump version of the parser to 2.0"},
    "B5-first-person": {"subject": "Fix what I broke in the parser"},
    "B6-thanks": {"subject": "Fix the parser, thanks to Ada for that"},
    "B7-review": {"subject": "Fix the parser after the code review"},
    "B8-bad-line": {"subject": "Fix that bug where things didn't work but now they should"},
    "B9-ticket": {"subject": "Fix the parser of numbers, issue 12"},
    "B10-tag": {"subject": "Fix the parser of numbers CDPCP-12"},
    "B11-unfinished": {"subject": "Add the parser of numbers (WIP)"},
    "B12-link": {"subject": "Fix the parser, see https://somewhere.org/12"},
    "B13-exercise": {"subject": "Add the sum of two | LeetCode"},
}
"""Rule -> what a commit is like that comes as far as this rule.

The rules left out drop nothing that the rules before them keep, where all are on."""
FIRST = 200
"""Number of the first of them; B4 draws by the number, and drops the one it has to."""
NEVER = {"A8-clean", "B3-clean", "A14-version-or-hash", "B14-words"}


@pytest.fixture
def source(tmp_path):
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="?", eos_token="<|endoftext|>"
    ).save_pretrained(tmp_path / "tokenizer")
    return {
        "kind": "commits",
        "data": "commits.jsonl",
        "tokenizer": str(tmp_path / "tokenizer"),
        "without": [],
        "opted_out": ["ada"],
    }


def rows(n_good=12):
    return [
        *(commit(i) for i in range(n_good)),
        *(commit(FIRST + i, **falls) for i, falls in enumerate(FALLS.values())),
    ]


def test_every_rule_can_be_the_one_that_drops():
    assert set(FALLS) | NEVER == {r.name for kind, r in declared("mended") if kind == "commits"}


def test_each_commit_falls_at_its_rule_and_is_counted_there(tmp_path, source):
    write(tmp_path / "commits.jsonl", rows())
    report = built(tmp_path / "run", config(source), tmp_path)
    fell = {
        int(name.partition(":")[0], 16): rule for name, rule in removed(tmp_path / "run").items()
    }
    assert fell == {FIRST + i: rule for i, rule in enumerate(FALLS)}
    commits = report.sources["commits"]
    assert {s.step: s.removed for s in commits.steps if s.removed} == dict.fromkeys(FALLS, 1)
    assert (commits.read, commits.kept) == (12 + len(FALLS), 12)


def test_rules_that_are_left_out_drop_nothing(tmp_path, source):
    write(tmp_path / "commits.jsonl", rows())
    left_out = ["B5-first-person", "B12-link", "A12-verb"]
    report = built(tmp_path / "run", config({**source, "without": left_out}), tmp_path)
    assert report.sources["commits"].kept == 12 + len(left_out)
    assert not {step.name for step in report.steps} & set(left_out)


def test_building_again_what_was_kept_drops_nothing(tmp_path, source):
    write(tmp_path / "commits.jsonl", rows(30))
    first = built(tmp_path / "one", config(source), tmp_path)
    kept = {
        row["id"]
        for name in ("train", "validation")
        for row in lines(tmp_path / "one" / f"{name}.jsonl")
    }
    again = [row for row in rows(30) if f"{row['commit']}:{row['new_file']}" in kept]
    write(tmp_path / "commits.jsonl", again)
    second = built(tmp_path / "two", config(source), tmp_path)
    assert second.n_read == second.n_kept == first.n_kept
    assert set(second.train.by_language) <= {language.lower() for language in LANGUAGES}
