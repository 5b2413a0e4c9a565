"""Bottleneck adapters behave like PEFT's own methods under PEFT's own calls."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

import peft  # noqa: E402
from peft import AutoPeftModelForCausalLM, PeftModel, PeftType, get_peft_model  # noqa: E402

import astraios.peft  # noqa: E402
from astraios.errors import MethodError  # noqa: E402
from astraios.methods._register import register  # noqa: E402
from astraios.peft import BottleneckConfig  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Adapter .* was active which is now deleted:UserWarning"),
    # PEFT looks for the base's config on the hub when it saves; there is none for a random model.
    pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning"),
]

Tiny = Callable[..., Any]
ARCHITECTURES = ("gpt_bigcode", "llama", "opt", "gpt_neox")


def config(placement: str = "adapterh", **fields: Any) -> BottleneckConfig:
    defaults = {"bottleneck_size": 6, "init_weights": False, "task_type": "CAUSAL_LM"}
    return BottleneckConfig(placement=placement, **{**defaults, **fields})


def logits(model: Any, ids_BT: Any, **more: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=ids_BT, **more).logits


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tuned(architecture: str, tiny_model: Tiny) -> Any:
    torch.manual_seed(1)
    return get_peft_model(tiny_model(architecture), config()).eval()


# --- registration -----------------------------------------------------------------------------


def test_member_is_like_every_other_of_the_enum() -> None:
    member = PeftType("BOTTLENECK")
    assert member is PeftType.BOTTLENECK is PeftType["BOTTLENECK"]  # type: ignore[attr-defined]
    assert member in list(PeftType)
    assert member == "BOTTLENECK"
    assert member.value == member.name == "BOTTLENECK"
    assert pickle.loads(pickle.dumps(member)) is member  # noqa: S301 (made here)
    assert copy.deepcopy(member) is member
    assert hash(member) == hash("BOTTLENECK")


def test_registering_twice_changes_nothing() -> None:
    members = list(PeftType)
    register()
    assert list(PeftType) == members


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_astraios_loads_neither_torch_nor_peft() -> None:
    code = "import sys, astraios, astraios.methods.adapterh, astraios.methods.lora;"
    code += "print([m for m in ('torch', 'peft', 'transformers') if m in sys.modules])"
    assert run(code) == "[]"


@pytest.mark.slow
def test_a_peft_with_its_own_method_is_left_alone() -> None:
    code = """
from astraios.methods import _register
_register._add_member("BOTTLENECK")
import peft
before = list(peft.PeftType)
try:
    import astraios.peft
except ValueError as error:
    print(type(error).__name__, "already has a method" in str(error), list(peft.PeftType) == before)
"""
    assert run(code) == "MethodError True True"


@pytest.mark.slow
def test_a_taken_prefix_leaves_no_member_behind() -> None:
    code = """
import peft
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
PEFT_TYPE_TO_PREFIX_MAPPING["OTHER"] = "adapter_"
try:
    import astraios.peft
except ValueError as error:
    print("OTHER" in str(error), "BOTTLENECK" in peft.PeftType.__members__)
