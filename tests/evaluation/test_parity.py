"""Greedy tokens of two engines compared, and what is kept of it; differences are planted."""

from __future__ import annotations

import itertools
import json
import logging
import math
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.errors import ConfigError, EngineError, ForeignRunError, MissingDataError
from astraios.evaluation.config import EvaluationConfig
from astraios.evaluation.generate import generate
from astraios.evaluation.parity import N_PROMPTS, compare, fact, is_owed, parity_prompts
from astraios.generation import Drawn, Engine, Model
from astraios.generation.engines import hf as hf_module
from astraios.generation.keys import wanted
from astraios.records import Finish, Parity, Prompt, Sample, Sampling
from astraios.studies import serving
from astraios.studies.serving import trusted_engine

N = 8
PROMPTS = [Prompt(problem_id=f"t/{n}", text=f"prompt {n}") for n in range(3)]


def drawn(text, at=-0.5, *, id=None, **others):
    return Drawn(text, at, MappingProxyType({text: at, **others}), id)


def trace(*texts, ids=True, at=-0.5):
    return [drawn(text, at, id=hash(text) if ids else None) for text in texts]


WORDS = ("def", " f", "(", "x", ")", ":", "\n", " return")


def compared(theirs, ours=None, *, precision="float32", prompts=PROMPTS[:1], n=N):
    ours = trace(*WORDS) if ours is None else ours
    return compare(
        prompts, [ours] * len(prompts), theirs, engine="fast", precision=precision, n_tokens=n
    )


def changed(at, token, ids=True):
    made = trace(*WORDS, ids=ids)
    made[at] = token
    return made


# --- what is equal ----------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [True, False])
def test_equal_tokens_are_equal(ids):
    found = compared([trace(*WORDS, ids=ids)] * 3, trace(*WORDS, ids=ids), prompts=PROMPTS)
    assert (found.outcome, found.n_prompts, found.n_tokens, found.n_ties) == ("equal", 3, 24, 0)
    assert found.largest_difference == 0.0
    assert found.by == ("id" if ids else "text")


def test_the_largest_difference_of_a_log_probability_is_recorded():
    found = compared([changed(3, drawn("x", -0.504, id=hash("x")))])
    assert found.largest_difference == pytest.approx(0.004)
    assert fact(found) == (
        "1 prompts, 8 tokens equal to hf; largest difference of a log-probability 4.0e-03"
    )


@pytest.mark.parametrize("ids", [True, False])
def test_an_end_token_that_is_not_listed_is_no_difference(ids):
    ours = trace("a", "b", "<end>", ids=ids)
    assert compared([trace("a", "b", ids=ids)], ours).n_tokens >= 2


@pytest.mark.parametrize("ends", ["", "</s>"])
def test_end_tokens_may_be_spelled_in_two_ways(ends):
    ours = trace("a", "b", "<end>", ids=False)
    assert compared([trace("a", "b", ends, ids=False)], ours).n_tokens == 3


def test_an_end_token_at_the_bound_need_not_be_listed():
    ours = trace("a", "b", "<end>", ids=False)
    assert compared([trace("a", "b", ids=False)], ours, n=3).n_tokens == 2


@given(cuts=st.sets(st.integers(1, 20)))
def test_where_a_text_is_divided_is_no_difference(cuts):
    text = "".join(WORDS)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    theirs = trace(*pieces, ids=False)
    found = compare(
        PROMPTS[:1],
        [trace(*WORDS, ids=False)],
        [theirs],
        engine="fast",
        precision="float32",
        n_tokens=min(len(pieces), N),
    )
    assert found.outcome == "equal"


BAD = "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    "theirs",
    [
        ("a", "é", "b"),
        ("a", "", "é", "b"),
        ("a", BAD, BAD, "b"),
        ("a", BAD, "b"),
        ("a", f"{BAD}{BAD}", "b"),
    ],
)
def test_characters_of_several_tokens_are_no_difference(theirs):
    ours = trace("a", BAD, BAD, "b", "c", "<end>", ids=False)
    assert compared([trace(*theirs, "c", "<end>", ids=False)], ours).outcome == "equal"


def test_a_character_behind_a_broken_one_is_still_compared():
    ours = trace("a", BAD, BAD, "b", "c", ids=False)
    with pytest.raises(EngineError, match=r"token 4.*'c'.*'d'"):
        compared([trace("a", "é", "b", "d", ids=False)], ours, n=4)


