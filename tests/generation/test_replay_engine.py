"""Completions from files."""

from __future__ import annotations

import gzip
import json

import pytest

from astraios import registry
from astraios.errors import ConfigError, GenerationsError, MissingDataError
from astraios.generation import engines
from astraios.generation.engines.replay import ReplayEngine
from astraios.generation.keys import key, prompt_sha
from astraios.records import Finish, Prompt, Sample, Sampling
from astraios.templates import template

SAMPLING = Sampling(n_samples=2, temperature=0.5)
PROMPTS = [Prompt(problem_id="a", text="what is a?"), Prompt(problem_id="b", text="what is b?")]
LISTS = [["a zero", "a one\u2028"], ["b zero", ""]]


def a_sample(problem_id, index, turn=0, text=None):
    text = text or f"what is {problem_id}?"
    return Sample(
        problem_id=problem_id,
        index=index,
        turn=turn,
        prompt_sha=prompt_sha(text),
        completion=f"{problem_id} {index} {turn}\u2028",
        finish=Finish.STOP,
        n_completion_tokens=5,
    )


def jsonl(path, samples):
    path.write_text("".join(sample.model_dump_json() + "\n" for sample in samples), "utf-8")
    return path


def lists(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    return path


def chat(question, opening):
    """A conversation, as template chat writes it."""
    return template("chat").prompt(question, opening)


def test_lists_answer_problems_in_the_order_asked(tmp_path):
    engine = ReplayEngine(lists(tmp_path / "generations.json", LISTS))
    found = {key(sample): sample for sample in engine.complete(PROMPTS, SAMPLING)}
    assert {k: s.completion for k, s in found.items()} == {
        ("a", 0, 0): "a zero",
        ("a", 1, 0): "a one\u2028",
        ("b", 0, 0): "b zero",
        ("b", 1, 0): "",
    }
    assert {sample.finish for sample in found.values()} == {Finish.GIVEN}
    assert found["b", 1, 0].prompt_sha == prompt_sha("what is b?")


def test_samples_are_found_by_their_key_and_come_out_as_they_were(tmp_path):
    samples = [a_sample(p, i) for p in "ba" for i in (1, 0)]
    engine = ReplayEngine(jsonl(tmp_path / "samples.jsonl", samples))
    assert sorted(engine.complete(PROMPTS, SAMPLING), key=key) == sorted(samples, key=key)


def test_later_turns_are_found_too(tmp_path):
    samples = [a_sample("a", 1, 1, "and then?")]
    engine = ReplayEngine(jsonl(tmp_path / "samples.jsonl", samples))
    asked = [Prompt(problem_id="a", turn=1, index=1, text="and then?")]
    assert list(engine.complete(asked, SAMPLING)) == samples


def test_a_compressed_file_is_read(tmp_path):
    path = tmp_path / "generations.json.gz"
    path.write_bytes(gzip.compress(json.dumps(LISTS).encode()))
    assert len(list(ReplayEngine(path).complete(PROMPTS, SAMPLING))) == 4


def test_what_a_resumed_run_has_is_skipped(tmp_path):
    engine = ReplayEngine(lists(tmp_path / "generations.json", LISTS))
    found = engine.complete(PROMPTS, SAMPLING, skip=frozenset({("a", 0, 0), ("b", 1, 0)}))
    assert [key(sample) for sample in found] == [("a", 1, 0), ("b", 0, 0)]


def test_progress_counts_known_tokens(tmp_path):
    told = []
    samples = [a_sample(p, i) for p in "ab" for i in (0, 1)]
    engine = ReplayEngine(jsonl(tmp_path / "samples.jsonl", samples))
    list(engine.complete(PROMPTS, SAMPLING, progress=told.append))
    assert sum(told) == 20


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([["x", "y"]], "1 lists of completions for 2 problems"),
        ([["x", "y"], ["x"]], r"list 1 \(problem 'b'\) has 1 completions, 2 are expected"),
        ([["x", "y"], ["x", None]], "entry 1 is not a list of strings"),
        ([["x", "y"], {"x": 1}], "entry 1 is not a list of strings"),
        ({"a": ["x", "y"]}, "found dict"),
        ("[[", "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, value, said):
    with pytest.raises(GenerationsError, match=said):
        list(ReplayEngine(lists(tmp_path / "generations.json", value)).complete(PROMPTS, SAMPLING))


def test_a_missing_sample_is_named(tmp_path):
    engine = ReplayEngine(jsonl(tmp_path / "samples.jsonl", [a_sample("a", 0), a_sample("a", 1)]))
    with pytest.raises(GenerationsError, match=r"problem 'b', sample 0, turn 0"):
        list(engine.complete(PROMPTS, SAMPLING))


def test_an_answer_to_another_prompt_is_refused(tmp_path):
    engine = ReplayEngine(
        jsonl(tmp_path / "samples.jsonl", [a_sample("a", 0, text="how is a?"), a_sample("a", 1)])
    )
    with pytest.raises(GenerationsError, match=r"'a' was answered to another prompt"):
        list(engine.complete(PROMPTS, SAMPLING))


def test_a_line_that_is_no_sample_is_numbered(tmp_path):
    path = jsonl(tmp_path / "samples.jsonl", [a_sample("a", 0)])
    path.write_text(path.read_text("utf-8") + '{"problem_id": "a"}\n', "utf-8")
    with pytest.raises(GenerationsError, match=r"samples\.jsonl:2: not a sample"):
        ReplayEngine(path)


def test_a_sample_given_twice_is_refused(tmp_path):
    with pytest.raises(GenerationsError, match="given twice"):
        ReplayEngine(jsonl(tmp_path / "samples.jsonl", [a_sample("a", 0), a_sample("a", 0)]))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingDataError, match=r"nowhere\.json"):
        ReplayEngine(tmp_path / "nowhere.json")


@pytest.mark.parametrize("data", [b"\xff\xfe[", b"\x1f\x8b\x08 torn"])
def test_a_damaged_file_is_named(tmp_path, data):
    path = tmp_path / ("generations.json.gz" if data[0] == 0x1F else "generations.json")
    path.write_bytes(data)
    with pytest.raises(GenerationsError, match="generations"):
        ReplayEngine(path)


def test_lists_have_no_second_turn(tmp_path):
    engine = ReplayEngine(lists(tmp_path / "generations.json", LISTS))
    asked = [Prompt(problem_id="a", turn=1, index=0, text="?")]
    with pytest.raises(GenerationsError, match="first questions only"):
        list(engine.complete(asked, SAMPLING))


# --- conversations ------------------------------------------------------------------------------

ASKED = Prompt(problem_id="a", kind="chat", text=chat("Write é.", "def f():\n"))
SPELLED = "<user>Write é.<assistant>def f():"


def replayed(folder, text=SPELLED, kind="chat"):
    """An engine on the samples of a run that asked `text`."""
    jsonl(folder / "prompts.jsonl", [ASKED.model_copy(update={"text": text, "kind": kind})])
    made = [a_sample("a", index, text=text) for index in (0, 1)]
    return ReplayEngine(jsonl(folder / "samples.jsonl", made)), made


@pytest.mark.parametrize("text", [SPELLED, ASKED.text])
def test_a_conversation_is_spelled_as_the_run_beside_the_file_did(tmp_path, text):
    engine, made = replayed(tmp_path, text)
    spelled = engine.spelled(ASKED)
    assert spelled == ASKED.model_copy(update={"text": text})
    assert list(engine.complete([spelled], SAMPLING)) == made
    assert engine.spelled(PROMPTS[0]) == PROMPTS[0]


@pytest.mark.parametrize(
    ("text", "kind", "asked"),
    [
        ("<user>Write e.<assistant>def f():", "chat", ASKED),
        (SPELLED, "completion", ASKED),
        (SPELLED, "chat", ASKED.model_copy(update={"problem_id": "b"})),
        (SPELLED, "chat", ASKED.model_copy(update={"turn": 1, "index": 0})),
    ],
)
def test_a_run_that_asked_something_else_is_refused(tmp_path, text, kind, asked):
    engine, _ = replayed(tmp_path, text, kind)
    with pytest.raises(GenerationsError, match=rf"prompts.jsonl: problem '{asked.problem_id}' was"):
        engine.spelled(asked)


def test_a_conversation_without_a_run_beside_the_file_is_refused(tmp_path):
    alone = jsonl(tmp_path / "samples.jsonl", [a_sample("a", 0)])
    given = lists(tmp_path / "generations.json", LISTS)
    for path in (alone, given):
        with pytest.raises(ConfigError, match=rf"(?s)needs a samples.jsonl.*{path.name}.*none"):
            ReplayEngine(path).spelled(ASKED)


def test_the_engine_is_found_by_its_name():
    assert registry.load(engines, "engine", "replay") is ReplayEngine
    assert ReplayEngine.supports("ptuning")
