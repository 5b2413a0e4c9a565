"""Documents to rows: the best fit, documents that are too long, isolation."""

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.data.packing import best_fit, documents_by_row, fitted, isolated, isolated_row
from astraios.data.tokens import IGNORED, Documents
from astraios.errors import DataError

LENGTH = 12
lengths_of = st.lists(st.integers(1, LENGTH), max_size=80)
long_ones = st.lists(st.integers(1, 5 * LENGTH), min_size=1, max_size=30)


def documents(lengths: list[int]) -> Documents:
    """Documents of these lengths, every token of them another one."""
    n = sum(lengths)
    names = [f"r{number}" for number in range(len(lengths))]
    return Documents(
        np.arange(n, dtype=np.int32), np.arange(n) % 3 > 0, np.array(lengths, np.int64), names
    )


def searched(lengths: list[int], block_length: int) -> list[set[int]]:
    """Best fit decreasing, looking at every row for each document."""
    rows: list[list[int]] = []
    for document in sorted(range(len(lengths)), key=lambda at: -lengths[at]):
        space = {at: block_length - sum(lengths[d] for d in row) for at, row in enumerate(rows)}
        fits = [at for at in space if space[at] >= lengths[document]]
        if fits:
            rows[min(fits, key=lambda at: space[at])].append(document)
        else:
            rows.append([document])
    return [set(row) for row in rows]


@given(lengths_of)
def test_every_document_goes_into_the_fullest_row_that_has_room(lengths: list[int]) -> None:
    made = best_fit(np.array(lengths, np.int64), LENGTH)
    found = [set(row.tolist()) for row in documents_by_row(made)] if lengths else []
    expected = searched(lengths, LENGTH)

    def fills(rows: list[set[int]]) -> list[list[int]]:  # equal documents may change places
        return sorted(sorted(lengths[document] for document in row) for row in rows)

    assert sum(len(row) for row in found) == len(lengths)
    assert set().union(*found) == set(range(len(lengths)))
    assert sorted(map(sum, fills(found))) == sorted(map(sum, fills(expected)))


@given(lengths_of)
def test_no_row_is_too_long_and_at_most_one_is_half_empty(lengths: list[int]) -> None:
    rows = best_fit(np.array(lengths, np.int64), LENGTH)
    held = np.bincount(rows, weights=lengths)
    assert (held <= LENGTH).all()
    assert (2 * held <= LENGTH).sum() <= 1


@given(lengths_of)
def test_rows_are_in_order_of_their_first_documents(lengths: list[int]) -> None:
    rows = best_fit(np.array(lengths, np.int64), LENGTH)
    firsts = [row[0] for row in documents_by_row(rows) if len(row)]
    assert firsts == sorted(firsts)
    assert all((np.diff(row) > 0).all() for row in documents_by_row(rows))


def test_the_example_of_the_docstring() -> None:
    assert best_fit(np.array([5, 3, 2, 6, 2]), 8).tolist() == [0, 0, 1, 1, 2]


@given(long_ones)
def test_split_keeps_every_token_in_pieces_that_fit(lengths: list[int]) -> None:
    given = documents(lengths)
    found = fitted(given, LENGTH, "split", "corpus")
    assert found.documents.ids.tolist() == given.ids.tolist()
    pieces = [piece for n in lengths for piece in [*[LENGTH] * (n // LENGTH), n % LENGTH] if piece]
    assert found.documents.lengths.tolist() == pieces
    assert found.n_split == sum(n > LENGTH for n in lengths)
    held = dict.fromkeys(given.names, 0)
    for name, n in zip(found.documents.names, pieces, strict=True):
        held[name] += n
    assert list(held.values()) == lengths


@given(long_ones)
def test_drop_leaves_whole_documents_and_names_the_others(lengths: list[int]) -> None:
    given = documents(lengths)
    found = fitted(given, LENGTH, "drop", "corpus")
    kept = [number for number, n in enumerate(lengths) if n <= LENGTH]
    starts = given.starts
    tokens = [t for k in kept for t in range(starts[k], starts[k] + lengths[k])]
    assert found.documents.ids.tolist() == tokens
    assert found.documents.in_loss.tolist() == given.in_loss[tokens].tolist()
    assert found.documents.names == [f"r{k}" for k in kept]
    assert found.dropped == tuple(f"r{k}" for k in range(len(lengths)) if k not in kept)


def test_error_names_the_record_its_tokens_and_the_ways_out() -> None:
    with pytest.raises(
        DataError,
        match=r"record 'r1' of corpus 'talks' has 13 tokens, more than block_length 12; "
        r"raise block_length, or set too_long to split or drop",
    ):
        fitted(documents([3, 13]), LENGTH, "error", "talks")


def test_positions_restart_and_the_first_token_of_a_document_is_not_learned() -> None:
    made = Documents(np.arange(5, 11, dtype=np.int32), np.ones(6, bool), np.array([3, 2, 1]), [])
    row = isolated_row(made.ids, isolated(made).in_loss, made.lengths)
    assert row.positions.tolist() == [0, 1, 2, 0, 1, 0]
    assert row.labels.tolist() == [IGNORED, 6, 7, IGNORED, 9, IGNORED]


# --- models -----------------------------------------------------------------------------------


def gpt_bigcode() -> Any:
    from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM

    return GPTBigCodeForCausalLM(
        GPTBigCodeConfig(
            vocab_size=400,
            n_positions=128,
            n_embd=16,
            n_layer=2,
            n_head=2,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )


SIZES = {
    "vocab_size": 400,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}


def qwen2() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**SIZES))


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SIZES))