@given(
    texts=st.lists(st.text("aé\n ", max_size=3), min_size=1, max_size=N),
    ids=st.booleans(),
    precision=st.sampled_from(["float32", "bfloat16", "float16"]),
)
def test_a_trace_equals_itself(texts, ids, precision):
    made = trace(*texts, ids=ids)
    assert compared([made], made, precision=precision).n_tokens == len(texts)


@given(at=st.integers(0, N - 1), ids=st.booleans())
def test_another_token_anywhere_is_found_with_its_position(at, ids):
    theirs = changed(at, drawn("other", -0.3, id=hash("other") if ids else None), ids)
    with pytest.raises(EngineError, match=rf"'t/0', token {at}: hf has .* fast has 'other'"):
        compared([theirs], trace(*WORDS, ids=ids))


# --- what is different ------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [True, False])
def test_another_token_is_told_with_all_four_log_probabilities(ids):
    ours = changed(5, drawn(":", -0.11, id=hash(":") if ids else None, **{" ->": -2.22}), ids)
    theirs = changed(5, drawn(" ->", -0.33, id=hash(" ->") if ids else None, **{":": -1.44}), ids)
    with pytest.raises(EngineError) as told:
        compared([theirs], ours)
    said = str(told.value)
    assert "engine 'fast' is not equal to hf on 1 of 1 prompts" in said
    assert "problem 't/0', token 5" in said.lower()
    assert "hf has ':' (log-probability -0.1100 under hf, -1.4400 under fast)" in said
    assert "fast has ' ->' (log-probability -2.2200 under hf, -0.3300 under fast)" in said
    assert "adapter, template and precision (float32)" in said
    assert "--no-parity" in said


def test_a_token_that_an_engine_does_not_tell_is_below_those_it_tells():
    with pytest.raises(EngineError, match=r"'z' \(log-probability below its 1 highest under hf"):
        compared([changed(0, drawn("z", id=1))])


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("n_kept", [0, 1, 5])
def test_an_engine_that_ends_early_is_different(ids, n_kept):
    with pytest.raises(EngineError, match=rf"token {n_kept}: hf has .*has nothing, it has ended"):
        compared([trace(*WORDS[:n_kept], ids=ids)], trace(*WORDS, ids=ids))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (True, r"token 2: hf has nothing, it has ended, fast has 'b'"),
        (False, r"token 1, '<end>': hf ends with it, fast does not"),
    ],
)
def test_an_engine_that_goes_on_after_the_end_is_different(ids, message):
    ours = trace("a", "<end>", ids=ids)
    with pytest.raises(EngineError, match=message):
        compared([trace("a", "<end>", "b", "c", ids=ids)], ours)


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("value", [-0.9, math.nan, -math.inf])
def test_the_same_token_with_another_certainty_is_different(ids, value):
    theirs = changed(6, drawn("\n", value, id=hash("\n") if ids else None), ids)
    with pytest.raises(EngineError, match=r"token 6, '\\n': log-probability -0.5000 under hf"):
        compared([theirs], trace(*WORDS, ids=ids))


def test_coarse_precisions_are_given_more_room():
    theirs = changed(6, drawn("\n", -0.8, id=hash("\n")))
    assert compared([theirs], precision="bfloat16").n_tokens == N
    with pytest.raises(EngineError):
        compared([theirs], precision="float16")


def test_two_tokens_spelled_alike_are_no_tie():
    ours = [drawn(BAD, id=7)]
    with pytest.raises(EngineError, match=r"number 7 under hf, 8 under fast"):
        compared([[drawn(BAD, id=8)]], ours, n=1)


def test_prompts_that_differ_are_counted():
    other = changed(0, drawn("z", id=1))
    with pytest.raises(EngineError, match=r"on 2 of 3 prompts. Problem 't/1'"):
        compared([trace(*WORDS), other, other], prompts=PROMPTS)


def test_prompts_without_a_trace_are_an_error():
    with pytest.raises(EngineError, match="2 of 3 prompts"):
        compared([trace(*WORDS)] * 2, prompts=PROMPTS)


