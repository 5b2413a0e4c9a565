"""Bad input gets one clear error, and leaves the model as it was."""

from __future__ import annotations

import json
import pickle
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from peft import get_peft_model  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from astraios import methods, registry  # noqa: E402
from astraios.errors import AstraiosError, MethodError, MissingDataError, StorageError  # noqa: E402
from astraios.methods import Method, Shape  # noqa: E402
from astraios.peft import BottleneckConfig  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

Tiny = Callable[..., Any]


def load(name: str) -> Method:
    found: Method = registry.load(methods, "method", name)
    return found


def fingerprint(model: Any) -> Any:
    """Everything that tuning changes: modules, weights, trainability, hooks, attributes."""
    modules = [(name, id(module)) for name, module in model.named_modules()]
    weights = [(name, id(w), w.requires_grad) for name, w in model.named_parameters()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    return modules, weights, hooks, sorted(vars(model))


@pytest.fixture
def unchanged(model: Any) -> Any:
    before = fingerprint(model)
    yield model
    assert fingerprint(model) == before


@pytest.fixture
def saved(tiny_model: Tiny, tmp_path: Path) -> Path:
    """The folder of an AdapterH."""
    method = load("adapterh")
    method.save(method.apply(tiny_model(), {"bottleneck_size": 4}), tmp_path / "adapter")
    return tmp_path / "adapter"


# --- the config -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bottleneck_size": 0}, "bottleneck_size is 0; expected a whole number of at least 1"),
        ({"bottleneck_size": 8.0}, "bottleneck_size is 8.0"),
        ({"bottleneck_size": True}, "bottleneck_size is True"),
        ({"non_linearity": "tahn"}, "Did you mean 'tanh'"),
        ({"non_linearity": "prelu"}, "non_linearity is 'prelu'"),
        ({"adapter_dropout": 1.0}, r"adapter_dropout is 1.0; expected a number in \[0, 1\)"),
        ({"adapter_dropout": "0.1"}, "adapter_dropout is '0.1'"),
        ({"scaling": "learnt"}, "scaling is 'learnt'; expected a finite number or 'learned'"),
        ({"scaling": float("nan")}, "scaling is nan"),
        ({"scaling": True}, "scaling is True"),
        (
            {"bias": "lora_only"},
            "bias is 'lora_only'; expected one of 'none', 'all', 'adapter_only'",
        ),
        ({"init_weights": "berd"}, "init_weights is 'berd'; expected one of 'bert'.*mean 'bert'"),
        ({"init_weights": 1}, "init_weights is 1"),
        ({"placement": "houlsbi"}, "placement is 'houlsbi'.*Did you mean 'houlsby'"),
        ({"positions": {"c_fc": "beside"}}, r"positions\['c_fc'\] is 'beside'"),
        ({"adapter_dtype": "fp32"}, "adapter_dtype is 'fp32'; expected one of 'float32'"),
        ({"reduction_factor": -2}, "reduction_factor is -2"),
        ({"use_parallel_adapter": "yes"}, "use_parallel_adapter is 'yes'; expected True or False"),
        ({"placement": "adapterh", "use_parallel_adapter": True}, "leave one of them out"),
        ({"target_modules": 3}, "a list of names or one text"),
        ({"layers_pattern": "h"}, "without layers_to_transform"),
        ({"target_modules": ".*c_fc", "layers_to_transform": [0]}, "does not go with a regular"),
    ],
)
def test_wrong_value_fails_when_the_config_is_made(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        BottleneckConfig(**fields)


def test_whole_number_scaling_is_a_number() -> None:
    assert BottleneckConfig(scaling=2).scaling == 2.0


@given(
    st.dictionaries(
        st.sampled_from(
            ["bottleneck_size", "non_linearity", "scaling", "bias", "init_weights", "placement"]
        ),
        st.one_of(st.none(), st.text(max_size=8), st.floats(), st.integers(), st.lists(st.text())),
    )
)
def test_any_value_makes_a_config_or_one_clear_error(fields: dict[str, Any]) -> None:
    try:
        BottleneckConfig(**fields)
    except MethodError as error:
        assert any(name in str(error) for name in fields)


# --- targets ----------------------------------------------------------------------------------


def test_target_that_matches_nothing_lists_the_layers(unchanged: Any) -> None:
    with pytest.raises(MethodError, match=r"match nothing.*c_attn, c_fc, c_proj, lm_head"):
        get_peft_model(unchanged, BottleneckConfig(target_modules=["fc1"], task_type="CAUSAL_LM"))


@pytest.mark.parametrize("name", ["lora", "ia3", "adapterh"])
def test_methods_refuse_targets_that_match_nothing(unchanged: Any, name: str) -> None:
    with pytest.raises(MethodError, match="fc1"):
        load(name).apply(unchanged, {"target_modules": ["fc1"]})


@pytest.mark.parametrize("targets", [["ln_1"], ["c_fc", "ln_1"], ["c_fc", "wte"], r".*\.mlp\..*"])
def test_target_that_is_not_linear_is_refused_before_any_change(
    unchanged: Any, targets: Any
) -> None:
    with pytest.raises(MethodError, match="bottleneck adapters go on linear layers only"):
        get_peft_model(unchanged, BottleneckConfig(target_modules=targets))


def test_a_method_that_fails_half_way_is_undone(unchanged: Any) -> None:
    # LoRA replaces c_fc before it meets the layer norm.
    with pytest.raises(MethodError, match="method 'lora'"):
        load("lora").apply(unchanged, {"target_modules": ["ln_2", "c_attn"]})


def test_failed_second_adapter_leaves_the_first(model: Any, batch: Any) -> None:
    tuned = get_peft_model(model, BottleneckConfig(placement="adapterh", task_type="CAUSAL_LM"))
    before = fingerprint(tuned)
    with pytest.raises(MethodError, match="linear layers only"):
        tuned.add_adapter("other", BottleneckConfig(target_modules=["c_attn", "ln_1"]))
    assert fingerprint(tuned) == before
    assert list(tuned.peft_config) == ["default"]


def test_all_excluded_says_what_excluded_them(unchanged: Any) -> None:
    config = BottleneckConfig(target_modules=["c_fc"], exclude_modules=["c_fc"])
    with pytest.raises(MethodError, match="within exclude_modules"):
        get_peft_model(unchanged, config)


def test_unknown_architecture_lists_its_linear_layers() -> None:
    model = torch.nn.ModuleDict({"proj": torch.nn.Linear(4, 4)})
    with pytest.raises(MethodError, match=r"layers are: proj.*target_modules=\['proj'\]"):
        get_peft_model(model, BottleneckConfig(placement="adapterh"))


@pytest.mark.parametrize("name", ["mlp", "transformer", "0", "a.b", "keys", "__base__"])
def test_adapter_name_that_would_mix_up_weights_is_refused(unchanged: Any, name: str) -> None:
    config = BottleneckConfig(placement="adapterh", task_type="CAUSAL_LM")
    with pytest.raises(MethodError, match="adapter"):
        get_peft_model(unchanged, config, adapter_name=name)


# --- methods ----------------------------------------------------------------------------------


def test_wrong_value_of_an_option_names_method_and_value(unchanged: Any) -> None:
    with pytest.raises(MethodError, match="method 'adapterh': bottleneck_size is -1"):
        load("adapterh").apply(unchanged, {"bottleneck_size": -1})
    with pytest.raises(MethodError, match="method 'lora'"):
        load("lora").apply(unchanged, {"r": 0})
    with pytest.raises(MethodError, match="method 'ptuning'"):
        load("ptuning").apply(unchanged, {"encoder_reparameterization_type": "GRU"})


def test_full_fine_tuning_refuses_a_quantised_base(model: Any) -> None:
    model.transformer.wpe.weight = torch.nn.Parameter(
        torch.zeros(4, dtype=torch.int8), requires_grad=False
    )
    with pytest.raises(MethodError, match="quantised"):
        load("fft").apply(model)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lora", {"bias": "all"}),
        ("lora", {"target_modules": ".*c_attn"}),
        ("lora", {"target_modules": ["nowhere"]}),
        ("adapterh", {"bottleneck_pattern": {"c_fc": 4}}),
        ("ptuning", {"encoder_reparameterization_type": "LSTM"}),
    ],
)
def test_formula_refuses_what_it_does_not_cover(
    name: str, options: dict[str, Any], tiny_config: Tiny
) -> None:
    with pytest.raises(MethodError):
        load(name).n_trainable(Shape.from_config(tiny_config()), options)


