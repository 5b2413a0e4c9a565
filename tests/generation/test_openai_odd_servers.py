"""Engine openai against servers that know little of the protocol, or break it in odd ways."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.errors import ConfigError, EngineError
from astraios.generation import Model
from astraios.generation.engines._http import Failed, Tries, _retry_after_s
from astraios.generation.engines._protocol import Reply, drawn, echoed, likelihood
from astraios.generation.engines.openai import OpenAIEngine
from astraios.generation.keys import key
from astraios.records import Finish, Prompt, Sampling

from .server.raw import Raw, http, stream

pytest.importorskip("httpx2")

GREEDY = Sampling(n_samples=1, temperature=0, max_new_tokens=20)
SAMPLED = Sampling(n_samples=2, temperature=0.5, max_new_tokens=20)
PROMPTS = [Prompt(problem_id=f"t/{n}", text=f"def f{n}(x):") for n in range(3)]
NO_LIST = http({"detail": "Not Found"}, status=404)


def opened(url, **options):
    options = {"url": url, "n_tries": 1, "first_pause_s": 0, **options}
    load = lambda: pytest.fail("no weights are needed")  # noqa: E731
    return OpenAIEngine.open(Model(load=load, base_model="tiny", options=options))


def ask(answer, prompts=PROMPTS[:1], sampling=GREEDY, *, models=NO_LIST, **options):
    """Samples by key of a server that answers completions so, and the server."""

    def reply(path, body):
        if path == "/v1/models":
            return models
        return answer(body) if callable(answer) else answer

    with Raw(reply) as server, opened(server.url, **options) as engine:
        found = list(engine.complete(prompts, sampling))
    return {key(sample): sample for sample in found}, server


def one(answer, prompt=PROMPTS[0], **options):
    found, _ = ask(answer, [prompt], **options)
    [sample] = found.values()
    return sample


def choice(text, reason=None, **more):
    return {"choices": [{"index": 0, "text": text, "finish_reason": reason}], **more}


# --- servers that know little -----------------------------------------------------------------


@pytest.mark.parametrize(
    "models",
    [
        NO_LIST,
        http("<html>Unsupported method ('GET')", status=501, kind="text/html"),
        http({"data": []}),
        http({}),
        http({"data": [{"id": "tiny"}, {"id": "other"}]}),
    ],
    ids=count(),
)
def test_a_plain_answer_is_taken_whole_with_a_list_of_models_or_none(models):
    usage = {"prompt_tokens": 4, "completion_tokens": 3}
    found, server = ask(http(choice(" x\n", "stop", usage=usage)), models=models, n_tries=2)
    [sample] = found.values()
    assert (sample.completion, sample.finish) == (" x\n", Finish.EOS)
    assert (sample.n_prompt_tokens, sample.n_completion_tokens) == (4, 3)
    assert [path for path, _ in server.seen] == ["/v1/models", "/v1/completions"]
    assert server.seen[-1][1]["model"] == "tiny"


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "text/plain", None])
def test_a_plain_answer_is_cut_at_a_stop(kind):
    answer = http(choice(" x\ndef g():", "length"), kind=kind)
    stopped = PROMPTS[0].model_copy(update={"stops": ("\ndef",)})
    sample = one(answer, stopped)
    assert (sample.completion, sample.finish) == (" x\ndef", Finish.STOP)


def test_an_answer_without_a_reason_to_end_is_whole_if_it_came_to_its_end(caplog):
    for answer in (
        http({"choices": [{"text": " x"}]}),
        stream({"choices": [{"text": " "}]}, {"choices": [{"text": "x"}]}),
    ):
        assert (one(answer).completion, one(answer).finish) == (" x", Finish.EOS)
    assert "does not say why completions end" in caplog.text
    full = http({"choices": [{"text": " x"}], "usage": {"completion_tokens": 20}})
    assert one(full).finish is Finish.LENGTH
    assert "broke off" in one(stream(choice(" x"), done=False)).fault
    assert "broke off" in one(stream(choice(""))).fault


FIELDS = ("logprobs", "stream_options", "seed", "stream")


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (400, {"error": {"message": "Unrecognized request argument supplied: {}"}}),
        (400, {"error": "{} is not supported"}),
        (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "{}"], "input": 1}]}),
    ],
)
def test_fields_that_a_server_refuses_are_left_out_and_said_once(status, told, caplog):
    def answer(body):
        refused = [name for name in FIELDS[::-1] if name in body]
        if refused:
            text = str(told).replace("{}", refused[0]).replace("'", '"')
            return http(text, status=status)
        return http(choice(" x", "stop"))

    found, server = ask(answer, PROMPTS, SAMPLED, n_at_once=2)
    assert {sample.completion for sample in found.values()} == {" x"}
    assert len(found) == 6
    last = server.seen[-1][1]
    assert last.keys() == {"model", "prompt", "max_tokens", "temperature", "top_p"}
    for name in FIELDS:
        assert caplog.text.count(f"refuses the field '{name}'") == (name != "stream_options")


def test_newer_models_of_openai_want_another_name_for_max_tokens():
    def answer(body):
        if "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return http({"error": {"message": message}}, status=400)
        assert body["max_completion_tokens"] == 20
        return http(choice(" x", "stop"))

    assert one(answer).completion == " x"


def test_other_refusals_end_the_run_with_the_servers_words():
    bad = http({"error": {"message": "prompts have to be polite"}}, status=400)
    with pytest.raises(EngineError, match=r"'t/0'.*400: prompts have to be polite"):
        one(bad)
    moderated = http({"error": {"message": "no", "code": "content_filter"}}, status=400)
    assert one(moderated).fault == "the server refuses this prompt (400: no)"


def test_a_server_that_does_not_count_is_cut_at_max_tokens(caplog):
    def endless(body):
        yield stream(done=False)
        for _ in range(100_000):
            yield b'data: {"choices": [{"text": " x"}]}\n\n'

    sample = one(endless, logprobs=False)
    assert (sample.completion, sample.finish) == (" x" * 20, Finish.LENGTH)
    assert sample.n_completion_tokens == 20
    assert "goes on after max_tokens" in caplog.text


# --- streams ----------------------------------------------------------------------------------

USAGE = {"prompt_tokens": 4, "completion_tokens": 4}
EVENTS = (
    choice(" a"),
    choice("é\u2028"),
    choice("\U0001f600"),
    choice("", "stop"),
    {"choices": [], "usage": USAGE},
)
TEXT = " aé\u2028\U0001f600"


@pytest.mark.parametrize(
    "answer",
    [
        stream(*EVENTS, end="\n"),
        stream(*EVENTS, end="\r\n"),
        stream(*EVENTS, end="\r"),
        stream(*EVENTS, before="\ufeff"),
        stream(*EVENTS, before=": ping\n\n\nretry: 5\nevent: message\nid: 1\n"),
        stream(*EVENTS).replace(b'{"choices": [{', b'{"choices":\ndata:  [{'),
        stream(*EVENTS).replace(b"text/event", b"Text/Event").replace(b"stream\r", b"stream;x=y\r"),
        stream(*EVENTS[:-1], {"choices": None, "usage": USAGE}),
        stream(*EVENTS[:-1], {"usage": USAGE}),
        stream(*EVENTS[:-1], {"choices": [], "usage": USAGE, "error": None}),
        stream({"choices": None}, *EVENTS),
        stream(*EVENTS, done=False),
        stream(*EVENTS) + b"data: {broken",
        # the halves of a character outside the basic plane, in two events
        stream(choice(" aé\u2028\ud83d"), choice("\ude00"), *EVENTS[3:]),
    ],
    ids=count(),
)
def test_forms_of_a_stream(answer):
    sample = one(answer, logprobs=False)
    assert (sample.completion, sample.finish) == (TEXT, Finish.EOS)
    assert sample.n_completion_tokens == 4


def test_bytes_that_arrive_one_at_a_time():
    whole = stream(*EVENTS).decode()
    data = whole.replace("\\u00e9", "é").replace("\\ud83d\\ude00", "\U0001f600").encode()
    assert one(lambda _: (data[n : n + 1] for n in range(len(data)))).completion == TEXT


def test_a_long_line_is_read():
    assert len(one(http(choice("x" * 5_000_000, "stop"))).completion) == 5_000_000


def test_an_answer_that_breaks_off_anywhere_is_whole_or_a_fault():
    data = stream(*EVENTS)
    n_head = data.index(b"\r\n\r\n") + 4
    prompts = [Prompt(problem_id=str(n), text=str(n)) for n in range(n_head, len(data), 2)]
    # each try of a prompt ends at the byte that it names
    found, _ = ask(lambda body: data[: int(body["prompt"])], prompts, n_at_once=1000)
    ended = data.index(b'"stop"')
    for (place, _, _), sample in found.items():
        if int(place) < ended:
            assert sample.finish is Finish.FAULT
        elif sample.finish is not Finish.FAULT:
            assert (sample.completion, sample.finish) == (TEXT, Finish.EOS)
    assert sum(sample.finish is Finish.EOS for sample in found.values()) > 10
    for n in (0, 5, n_head // 2, n_head - 1):
        assert "broke off" in one(data[:n]).fault


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http({"error": {"message": "busy", "code": 503}}), "the server reported: busy"),
        (http("[" * 100_000), "malformed JSON"),
        (http(b'{"choices": [{"text": "\xff\xfe", "finish_reason": "stop"}]}'), "malformed JSON"),
        (http('{"choices": [{"text": " x"}], "usage": {"completion_tokens": 1e999}}'), "no compl"),
        (http("[1, 2]"), "no completion: [1, 2]"),
        (http({"choices": [choice("a")["choices"], 1]}), "no completion"),
        (http({"choices": [{"message": {"content": [{"text": "x"}]}}]}), "no completion"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "broke off"),
        (http("", status=408), "answered 408"),
        (http("", status=503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), "answered 503"),
        (http("", status=409, Retry_After="nonsense"), "answered 409"),
        (http("x" * 40, Content_Encoding="gzip"), "broke off"),
    ],
    ids=count(),
)
def test_what_is_no_answer_is_a_fault(answer, said):
    found, _ = ask(lambda b: answer if "f1(" in b["prompt"] else http(choice("x", "stop")), PROMPTS)
    assert said in found.pop(("t/1", 0, 0)).fault
    assert {sample.completion for sample in found.values()} == {"x"}


@pytest.mark.parametrize("status", [301, 302, 307, 413, 422])
def test_what_would_be_the_same_again_ends_the_run(status):
    answer = http("too\nlarge", status=status, Location="https://elsewhere/")
    with pytest.raises(EngineError, match=r"elsewhere|too large"):
        one(answer, n_tries=3)


def test_a_server_that_only_keeps_the_connection_alive_is_silent():
    def drip(body):
        yield stream(choice(" a"), done=False)
        for _ in range(100):
            time.sleep(0.05)
            yield b": wait\n\n"

    assert "no answer from" in one(drip, timeout_s=0.3).fault

    def slow(body):
        yield http("")
        for _ in range(100):
            time.sleep(0.05)
            yield b" "

    assert "within 0.3 s" in one(slow, timeout_s=0.3).fault


# --- what is told to nobody -------------------------------------------------------------------


def test_a_key_that_is_repeated_in_an_answer_is_struck_out(monkeypatch, caplog):
    monkeypatch.setenv("SOME_KEY", "s3cr3t")
    with caplog.at_level(logging.INFO):
        for answer in (
            http({"choices": [{"text": ["s3cr3t"]}]}),
            http(choice("x", "s3cr3t")),
            http("s3cr3t", status=500),
            http({"error": {"message": "x" * 297 + "s3cr3t"}}),
        ):
            sample = one(answer, api_key_variable="SOME_KEY")
            assert sample.finish is Finish.FAULT
            assert "s3c" not in sample.fault
        one(http(choice("x", "stop", model="s3cr3t")), api_key_variable="SOME_KEY")
        with pytest.raises(EngineError) as raised:
            one(http("", status=302, Location="/?s3cr3t"), api_key_variable="SOME_KEY")
    assert "s3c" not in caplog.text + str(raised.value)


@pytest.mark.parametrize("key", ["s3cr\nt", "s3cr\u00e9t", "s3cr\x00t"])
def test_a_key_that_no_header_can_hold(key, monkeypatch):
    monkeypatch.setattr("astraios.generation.engines._options.secret", lambda _: key)
    with pytest.raises(ConfigError, match="no header can hold") as raised:
        opened("http://127.0.0.1:1", api_key_variable="SOME_KEY")
    assert "s3cr" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://me:s3cr3t@host:99999999",
        "me:s3cr3t@host",
        "http://s3cr3t@host",
        "http://host/v1?key=s3cr3t",
    ],
)
def test_a_url_with_a_secret_in_it_is_refused_and_not_shown(url, caplog):
    with pytest.raises(ConfigError, match="api_key_variable") as raised:
        opened(url)
    assert "s3cr3t" not in str(raised.value) + caplog.text


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/some/where/v1/"])
def test_a_url_with_the_version_or_without(path):
    with Raw(lambda *_: http(choice("x", "stop"))) as server:
        with opened(server.url + path, model="tiny") as engine:
            [sample] = engine.complete(PROMPTS[:1], GREEDY)
        begin = "/some/where" if "some" in path else ""
        assert [path for path, _ in server.seen] == [
            f"{begin}/v1/models",
            f"{begin}/v1/completions",
        ]
    assert sample.completion == "x"


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert one(http(choice("x", "stop"))).completion == "x"


# --- many, and early ends ---------------------------------------------------------------------


def n_threads():
    return sum(thread.name == "requests" for thread in threading.enumerate())


def test_many_prompts_with_many_requests_at_once():
    prompts = [Prompt(problem_id=f"t/{n}", text=f"p{n}") for n in range(300)]
    found, server = ask(lambda b: http(choice(b["prompt"], "stop")), prompts, n_at_once=100)
    assert {s.problem_id[2:] for s in found.values()} == {s.completion[1:] for s in found.values()}
    assert len(server.seen) == 301
    assert n_threads() == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("how", ["close", "forget", "interrupt", "rule"])
def test_an_early_end_leaves_no_thread_and_no_connection(how):
    def endless(path, body):
        if path == "/v1/models":
            return [NO_LIST]
        if "f0(" in body["prompt"]:
            return [http(choice("x", "stop"))]
        return slow()

    def slow():
        yield stream(done=False)
        for _ in range(1000):
            time.sleep(0.01)
            yield b": wait\n\n"

    def interrupted(n_new):
        raise KeyboardInterrupt

    def broken(text):
        raise ZeroDivisionError

    with Raw(endless) as server, opened(server.url) as engine:
        if how == "interrupt":
            with pytest.raises(KeyboardInterrupt):
                list(engine.complete(PROMPTS, GREEDY, progress=interrupted))
        elif how == "rule":
            with pytest.raises(ZeroDivisionError):
                list(engine.complete(PROMPTS, GREEDY, finished=broken))
        else:
            answers = engine.complete(PROMPTS, GREEDY)
            assert next(answers).completion == "x"
            assert n_threads() == 1
            if how == "close":
                answers.close()
            del answers
        assert n_threads() == 0
        for _ in range(500):
            if server.n_open == 0:
                break
            time.sleep(0.01)
        assert server.n_open == 0


def test_prompts_in_any_characters():
    odd = Prompt.model_construct(
        **PROMPTS[0].model_dump() | {"problem_id": "é/\u2028", "text": "\ud800 é \U0001f600 \0"}
    )
    texts = []

    def answer(body):
        texts.append(body["prompt"])
        return http(choice("x", "stop"))

    found, _ = ask(answer, [odd, PROMPTS[0]])
    assert {sample.completion for sample in found.values()} == {"x"}
    assert odd.text in texts


# --- numbers that are none --------------------------------------------------------------------


@pytest.mark.parametrize("value", ["NaN", "null", "-Infinity", '"-1"'])
def test_likelihoods_that_are_no_numbers_are_an_error(value):
    def answer(body):
        tokens = ["Is", " it", "?"] + [" yes"] * body["prompt"].endswith("yes")
        values = ["null", "-1", "-1", value][: len(tokens)]
        told = '{"choices": [{"text": "", "logprobs": {"tokens": ["Is", " it", "?", " yes"], '
        told = told.replace('"Is", " it", "?", " yes"', ", ".join(f'"{t}"' for t in tokens))
        return http(f'{told}"token_logprobs": [{", ".join(values)}]}}}}]}}')

    def reply(path, body):
        return NO_LIST if path == "/v1/models" else answer(body)

    prompt = Prompt(problem_id="q", text="Is it?", answers=(" yes",))
    with (
        Raw(reply) as server,
        opened(server.url) as engine,
        pytest.raises(EngineError, match="for a log-probability of a token"),
    ):
        list(engine.log_likelihoods([prompt]))


def test_an_echo_with_a_value_missing_is_no_echo():
    with pytest.raises(Failed, match="no completion"):
        echoed({"choices": [{"logprobs": {"tokens": ["a", "b"], "token_logprobs": [None]}}]})


def test_a_trace_of_what_is_no_number_is_an_error():
    told = '{"choices": [{"logprobs": {"tokens": ["a"], "token_logprobs": [NaN]}}]}'
    with (
        Raw(lambda path, _: NO_LIST if path == "/v1/models" else http(told)) as server,
        opened(server.url) as engine,
        pytest.raises(EngineError, match="told nan for a log-probability"),
    ):
        engine.trace(PROMPTS[:1], 4)


# --- any JSON ---------------------------------------------------------------------------------

NAMES = ("choices", "index", "text", "delta", "message", "content", "finish_reason", "usage")
NAMES += ("prompt_tokens", "completion_tokens", "logprobs", "tokens", "token", "token_ids", "model")
NAMES += ("logprob", "token_logprobs", "top_logprobs")
SCALARS = st.none() | st.booleans() | st.integers(-1, 2) | st.floats() | st.sampled_from(["", "a"])
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
CHOICES = st.fixed_dictionaries(
    {"choices": st.lists(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5), max_size=2)}
)


@given(JSON | CHOICES)
def test_any_json_is_a_reply_or_a_failure(told):
    reply = Reply()
    with contextlib.suppress(Failed):
        assert isinstance(reply.read(told).text, str)
    with contextlib.suppress(Failed):
        assert reply.finish(9) in (Finish.EOS, Finish.LENGTH)
    with contextlib.suppress(Failed, EngineError):
        assert all(math.isfinite(one.log_probability) for one in drawn(told))
    with contextlib.suppress(Failed, EngineError):
        tokens, values = echoed(told)
        assert len(tokens) == len(values)
        assert likelihood(values) <= 0


@given(st.text(max_size=30) | st.floats().map(str))
def test_any_retry_after_is_seconds_or_nothing(value):
    seconds = _retry_after_s(value)
    assert seconds is None or seconds >= 0
    assert 0 <= Tries(5, 0.0, 2.0).pause_s(1, seconds) <= 2