def test_a_comparison_of_nothing_is_an_error():
    with pytest.raises(EngineError, match="no token could be compared"):
        compared([[]], trace("<end>"))


# --- ties -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [True, False])
def test_equally_probable_tokens_end_the_comparison_of_their_prompt(ids):
    ours = changed(5, drawn(":", -0.7, id=hash(":") if ids else None, **{" ->": -0.7004}), ids)
    theirs = changed(5, drawn(" ->", -0.7, id=hash(" ->") if ids else None), ids)
    found = compared([theirs], ours)
    assert (found.n_tokens, found.n_ties) == (5, 1)
    assert fact(found).endswith("; 1 prompts end in ties")


def test_what_is_a_tie_depends_on_the_precision():
    ours = changed(5, drawn(":", -0.7, id=hash(":"), **{" ->": -0.8}))
    theirs = changed(5, drawn(" ->", -0.7, id=hash(" ->")))
    assert compared([theirs], ours, precision="bfloat16").n_ties == 1
    with pytest.raises(EngineError, match="token 5"):
        compared([theirs], ours)


def test_many_ties_are_warned_of(caplog):
    ours = changed(0, drawn("def", -0.7, id=hash("def"), z=-0.7))
    theirs = changed(0, drawn("z", -0.7, id=hash("z")))
    with caplog.at_level(logging.WARNING):
        found = compared([theirs] * 2 + [ours], ours, prompts=PROMPTS)
    assert found.n_ties == 2
    assert "tie on 2 of 3 prompts" in caplog.text


# --- prompts ----------------------------------------------------------------------------------


def test_prompts_are_spread_over_lengths(toy):
    class Long(toy.Task):
        def prompt(self, problem, turns, template):
            return Prompt(problem_id=problem.id, text="x" * (1 + int(problem.id[2:]) % 50))

    task = Long(n_problems=100)
    chosen = [len(p.text) for p in parity_prompts(task, task.problems(None), "continue")]
    assert len(chosen) == N_PROMPTS
    assert chosen == sorted(chosen)
    assert (chosen[0], chosen[-1]) == (1, 50)
    assert max(b - a for a, b in itertools.pairwise(chosen)) <= 8


@pytest.mark.parametrize("n_problems", [0, 1, 5, 8])
def test_few_problems_are_all_asked(toy, n_problems):
    task = toy.Task(n_problems=n_problems)
    assert len(parity_prompts(task, task.problems(None), "continue")) == n_problems


# --- the gate ---------------------------------------------------------------------------------


class Reference(Engine):
    """In place of `hf`: needs no torch."""

    name = "hf"
    opened = 0
    living = 0

    @classmethod
    def supports(cls, method):
        return method != "prefix"

    @classmethod
    def open(cls, model):
        if model.base_model == "hosted":
            raise MissingDataError("base model 'hosted' was found nowhere")
        assert not model.options
        cls.opened += 1
        cls.living += 1
        return cls()

    def close(self):
        type(self).living -= 1

    def complete(self, prompts, sampling, **rest):
        raise AssertionError("not asked for")

    def spelled(self, prompt):
        return prompt.model_copy(update={"text": f"<{prompt.text}>"})

    def trace(self, prompts, n_tokens):
        return [trace(*WORDS, prompt.text, "<end>") for prompt in prompts]


class Fast(Reference):
    """The candidate; its options say how it goes wrong."""

    name = "fast"
    opened = 0
    living = 0

    def __init__(self, options):
        self.options = options

    @classmethod
    def supports(cls, method):
        return method in ("lora", "prefix")

    @classmethod
    def check(cls, model):
        if "misspelled" in model.options:
            raise ConfigError("engine fast has no option 'misspelled'")

    @classmethod
    def open(cls, model):
        assert Reference.living == 0, "hf still holds its memory"
        if model.options.get("url") == "http://dead":
            raise EngineError("the server does not answer")
        cls.opened += 1
        return cls(dict(model.options))

    def spelled(self, prompt):
        if "other_template" in self.options:
            return prompt.model_copy(update={"text": f"[{prompt.text}]"})
        return prompt if "spells_elsewhere" in self.options else super().spelled(prompt)

    def trace(self, prompts, n_tokens):
        if "spells_elsewhere" in self.options:  # as its server does
            prompts = [super(Fast, self).spelled(prompt) for prompt in prompts]
        if "mute" in self.options:
            raise EngineError("the server tells no log-probabilities")
        made = super().trace(prompts, n_tokens)
        if "wrong" in self.options:
            made[0][2] = drawn("[", id=1)
        return made

    def environment(self):
        return {"server": str(self.options.get("server", "1.0"))}


