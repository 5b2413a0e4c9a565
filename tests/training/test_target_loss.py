"""The loss from targets alone: that of the plain way, with its gradients, in less memory."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

import torch
from peft import CPTConfig, LoraConfig, get_peft_model
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTBigCodeConfig,
    GPTBigCodeForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
)

from astraios import methods
from astraios.data import Row
from astraios.files import read_records
from astraios.records import RunKind, Step
from astraios.runs import Run
from astraios.training import _loss, _trainer
from astraios.training._loss import Probe, TargetLoss, chunk_rows, probe
from astraios.training.batches import Collator, documents, parts
from astraios.training.config import Optimization
from astraios.training.fit import fit

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")

VOCABULARY = 300
LLAMA: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "use_cache": False,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
ARCHITECTURES = {
    "llama": (LlamaForCausalLM, LlamaConfig),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config),
    "starcoder2": (Starcoder2ForCausalLM, Starcoder2Config),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config),
    "granite": (GraniteForCausalLM, GraniteConfig),
}


def model(name: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    if name == "gpt_bigcode":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": VOCABULARY}
        drops = dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), 0.0)
        config = GPTBigCodeConfig(**sizes, **drops, n_positions=64, use_cache=False, **changes)
        return GPTBigCodeForCausalLM(config)
    of, config_of = ARCHITECTURES[name]
    return of(config_of(**{**LLAMA, **changes}))


def batch() -> dict[str, torch.Tensor]:
    """Three rows of a prompt and an answer; nothing of the last counts."""
    ids = torch.randint(1, VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[0, :7] = labels[1, 12:] = labels[2] = -100
    return {"input_ids": ids, "labels": labels}


def both(tuned: Any, **more: Any) -> tuple[Any, Any, Any, Any]:
    """The loss and all gradients of the plain way and of ours."""
    found: list[Any] = []
    for way in (nullcontext(), TargetLoss(tuned)):
        tuned.zero_grad(set_to_none=True)
        with way:
            loss = tuned(**batch(), **more).loss
        loss.backward()
        grads = {n: p.grad for n, p in tuned.named_parameters() if p.grad is not None}
        found += [loss.detach(), grads]
    return tuple(found)  # type: ignore[return-value]


def equal(tuned: Any, rtol: float = 1e-5, atol: float = 1e-6, **more: Any) -> None:
    plain, expected, ours, found = both(tuned, **more)
    torch.testing.assert_close(ours, plain, rtol=rtol, atol=atol)
    assert found.keys() == expected.keys() and found
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=10 * rtol, atol=atol)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 positions have targets and so many fit in a chunk: here it is fewer."""
    monkeypatch.setattr(_loss, "chunk_rows", lambda n_logits, device: 5)


# --- the same as the plain way ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt_bigcode", "llama", "qwen2", "starcoder2"])
@pytest.mark.parametrize("tied", [True, False])
def test_loss_and_gradients_are_those_of_all_logits(name: str, tied: bool) -> None:
    full = model(name, tie_word_embeddings=tied)
    equal(full)
    equal(full, num_items_in_batch=torch.tensor(57))


@pytest.mark.parametrize("method", ["lora", "adapterh", "parallel", "ia3", "ptuning", "prefix"])
@pytest.mark.parametrize("name", ["gpt_bigcode", "llama"])
def test_it_is_the_same_for_tuned_models(method: str, name: str) -> None:
    options = {"lora_dropout": 0.0} if method == "lora" else {}
    tuned: Any = methods.method(method).apply(model(name), options)
    with torch.no_grad():  # new weights are zeros where a method starts from its base
        for weight in checked(tuned):
            weight.add_(torch.randn_like(weight), alpha=0.02)
    equal(tuned)


def checked(tuned: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in tuned.parameters() if weight.requires_grad]


@pytest.mark.parametrize("bias", [True, False])
def test_a_bias_of_the_head_is_trained_too(bias: bool) -> None:
    full = model("llama", tie_word_embeddings=False)
    full.lm_head = nn.Linear(32, VOCABULARY, bias=bias)
    equal(full)