def test_saving_an_untuned_model_is_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="has no adapter"):
        load("lora").save(model, tmp_path / "adapter")
    assert not list(tmp_path.iterdir())


def test_saving_the_adapter_of_another_method_is_refused(model: Any, tmp_path: Path) -> None:
    tuned = load("ia3").apply(model)
    with pytest.raises(MethodError, match="its adapter is IA3"):
        load("lora").save(tuned, tmp_path / "adapter")


@pytest.mark.parametrize("name", ["lora", "fft"])
def test_nan_weights_are_not_saved(model: Any, tmp_path: Path, name: str) -> None:
    tuned = load(name).apply(model)
    with torch.no_grad():
        next(w for w in tuned.parameters() if w.requires_grad).fill_(float("nan"))
    with pytest.raises(StorageError, match="NaN"):
        load(name).save(tuned, tmp_path / "adapter")
    assert not list(tmp_path.iterdir())


# --- folders ----------------------------------------------------------------------------------


def refused(method: str, model: Any, folder: Path, message: str, kind: Any = MethodError) -> None:
    before = fingerprint(model)
    with pytest.raises(kind, match=message):
        load(method).load(model, folder)
    assert fingerprint(model) == before


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    save_file(change(weights), path)


def test_missing_folder_config_and_weights_are_told_apart(model: Any, saved: Path) -> None:
    refused("adapterh", model, saved.parent / "no", "does not exist", MissingDataError)
    refused("adapterh", model, saved.parent, "has no adapter_config.json", MissingDataError)
    (saved / "adapter_model.safetensors").unlink()
    refused("adapterh", model, saved, "has no weights", MissingDataError)


