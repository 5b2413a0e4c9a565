"""What PEFT asks of every tuner, asked of bottleneck adapters on four architectures.

The list follows the shared tests of PEFT's repository (`tests/testing_common.py`); what they check
of merging and of hot-swapping does not apply, and `docs/bottleneck.md` says why.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

import peft  # noqa: E402
from peft import PeftModel, get_peft_model  # noqa: E402
from peft.utils import AuxiliaryTrainingWrapper  # noqa: E402

from astraios.errors import MethodError  # noqa: E402
from astraios.peft import BottleneckConfig, BottleneckLayer  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Adapter .* was active which is now deleted:UserWarning"),
    pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
]

Tiny = Callable[..., Any]
ARCHITECTURES = ("gpt_bigcode", "llama", "opt", "starcoder2")


def config(placement: str = "adapterh", **fields: Any) -> BottleneckConfig:
    defaults = {"bottleneck_size": 6, "init_weights": False, "task_type": "CAUSAL_LM"}
    return BottleneckConfig(placement=placement, **{**defaults, **fields})


def logits(model: Any, ids_BT: Any, **more: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=ids_BT, **more).logits


def trained(model: Any) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.fixture(params=ARCHITECTURES)
def base(request: pytest.FixtureRequest, tiny_model: Tiny) -> Callable[..., Any]:
    """Makes the same base model again and again."""
    return lambda **changes: tiny_model(request.param, **changes)


@pytest.fixture(name="ids_BT")
def _ids_of_full_rows(batch: Any) -> Any:
    return batch[0][:, 4:]


def make(base: Callable[..., Any], seed: int = 1, **fields: Any) -> Any:
    torch.manual_seed(seed)
    return get_peft_model(base(), config(**fields)).eval()


# --- names, counts, states --------------------------------------------------------------------


def test_has_the_calls_of_a_peft_model(base: Any) -> None:
    model = make(base)
    assert isinstance(model, PeftModel)
    for call in ("save_pretrained", "from_pretrained", "push_to_hub", "generate", "unload"):
        assert callable(getattr(model, call))


def test_adapter_goes_by_the_name_it_was_given(base: Any) -> None:
    model = get_peft_model(base(), config(), adapter_name="first-one")
    assert model.active_adapters == ["first-one"]
    assert all(".first-one." in name for name in trained(model))


def test_base_is_frozen_and_counted(base: Any) -> None:
    model = make(base)
    assert trained(model) == {name for name, _ in model.named_parameters() if ".adapter_" in name}
    count, total = model.get_nb_trainable_parameters()
    assert count == sum(w.numel() for w in model.parameters() if w.requires_grad)
    assert total == count + sum(w.numel() for w in base().parameters())


def test_gradient_reaches_the_adapter_and_nothing_else(base: Any, ids_BT: Any) -> None:
    model = make(base).train()
    model(input_ids=ids_BT, labels=ids_BT).loss.backward()
    for name, weight in model.named_parameters():
        assert (weight.grad is not None and weight.grad.any()) == (".adapter_" in name), name


def test_status_names_type_adapters_and_modules(base: Any) -> None:
    model = make(base)
    model.add_adapter("other", config("parallel"))
    status = model.get_model_status()
    assert status.adapter_model_type == "BottleneckModel"
    assert status.peft_types == {"default": "BOTTLENECK", "other": "BOTTLENECK"}
    assert status.active_adapters == ["default"]
    assert status.available_adapters == ["default", "other"]
    assert status.requires_grad == {"default": True, "other": False}
    assert (status.enabled, status.merged_adapters) == (True, [])
    assert status.devices == {"default": ["cpu"], "other": ["cpu"]}
    layers = model.get_layer_status()
    assert {each.module_type for each in layers} == {"bottleneck.BottleneckLayer"}
    assert len(layers) == sum(isinstance(each, BottleneckLayer) for each in model.modules())
    with model.disable_adapter():
        assert model.get_model_status().enabled is False


def test_trainability_is_switched_by_name(base: Any) -> None:
    model = make(base)
    expected = trained(model)
    model.set_requires_grad("default", False)
    assert not trained(model)
    model.set_requires_grad("default")
    assert trained(model) == expected
    model.set_adapter("default", inference_mode=True)
    assert not trained(model)


def test_embeddings_are_made_to_require_gradients(base: Any, ids_BT: Any) -> None:
    model = make(base)
    assert not model.get_input_embeddings()(ids_BT).requires_grad
    model.enable_input_require_grads()
    assert model.get_input_embeddings()(ids_BT).requires_grad


def test_base_prepared_for_kbit_training_is_tuned(base: Any, ids_BT: Any) -> None:
    prepared = peft.prepare_model_for_kbit_training(base(use_cache=False))
    model = get_peft_model(prepared, config()).train()
    model(input_ids=ids_BT, labels=ids_BT).loss.backward()
    assert all(weight.grad.any() for weight in model.parameters() if weight.requires_grad)


# --- devices and types ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_whole_model_takes_another_type(base: Any, ids_BT: Any, dtype: str) -> None:
    to = getattr(torch, dtype)
    assert logits(make(base).to(to), ids_BT).dtype == to


def test_model_moves_to_the_meta_device_and_is_made_there(base: Any) -> None:
    assert {w.device.type for w in make(base).to("meta").parameters()} == {"meta"}
    made = get_peft_model(base().to("meta"), config())
    assert {w.device.type for w in made.parameters()} == {"meta"}


def test_low_memory_injection_leaves_new_weights_without_storage(base: Any) -> None:
    model = peft.inject_adapter_in_model(config(), base(), low_cpu_mem_usage=True)
    on_meta = {name for name, weight in model.named_parameters() if weight.is_meta}
    assert on_meta == {name for name, _ in model.named_parameters() if ".adapter_" in name}


def test_low_memory_loading_leaves_nothing_without_storage(
    base: Any, ids_BT: Any, tmp_path: Path
) -> None:
    model = make(base)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base(), tmp_path, low_cpu_mem_usage=True).eval()
    loaded.load_adapter(tmp_path, "other", low_cpu_mem_usage=True)
    loaded.set_adapter("other")
    assert not any(weight.is_meta for weight in loaded.parameters())
    assert torch.equal(logits(loaded, ids_BT), logits(model, ids_BT))


def test_layer_compiles_without_a_break(base: Any) -> None:
    layer = next(m for m in make(base).modules() if isinstance(m, BottleneckLayer))
    x = torch.randn(2, 3, layer.base_layer.weight.shape[0 if is_conv1d(layer) else 1])
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), layer(x))


def is_conv1d(layer: Any) -> bool:
    return type(layer.base_layer).__name__ == "Conv1D"


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("safe", [True, False])
def test_folder_has_the_adapter_only(base: Any, tmp_path: Path, safe: bool) -> None:
    make(base).save_pretrained(tmp_path, safe_serialization=safe)
    weights = "adapter_model.safetensors" if safe else "adapter_model.bin"
    assert {path.name for path in tmp_path.iterdir()} == {
        weights,
        "adapter_config.json",
        "README.md",
    }
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["peft_type"] == "BOTTLENECK"
    assert "library_name: peft" in (tmp_path / "README.md").read_text()


def test_state_dict_is_loaded_back_without_a_warning(
    base: Any, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    model = make(base)
    model.save_pretrained(tmp_path)
    recwarn.clear()
    loaded = PeftModel.from_pretrained(base(), tmp_path)
    assert not [each for each in recwarn if "missing adapter keys" in str(each.message)]
    expected = model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())


def test_selected_adapters_are_saved_beside_each_other(base: Any, tmp_path: Path) -> None:
    model = make(base)
    model.add_adapter("other", config("parallel"))
    model.add_adapter("third", config("houlsby"))
    model.save_pretrained(tmp_path, selected_adapters=["default", "third"])
    assert (tmp_path / "adapter_config.json").is_file()
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"third"}
    with pytest.raises(ValueError, match="nobody"):
        model.save_pretrained(tmp_path, selected_adapters=["nobody"])


def test_embedding_layers_are_saved_on_request(base: Any, ids_BT: Any, tmp_path: Path) -> None:
    model = make(base)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.5)
    model.save_pretrained(tmp_path, save_embedding_layers=True)
    loaded = PeftModel.from_pretrained(base(), tmp_path).eval()
    expected = model.get_input_embeddings().weight
    assert torch.equal(loaded.get_input_embeddings().weight, expected)


def test_adapter_loads_under_another_name(base: Any, ids_BT: Any, tmp_path: Path) -> None:
    model = make(base)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base(), tmp_path, adapter_name="mine").eval()
    assert loaded.active_adapters == ["mine"]
    assert torch.equal(logits(loaded, ids_BT), logits(model, ids_BT))


def test_loading_on_a_taken_name_fills_it_or_changes_nothing(
    base: Any, ids_BT: Any, tmp_path: Path
) -> None:
    model = make(base)
    model.save_pretrained(tmp_path)
    same = make(base, seed=2)
    same.load_adapter(tmp_path, "default")
    assert torch.equal(logits(same, ids_BT), logits(model, ids_BT))
    for fields in ({"bottleneck_size": 3}, {"placement": "parallel"}):
        other = make(base, **fields)
        before = logits(other, ids_BT)
        with pytest.raises((RuntimeError, MethodError), match=r"size mismatch|do not fit"):
            other.load_adapter(tmp_path, "default")
        assert torch.equal(logits(other, ids_BT), before)


def test_transformers_own_calls_take_the_adapter(base: Any, ids_BT: Any, tmp_path: Path) -> None:
    plain, model = base(), base()
    model.add_adapter(config(), adapter_name="mine")
    expected = logits(model, ids_BT)
    assert not torch.equal(expected, logits(plain, ids_BT))
    model.disable_adapters()
    assert torch.equal(logits(model, ids_BT), logits(plain, ids_BT))
    model.enable_adapters()
    model.save_pretrained(tmp_path)
    plain.load_adapter(tmp_path)
    assert torch.equal(logits(plain, ids_BT), expected)


def test_injection_by_the_keys_of_a_state_dict(base: Any, ids_BT: Any) -> None:
    donor = peft.inject_adapter_in_model(config(), base()).eval()
    state = peft.get_peft_model_state_dict(donor)
    model = peft.inject_adapter_in_model(config(), base(), state_dict=state)
    assert not peft.set_peft_model_state_dict(model, state).unexpected_keys
    assert torch.equal(logits(model.eval(), ids_BT), logits(donor, ids_BT))


# --- several adapters -------------------------------------------------------------------------


def test_deleting_the_active_adapter_makes_the_first_left_active(base: Any, ids_BT: Any) -> None:
    model = make(base)
    expected = logits(model, ids_BT)
    # On other layers than `default`, where nothing in a layer says which adapter is left.
    model.add_adapter("other", config("parallel"))
    model.set_adapter("other")
    model.delete_adapter("other")
    assert model.active_adapters == ["default"]
    assert torch.equal(logits(model, ids_BT), expected)
    assert not any("other" in name for name in model.state_dict())


def test_deleting_the_last_adapter_leaves_the_base(base: Any, ids_BT: Any) -> None:
    model = make(base, modules_to_save=["lm_head"])
    model.delete_adapter("default")
    assert (model.active_adapters, list(model.peft_config)) == ([], [])
    for module in model.modules():
        if isinstance(module, BottleneckLayer | AuxiliaryTrainingWrapper):
            assert module.active_adapters == []
    # Through the module itself: PEFT's own calls ask for the config of an active adapter.
    assert torch.equal(logits(model.base_model.model, ids_BT), logits(base(), ids_BT))
    model.add_adapter("new", config())
    model.set_adapter("new")
    assert not torch.equal(logits(model, ids_BT), logits(base(), ids_BT))


def test_deleting_an_adapter_that_is_not_active_changes_nothing(base: Any, ids_BT: Any) -> None:
    model = make(base)
    expected = logits(model, ids_BT)
    model.add_adapter("other", config())
    model.delete_adapter("other")
    assert torch.equal(logits(model, ids_BT), expected)
    with pytest.raises(ValueError, match="nobody"):
        model.delete_adapter("nobody")


def test_a_new_adapter_leaves_trainability_as_it_was(base: Any) -> None:
    model = make(base, bias="all")
    before = trained(model)
    model.add_adapter("other", config("houlsby"))
    assert {name.replace(".base_layer.", ".") for name in trained(model)} == {
        name.replace(".base_layer.", ".") for name in before
    }


def test_unloading_and_wrapping_again(base: Any, ids_BT: Any) -> None:
    again = get_peft_model(make(base).unload(), config("parallel")).eval()
    assert not any("adapter_" in name and "c_fc" in name for name, _ in again.named_modules())
    assert logits(again, ids_BT).isfinite().all()


@pytest.mark.parametrize("tied", [True, False])
def test_head_is_trained_whole_beside_the_adapter(
    base: Any, ids_BT: Any, tmp_path: Path, tied: bool
) -> None:
    settings = {"tie_word_embeddings": tied}
    plain = logits(base(**settings), ids_BT)
    model = get_peft_model(base(**settings), config(modules_to_save=["lm_head"])).eval()
    (head,) = (name for name in trained(model) if "lm_head" in name)
    with torch.no_grad():
        model.get_parameter(head).mul_(1.5)
    with model.disable_adapter():
        assert torch.equal(logits(model, ids_BT), plain)
    mixed = logits(model, ids_BT, adapter_names=["default", "__base__", "default"])
    torch.testing.assert_close(mixed[1], plain[1])
    torch.testing.assert_close(mixed[::2], logits(model, ids_BT)[::2])
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base(**settings), tmp_path).eval()
    assert torch.equal(logits(loaded, ids_BT), logits(model, ids_BT))


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 3},
        {"num_beams": 3, "num_return_sequences": 2},
        {"do_sample": True, "top_k": 1, "num_return_sequences": 2},
    ],
    ids=["beams", "beams-returned", "samples"],
)
def test_mixed_batch_generates_where_rows_are_repeated(
    base: Any, ids_BT: Any, settings: dict[str, Any]
) -> None:
    from transformers import GenerationConfig

    model = make(base)
    model.add_adapter("other", config("parallel"))
    how = {"max_new_tokens": 4, "min_new_tokens": 4, "pad_token_id": 0, **settings}
    names = ["default", "other", "__base__"]
    mixed = model.generate(input_ids=ids_BT, adapter_names=names, **how)
    in_config = model.generate(
        input_ids=ids_BT, adapter_names=names, generation_config=GenerationConfig(**how)
    )
    assert torch.equal(in_config, mixed)
    repeats = len(mixed) // 3
    for row, name in enumerate(("default", "other")):
        model.set_adapter(name)
        alone = model.generate(input_ids=ids_BT[row : row + 1], **how)
        assert torch.equal(mixed[row * repeats : (row + 1) * repeats], alone)
    with model.disable_adapter():
        assert torch.equal(mixed[2 * repeats :], model.generate(input_ids=ids_BT[2:], **how))


@pytest.mark.parametrize("n_names", [1, 2, 6])
def test_mixed_batch_with_another_number_of_names_is_refused(
    base: Any, ids_BT: Any, n_names: int
) -> None:
    model = make(base)
    names, message = ["default"] * n_names, f"{n_names} names for a batch of 3"
    with pytest.raises(MethodError, match=message):
        model(input_ids=ids_BT, adapter_names=names)
    with pytest.raises(MethodError, match=message):
        model.generate(input_ids=ids_BT, adapter_names=names, max_new_tokens=2)
    assert not any(module._forward_pre_hooks for module in model.modules())


# --- limits -----------------------------------------------------------------------------------


def test_first_block_alone_has_fewer_weights(base: Any) -> None:
    one, all_blocks = (make(base, **each) for each in ({"layers_to_transform": [0]}, {}))
    assert len(trained(one)) * 2 == len(trained(all_blocks))


@pytest.mark.parametrize("bias", ["none", "all", "adapter_only"])
def test_biases_that_are_trained(base: Any, ids_BT: Any, bias: str) -> None:
    model = make(base, bias=bias).train()
    biases = {name for name, _ in model.named_parameters() if name.endswith(".bias")}
    own = {name for name in biases if ".base_layer." in name}
    expected = {"none": set(), "all": biases, "adapter_only": own}[bias]
    assert {name for name in trained(model) if ".adapter_" not in name} == expected
    model(input_ids=ids_BT, labels=ids_BT).loss.backward()
    assert all(model.get_parameter(name).grad is not None for name in trained(model))


def test_whole_mlp_and_its_layers_do_not_go_together(base: Any, ids_BT: Any) -> None:
    if base().config.model_type == "opt":
        pytest.skip("OPT has no module that holds the MLP")
    for first, second, message in (
        ("parallel_mlp", "adapterh", "inside a module that has an adapter"),
        ("adapterh", "parallel_mlp", "has an adapter inside"),
    ):
        model = make(base, placement=first)
        before = logits(model, ids_BT)
        with pytest.raises(MethodError, match=message):
            model.add_adapter("other", config(second))
        assert list(model.peft_config) == ["default"]
        assert torch.equal(logits(model, ids_BT), before)


def test_copy_is_independent(base: Any, ids_BT: Any) -> None:
    model = make(base)
    before = logits(model, ids_BT)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for weight in copied.parameters():
            weight.zero_()
    assert torch.equal(logits(model, ids_BT), before)
