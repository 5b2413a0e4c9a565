"""What every registered method keeps, on a tiny model of the StarCoder architecture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from astraios import methods, registry  # noqa: E402
from astraios.errors import MethodError  # noqa: E402
from astraios.methods import Method, Shape  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

Tiny = Callable[..., Any]
NAMES = tuple(name for name in registry.names(methods) if name != "qlora")  # test_qlora.py
# Settings that every method can be tried with: small, and not the identity at the start.
PLAIN = {"lora_dropout": 0.0, "init_lora_weights": False}
SMALL: dict[str, dict[str, Any]] = {
    "lora": PLAIN,
    "dora": PLAIN,
    "rslora": {**PLAIN, "r": 8},
    "pissa": {"r": 8, "lora_alpha": 8},
    "adalora": {"init_r": 4, "target_r": 2, "total_step": 20, "init_lora_weights": False},
    "vera": {"r": 8, "init_weights": False},
    "oft": {"oft_block_size": 8, "init_weights": False},
    "ia3": {"init_ia3_weights": False},
    **{name: {"bottleneck_size": 8} for name in ("adapterh", "adapterp", "parallel")},
}
# A rate at which 20 steps show on a model this small.
RATE = {
    "bitfit": 1e-1,
    "fft": 1e-2,
    "ia3": 1e-1,
    "lntuning": 1e-1,
    "prefix": 3e-1,
    "prompt": 3e-1,
    "ptuning": 3e-2,
    "vera": 1e-1,
}
BASE_ITSELF = ("bitfit", "fft")
"""Methods that train weights of the base and add none."""


def options(name: str) -> dict[str, Any]:
    return dict(SMALL.get(name, {}))


@pytest.fixture(params=NAMES)
def method(request: pytest.FixtureRequest) -> Method:
    found: Method = registry.load(methods, "method", request.param)
    return found


@pytest.fixture
def tuned(method: Method, model: Any) -> Any:
    torch.manual_seed(1)
    return method.apply(model, options(method.name)).eval()


def trainable(model: Any) -> dict[str, Any]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def logits(model: Any, ids_BT: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=ids_BT).logits[:, -ids_BT.shape[1] :]


def test_name_is_the_files_name(method: Method) -> None:
    assert method.name in NAMES
    assert registry.load(methods, "method", method.name) is method


def test_says_what_it_is(method: Method) -> None:
    assert method.title
    assert "arXiv:" in method.paper
    module = __import__(f"astraios.methods.{method.name}", fromlist=["method"])
    assert "arXiv:" in module.__doc__
    assert "Parameters" in module.__doc__


def test_trainable_count_is_the_formulas(method: Method, tuned: Any, tiny_config: Tiny) -> None:
    shape = Shape.from_config(tiny_config())
    counted = sum(weight.numel() for weight in trainable(tuned).values())
    assert counted == method.n_trainable(shape, options(method.name))


@pytest.mark.parametrize("architecture", ["llama", "starcoder2", "opt", "gpt_neox", "qwen3"])
def test_formula_holds_on_other_architectures(
    method: Method, architecture: str, tiny_model: Tiny
) -> None:
    base = tiny_model(architecture)
    shape = Shape.from_model(base)
    if method.name == "bitfit" and not shape.biases:
        with pytest.raises(MethodError, match="has none; take 'lntuning'"):
            method.apply(base)
        return
    tuned = method.apply(base, options(method.name))
    counted = sum(weight.numel() for weight in trainable(tuned).values())
    assert counted == method.n_trainable(shape, options(method.name))


def test_base_weights_are_frozen_and_unchanged(
    method: Method, tiny_model: Tiny, batch: Any
) -> None:
    if method.name in BASE_ITSELF:
        pytest.skip("trains the base")
    if method.name == "pissa":
        pytest.skip("takes the directions that it trains out of the base; see test_presets.py")
    base = tiny_model()
    before = {weight.data_ptr(): weight.clone() for weight in base.parameters()}
    train(method, method.apply(base, options(method.name)), batch[0])
    for weight in base.parameters():
        if weight.data_ptr() in before:
            assert not weight.requires_grad
            assert torch.equal(weight, before[weight.data_ptr()])


def test_gradient_reaches_every_new_weight(tuned: Any, batch: Any) -> None:
    tuned(input_ids=batch[0], labels=batch[0]).loss.backward()
    for name, weight in trainable(tuned).items():
        # Positions beyond the batch and tokens outside of it have no part in the loss.
        assert weight.grad is not None, name
        assert weight.grad.any(), name


def test_twenty_steps_lower_the_loss(method: Method, tuned: Any, batch: Any) -> None:
    losses = train(method, tuned, batch[0])
    assert losses[-1] < losses[0] - 0.05


def test_saved_and_loaded_gives_equal_logits(
    method: Method, tuned: Any, tiny_model: Tiny, batch: Any, tmp_path: Path
) -> None:
    train(method, tuned, batch[0])
    method.save(tuned.eval(), tmp_path / "adapter")
    loaded = method.load(tiny_model(), tmp_path / "adapter")
    torch.testing.assert_close(logits(loaded, batch[0]), logits(tuned, batch[0]), rtol=0, atol=1e-6)
    assert not trainable(loaded)


def test_loaded_for_training_goes_on_as_if_never_saved(
    method: Method, tuned: Any, tiny_model: Tiny, batch: Any, tmp_path: Path
) -> None:
    train(method, tuned, batch[0])
    method.save(tuned, tmp_path / "adapter")
    loaded = method.load(tiny_model(), tmp_path / "adapter", trainable=True)
    assert sorted(w.shape for w in trainable(loaded).values()) == sorted(
        w.shape for w in trainable(tuned).values()
    )
    again, there = train(method, loaded, batch[0]), train(method, tuned, batch[0])
    assert again == pytest.approx(there, abs=1e-4)


def test_saving_twice_replaces_the_folder(method: Method, tuned: Any, tmp_path: Path) -> None:
    method.save(tuned, tmp_path / "adapter")
    (tmp_path / "adapter" / "stray").touch()
    method.save(tuned, tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "stray").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_disabled_is_the_base_model(
    method: Method, tuned: Any, tiny_model: Tiny, batch: Any
) -> None:
    if method.name in BASE_ITSELF:
        pytest.skip("has no adapter to disable")
    if method.name == "pissa":
        pytest.skip("takes the directions that it trains out of the base; see test_presets.py")
    if method.name == "lntuning":  # starts as the base
        train(method, tuned, batch[0], n_steps=2)
        tuned.eval()
    with tuned.disable_adapter():
        disabled = logits(tuned, batch[0])
    assert torch.equal(disabled, logits(tiny_model(), batch[0]))
    assert not torch.equal(logits(tuned, batch[0]), disabled)


def test_merged_equals_unmerged(method: Method, tuned: Any, batch: Any) -> None:
    if not method.mergeable:
        with pytest.raises(MethodError, match="cannot be merged"):
            method.merge(tuned)
        return
    unmerged = logits(tuned, batch[0])
    torch.testing.assert_close(logits(method.merge(tuned), batch[0]), unmerged, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt_bigcode", "llama", "opt", "bloom"])
def test_left_padded_rows_equal_rows_alone(
    method: Method, architecture: str, tiny_model: Tiny, batch: Any
) -> None:
    ids_BT, mask_BT = batch
    if not method.batched:
        with pytest.raises(MethodError, match="use the PEFT model's own generate"):
            method.inputs(method.apply(tiny_model(architecture)), ids_BT, mask_BT)
        return
    base = tiny_model(architecture)
    if method.name == "bitfit" and not Shape.from_model(base).biases:
        pytest.skip("the architecture has no biases")
    tuned = method.apply(base, options(method.name)).eval()
    with torch.no_grad():
        padded = method.decoder(tuned)(**method.inputs(tuned, ids_BT, mask_BT)).logits
    for row, (ids_T, mask_T) in enumerate(zip(ids_BT, mask_BT, strict=True)):
        n_tokens = int(mask_T.sum())
        alone = logits(tuned, ids_T[-n_tokens:][None])
        torch.testing.assert_close(padded[row : row + 1, -n_tokens:], alone, rtol=0, atol=2e-5)


def test_generation_with_cache_equals_generation_without(
    method: Method, tuned: Any, batch: Any
) -> None:
    if not method.batched:
        pytest.skip("its prompt is in the cache")
    ids_BT, mask_BT = batch
    decoder = method.decoder(tuned)
    with torch.no_grad():
        first = decoder(**method.inputs(tuned, ids_BT, mask_BT), use_cache=True)
        new_B = first.logits[:, -1].argmax(-1)
        inputs = method.inputs(tuned, ids_BT, mask_BT)
        ones = mask_BT.new_ones(len(mask_BT), 1)
        cached = decoder(
            input_ids=new_B[:, None],
            attention_mask=torch.cat([inputs["attention_mask"], ones], dim=1),
            position_ids=inputs["position_ids"][:, -1:] + 1,
            past_key_values=first.past_key_values,
            use_cache=True,
        ).logits[:, -1]
        longer = torch.cat([ids_BT, new_B[:, None]], dim=1), torch.cat([mask_BT, ones], dim=1)
        whole = decoder(**method.inputs(tuned, *longer)).logits[:, -1]
    torch.testing.assert_close(cached, whole, rtol=0, atol=2e-5)


def test_generate_is_the_same_in_a_left_padded_batch(tuned: Any, batch: Any) -> None:
    ids_BT, mask_BT = batch
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    together = tuned.generate(input_ids=ids_BT, attention_mask=mask_BT, **settings)
    for row, mask_T in enumerate(mask_BT):
        n_tokens = int(mask_T.sum())
        alone = tuned.generate(
            input_ids=ids_BT[row : row + 1, -n_tokens:],
            attention_mask=mask_BT[row : row + 1, -n_tokens:],
            **settings,
        )
        assert together[row, -n_tokens - 6 :].tolist() == alone[0].tolist()


def test_unknown_option_names_the_nearest(method: Method, model: Any, tiny_config: Tiny) -> None:
    with pytest.raises(MethodError, match="has no option 'botleneck_size'"):
        method.apply(model, {"botleneck_size": 8})
    with pytest.raises(MethodError, match="has no option"):
        method.n_trainable(Shape.from_config(tiny_config()), {"botleneck_size": 8})


def test_options_are_fields_of_the_peft_config(method: Method) -> None:
    if method.name in BASE_ITSELF:
        pytest.skip("has no options")
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    import astraios.peft  # noqa: F401

    config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(method.peft_type)]  # type: ignore[attr-defined]
    fields = {field.name for field in dataclasses.fields(config)}
    named = {*method.defaults, *method.more_options}  # type: ignore[attr-defined]
    assert named <= fields


def test_a_tuned_model_is_not_tuned_again(method: Method, tuned: Any) -> None:
    if method.name in BASE_ITSELF:
        pytest.skip("leaves an ordinary model")
    with pytest.raises(MethodError, match="already tuned"):
        method.apply(tuned)


def train(method: Method, model: Any, ids_BT: Any, n_steps: int = 20) -> list[float]:
    """Losses of `n_steps` of AdamW on one batch."""
    model.train()
    optimizer = torch.optim.AdamW(
        trainable(model).values(), lr=RATE.get(method.name, 1e-2), weight_decay=0.0
    )
    losses = []
    for _ in range(n_steps):
        loss = model(input_ids=ids_BT, labels=ids_BT).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses
