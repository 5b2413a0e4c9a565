"""Records to ids and a loss mask."""

from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("transformers", reason="needs transformers: pip install 'astraios[train]'")

from astraios.data.tokens import BATCH, Encoder, templated
from astraios.errors import DataError
from astraios.templates import TEMPLATES, template

from ._tokenizers import TEXTS, Letters, bpe, record

texts = st.text(st.sampled_from("ab 12\n\t'.é🌳Ġ"), max_size=12) | st.sampled_from(TEXTS)
names = st.sampled_from(sorted(TEMPLATES))
TOKENIZERS = {
    "plain": bpe(),
    "begins": bpe("<s> $A"),
    "ends": bpe("<s> $A <|endoftext|>"),
}
tokenizers = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())
END = 0


def encoder(
    tokenizer: Any,
    name: str = "octocoder",
    loss_on: Literal["all", "response"] = "response",
    boundary: Literal["joint", "apart"] = "joint",
) -> Encoder:
    return Encoder(tokenizer, lambda r: templated(r, template(name)), loss_on, boundary)


def encoded(made: Encoder, *records: Any) -> Any:
    return made.encode([made.write(r) for r in records])


def asked(tokenizer: Any, prompt: str) -> list[int]:
    """Ids of a prompt as the engine of evaluation makes them."""
    ids: list[int] = tokenizer([prompt])["input_ids"][0]
    if len(ids) > 1 and ids[-1] == END and not prompt.endswith(tokenizer.eos_token):
        ids = ids[:-1]
    return ids


@tokenizers
@given(instruction=texts, opening=texts, response=texts, name=names)
def test_apart_the_prompt_has_the_ids_it_is_asked_with(
    tokenizer: Any, instruction: str, opening: str, response: str, name: str
) -> None:
    made = encoded(
        encoder(tokenizer, name, boundary="apart"), record(response, instruction, opening)
    )
    prompt = asked(tokenizer, template(name).prompt(instruction, opening))
    n = len(prompt)
    assert made.ids[:n].tolist() == prompt
    assert made.in_loss.tolist() == [False] * n + [True] * (len(made.ids) - n)
    assert made.ids[-1] == END


@tokenizers
@given(instruction=texts, opening=texts, response=texts, name=names)
@example(instruction="ask", opening="é", response="é", name="continue")
def test_joint_the_text_is_tokenized_once_and_tokens_of_the_response_count(
    tokenizer: Any, instruction: str, opening: str, response: str, name: str
) -> None:
    given = record(response, instruction, opening)
    made = encoded(encoder(tokenizer, name), given)
    prompt, answer = template(name).training_text(given)
    assert made.ids.tolist() == [*asked(tokenizer, prompt + answer), END]
    skip = len(asked(tokenizer, ""))  # special tokens at the beginning
    begin = made.in_loss.tolist().index(True)
    assert made.in_loss[begin:].all()
    before = b"".join(piece(tokenizer, token) for token in made.ids[skip:begin])
    after = b"".join(piece(tokenizer, token) for token in made.ids[begin:-1])
    assert before + after == (prompt + answer).encode()
    assert after.endswith(answer.encode())
    assert made.n_straddling == (after != answer.encode())
    if made.n_straddling:  # and no token less would hold the whole answer
        first = piece(tokenizer, made.ids[begin])
        assert len(after) - len(first) < len(answer.encode())


def piece(tokenizer: Any, token: int) -> bytes:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    alphabet = {character: byte for byte, character in bytes_to_unicode().items()}
    return bytes(alphabet[character] for character in tokenizer.convert_ids_to_tokens(int(token)))


@given(opening=texts, response=texts)
@example(opening="x:", response=" \n y")
def test_places_without_white_space_lead_to_the_same_tokens(opening: str, response: str) -> None:
    given = record(response, "", opening)
    whole = encoded(encoder(bpe(trim_offsets=False), "continue"), given)
    trimmed = encoded(encoder(bpe(trim_offsets=True), "continue"), given)
    assert trimmed.ids.tolist() == whole.ids.tolist()
    assert trimmed.in_loss.tolist() == whole.in_loss.tolist()
    assert trimmed.n_straddling == whole.n_straddling


def merging(*merges: tuple[str, str], post_processor: Any = None) -> Any:
    """A tokenizer of letters, `:`, newline and what `merges` make of them, with no borders."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = ["<end>", "a", "b", "c", ":", "Ċ", *("".join(merge) for merge in merges)]
    vocabulary = {word: number for number, word in enumerate(words)}
    from tokenizers import pre_tokenizers

    made = Tokenizer(models.BPE(vocabulary, list(merges)))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    if post_processor:
        made.post_processor = post_processor
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")


def test_a_token_of_both_sides_counts_and_is_counted() -> None:
    made = encoded(encoder(merging(("a", "b")), "continue"), record("bc", opening="ca"))
    assert made.ids.tolist() == [3, 6, 3, END]
    assert made.in_loss.tolist() == [False, True, True, True]
    assert made.n_straddling == 1


@pytest.mark.parametrize("trim", [True, False])
def test_white_space_of_the_answer_in_a_token_of_the_prompt_is_seen(trim: bool) -> None:
    from tokenizers import processors

    tokenizer = merging((":", "Ċ"), post_processor=processors.ByteLevel(trim_offsets=trim))
    made = encoded(encoder(tokenizer, "continue"), record("\na", opening="a:"))
    assert made.ids.tolist() == [1, 6, 1, END]
    assert made.in_loss.tolist() == [False, True, True, True]
    assert made.n_straddling == 1


@pytest.mark.parametrize("boundary", ["joint", "apart"])
def test_loss_on_all_counts_every_token(boundary: Literal["joint", "apart"]) -> None:
    made = encoded(encoder(Letters(), loss_on="all", boundary=boundary), record("tell"))
    assert made.in_loss.all()


def test_a_tokenizer_that_tells_no_places_is_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"Letters does not tell.*set boundary to apart"):
        encoded(encoder(Letters()), record("tell"))


def test_many_texts_are_what_each_is_alone() -> None:
    made = encoder(TOKENIZERS["begins"])
    records = [record(f"answer {number}\n", f"ask {number % 7}") for number in range(BATCH + 5)]
    together, alone = encoded(made, *records), [encoded(made, one) for one in records]
    assert together.ids.tolist() == [token for one in alone for token in one.ids]
    assert together.in_loss.tolist() == [flag for one in alone for flag in one.in_loss]
    assert together.lengths.tolist() == [len(one.ids) for one in alone]


def test_an_end_in_the_text_itself_is_not_the_end() -> None:
    made = encoded(encoder(TOKENIZERS["plain"]), record("stop <|endoftext|>"))
    assert made.ids[-2:].tolist() == [END, END]


def test_the_embedded_tokenizer_puts_a_border_where_the_answer_begins() -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")
    from itertools import islice

    from astraios.data.sources import find_corpus
    from astraios.minipack.documents import pretraining_documents
    from astraios.training.pretrain import make_tokenizer

    tokenizer = make_tokenizer(islice(pretraining_documents(0, 0.2), 500), 768)
    records = list(islice(find_corpus("minipack").records("train", 0, None), 300))
    joint = encoded(encoder(tokenizer), *records)
    apart = encoded(encoder(tokenizer, boundary="apart"), *records)
    assert joint.n_straddling == 0
    assert joint.ids.tolist() == apart.ids.tolist()
    assert joint.in_loss.tolist() == apart.in_loss.tolist()