@pytest.mark.parametrize("kind", ["lora", "modules_to_save"])
def test_a_tuned_head_is_used_as_it_is(kind: str) -> None:
    where = (
        {"target_modules": ["q_proj", "lm_head"], "init_lora_weights": False}
        if kind == "lora"
        else {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    )
    config = LoraConfig(r=4, task_type="CAUSAL_LM", **where)
    tuned = get_peft_model(model("llama", tie_word_embeddings=False), config)
    assert any("lm_head" in name for name, p in tuned.named_parameters() if p.requires_grad)
    equal(tuned)


def test_autocast_rounds_as_the_plain_way_does() -> None:
    full = model("llama")
    with torch.autocast("cpu", torch.bfloat16):
        equal(full, rtol=1e-2, atol=2e-3)


def test_bf16_weights_are_trained_as_in_the_plain_way() -> None:
    equal(model("gpt_bigcode").to(torch.bfloat16), rtol=2e-2, atol=4e-3)


def test_rows_without_targets_give_a_loss_of_nothing() -> None:
    full, nothing = model("llama"), batch()
    nothing["labels"][:] = -100
    with TargetLoss(full):
        loss = full(**nothing).loss
    loss.backward()
    assert loss == 0
    assert all(not p.grad.any() for p in full.parameters() if p.grad is not None)


def test_packed_rows_of_virtual_tokens_have_the_same_loss() -> None:
    tuned: Any = methods.method("ptuning").apply(model("llama"), {"num_virtual_tokens": 4})
    positions = torch.cat([torch.arange(9), torch.arange(11)]).expand(3, -1)
    equal(tuned, position_ids=positions)


def test_the_model_is_left_as_it_was() -> None:
    full = model("llama")
    expected = full(**batch())
    with TargetLoss(full):
        assert torch.equal(full(input_ids=batch()["input_ids"]).logits, expected.logits)
    again = full(**batch())
    assert torch.equal(again.loss, expected.loss) and torch.equal(again.logits, expected.logits)
    assert "forward" not in full.lm_head.__dict__ and "forward" not in full.__dict__


# --- models that need all logits ----------------------------------------------------------------


def test_logits_that_are_changed_behind_the_head_are_seen() -> None:
    capped = probe(model("gemma2", final_logit_softcapping=30.0, head_dim=8))
    assert capped.loss is None and "behind the head" in capped.why_not
    scaled = probe(model("granite", logits_scaling=8.0))
    assert scaled.loss is None and "behind the head" in scaled.why_not
    assert not capped.adds


def test_a_method_with_a_loss_of_its_own_is_seen() -> None:
    config = CPTConfig(
        task_type="CAUSAL_LM",
        cpt_token_ids=[1, 2, 3],
        cpt_mask=[1, 1, 1],
        cpt_tokens_type_mask=[1, 2, 3],
    )
    assert probe(get_peft_model(model("llama"), config)).loss is None


def test_a_penalty_is_seen_and_stays_in_the_loss() -> None:
    options = {"init_r": 4, "target_r": 2, "tinit": 1, "tfinal": 1, "total_step": 10}
    tuned: Any = methods.method("adalora").apply(model("llama"), options)
    found = probe(tuned)
    assert found.adds and found.loss is not None
    assert not probe(model("llama")).adds
    plain, _, ours, _ = both(tuned)
    torch.testing.assert_close(ours, plain)


def test_the_probe_draws_nothing_random_and_keeps_the_mode() -> None:
    tuned = methods.method("lora").apply(model("llama"))
    for training in (True, False):
        tuned.train(training)
        before = torch.get_rng_state()
        probe(tuned)
        assert torch.equal(torch.get_rng_state(), before)
        assert all(module.training is training for module in tuned.modules())


# --- memory -------------------------------------------------------------------------------------


def kept(way: Any, full: Any) -> int:
    """Bytes the forward pass keeps for the backward pass beside the parameters."""
    own = {weight.untyped_storage().data_ptr() for weight in full.parameters()}
    found: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), way:
        full(**batch())
    return sum(found.values())


def test_no_logits_are_kept_for_the_backward_pass() -> None:
    wide = model("llama", vocab_size=20_000).requires_grad_(False)
    wide.get_input_embeddings().weight.requires_grad_(True)
    wide.model.norm.weight.requires_grad_(True)
    logits = 3 * 20 * 20_000 * 4
    assert kept(nullcontext(), wide) > logits
    weight_gradient = wide.lm_head.weight.numel() * 4 if wide.lm_head.weight.requires_grad else 0
    assert kept(TargetLoss(wide), wide) - weight_gradient < 0.1 * logits


