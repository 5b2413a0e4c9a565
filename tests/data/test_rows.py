"""Records to rows: masks, packing, order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.data.batches import bucketed
from astraios.data.packing import pack
from astraios.data.tokens import IGNORED, TokenizedRecord, row, tokenize
from astraios.errors import DataError
from astraios.records import InstructionRecord
from astraios.templates import TEMPLATES, template

texts = st.text(st.characters(codec="ascii"), max_size=20)


class Letters:
    """A tokenizer of one token a character."""

    eos_token_id = 0

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": [ord(letter) + 1 for letter in text]}


def document(*ids: int) -> TokenizedRecord:
    return TokenizedRecord(list(ids), [True] * len(ids))


@given(instruction=texts, opening=texts, response=texts, name=st.sampled_from(sorted(TEMPLATES)))
def test_training_ids_begin_with_the_ids_of_the_prompt(
    instruction: str, opening: str, response: str, name: str
) -> None:
    record = InstructionRecord(
        id="1", instruction=instruction, opening=opening, response=response, source="test"
    )
    prompt = template(name).prompt(instruction, opening)
    tokenized = tokenize(record, template(name), Letters(), "response")
    n = len(prompt)
    assert tokenized.ids_T[:n] == [ord(letter) + 1 for letter in prompt]
    assert tokenized.in_loss_T == [False] * n + [True] * (len(tokenized.ids_T) - n)
    assert tokenized.ids_T[-1] == Letters.eos_token_id


def test_loss_on_all_counts_the_prompt_too() -> None:
    record = InstructionRecord(id="1", instruction="ask", response="tell", source="test")
    assert all(tokenize(record, template("octocoder"), Letters(), "all").in_loss_T)


def test_labels_are_ids_where_they_count() -> None:
    made = row(TokenizedRecord([5, 6, 7], [False, True, True]), offset=4)
    assert made.labels == [IGNORED, 6, 7]
    assert made.positions == [4, 5, 6]


def test_packing_fills_rows_with_whole_documents() -> None:
    rows = list(pack([document(5, 5, 5), document(6, 6), document(7)], 5))
    assert [r.ids for r in rows] == [[5, 5, 5, 6, 6], [7]]
    assert [r.positions for r in rows] == [[0, 1, 2, 0, 1], [0]]


def test_a_document_longer_than_a_row_is_refused_by_number() -> None:
    with pytest.raises(DataError, match=r"record 1 has 3 tokens, more than block_length 2"):
        list(pack([document(1), document(1, 2, 3)], 2))


@given(st.lists(st.integers(1, 9), max_size=60), st.integers(9, 20))
def test_packing_keeps_every_token_in_order(lengths: list[int], length: int) -> None:
    documents = [document(*range(n)) for n in lengths]
    rows = list(pack(documents, length))
    assert [t for r in rows for t in r.ids] == [t for d in documents for t in d.ids_T]
    assert all(len(r.ids) <= length for r in rows)


@given(st.lists(st.integers(1, 99), max_size=200), st.integers(1, 9), st.integers(0, 5))
def test_batches_are_whole_and_use_no_row_twice(lengths: list[int], size: int, seed: int) -> None:
    batches = bucketed(lengths, size, seed)
    used = [at for batch in batches for at in batch]
    assert all(len(batch) == size for batch in batches)
    assert len(used) == len(set(used)) == len(lengths) - len(lengths) % size
    assert batches == bucketed(lengths, size, seed)
