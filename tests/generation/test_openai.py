"""Engine openai against a real server process, a good one and a bad one."""

from __future__ import annotations

import dataclasses
import json
import logging
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.errors import ConfigError, DataError, EngineError
from astraios.generation import Model
from astraios.generation.engines._http import Tries, _retry_after_s
from astraios.generation.engines._text_answer import TextAnswer
from astraios.generation.engines.openai import OpenAIEngine
from astraios.generation.keys import key
from astraios.records import Finish, Prompt, Sampling

from .server.running import Running

GREEDY = Sampling(n_samples=1, temperature=0, max_new_tokens=100)
SAMPLED = Sampling(n_samples=4, temperature=0.8, max_new_tokens=100)
PROMPTS = [Prompt(problem_id=f"t/{n}", text=f"def f{n}(x):") for n in range(6)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    spec = {"models": {"tiny": {}, "tiny-lora": {}}, "n_positions": 300}
    with Running(tmp_path_factory.mktemp("server"), spec) as running:
        yield running


@pytest.fixture(autouse=True)
def _well_behaved(server):
    server.control()


def model(server, *, base="tiny", **options):
    options = {"url": server.url, "first_pause_s": 0, **options}
    return Model(
        load=lambda: pytest.fail("no weights are needed"), base_model=base, options=options
    )


def ask(server, prompts=PROMPTS, sampling=GREEDY, *, finished=None, skip=frozenset(), **options):
    with OpenAIEngine.open(model(server, **options)) as engine:
        found = list(engine.complete(prompts, sampling, finished=finished, skip=skip))
    assert len({key(sample) for sample in found}) == len(found)
    return {key(sample): sample for sample in found}


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("waited in vain")


# --- answers ----------------------------------------------------------------------------------


def test_whole_completions_with_their_counts(server):
    found = ask(server)
    assert len(found) == 6
    for sample in found.values():
        assert sample.finish is Finish.EOS
        assert sample.completion.startswith(" = ")
        assert sample.completion.endswith("\u2028# end\n")  # U+2028 ends no line of a stream
        assert sample.n_completion_tokens == len(sample.completion) + 1  # and the end token
        assert sample.n_prompt_tokens == len("def f0(x):")


def test_length_is_told_from_an_end(server):
    short = GREEDY.model_copy(update={"max_new_tokens": 5})
    for sample in ask(server, sampling=short).values():
        assert (sample.finish, len(sample.completion)) == (Finish.LENGTH, 5)
        assert sample.n_completion_tokens == 5


@pytest.mark.parametrize("changes", [{"n_at_once": 1}, {"n_at_once": 7}, {"logprobs": False}])
def test_samples_depend_on_nothing_but_their_seed(server, changes):
    first = ask(server, sampling=SAMPLED)
    assert len({sample.completion for sample in first.values()}) == 24
    server.control(per_event=3)
    assert ask(server, PROMPTS[::-1], SAMPLED, **changes) == first


def test_another_seed_draws_other_samples(server):
    first = ask(server, sampling=SAMPLED)
    other = ask(server, sampling=SAMPLED.model_copy(update={"seed": 1}))
    assert not {s.completion for s in first.values()} & {s.completion for s in other.values()}


def test_what_is_there_is_not_asked_again(server):
    whole = ask(server, sampling=SAMPLED)
    server.control()
    skip = frozenset(list(whole)[:17])
    rest = ask(server, sampling=SAMPLED, skip=skip)
    assert {**{name: whole[name] for name in skip}, **rest} == whole
    assert len(server.seen()) == 24 - 17


@pytest.mark.parametrize("per_event", [1, 4])
@pytest.mark.parametrize("logprobs", [True, False])
def test_a_stop_ends_completion_and_request(server, per_event, logprobs):
    server.control(per_event=per_event, pause_at=24)
    stops = ("\nclass", "\n#", "\n@", "\nif", "\ndef", "\nprint")  # more than OpenAI takes
    prompts = [prompt.model_copy(update={"stops": stops}) for prompt in PROMPTS]
    for sample in ask(server, prompts, logprobs=logprobs).values():
        assert sample.finish is Finish.STOP
        assert sample.completion.endswith("\n\nprint")
        # where no tokens are told, events are counted
        assert sample.n_completion_tokens == (22 if logprobs or per_event == 1 else 6)
    wait_for(lambda: all(request["left"] for request in server.seen()))
    seen = server.seen()
    assert all("stop" not in request["body"] for request in seen)
    assert all(request["n_sent"] <= 24 for request in seen)


@pytest.mark.parametrize("per_event", [1, 5, 64])
@pytest.mark.parametrize("logprobs", [True, False])
def test_the_rule_of_a_task_ends_a_completion(server, per_event, logprobs):
    server.control(per_event=per_event)
    for sample in ask(server, finished=lambda text: "(" in text, logprobs=logprobs).values():
        assert sample.finish is Finish.STOP
        assert sample.completion.endswith("print(")


def test_progress_is_told_in_tokens(server):
    told = []
    with OpenAIEngine.open(model(server)) as engine:
        found = list(engine.complete(PROMPTS, GREEDY, progress=told.append))
    # the end token brings no text, so it is counted once the reply is whole
    assert sum(told) == sum(sample.n_completion_tokens for sample in found)


def test_closing_early_sends_no_more_and_ends_what_is_sent(server):
    server.control(delay_s=0.02)
    with OpenAIEngine.open(model(server, n_at_once=2)) as engine:
        answers = engine.complete(PROMPTS, SAMPLED)
        next(answers)
        wait_for(lambda: any(0 < request["n_sent"] < 20 for request in server.seen()))
        answers.close()
    n_sent = len(server.seen())
    wait_for(lambda: any(request["left"] for request in server.seen()))
    assert n_sent == len(server.seen()) < 24


# --- faults -----------------------------------------------------------------------------------

BAD = ("500", "503:0", "429:0", "408", "garbage", "nothing", "nonsense", "half", "report", "drop")


@pytest.mark.parametrize("mode", BAD)
def test_a_passing_failure_changes_nothing(server, mode):
    whole = ask(server)
    server.control(bad={"f1(": [mode], "f4(": [mode, mode]})
    assert ask(server) == whole
    assert len(server.seen()) == 6 + 3


@pytest.mark.parametrize("mode", BAD)
def test_a_lasting_failure_is_a_fault_and_the_rest_goes_on(server, mode):
    whole = ask(server)
    server.control(bad={"f3(": [f"*{mode}"]})
    found = ask(server, n_tries=3)
    fault = found.pop(("t/3", 0, 0))
    assert found == {name: whole[name] for name in found}
    assert len(found) == 5
    assert (fault.finish, fault.completion, fault.n_completion_tokens) == (Finish.FAULT, "", 0)
    assert "(3 tries)" in fault.fault
    part = {"garbage": "malformed", "nothing": "no completion", "nonsense": "no completion"}
    part |= {"half": "broke off", "report": "engine dead", "drop": "broke off"}
    assert part.get(mode, mode.partition(":")[0]) in fault.fault


def test_silence_is_a_fault(server):
    server.control(bad={"f3(": ["*hang:5"]})
    found = ask(server, PROMPTS[3:4], n_tries=2, timeout_s=0.5)
    assert found["t/3", 0, 0].fault == f"no answer from {server.url} within 0.5 s (2 tries)"


def test_an_unknown_reason_to_end_is_a_fault_and_asked_once(server):
    server.control(bad={"f2(": ["*reason:content_filter"]})
    found = ask(server)
    assert found["t/2", 0, 0].fault == "the server ended it with finish_reason 'content_filter'"
    assert len(server.seen()) == 6


def test_a_fault_is_asked_again_by_the_next_run(server):
    whole = ask(server)
    server.control(bad={"f3(": ["*500"]})
    found = ask(server, n_tries=1)
    good = {name: s for name, s in found.items() if s.finish is not Finish.FAULT}
    server.control()
    assert good | ask(server, skip=frozenset(good)) == whole


def test_a_server_that_dies_ends_the_run_with_what_was_answered(tmp_path):
    spec = {"models": {"tiny": {}}}
    prompts = [Prompt(problem_id=f"t/{n}", text=f"def f{n}(x):") for n in range(400)]
    with Running(tmp_path, spec) as mortal:
        mortal.control(bad={"f30(": ["die"]})
        found = []
        with (
            OpenAIEngine.open(model(mortal, n_at_once=4, n_tries=2)) as engine,
            pytest.raises(EngineError, match=r"8 requests in a row had no answer.*run the command"),
        ):
            found.extend(engine.complete(prompts, GREEDY))
    good = [sample for sample in found if sample.finish is not Finish.FAULT]
    assert 20 < len(good) < 40
    assert len(found) - len(good) <= 8 + 4  # and not 370 times a row of tries


def test_pauses_grow_and_a_server_may_ask_for_longer_ones():
    tries = Tries(5, 2.0)
    for n_failed, longest in ((1, 2), (2, 4), (3, 8), (9, 60)):
        assert longest / 2 <= tries.pause_s(n_failed, None) <= longest
    assert tries.pause_s(1, 30) == 30
    assert tries.pause_s(1, 1e9) == tries.pause_s(10_000, 1e9) == 60
    assert Tries(5, 2.0, longest_s=0.5).pause_s(4, 30) == 0.5
    assert _retry_after_s("7") == 7
    assert _retry_after_s("soon") is None
    then = datetime.now(UTC) + timedelta(seconds=100)
    assert 90 < _retry_after_s(format_datetime(then, usegmt=True)) <= 100


# --- what the user can mend -------------------------------------------------------------------


def test_no_server_at_all():
    gone = Model(
        load=lambda: pytest.fail("no weights are needed"),
        base_model="tiny",
        options={"url": f"http://127.0.0.1:{closed_port()}", "first_pause_s": 0, "n_tries": 2},
    )
    with pytest.raises(EngineError, match=r"does not answer: no connection.*\(2 tries\); start it"):
        OpenAIEngine.open(gone)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"urll": "http://x"}, r"unknown field 'urll'.* Did you mean 'url'\?"),
        ({"endpoint": "chats"}, "endpoint: input should be 'completions' or 'chat'"),
        ({"n_at_once": 0}, "n_at_once"),
        ({"url": "localhost:8000"}, "has to begin with http"),
        ({"url": "http://me:secret@host"}, "password or a query; give the address"),
        ({"url": None}, "engine_options.url=URL"),
        ({"api_key_variable": "NO_SUCH_KEY"}, "'NO_SUCH_KEY' is to hold a key and is not set"),
    ],
)
def test_wrong_options_name_the_remedy(server, options, said):
    with pytest.raises(ConfigError, match=said) as raised:
        OpenAIEngine.open(model(server, **options))
    assert "secret" not in str(raised.value)