class Seen(torch.utils._python_dispatch.TorchDispatchMode):
    """The largest tensor that any operation makes."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.largest = max(self.largest, out.numel())
        return out


@pytest.mark.parametrize("tuned_head", [True, False])
def test_never_more_logits_than_a_chunk_exist(tuned_head: bool) -> None:
    wide = model("llama", vocab_size=20_000, tie_word_embeddings=False)
    targets = ["q_proj", "lm_head"] if tuned_head else ["q_proj"]
    tuned = get_peft_model(wide, LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM"))
    with Seen() as seen, TargetLoss(tuned):
        tuned(**batch()).loss.backward()
    assert 0 < seen.largest <= max(5 * 20_000, 32 * 20_000)  # the head's own weight
    with Seen() as seen:
        tuned(**batch()).loss.backward()
    assert seen.largest >= 3 * 20 * 20_000


def test_chunks_hold_fewer_positions_where_there_are_more_logits() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert chunk_rows(768, cpu) * 768 <= _loss.ELEMENTS
    assert chunk_rows(49_152, gpu) * 49_152 <= _loss.ELEMENTS_GPU
    assert chunk_rows(10**7, cpu) == 32


# --- documents computed apart -------------------------------------------------------------------


def packed() -> list[Row]:
    found = []
    for lengths in ((5, 3, 9), (16,), (2, 2, 2, 7)):
        n = sum(lengths)
        ids = [(at * 37 + n) % (VOCABULARY - 1) + 1 for at in range(n)]
        positions = [at for length in lengths for at in range(length)]
        labels = [-100 if at % 3 == 1 else token for at, token in enumerate(ids)]
        found.append(Row(ids, labels, positions))
    return found


@pytest.mark.parametrize("at_once", [8, 20, 64, None])
def test_documents_apart_give_the_loss_of_their_packed_rows(at_once: int | None) -> None:
    full, rows = model("gpt_bigcode"), packed()
    together = Collator(0)(rows)
    together["labels"][together["position_ids"] == 0] = -100
    n = int((together["labels"] != -100).sum())
    full(**together, num_items_in_batch=n).loss.backward()
    expected = {name: p.grad.clone() for name, p in full.named_parameters()}
    full.zero_grad()

    collator = Collator(0)
    collator.apart, collator.at_once = True, at_once
    made = collator(rows)
    assert int((made["labels"][1:] != -100).sum()) == n
    assert made["n_tokens"] == sum(len(row.ids) for row in rows)
    with TargetLoss(full):
        for part in made["parts"]:
            full(**part, num_items_in_batch=n).loss.backward()
    for name, parameter in full.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", ["token-mean", "mean-of-means"])
@pytest.mark.parametrize("method", ["lora", "fft"])
def test_training_has_the_losses_of_the_plain_way(
    method: str, loss: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Optimization(
        n_steps=4, batch_size=6, rows_per_device=3, loss=loss, learning_rate=1e-2, log_every=1
    )
    rows = packed() * 8
    for row in rows:  # as the packer leaves them
        found = zip(row.positions, row.labels, strict=True)
        row.labels[:] = [-100 if at == 0 else label for at, label in found]

    def losses(name: str) -> list[float]:
        options = {"lora_dropout": 0.0} if method == "lora" else {}
        tuned: Any = methods.method(method).apply(model("gpt_bigcode"), options)
        with Run.open(tmp_path / name, kind=RunKind.TRAIN, config=plan) as run:
            fit(tuned, rows, plan, run)
        steps = read_records(tmp_path / name / "metrics.jsonl", Step)
        return [step.loss for step in steps if step.loss is not None]

    monkeypatch.setattr(_trainer, "AT_ONCE", 20)
    ours = losses("ours")
    monkeypatch.setattr(_trainer, "arrange", lambda *_: Probe(None, "", adds=False))
    monkeypatch.setattr(_trainer, "fused_lora", nullcontext)
    assert ours == pytest.approx(losses("plain"), abs=1e-5)
    assert ours[-1] < ours[0]


def test_parts_hold_every_document_once_and_no_more_tokens_than_asked() -> None:
    rows = [document for row in packed() for document in documents(row)]
    for at_once in (16, 20, 33, 100):
        made = parts(rows, at_once)
        assert sorted(r.ids for part in made for r in part) == sorted(r.ids for r in rows)
        assert all(len(part) * max(len(r.ids) for r in part) <= at_once for part in made)
    assert [len(part) for part in parts(rows[:1], 2)] == [1]


def test_padding_of_a_shorter_row_does_not_look_like_a_document() -> None:
    rows = [Row([1] * 6, [1] * 6, list(range(10, 16))), Row([2] * 3, [2] * 3, list(range(10, 13)))]
    inputs = Collator(0)(rows)
    assert inputs["position_ids"].tolist() == [list(range(10, 16))] * 2
    assert "position_ids" not in Collator(0)([Row([1, 2], [1, 2], [0, 1]), Row([1], [1], [0])])
