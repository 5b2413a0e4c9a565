"""Prompt learning on left-padded rows: what PEFT and transformers get wrong together."""

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
from astraios import methods, registry  # noqa: E402
from astraios.errors import MethodError  # noqa: E402
from astraios.methods._padding import insert, leading, positions, take_out  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

Tiny = Callable[..., Any]
ARCHITECTURES = ("gpt_bigcode", "llama", "opt", "bloom", "mpt", "falcon", "gptj")
N_VIRTUAL = 5


def tuned_model(base: Any, kind: str = "ptuning") -> Any:
    settings = {"task_type": "CAUSAL_LM", "num_virtual_tokens": N_VIRTUAL}
    settings["num_attention_heads"] = 4  # PEFT does not find it in MPT's config
    torch.manual_seed(3)
    make = PromptEncoderConfig if kind == "ptuning" else PromptTuningConfig
    if kind == "ptuning":
        settings["encoder_hidden_size"] = 32
    return get_peft_model(base, make(**settings)).eval()


def test_virtual_tokens_go_between_padding_and_prompt() -> None:
    rows_BT = torch.tensor([[0, 0, 7, 8], [0, 4, 5, 6], [1, 2, 3, 4]])
    mask_BT = (rows_BT != 0).long()
    virtual_BV = torch.tensor([[91, 92]]).repeat(3, 1)
    found = insert(virtual_BV, rows_BT, leading(mask_BT))
    assert found.tolist() == [
        [0, 0, 91, 92, 7, 8],
        [0, 91, 92, 4, 5, 6],
        [91, 92, 1, 2, 3, 4],
    ]
    assert positions(torch.tensor([[0, 0, 1, 1, 1]])).tolist() == [[0, 0, 0, 1, 2]]


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=4),
    st.integers(1, 5),
)
def test_taking_out_undoes_inserting(leads: list[int], n_virtual: int) -> None:
    rows_BT = torch.arange(len(leads) * 6).reshape(len(leads), 6)
    virtual_BV = -1 - torch.arange(n_virtual).repeat(len(leads), 1)
    lead_B = torch.tensor(leads)
    both = insert(virtual_BV, rows_BT, lead_B)
    again = take_out(both, n_virtual, lead_B)
    assert torch.equal(again, torch.cat([virtual_BV, rows_BT], dim=1))


@pytest.mark.parametrize("kind", ["ptuning", "prompt_tuning"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padded_rows_equal_rows_alone(
    architecture: str, kind: str, tiny_model: Tiny, batch: Any
) -> None:
    ids_BT, mask_BT = batch
    model = tuned_model(tiny_model(architecture), kind)
    with torch.no_grad():
        padded = model(input_ids=ids_BT, attention_mask=mask_BT).logits
        assert padded.shape[1] == N_VIRTUAL + ids_BT.shape[1]
        for row, mask_T in enumerate(mask_BT):
            n = int(mask_T.sum())
            alone = model(input_ids=ids_BT[row : row + 1, -n:]).logits
            torch.testing.assert_close(padded[row, -n:], alone[0, -n:], rtol=0, atol=2e-5)
            virtual = slice(0, N_VIRTUAL)
            torch.testing.assert_close(padded[row, virtual], alone[0, virtual], rtol=0, atol=2e-5)


def test_padded_loss_is_the_unpadded_one(tiny_model: Tiny, batch: Any) -> None:
    ids_BT, mask_BT = (rows[:1] for rows in batch)
    model = tuned_model(tiny_model())
    n = int(mask_BT.sum())
    labels_BT = ids_BT.masked_fill(mask_BT == 0, -100)
    padded = model(input_ids=ids_BT, attention_mask=mask_BT, labels=labels_BT).loss
    alone = model(input_ids=ids_BT[:, -n:], labels=ids_BT[:, -n:]).loss
    torch.testing.assert_close(padded, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("architecture", ["gpt_bigcode", "llama", "bloom"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 2},
        {"use_cache": False},
        {"repetition_penalty": 1.3},
        {"num_beams": 2, "num_return_sequences": 2},
    ],
    ids=str,
)
def test_generation_of_padded_rows_equals_rows_alone(
    architecture: str, settings: dict[str, Any], tiny_model: Tiny, batch: Any
) -> None:
    ids_BT, mask_BT = batch
    model = tuned_model(tiny_model(architecture))
    how = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    how |= settings
    together = model.generate(input_ids=ids_BT, attention_mask=mask_BT, **how)
    n_each = settings.get("num_return_sequences", 1)
    for row, mask_T in enumerate(mask_BT):
        n = int(mask_T.sum())
        alone = model.generate(
            input_ids=ids_BT[row : row + 1, -n:], attention_mask=mask_T[None, -n:], **how
        )
        found = together[row * n_each : (row + 1) * n_each, -n - 5 :]
        if "repetition_penalty" in settings:  # there padding counts as said; compare new tokens
            found, alone = found[:, -5:], alone[:, -5:]
        assert found.tolist() == alone.tolist()


def test_disabled_prompt_is_the_base_model_in_both(tiny_model: Tiny, batch: Any) -> None:
    ids_BT, mask_BT = batch
    model, base = tuned_model(tiny_model()), tiny_model()
    how = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    before = model.generate(input_ids=ids_BT, attention_mask=mask_BT, **how)
    with model.disable_adapter(), torch.no_grad():
        assert torch.equal(model(input_ids=ids_BT).logits, base(input_ids=ids_BT).logits)
        expected = base.generate(input_ids=ids_BT, attention_mask=mask_BT, **how)
        assert torch.equal(
            model.generate(input_ids=ids_BT, attention_mask=mask_BT, **how), expected
        )
        method = registry.load(methods, "method", "ptuning")
        assert "input_ids" in method.inputs(model, ids_BT, mask_BT)
    assert torch.equal(model.generate(input_ids=ids_BT, attention_mask=mask_BT, **how), before)


def test_continuous_batching_is_refused(tiny_model: Tiny) -> None:
    with pytest.raises(MethodError, match="leaves out the virtual tokens"):
        tuned_model(tiny_model()).generate_batch([[1, 2]])


def test_tuples_are_given_where_asked(tiny_model: Tiny, batch: Any) -> None:
    model = tuned_model(tiny_model())
    out = model(input_ids=batch[0], attention_mask=batch[1], return_dict=False)
    assert isinstance(out, tuple)
    assert torch.equal(out[0], model(input_ids=batch[0], attention_mask=batch[1]).logits)