def test_a_key_is_sent_and_told_to_nobody(server, monkeypatch, caplog):
    monkeypatch.setenv("SOME_KEY", "s3cr3t")
    server.control(key="s3cr3t")
    with OpenAIEngine.open(model(server, api_key_variable="SOME_KEY")) as engine:
        assert len(list(engine.complete(PROMPTS, GREEDY))) == 6
        assert "s3cr3t" not in f"{engine._server!r}{engine._options!r}{engine.environment()}"
        monkeypatch.setenv("SOME_KEY", "s3cr3t-old")
        server.control(key="s3cr3t-new")
        with pytest.raises(EngineError, match=r"401.*\*\*\*.*variable 'SOME_KEY'") as raised:
            list(engine.complete(PROMPTS, GREEDY))
    assert "s3cr3t" not in str(raised.value) + caplog.text
    with pytest.raises(EngineError, match=r"refuses access.*engine_options.api_key_variable"):
        OpenAIEngine.open(model(server))


def test_a_model_that_is_not_served(server):
    with pytest.raises(EngineError, match=r"serves: tiny, tiny-lora\..*Did you mean 'tiny'"):
        OpenAIEngine.open(model(server, base="tinyy"))
    with (
        OpenAIEngine.open(model(server, model="other")) as engine,
        pytest.raises(EngineError, match=r"'other'.*it serves: tiny, tiny-lora"),
    ):
        list(engine.complete(PROMPTS, GREEDY))