@pytest.mark.parametrize("length", [0, 5, 200, 3000])
def test_truncated_weights_are_refused(model: Any, saved: Path, length: int) -> None:
    path = saved / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    refused("adapterh", model, saved, "cannot be read as weights")


def test_truncated_bin_is_refused(model: Any, saved: Path) -> None:
    weights = load_file(saved / "adapter_model.safetensors")
    (saved / "adapter_model.safetensors").unlink()
    torch.save(weights, saved / "adapter_model.bin")
    load("adapterh").load(model, saved).unload()
    whole = (saved / "adapter_model.bin").read_bytes()
    (saved / "adapter_model.bin").write_bytes(whole[: len(whole) // 2])
    refused("adapterh", model, saved, "cannot be read as weights")


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickled_code_is_not_run(model: Any, saved: Path) -> None:
    (saved / "adapter_model.safetensors").unlink()
    mark = saved.parent / "touched"
    torch.save({"weight": Trap(mark)}, saved / "adapter_model.bin")
    refused("adapterh", model, saved, "cannot be read as weights")
    (saved / "adapter_model.bin").write_bytes(pickle.dumps(Trap(mark)))
    refused("adapterh", model, saved, "cannot be read as weights")
    assert not mark.exists()


def test_missing_key_is_refused(model: Any, saved: Path) -> None:
    rewrite(saved, lambda weights: {name: weights[name] for name in sorted(weights)[1:]})
    refused("adapterh", model, saved, "1 missing .*h.0.mlp.c_fc.adapter_down.weight")


def test_renamed_key_is_refused(model: Any, saved: Path) -> None:
    def rename(weights: dict[str, Any]) -> Any:
        return {name.replace(".h.1.", ".h.7."): value for name, value in weights.items()}

    rewrite(saved, rename)
    refused("adapterh", model, saved, "4 missing .*4 unexpected")


def test_other_shape_in_the_file_is_refused(model: Any, saved: Path) -> None:
    def grow(weights: dict[str, Any]) -> Any:
        return {name: torch.cat([value, value]) for name, value in weights.items()}

    rewrite(saved, grow)
    refused("adapterh", model, saved, r"has shape \(8, 32\).*needs \(4, 32\)")


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize(
    "changes", [{"hidden_size": 64}, {"num_hidden_layers": 3}, {"num_hidden_layers": 1}]
)
def test_adapter_for_another_shape_is_refused(
    tiny_model: Tiny, saved: Path, changes: dict[str, int], record: bool
) -> None:
    if not record:
        (saved / "astraios.json").unlink()
    refused("adapterh", tiny_model(**changes), saved, "load it on the base it was trained on")


def test_adapter_for_another_architecture_is_refused(tiny_model: Tiny, saved: Path) -> None:
    refused("adapterh", tiny_model("gpt2"), saved, "architecture 'gpt_bigcode'")


def test_adapter_for_other_weights_of_this_shape_is_refused(model: Any, saved: Path) -> None:
    torch.nn.init.normal_(model.transformer.wte.weight)
    refused("adapterh", model, saved, "other weights")


def test_base_in_half_precision_is_the_same_base(model: Any, saved: Path) -> None:
    load("adapterh").load(model.to(torch.bfloat16), saved)


def test_folder_of_another_method_is_refused(model: Any, saved: Path) -> None:
    refused("lora", model, saved, "method 'adapterh', not of method 'lora'")
    refused("parallel", model, saved, "method 'adapterh', not of method 'parallel'")


def test_adapter_without_effect_is_refused(model: Any, saved: Path) -> None:
    # Down is zero, so the output is the base's; yet up is not zero as at an identity start.
    def silence(weights: dict[str, Any]) -> Any:
        return {n: v * 0 if "adapter_down" in n else v for n, v in weights.items()}

    rewrite(saved, silence)
    refused("adapterh", model, saved, "changes nothing")


def test_untrained_identity_loads(tiny_model: Tiny, tmp_path: Path) -> None:
    for name in ("lora", "ia3"):
        method = load(name)
        method.save(method.apply(tiny_model()), tmp_path / name)
        method.load(tiny_model(), tmp_path / name)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("adapter_config.json", "{", "not a JSON object"),
        ("adapter_config.json", "[]", "not a JSON object"),
        ("adapter_config.json", '{"peft_type": "MAGIC"}', "peft_type 'MAGIC'"),
        ("adapter_config.json", '{"peft_type": null}', "peft_type None"),
        ("astraios.json", "nonsense", "not a JSON object"),
        ("astraios.json", '{"format": 99}', "format 99"),
        ("astraios.json", '{"format": 1, "method": "adapterh", "base": {}}', "damaged"),
    ],
)
def test_damaged_json_is_refused(
    model: Any, saved: Path, file: str, text: str, message: str
) -> None:
    (saved / file).write_text(text)
    refused("adapterh", model, saved, message)


