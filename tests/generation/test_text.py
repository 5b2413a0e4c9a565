"""Text of completions: equal to what the tokenizer says of prompt and completion together."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from astraios.generation.engines._text import Detokenizer

pytestmark = pytest.mark.train

PROMPTS = ("def f(x):", "Question: a\n\nAnswer:", "déjà", "x", " ")
many = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def decode(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def streamed(tokenizer, prompt_ids, ids):
    stream = Detokenizer(tokenizer).stream(prompt_ids)
    for token in ids:
        stream.push(token)
    return stream.close()


@many
@given(st.lists(st.integers(0, 319), max_size=40), st.sampled_from(PROMPTS))
def test_byte_level_text_is_what_the_tokenizer_decodes(tokenizer, ids, prompt):
    assert streamed(tokenizer, tokenizer(prompt)["input_ids"], ids) == decode(tokenizer, ids)


@many
@given(st.text(max_size=20), st.sampled_from(PROMPTS))
def test_spaced_text_is_what_is_added_to_the_prompt(spaced_tokenizer, text, prompt):
    prompt_ids = spaced_tokenizer(prompt)["input_ids"]
    ids = spaced_tokenizer(text.encode("utf-8", "ignore").decode())["input_ids"]
    before = decode(spaced_tokenizer, prompt_ids)
    after = decode(spaced_tokenizer, [*prompt_ids, *ids])
    assert streamed(spaced_tokenizer, prompt_ids, ids) == after[len(before) :]


@many
@given(st.lists(st.integers(0, 370), max_size=30))
def test_broken_bytes_do_not_break_the_characters_around_them(spaced_tokenizer, ids):
    good = spaced_tokenizer("é")["input_ids"]
    text = streamed(spaced_tokenizer, good, [*good, 2, *ids, *spaced_tokenizer("é x")["input_ids"]])
    assert text.startswith("é")
    assert text.endswith("é x")


class OnlyDecodes:
    """A tokenizer of which nothing is known but how it decodes."""

    def __init__(self, tokenizer):
        self.decode = tokenizer.decode
        self.all_special_ids = tokenizer.all_special_ids


@many
@given(st.text(max_size=20), st.sampled_from(PROMPTS))
def test_a_tokenizer_of_another_kind_gives_the_same_text(spaced_tokenizer, text, prompt):
    prompt_ids = spaced_tokenizer(prompt)["input_ids"]
    ids = spaced_tokenizer(text.encode("utf-8", "ignore").decode())["input_ids"]
    expected = streamed(spaced_tokenizer, prompt_ids, ids)
    assert streamed(OnlyDecodes(spaced_tokenizer), prompt_ids, ids) == expected


@many
@given(st.text(max_size=30))
def test_text_survives_a_round_trip(tokenizer, text):
    text = text.encode("utf-8", "ignore").decode()
    assert streamed(tokenizer, [], tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("name", ["tokenizer", "spaced_tokenizer"])
def test_a_leading_space_is_kept(name, request):
    made = request.getfixturevalue(name)
    prompt_ids, ids = made("return")["input_ids"], made(" x")["input_ids"]
    assert decode(made, [*prompt_ids, *ids]) == "return x"
    assert streamed(made, prompt_ids, ids) == " x"


@pytest.mark.parametrize("name", ["tokenizer", "spaced_tokenizer"])
def test_a_character_is_held_back_until_its_bytes_are_complete(name, request):
    made = request.getfixturevalue(name)
    ids = made("\N{SNOWMAN}")["input_ids"]
    assert len(ids) == 3
    stream = Detokenizer(made).stream(made("x")["input_ids"])
    assert [stream.push(token) for token in ids] == [False, False, True]
    assert stream.text == "\N{SNOWMAN}"


@pytest.mark.parametrize("name", ["tokenizer", "spaced_tokenizer"])
def test_an_incomplete_character_at_the_end_becomes_a_replacement_character(name, request):
    made = request.getfixturevalue(name)
    ids = made("a\N{SNOWMAN}")["input_ids"][:-1]
    assert streamed(made, made("x")["input_ids"], ids) == "a\ufffd"


def test_special_tokens_are_no_text(tokenizer):
    ids = [*tokenizer("a")["input_ids"], 1, *tokenizer("b")["input_ids"], 0]
    assert streamed(tokenizer, [], ids) == "ab"


def test_ids_beyond_the_vocabulary_are_no_text(tokenizer):
    ids = [*tokenizer("a")["input_ids"], 5_000]
    assert streamed(tokenizer, [], ids) == "a"


def test_added_tokens_are_themselves(tokenizer):
    import copy

    grown = copy.deepcopy(tokenizer)
    grown.add_tokens(["    \N{SNOWMAN}"])
    ids = grown("a    \N{SNOWMAN}b")["input_ids"]
    assert max(ids) >= len(tokenizer)
    assert streamed(grown, [], ids) == decode(grown, ids) == "a    \N{SNOWMAN}b"


def test_ids_may_have_gaps(tokenizer):
    import json

    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    highest = max(state["model"]["vocab"], key=state["model"]["vocab"].get)
    state["model"]["vocab"][highest] += 50
    gaps = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), eos_token="<|endoftext|>"
    )
    ids = [state["model"]["vocab"][highest]]
    assert streamed(gaps, gaps("x")["input_ids"], ids) == decode(gaps, ids) != ""