def test_a_tuned_model_has_to_be_named(server):
    tuned = dataclasses.replace(model(server), method="lora")
    with pytest.raises(ConfigError, match=r"engine_options.model=NAME"):
        OpenAIEngine.open(tuned)
    tuned = dataclasses.replace(model(server, model="tiny-lora"), method="lora")
    with OpenAIEngine.open(tuned) as engine:
        assert len(list(engine.complete(PROMPTS[:1], GREEDY))) == 1
    assert {request["body"]["model"] for request in server.seen()} == {"tiny-lora"}


def test_supports_what_can_be_served():
    assert all(OpenAIEngine.supports(name) for name in ("fft", "lora", "ia3", "lora~wide"))
    assert not any(
        OpenAIEngine.supports(name) for name in ("adapterh", "adapterp", "parallel", "ptuning")
    )


def test_prompts_that_cannot_be_asked(server):
    empty = Prompt(problem_id="t/x", text="")
    with pytest.raises(DataError, match="'t/x', turn 0: the prompt is empty"):
        ask(server, [*PROMPTS, empty])
    limited = Prompt(problem_id="t/x", text="a", max_length=9)
    with pytest.raises(ConfigError, match=r"cuts prompts to 9 tokens.*engine vllm or hf"):
        ask(server, [*PROMPTS, limited])
    assert server.seen() == []
    long = Prompt(problem_id="t/long", text="x" * 400)
    with pytest.raises(DataError, match=r"'t/long'.*do not fit.*400: .*300 tokens.*shorten"):
        ask(server, [long])
    with pytest.raises(ConfigError, match=r"cannot cut prompts.*long_prompts=refuse"):
        OpenAIEngine.open(dataclasses.replace(model(server), long_prompts="cut"))