def test_wrong_value_in_a_saved_config_names_the_file(model: Any, saved: Path) -> None:
    path = saved / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "non_linearity": "tahn"}))
    refused("adapterh", model, saved, r"adapter_config.json: non_linearity is 'tahn'")


def test_prompt_without_its_encoder_is_for_inference_only(tiny_model: Tiny, tmp_path: Path) -> None:
    method = load("ptuning")
    method.save(method.apply(tiny_model()), tmp_path / "adapter")
    (tmp_path / "adapter" / "prompt_encoder.safetensors").unlink()
    method.load(tiny_model(), tmp_path / "adapter")
    with pytest.raises(MethodError, match="finished virtual tokens only"):
        method.load(tiny_model(), tmp_path / "adapter", trainable=True)


def test_prompt_and_encoder_of_two_states_are_refused(tiny_model: Tiny, tmp_path: Path) -> None:
    method = load("ptuning")
    for name in ("one", "two"):
        tuned = method.apply(tiny_model())
        torch.manual_seed(len(list(tmp_path.iterdir())))
        torch.nn.init.normal_(tuned.prompt_encoder["default"].embedding.weight)
        method.save(tuned, tmp_path / name)
    encoder = (tmp_path / "two" / "prompt_encoder.safetensors").read_bytes()
    (tmp_path / "one" / "prompt_encoder.safetensors").write_bytes(encoder)
    with pytest.raises(MethodError, match="different states"):
        method.load(tiny_model(), tmp_path / "one", trainable=True)


def test_full_checkpoint_of_another_shape_changes_nothing(tiny_model: Tiny, tmp_path: Path) -> None:
    method = load("fft")
    method.save(method.apply(tiny_model(hidden_size=64)), tmp_path / "other")
    model = tiny_model()
    before = [weight.clone() for weight in model.parameters()]
    refused("fft", model, tmp_path / "other", "has shape")
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    refused("fft", model, tmp_path / "none", "has no weights", MissingDataError)


def test_sharded_full_checkpoint_loads(tiny_model: Tiny, tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "whole", max_shard_size="20KB")
    assert len(list((tmp_path / "whole").glob("*.safetensors"))) > 1
    model = tiny_model()
    torch.nn.init.zeros_(model.transformer.wte.weight)
    load("fft").load(model, tmp_path / "whole")
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.parameters(), tiny_model().parameters(), strict=True)
    )
    next((tmp_path / "whole").glob("*-00002-*.safetensors")).unlink()
    refused("fft", tiny_model(), tmp_path / "whole", "lacks", MissingDataError)


def test_every_error_is_one_of_ours_and_a_standard_one(model: Any, saved: Path) -> None:
    with pytest.raises(AstraiosError):
        load("lora").load(model, saved)
    with pytest.raises(ValueError, match="adapterh"):
        load("lora").load(model, saved)


@pytest.mark.parametrize("name", ["fft", "lora", "bitfit"])
def test_a_full_disk_is_told_and_leaves_no_folder(
    name: str, tiny_model: Tiny, tmp_path: Path
) -> None:
    method = load(name)
    tuned = method.apply(tiny_model())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (512, before[1])
    )  # the kernel takes a part of a write
    try:
        with pytest.raises(StorageError, match="cannot write"):
            method.save(tuned, tmp_path / "adapter")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "adapter").exists()
