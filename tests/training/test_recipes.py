"""Recipes by name, and what they say of the original."""

from __future__ import annotations

from typing import Any

import pytest

from astraios import methods, registry
from astraios.config import validate
from astraios.errors import ConfigError, TrainingError, UnknownNameError
from astraios.training import recipes
from astraios.training.config import TrainingConfig

ALL = ("adapterh", "adapterp", "fft", "ia3", "lora", "parallel", "ptuning")


def config(name: str, method: str) -> TrainingConfig:
    return validate(recipes.recipe(name, "bigcode/starcoderbase-1b", method), TrainingConfig)


@pytest.mark.parametrize("name", recipes.names())
@pytest.mark.parametrize("method", ALL)
def test_every_recipe_is_a_config_for_the_methods_of_the_study(name: str, method: str) -> None:
    found = config(name, method)
    assert (found.method, found.base_model) == (method, "bigcode/starcoderbase-1b")


def test_every_recipe_has_a_line_that_says_what_it_is() -> None:
    assert recipes.names() == ("fair", "paper")
    assert all(len(recipes.summary(name)) > 20 for name in recipes.names())


def test_an_unknown_recipe_is_told_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"recipe 'papr'; known: fair, paper.*'paper'"):
        recipes.recipe("papr", "base", "lora")


@pytest.mark.parametrize("method", ALL)
def test_paper_is_the_command_line_of_the_original(method: str) -> None:
    found = config("paper", method)
    assert (found.corpus, found.template, found.loss_on) == (
        "guanaco-commits",
        "question_answer",
        "all",
    )
    assert (found.layout, found.block_length, found.seed) == ("constant_length", 2048, 0)
    plan = found.optimization
    assert (plan.n_steps, plan.n_warmup_steps, plan.schedule) == (200, 12, "cosine")
    assert (plan.learning_rate, plan.weight_decay, plan.loss) == (1e-4, 0.05, "mean-of-means")
    assert (plan.log_every, plan.validate_every, plan.save_every) == (5, 10, 10)
    full = method == "fft"
    assert found.base_precision == ("fp32" if full else "int8")
    assert found.gradient_checkpointing == (not full)


def test_fair_methods_differ_in_the_learning_rate_only() -> None:
    def but_the_rate(method: str) -> dict[str, Any]:
        found = config("fair", method).model_dump()
        del found["method"], found["optimization"]["learning_rate"]
        return found

    assert all(but_the_rate(method) == but_the_rate("fft") for method in ALL)


def test_a_method_without_a_rate_of_its_own_has_to_be_given_one() -> None:
    unknown = sorted(set(registry.names(methods)) - set(recipes.RATES))
    assert unknown
    with pytest.raises(ConfigError, match=r"'optimization.learning_rate' is missing"):
        config("fair", unknown[0])


@pytest.mark.parametrize(("n_devices", "accumulated"), [(1, 32), (2, 16), (4, 8), (8, 4)])
def test_accumulation_of_paper_follows_the_devices(n_devices: int, accumulated: int) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")
    from astraios.training._trainer import division

    assert division(config("paper", "lora").optimization, n_devices) == (1, accumulated)


def test_devices_that_do_not_divide_the_rows_are_told() -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")
    from astraios.training._trainer import division

    with pytest.raises(TrainingError, match=r"batch_size 32 cannot be divided among 3 device"):
        division(config("paper", "lora").optimization, 3)


@pytest.mark.parametrize("method", ["fft", "lora", "ia3", "ptuning", "parallel"])
def test_what_decays_is_what_decayed_in_the_original(method: str) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")
    from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM, Trainer, TrainingArguments

    from astraios.training.checkpoints import trainable
    from astraios.training.optimizers import optimizer_of

    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 60, "n_positions": 64}
    special = {"bos_token_id": 0, "eos_token_id": 0}
    tuned: Any = methods.method(method).apply(
        GPTBigCodeForCausalLM(GPTBigCodeConfig(**sizes, **special))
    )
    theirs = set(Trainer.get_decay_parameter_names(None, tuned)) & set(trainable(tuned))
    ours = optimizer_of(tuned, config("paper", method).optimization)
    assert (ours.defaults["betas"], ours.defaults["eps"]) == ((0.9, 0.999), 1e-8)
    assert TrainingArguments(output_dir="unused", use_cpu=True).max_grad_norm == 1.0
    names = {id(p): name for name, p in trainable(tuned).items()}
    decayed = {names[id(p)] for g in ours.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == theirs