class Replayed(Fast):
    name = "replayed"
    runs_model = False


@pytest.fixture
def gate(tmp_path, toy, monkeypatch):
    """Opens an engine for a model as studies do."""
    known = {"hf": Reference, "fast": Fast, "replayed": Replayed}
    monkeypatch.setattr(serving, "engine_class", known.__getitem__)
    for engine in known.values():
        monkeypatch.setattr(engine, "opened", 0)
        monkeypatch.setattr(engine, "living", 0)
    task = toy.Task(n_problems=20)

    def opened(engine="fast", *, parity="check", base="base", method="lora", root=None, **options):
        config = EvaluationConfig(
            task="toy",
            task_version="1",
            template="continue",
            sampling=Sampling(),
            base_model=base,
            method=method,
            engine=engine,
            parity=parity,
        )
        model = Model(load=lambda: None, base_model=base, method=method, options=options)
        problems = task.problems(None)
        with trusted_engine(config, model, task, problems, root or tmp_path) as (found, parity):
            assert found.name == engine
            return parity

    return opened


def test_an_engine_that_is_equal_is_trusted_with_a_record(gate, tmp_path):
    found = gate()
    assert (found.outcome, found.engine, found.task) == ("equal", "fast", "toy")
    assert (found.n_prompts, found.n_tokens) == (8, 80)
    [path] = (tmp_path / "parity").glob("*.json")
    assert Parity.model_validate_json(path.read_bytes()) == found


def test_hf_has_given_its_memory_back_before_the_engine_is_opened(gate):
    gate()
    assert (Reference.opened, Reference.living, Fast.opened) == (1, 0, 1)


@pytest.mark.parametrize("options", [{"url": "http://dead"}, {"misspelled": 1}])
def test_a_dead_server_and_wrong_options_are_told_before_hf_is_loaded(gate, options):
    with pytest.raises((EngineError, ConfigError), match=r"does not answer|no option"):
        gate(**options)
    assert Reference.opened == 0


def test_a_server_elsewhere_is_opened_once_and_stays(gate):
    assert gate(url="http://here").outcome == "equal"
    assert (Reference.opened, Reference.living, Fast.opened) == (1, 0, 1)


def test_the_reference_and_engines_without_a_model_are_not_compared(gate, tmp_path):
    assert gate("hf") is None
    assert gate("replayed") is None
    assert not (tmp_path / "parity").exists()


def test_an_engine_whose_server_spells_conversations_is_compared_by_its_tokens(gate):
    assert gate(spells_elsewhere=True).n_tokens == 80


def test_a_comparison_is_made_once_a_model_and_server(gate):
    first = gate()
    assert gate() == first
    assert Reference.opened == 1
    gate(base="another")
    gate(url="http://elsewhere")
    gate(method=None)
    assert Reference.opened == 4


def test_a_comparison_with_other_versions_is_made_again(gate, tmp_path):
    gate()
    [path] = (tmp_path / "parity").glob("*.json")
    old = json.loads(path.read_bytes())
    path.write_text(json.dumps({**old, "versions": {**old["versions"], "numpy": "0.1"}}))
    assert gate().versions == old["versions"]
    assert Reference.opened == 2


def test_a_record_that_cannot_be_read_is_made_again(gate, tmp_path):
    first = gate()
    [path] = (tmp_path / "parity").glob("*.json")
    path.write_text('{"engine": 7')
    assert gate() == first
    assert Reference.opened == 2


def test_a_server_that_became_another_is_compared_again(gate, monkeypatch):
    gate()
    monkeypatch.setattr(Fast, "environment", lambda self: {"server": "2.0"})
    assert gate().environment == {"server": "2.0"}
    assert Reference.opened == 2
    gate()
    assert Reference.opened == 2


def test_an_adapter_whose_files_changed_is_compared_again(gate, tmp_path):
    weights = tmp_path / "model" / "weights"
    weights.parent.mkdir()
    weights.write_bytes(b"1")
    gate(base=str(weights.parent))
    gate(base=str(weights.parent))
    assert Reference.opened == 1
    weights.write_bytes(b"22")
    gate(base=str(weights.parent))
    assert Reference.opened == 2


