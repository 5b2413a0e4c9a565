"""Virtual tokens in packed rows: every document fares as it does alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from peft import PromptEncoderConfig, PromptTuningConfig, get_peft_model  # noqa: E402

import astraios.peft  # noqa: E402, F401
from astraios.methods._packed_prompt import is_packed, spread  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

Tiny = Callable[..., Any]
ARCHITECTURES = ("gpt_bigcode", "llama", "starcoder2", "qwen2")
N_VIRTUAL = 3
ROWS = [[[5, 6, 7], [8, 9], [10, 11, 12, 13]], [[14, 15, 16, 17, 18, 19, 20], [21, 22]]]
"""Documents of two rows of nine tokens."""


def tuned_model(base: Any, kind: str) -> Any:
    settings = {"task_type": "CAUSAL_LM", "num_virtual_tokens": N_VIRTUAL}
    torch.manual_seed(3)
    if kind == "ptuning":
        return get_peft_model(base, PromptEncoderConfig(**settings, encoder_hidden_size=32))
    return get_peft_model(base, PromptTuningConfig(**settings))


def packed() -> tuple[Any, Any]:
    ids = [[token for document in row for token in document] for row in ROWS]
    positions = [[at for document in row for at in range(len(document))] for row in ROWS]
    return torch.tensor(ids), torch.tensor(positions)


def test_every_document_is_preceded_by_virtual_tokens() -> None:
    places = spread(torch.tensor([[0, 1, 2, 0, 1], [0, 1, 2, 3, 4]]), 2)
    u, v, a, b, c, d, e, nothing = range(8)
    assert places.source_BS.tolist() == [
        [u, v, a, b, c, u, v, d, e],
        [u, v, a, b, c, d, e, nothing, nothing],
    ]
    assert places.positions_BS.tolist() == [
        [0, 1, 2, 3, 4, 0, 1, 2, 3],
        [0, 1, 2, 3, 4, 5, 6, 0, 0],
    ]
    assert places.slot_BT.tolist() == [[2, 3, 4, 7, 8], [2, 3, 4, 5, 6]]


@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=5), min_size=1, max_size=4))
def test_every_token_keeps_its_document_and_its_place(rows: list[list[int]]) -> None:
    n_tokens = max(map(sum, rows))
    positions = torch.tensor(
        [
            [*(at for length in row for at in range(length)), *[99] * (n_tokens - sum(row))]
            for row in rows
        ]
    )
    places = spread(positions, N_VIRTUAL)
    at_B1 = torch.arange(len(rows))[:, None]
    source = places.source_BS[at_B1, places.slot_BT]
    assert torch.equal(source, N_VIRTUAL + torch.arange(n_tokens).expand(len(rows), -1))
    assert torch.equal(places.positions_BS[at_B1, places.slot_BT], positions + N_VIRTUAL)
    for row, source_S in zip(rows, places.source_BS, strict=True):
        assert int((source_S < N_VIRTUAL).sum()) == N_VIRTUAL * len(row)


def test_one_document_a_row_is_not_packed() -> None:
    assert not is_packed(None)
    assert not is_packed(torch.tensor([[0, 1, 2], [0, 1, 1]]))
    assert not is_packed(torch.tensor([[7, 8, 9]]))
    assert is_packed(torch.tensor([[0, 1, 2], [0, 1, 0]]))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["ptuning", "prompt_tuning"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_documents_of_a_packed_row_equal_documents_alone(
    architecture: str, kind: str, training: bool, tiny_model: Tiny
) -> None:
    model = tuned_model(tiny_model(architecture), kind).train(training)
    ids_BT, positions_BT = packed()
    together = model(input_ids=ids_BT, position_ids=positions_BT).logits
    assert together.shape[:2] == ids_BT.shape
    for row, documents in enumerate(ROWS):
        at = 0
        for document in documents:
            alone = model(input_ids=torch.tensor([document]), use_cache=False).logits[0, N_VIRTUAL:]
            torch.testing.assert_close(
                together[row, at : at + len(document)], alone, rtol=0, atol=2e-6
            )
            at += len(document)


@pytest.mark.parametrize("architecture", ["gpt_bigcode", "qwen2"])
def test_loss_and_gradients_of_a_packed_row_are_those_of_its_documents(
    architecture: str, tiny_model: Tiny
) -> None:
    model = tuned_model(tiny_model(architecture), "ptuning")
    ids_BT, positions_BT = packed()
    model(input_ids=ids_BT, position_ids=positions_BT, labels=ids_BT).loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    n_targets = sum(len(document) - 1 for row in ROWS for document in row)
    for row in ROWS:
        for document in row:
            ids = torch.tensor([document])
            labels = torch.tensor([[-100, *document[1:]]])
            loss = model(input_ids=ids, labels=labels, use_cache=False).loss
            (loss * (len(document) - 1) / n_targets).backward()
    alone = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == alone.keys() and found
    for name, gradient in alone.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6)


def test_the_head_is_left_as_it_was(tiny_model: Tiny) -> None:
    model = tuned_model(tiny_model("gpt_bigcode"), "ptuning")
    ids_BT, positions_BT = packed()
    model(input_ids=ids_BT, position_ids=positions_BT)
    assert not model.get_base_model().get_output_embeddings()._forward_pre_hooks