def test_a_server_that_tells_no_log_probabilities(server, caplog):
    whole = ask(server, logprobs=False)
    server.control(strict=True)
    assert ask(server) == whole
    assert caplog.text.count("refuses the field 'logprobs'") == 1
    with (
        OpenAIEngine.open(model(server)) as engine,
        pytest.raises(EngineError, match="needs a server that tells log-probabilities"),
    ):
        engine.trace(PROMPTS, 4)


# --- conversations ----------------------------------------------------------------------------


def chat(*messages):
    told = [{"role": role, "content": content} for role, content in messages]
    return Prompt(problem_id="c/0", kind="chat", text=json.dumps(told))


def test_conversations_are_sent_as_messages(server):
    plain = chat(("user", "hi"))
    begun = chat(("user", "hi"), ("assistant", "def f("))
    opened = chat(("user", "hi"), ("assistant", ""))
    for prompt in (plain, begun, opened):
        with OpenAIEngine.open(model(server)) as engine:
            assert engine.spelled(prompt) == prompt
            [sample] = engine.complete([prompt], GREEDY)
            assert sample.finish is Finish.EOS
            assert sample.n_completion_tokens == len(sample.completion) + 1
            [tokens] = engine.trace([prompt], 4)
            assert "".join(token.text for token in tokens) == sample.completion[:4]
    bodies = [r["body"] for r in server.seen() if r["body"].get("stream")]
    assert [b["messages"][-1]["role"] for b in bodies] == ["user", "assistant", "user"]
    assert [b.get("continue_final_message") for b in bodies] == [None, True, None]