def starcoder2() -> Any:
    from transformers import Starcoder2Config, Starcoder2ForCausalLM

    return Starcoder2ForCausalLM(
        Starcoder2Config(**SIZES, residual_dropout=0.0, embedding_dropout=0.0)
    )


@pytest.fixture(scope="module")
def row_of_three(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A packed row of three records as it is read from disk, and the ids of each."""
    pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")
    from astraios.data.blocks import Blocks
    from astraios.data.config import PackConfig
    from astraios.data.pack import encoder, pack

    from ._tokenizers import bpe, record, rows, write_corpus

    texts = ["a + b", "return the sum", "1 2 3 4 5"]
    folder = tmp_path_factory.mktemp("isolation")
    corpus = write_corpus(folder / "texts", rows(texts), rows(texts))
    config = PackConfig(corpus=str(corpus), tokenizer="small", block_length=100)
    pack(config, folder / "packed", tokenizer=bpe())
    (row,) = Blocks(folder / "packed", "train")
    made = encoder(config, bpe())
    alone = [made.encode([made.write(record(text))]).ids.tolist() for text in texts]
    assert row.ids.tolist() == [token for ids in alone for token in ids]
    return row, alone


@pytest.mark.parametrize("make", [gpt_bigcode, qwen2, llama, starcoder2])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_document_in_a_row_has_the_logits_it_has_alone(
    row_of_three: Any, make: Any, mode: Literal["train", "eval"]
) -> None:
    import torch

    row, documents = row_of_three
    torch.manual_seed(0)
    model = make().train(mode == "train")
    model.config.use_cache = False
    joined = model(
        input_ids=torch.tensor([row.ids.tolist()]),
        position_ids=torch.tensor([row.positions.tolist()]),
    ).logits[0]
    alone = torch.cat([model(input_ids=torch.tensor([ids])).logits[0] for ids in documents])
    assert torch.allclose(joined, alone, atol=1e-5)
    together = model(input_ids=torch.tensor([row.ids.tolist()])).logits[0]
    assert not torch.allclose(together, alone, atol=1e-3)  # without positions they are seen


def test_the_loss_of_a_row_is_that_of_its_documents(row_of_three: Any) -> None:
    import torch

    row, documents = row_of_three
    model = llama().eval()
    model.config.use_cache = False

    def total(ids: list[int], labels: list[int], positions: list[int]) -> tuple[float, int]:
        loss = model(
            input_ids=torch.tensor([ids]),
            labels=torch.tensor([labels]),
            position_ids=torch.tensor([positions]),
        ).loss
        n = sum(label != IGNORED for label in labels[1:])
        return float(loss.detach()) * n, n

    packed = total(row.ids.tolist(), row.labels.tolist(), row.positions.tolist())
    at, sums = 0, np.zeros(2)
    for ids in documents:
        labels = row.labels[at : at + len(ids)].tolist()
        sums += total(ids, labels, list(range(len(ids))))
        at += len(ids)
    assert packed == pytest.approx(tuple(sums), rel=1e-5)