def test_an_engine_that_is_different_is_refused_each_time(gate, tmp_path):
    for _ in range(2):
        with pytest.raises(EngineError, match=r"engine 'fast' is not equal to hf.*token 2: hf has"):
            gate(wrong=True)
    assert not list((tmp_path / "parity").glob("*.json"))


def test_skipping_is_recorded(gate, tmp_path):
    found = gate(parity="skip", wrong=True)
    assert found == Parity(engine="fast", outcome="skipped")
    assert fact(found) == "not checked (parity=skip)"
    assert Reference.opened == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"base": "hosted"}, ConfigError, "cannot be compared with hf here: base model 'hosted'"),
        ({"method": "prefix"}, ConfigError, "does not host 'prefix'"),
        ({"mute": True}, EngineError, "tells no log-probabilities"),
        ({"other_template": True}, EngineError, r"problem 't/0' as '\[t/0.*same chat template"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_way_on(gate, options, error, message):
    with pytest.raises(error, match=message) as told:
        gate(**options)
    assert "parity=skip" in str(told.value)
    assert gate(parity="skip", **options).outcome == "skipped"


def test_a_method_that_the_engine_cannot_host_is_refused(gate):
    with pytest.raises(ConfigError, match="engine fast cannot host method 'ia3'"):
        gate(method="ia3")


def test_the_engine_of_the_package_is_the_reference():
    assert serving.engine_class("hf") is hf_module.HFEngine


# --- a comparison that was skipped --------------------------------------------------------------

SKIPPED = Parity(engine="fast", outcome="skipped")
EQUAL = Parity(engine="fast", outcome="equal", n_prompts=3, n_tokens=24)


class Once(Fast):
    """Answers each question, and says that it did."""

    def __init__(self, **options):
        super().__init__(options)
        self.n_asked = 0

    def complete(self, prompts, sampling, *, skip=frozenset(), **rest):
        for prompt in prompts:
            for index in wanted(prompt, sampling, skip):
                self.n_asked += 1
                yield Sample(
                    problem_id=prompt.problem_id,
                    index=index,
                    prompt_sha="",
                    completion="passed",
                    finish=Finish.EOS,
                )


@pytest.fixture
def made(toy, tmp_path):
    """Generates in one folder, with what is known of the engine."""

    def made(engine, known, parity="check"):
        task = toy.Task()
        config = EvaluationConfig(
            task="toy",
            task_version="1",
            template="continue",
            sampling=Sampling(),
            base_model="base",
            engine="fast",
            parity=parity,
        )
        return generate(
            task,
            engine,
            config.sampling,
            tmp_path / "run",
            config=config,
            problems=task.problems(None),
            template="continue",
            parity=known,
        )

    return made


def test_a_comparison_made_later_is_added_and_nothing_is_asked_again(made):
    first = made(Once(), SKIPPED, "skip")
    engine = Once()
    second = made(engine, EQUAL)
    assert engine.n_asked == 0
    assert second.done and second.manifest.counts == first.manifest.counts
    assert second.manifest.environment["parity"] == fact(EQUAL)
    assert Parity.model_validate_json((second.folder / "parity.json").read_bytes()) == EQUAL
    third = made(Once(), SKIPPED, "skip")
    assert third.manifest == second.manifest


def test_a_run_that_was_not_compared_is_not_done_for_a_config_that_compares(made):
    run = made(Once(), SKIPPED, "skip")
    config = EvaluationConfig.model_validate(run.manifest.config)
    assert not is_owed(run.manifest, config)
    assert is_owed(run.manifest, config.model_copy(update={"parity": "check"}))
    after = made(Once(), EQUAL)
    assert not is_owed(after.manifest, config.model_copy(update={"parity": "check"}))


def test_a_comparison_of_a_changed_engine_says_nothing_of_what_was_made_before(made):
    before = made(Once(), SKIPPED, "skip").manifest
    with pytest.raises(ForeignRunError, match=r"server '1.0', now '2.0'.*parity=skip"):
        made(Once(server="2.0"), EQUAL)
    assert made(Once(), SKIPPED, "skip").manifest == before