def test_an_endpoint_that_does_not_go_on_with_messages(server):
    server.control(strict=True)
    with pytest.raises(EngineError, match="cannot go on with a message that is begun"):
        ask(server, [chat(("user", "hi"), ("assistant", "def f("))], logprobs=False)


def test_messages_that_are_none(server):
    for text in ("hello", "[]", '[{"role": "user"}]', '[{"role": "user", "content": ""}]'):
        with pytest.raises(DataError, match="has to be a JSON list of messages"):
            ask(server, [Prompt(problem_id="c/0", kind="chat", text=text)])
    assert server.seen() == []


def test_plain_prompts_to_a_chat_endpoint(server):
    assert len(ask(server, endpoint="chat")) == 6
    messages = [request["body"]["messages"] for request in server.seen()]
    assert sorted(m[0]["content"] for m in messages) == sorted(p.text for p in PROMPTS)


# --- tokens and likelihoods -------------------------------------------------------------------


def test_likelihoods_by_echo(server):
    prompts = [Prompt(problem_id="q", text="Is it?", answers=(" yes", " no"))]
    with OpenAIEngine.open(model(server)) as engine:
        assert list(engine.log_likelihoods(prompts)) == [{" yes": -1.0, " no": -0.75}]
        samples = {s.index: s for s in engine.complete(prompts, SAMPLED)}
    assert samples[0].likelihoods == {" yes": -1.0, " no": -0.75}
    assert all(samples[index].likelihoods is None for index in (1, 2, 3))


def test_likelihoods_of_a_chat_endpoint_are_none_and_said_once(server, caplog):
    prompts = [Prompt(problem_id=f"q{n}", text="Is it?", answers=(" yes",)) for n in range(3)]
    with caplog.at_level(logging.WARNING):
        found = ask(server, prompts, endpoint="chat")
    assert {sample.likelihoods for sample in found.values()} == {None}
    assert caplog.text.count("tell no likelihoods") == 1
    with (
        OpenAIEngine.open(model(server, endpoint="chat")) as engine,
        pytest.raises(EngineError, match="chat endpoints tell no likelihoods; use engine hf"),
    ):
        list(engine.log_likelihoods(prompts))


# --- where a completion ends ------------------------------------------------------------------

texts = st.text(st.sampled_from("ab\n#"), max_size=30)


@given(
    texts, st.lists(st.integers(0, 30), max_size=8), st.sets(st.sampled_from(["ab", "\n#", "#a"]))
)
def test_division_into_events_does_not_matter(text, cuts, stops):
    def finished(so_far):
        return so_far.count("b") >= 3

    whole = TextAnswer(tuple(stops), finished)
    for character in text:
        whole.push(character)
    divided = TextAnswer(tuple(stops), finished)
    places = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    for begin, end in pairwise(places):
        divided.push(text[begin:end])
    assert (divided.text, divided.ended) == (whole.text, whole.ended)


@given(st.lists(st.text(st.sampled_from("ab\n#"), min_size=1, max_size=4), max_size=12), st.data())
def test_told_tokens_end_a_completion_with_their_token(tokens, data):
    alone = TextAnswer(("b\n", "##"), None)
    for token in tokens:
        alone.push(token, [token])
    joined = TextAnswer(("b\n", "##"), None)
    rest = list(tokens)
    while rest:
        n = data.draw(st.integers(1, len(rest)))
        joined.push("".join(rest[:n]), rest[:n])
        rest = rest[n:]
    assert (joined.text, joined.ended, joined.n_tokens) == (alone.text, alone.ended, alone.n_tokens)
    n_pushed = next(
        (n for n in range(1, len(tokens) + 1)
         if any(stop in "".join(tokens[:n]) for stop in ("b\n", "##"))),
        len(tokens),
    )  # fmt: skip
    assert alone.text == "".join(tokens[:n_pushed])