"""
    assert run(code) == "True False"


# --- PEFT's life cycle ------------------------------------------------------------------------


@pytest.mark.parametrize("safe", [True, False])
def test_saved_by_peft_and_loaded_by_peft(
    tuned: Any, architecture: str, tiny_model: Tiny, batch: Any, tmp_path: Path, safe: bool
) -> None:
    tuned.save_pretrained(tmp_path, safe_serialization=safe)
    loaded = PeftModel.from_pretrained(tiny_model(architecture), tmp_path).eval()
    assert torch.equal(logits(loaded, batch[0]), logits(tuned, batch[0]))
    assert not any(weight.requires_grad for weight in loaded.parameters())


def test_loaded_as_trainable_trains_the_same_weights(
    tuned: Any, architecture: str, tiny_model: Tiny, tmp_path: Path
) -> None:
    tuned.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_model(architecture), tmp_path, is_trainable=True)
    assert [n for n, w in loaded.named_parameters() if w.requires_grad] == [
        n for n, w in tuned.named_parameters() if w.requires_grad
    ]


def test_auto_class_finds_base_and_adapter(tiny_model: Tiny, batch: Any, tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "base")
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    tuned = get_peft_model(base, config()).eval()
    tuned.save_pretrained(tmp_path / "adapter")
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    assert torch.equal(logits(loaded, batch[0]), logits(tuned, batch[0]))
    through_transformers = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    assert torch.equal(logits(through_transformers, batch[0]), logits(tuned, batch[0]))


def test_low_cpu_memory_loading_is_equal(
    tuned: Any, architecture: str, tiny_model: Tiny, batch: Any, tmp_path: Path
) -> None:
    tuned.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(
        tiny_model(architecture), tmp_path, low_cpu_mem_usage=True
    ).eval()
    assert torch.equal(logits(loaded, batch[0]), logits(tuned, batch[0]))


def test_two_adapters_are_switched_and_deleted(
    tuned: Any, architecture: str, tiny_model: Tiny, batch: Any
) -> None:
    first = logits(tuned, batch[0])
    tuned.add_adapter("other", config("parallel", bottleneck_size=3))
    assert torch.equal(logits(tuned, batch[0]), first)
    tuned.set_adapter("other")
    second = logits(tuned, batch[0])
    assert not torch.equal(second, first)
    assert all("other" in n for n, w in tuned.named_parameters() if w.requires_grad)
    tuned.set_adapter("default")
    assert torch.equal(logits(tuned, batch[0]), first)
    tuned.delete_adapter("default")
    assert torch.equal(logits(tuned, batch[0]), second)
    assert not any(".default." in name for name in tuned.state_dict())


def test_saving_one_of_two_adapters_saves_that_one(tiny_model: Tiny, tmp_path: Path) -> None:
    tuned = get_peft_model(tiny_model(), config())
    tuned.add_adapter("other", config("parallel", bottleneck_size=3))
    tuned.save_pretrained(tmp_path, selected_adapters=["other"])
    loaded = PeftModel.from_pretrained(tiny_model(), tmp_path / "other")
    assert loaded.targeted_module_names == [f"transformer.h.{i}.attn.c_attn" for i in range(2)]


def test_two_active_adapters_of_one_kind_are_summed(tiny_model: Tiny) -> None:
    tuned = get_peft_model(tiny_model(), config("parallel")).eval()
    tuned.add_adapter("other", config("parallel"))
    layer = tuned.base_model.model.transformer.h[0].attn.c_attn
    x = torch.randn(2, 3, 32)
    plain = layer.base_layer(x)
    one = layer(x) - plain
    tuned.base_model.set_adapter("other")
    other = layer(x) - plain
    tuned.base_model.set_adapter(["default", "other"])
    torch.testing.assert_close(layer(x), plain + one + other)


def test_rows_of_a_mixed_batch_get_their_own_adapter(tuned: Any, batch: Any) -> None:
    ids_BT = batch[0]
    tuned.add_adapter("other", config("parallel", bottleneck_size=3))
    tuned.add_adapter("third", config("houlsby"))
    mixed = logits(tuned, ids_BT, adapter_names=["other", "__base__", "default"])
    tuned.set_adapter("other")
    torch.testing.assert_close(mixed[:1], logits(tuned, ids_BT[:1]))
    tuned.set_adapter("default")
    torch.testing.assert_close(mixed[2:], logits(tuned, ids_BT[2:]))
    with tuned.disable_adapter():
        torch.testing.assert_close(mixed[1:2], logits(tuned, ids_BT[1:2]))


def test_mixed_batch_generates_each_rows_own_text(tiny_model: Tiny, batch: Any) -> None:
    tuned = get_peft_model(tiny_model(), config()).eval()
    tuned.add_adapter("other", config("parallel"))
    ids_BT = batch[0][:, -5:]
    settings = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "num_beams": 2}
    names = ["default", "other", "__base__"]
    mixed = tuned.generate(input_ids=ids_BT, adapter_names=names, **settings)
    tuned.set_adapter("other")
    assert torch.equal(mixed[1:2], tuned.generate(input_ids=ids_BT[1:2], **settings))


@pytest.mark.parametrize(
    ("names", "message"), [(["default"], "1 names for a batch of 3"), (["nobody"] * 3, "'nobody'")]
)
def test_wrong_names_of_a_mixed_batch_are_refused(
    tiny_model: Tiny, batch: Any, names: list[str], message: str
) -> None:
    tuned = get_peft_model(tiny_model(), config()).eval()
    with pytest.raises(MethodError, match=message):
        tuned(input_ids=batch[0], adapter_names=names)
    logits(tuned, batch[0])  # no hook was left behind


def test_mixed_batch_is_refused_in_training(tiny_model: Tiny, batch: Any) -> None:
    tuned = get_peft_model(tiny_model(), config()).train()
    with pytest.raises(MethodError, match="inference"):
        tuned(input_ids=batch[0], adapter_names=["default"] * 3)


def test_adapter_is_back_after_an_error_while_disabled(tuned: Any, batch: Any) -> None:
    before = logits(tuned, batch[0])
    with pytest.raises(RuntimeError, match="inside"), tuned.disable_adapter():
        raise RuntimeError("inside")
    assert torch.equal(logits(tuned, batch[0]), before)


def test_unload_gives_the_base_back(
    tuned: Any, architecture: str, tiny_model: Tiny, batch: Any
) -> None:
    expected = logits(tiny_model(architecture), batch[0])
    assert torch.equal(logits(tuned.unload(), batch[0]), expected)


@pytest.mark.parametrize("call", ["merge_adapter", "merge_and_unload"])
def test_merging_is_refused_with_the_remedy(tuned: Any, batch: Any, call: str) -> None:
    before = logits(tuned, batch[0])
    with pytest.raises(MethodError, match="train LoRA where merging matters"):
        getattr(tuned, call)()
    assert torch.equal(logits(tuned, batch[0]), before)


def test_whole_model_is_copied_and_pickled(tuned: Any, batch: Any, tmp_path: Path) -> None:
    expected = logits(tuned, batch[0])
    assert torch.equal(logits(copy.deepcopy(tuned), batch[0]), expected)
    torch.save(tuned, tmp_path / "whole.pt")
    again = torch.load(tmp_path / "whole.pt", weights_only=False)
    assert torch.equal(logits(again, batch[0]), expected)


def test_train_and_eval_return_the_layer(tiny_model: Tiny) -> None:
    tuned = get_peft_model(tiny_model(), config())
    layer = tuned.base_model.model.transformer.h[0].mlp.c_fc
    assert layer.train() is layer
    assert layer.eval() is layer


def test_layer_reports_the_wrapped_weight(tiny_model: Tiny) -> None:
    layer = get_peft_model(tiny_model(), config()).base_model.model.transformer.h[0].mlp.c_fc
    assert layer.weight is layer.base_layer.weight
    assert layer.bias is layer.base_layer.bias


def gradients(model: Any, ids_BT: Any) -> dict[str, Any]:
    model.zero_grad()
    model(input_ids=ids_BT, labels=ids_BT).loss.backward()
    return {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_no_gradient(
    architecture: str, tiny_model: Tiny, batch: Any, when: str, reentrant: bool
) -> None:
    base = tiny_model(architecture)
    torch.manual_seed(1)
    expected = gradients(get_peft_model(base, config()).train(), batch[0])
    settings = {"use_reentrant": reentrant}
    base = tiny_model(architecture)
    base.config.use_cache = False
    if when == "before":
        base.activation_checkpointing_enable(settings)
    torch.manual_seed(1)
    model = get_peft_model(base, config()).train()
    if when == "after":
        model.activation_checkpointing_enable(settings)
    found = gradients(model, batch[0])
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name])


def test_casting_the_whole_model_works(tuned: Any, batch: Any) -> None:
    assert logits(tuned.to(torch.bfloat16), batch[0]).dtype == torch.bfloat16


def test_autocast_keeps_master_weights(tuned: Any, batch: Any) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tuned(input_ids=batch[0], labels=batch[0]).loss.backward()
    for name, weight in tuned.named_parameters():
        if weight.requires_grad:
            assert weight.dtype == weight.grad.dtype == torch.float32, name
            assert weight.grad.any()


@pytest.mark.parametrize(
    ("asked", "autocast", "expected"),
    [
        ("float32", True, torch.float32),
        ("bfloat16", True, torch.bfloat16),
        ("float32", False, torch.bfloat16),  # PEFT's switch: as the base
    ],
)
def test_adapter_type_over_a_half_precision_base(
    tiny_model: Tiny, batch: Any, asked: str, autocast: bool, expected: Any
) -> None:
    base = tiny_model().to(torch.bfloat16)
    tuned = get_peft_model(base, config(adapter_dtype=asked), autocast_adapter_dtype=autocast)
    assert {w.dtype for w in tuned.parameters() if w.requires_grad} == {expected}
    assert logits(tuned.eval(), batch[0]).dtype == torch.bfloat16


def test_injection_without_a_wrapper_is_equal(
    tuned: Any, architecture: str, tiny_model: Tiny, batch: Any
) -> None:
    plain = peft.inject_adapter_in_model(config(), tiny_model(architecture))
    state = peft.get_peft_model_state_dict(tuned)
    result = peft.set_peft_model_state_dict(plain, state)
    assert not result.unexpected_keys
    assert torch.equal(logits(plain.eval(), batch[0]), logits(tuned, batch[0]))


def test_modules_to_save_are_trained_saved_and_loaded(
    tiny_model: Tiny, batch: Any, tmp_path: Path
) -> None:
    tuned = get_peft_model(tiny_model(), config(modules_to_save=["ln_f"])).eval()
    trained = [n for n, w in tuned.named_parameters() if w.requires_grad and "ln_f" in n]
    assert len(trained) == 2
    with torch.no_grad():
        tuned.get_parameter(trained[0]).mul_(1.5)
    tuned.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_model(), tmp_path).eval()
    assert torch.equal(logits(loaded, batch[0]), logits(tuned, batch[0]))


@pytest.mark.parametrize("bias", ["all", "adapter_only"])
def test_trained_biases_are_saved_under_the_originals_keys(
    tiny_model: Tiny, batch: Any, tmp_path: Path, bias: str
) -> None:
    tuned = get_peft_model(tiny_model(), config(bias=bias)).eval()
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if weight.requires_grad and name.endswith("bias"):
                weight.add_(0.1)
    saved = peft.get_peft_model_state_dict(tuned)
    assert "base_model.model.transformer.h.0.mlp.c_fc.bias" in saved
    assert ("base_model.model.transformer.ln_f.bias" in saved) == (bias == "all")
    assert not any("base_layer" in name for name in saved)
    tuned.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_model(), tmp_path).eval()
    assert torch.equal(logits(loaded, batch[0]), logits(tuned, batch[0]))
    assert not any(weight.requires_grad for weight in loaded.parameters())


def test_adapters_go_on_the_linear_layers_of_gpt2(tiny_model: Tiny, batch: Any) -> None:
    tuned = get_peft_model(tiny_model("gpt2"), config())
    layer = tuned.base_model.model.transformer.h[0].mlp.c_proj
    assert type(layer.base_layer).__name__ == "Conv1D"
    assert layer.adapter_down["default"].weight.shape == (6, 32)
    assert all(g.any() for g in gradients(tuned, batch[0]).values())


@pytest.mark.parametrize("bits", [8, 4])
def test_adapters_go_on_quantised_layers(tiny_model: Tiny, bits: int) -> None:
    bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    base = tiny_model()
    for block in base.transformer.h:
        old = block.mlp.c_fc
        if bits == 8:
            new = bnb.nn.Linear8bitLt(32, 48, has_fp16_weights=False)
        else:
            new = bnb.nn.Linear4bit(32, 48, compute_dtype=torch.float32)
        new.load_state_dict(old.state_dict())
        block.mlp.c_fc = new.to("cpu")
    tuned = get_peft_model(base, config())
    layer = tuned.base_model.model.transformer.h[0].mlp.c_fc
    assert isinstance(layer.base_layer, bnb.nn.Linear8bitLt | bnb.nn.Linear4bit)
    x = torch.randn(2, 3, 32)
    delta = torch.tanh(x @ layer.adapter_down["default"].weight.T)
    delta = delta @ layer.adapter_up["default"].weight.T
    torch.testing.assert_close(layer(x), layer.base_layer(x + delta))
    layer(x).sum().backward()
    assert layer.adapter_up["default"].weight.grad.any()


@pytest.mark.slow
def test_compiled_model_is_equal(tiny_model: Tiny, batch: Any) -> None:
    tuned = get_peft_model(tiny_model(), config()).eval()
    compiled = torch.compile(tuned, backend="aot_eager")
    torch.testing.assert_close(logits(compiled, batch[0]), logits(tuned, batch[0]))


def test_two_names_for_one_adapter_are_refused(tiny_model: Tiny) -> None:
    tuned = get_peft_model(tiny_model(), config())
    with pytest.raises(ValueError, match="already exists"):
        tuned.add_adapter("default", config())


def test_works_on_a_model_that_is_not_of_transformers() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    tuned = get_peft_model(model, BottleneckConfig(target_modules=["0", "2"], bottleneck_size=3))
    assert tuned(torch.randn(5, 4)).shape == (5, 2)


def test_public_names() -> None:
    assert astraios.peft.__all__ == ["BottleneckConfig", "BottleneckLayer", "BottleneckModel"]
