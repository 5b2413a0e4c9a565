"""Equal to the original fork of PEFT, number by number.

The cases are folders of recorded numbers, found by listing; see the README beside them. Tolerances
are those it states. GPTBigCode derived positions from the mask then and does not now, so
left-padded rows are given theirs; P-Tuning needs nothing: its model class here derives them.

`python tests/methods/test_oracle.py` prints the largest differences of each case.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from peft import PeftModel, get_peft_model_state_dict  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

import astraios.peft  # noqa: E402, F401
from astraios import methods, registry  # noqa: E402

pytestmark = [
    pytest.mark.train,
    # PEFT's own use of transformers.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    # Said on purpose where the biases are trained too.
    pytest.mark.filterwarnings("ignore:Careful, disabling adapter layers with bias:UserWarning"),
]

SHARED = Path(os.environ.get("ASTRAIOS_SHARED", Path(__file__).resolve().parents[3] / "shared"))
FOLDER = SHARED / "oracle" / "peft_fork"
CASES = sorted(path.parent for path in FOLDER.glob("*/expected.json")) if FOLDER.is_dir() else []
VARIANTS = ("plain", "leftpad")
LOGITS, LOSS, TRAJECTORY, STATE, BF16_LOGITS = 1e-5, 1e-5, 2e-5, 1e-4, 6e-2
GRADIENT = 1e-4  # relative, L2

absent = pytest.mark.skipif(not CASES, reason=f"no recorded cases under {FOLDER}")
every_case = pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
every_variant = pytest.mark.parametrize("variant", VARIANTS)


class Case:
    """One folder, read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = json.loads((folder / "expected.json").read_text())
        self.tensors = load_file(folder / "expected.safetensors")

    @property
    def half(self) -> bool:
        return self.facts["dtype_base"] != "float32"

    @property
    def prompt(self) -> bool:
        return self.facts["method"] == "ptuning"

    def base(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(
            self.folder / self.facts["base"],
            dtype=getattr(torch, self.facts["dtype_base"]),
            attn_implementation="eager",
        )

    def loaded(self, files: str = "adapter") -> Any:
        return PeftModel.from_pretrained(self.base(), self.folder / files).eval()

    def trainable(self) -> Any:
        """A fresh trainable model in the recorded first state."""
        config = astraios_config(self.folder / "adapter")
        from peft import get_peft_model

        model = get_peft_model(self.base(), config)
        self.fill(model, load_file(self.folder / "trainable_state.safetensors"))
        return model.eval()

    def fill(self, model: Any, state: dict[str, Any]) -> None:
        own = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in state.items():
                own[in_memory(name, own)].copy_(value)

    def batch(self, variant: str) -> dict[str, Any]:
        mask = self.tensors[f"{variant}.attention_mask"]
        batch = {"input_ids": self.tensors[f"{variant}.input_ids"], "attention_mask": mask}
        if f"{variant}.position_ids" in self.tensors and not self.prompt:
            batch["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        return batch

    def loss(self, model: Any, variant: str) -> Any:
        return model(**self.batch(variant), labels=self.tensors[f"{variant}.labels"]).loss

    # --- largest differences to what was recorded ---------------------------------------------

    @torch.no_grad()
    def logits_off(self, model: Any, variant: str) -> float:
        expected = self.tensors[f"{variant}.logits"]
        mask = self.tensors[f"{variant}.attention_mask"] == 1
        n_virtual = expected.shape[1] - mask.shape[1]
        logits = model(**self.batch(variant)).logits
        return float((logits[:, n_virtual:] - expected[:, n_virtual:])[mask].abs().max())

    def loss_and_gradients_off(self, variant: str) -> tuple[float, dict[str, float]]:
        """Of the loss, absolutely; of each gradient, relative to its L2 norm."""
        model = self.trainable()
        loss = self.loss(model, variant)
        loss.backward()
        own = dict(model.named_parameters())
        gradients = {}
        for name, gradient in load_file(self.folder / f"grads_{variant}.safetensors").items():
            off = (own[in_memory(name, own)].grad - gradient).norm()
            gradients[name] = float(off / (gradient.norm() + 1e-9))
        return abs(loss.item() - self.facts[f"loss_{variant}"]), gradients

    def ten_steps_off(self) -> tuple[float, float]:
        """Of the eleven losses, and of the weights after the last step."""
        model = self.trainable().train()
        recipe = self.facts["adamw"]
        optimizer = torch.optim.AdamW(
            [weight for weight in model.parameters() if weight.requires_grad],
            lr=recipe["lr"],
            betas=tuple(recipe["betas"]),
            eps=recipe["eps"],
            weight_decay=recipe["weight_decay"],
        )
        losses = []
        for _ in range(len(self.facts["loss_trajectory"]) - 1):
            loss = self.loss(model, "plain")
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(self.loss(model, "plain").item())
        own = dict(model.named_parameters())
        after = load_file(self.folder / "state_after_10_steps.safetensors")
        weights = [(own[in_memory(name, own)].data - w).abs().max() for name, w in after.items()]
        pairs = zip(losses, self.facts["loss_trajectory"], strict=True)
        return max(abs(ours - theirs) for ours, theirs in pairs), float(max(weights))


def astraios_config(folder: Path) -> Any:
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(folder)
    config.inference_mode = False
    config.base_model_name_or_path = None
    return config


def in_memory(name: str, own: dict[str, Any]) -> str:
    """Our name of a parameter that the fork calls `name`."""
    stem, _, last = name.rpartition(".")
    candidates = (name, f"{stem}.default.{last}", f"{name}.default", f"{stem}.base_layer.{last}")
    return next(candidate for candidate in candidates if candidate in own)


@pytest.fixture
def its(case: Path) -> Case:
    torch.set_num_threads(1)
    return Case(case)


@absent
@every_case
@every_variant
@pytest.mark.parametrize("files", ["adapter", "adapter_safetensors"])
def test_logits_are_those_of_the_fork(its: Case, variant: str, files: str) -> None:
    assert its.logits_off(its.loaded(files), variant) <= (BF16_LOGITS if its.half else LOGITS)


@absent
@every_case
@every_variant
def test_greedy_ids_are_those_of_the_fork(its: Case, variant: str) -> None:
    batch = its.batch(variant)
    batch.pop("position_ids", None)
    ids = its.loaded().generate(**batch, max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert torch.equal(ids, its.tensors[f"{variant}.greedy"])


@absent
@every_case
@every_variant
def test_loss_and_gradients_are_those_of_the_fork(its: Case, variant: str) -> None:
    if its.half:
        pytest.skip("4.36 computed the cross entropy in bf16; today's transformers does not")
    loss, gradients = its.loss_and_gradients_off(variant)
    assert loss <= LOSS
    assert {name for name, off in gradients.items() if off > GRADIENT} == set()


@absent
@every_case
def test_ten_steps_follow_the_fork(its: Case) -> None:
    if its.half:
        pytest.skip("no trajectory was recorded over a half-precision base")
    losses, weights = its.ten_steps_off()
    assert losses <= TRAJECTORY
    assert weights <= STATE


@absent
@every_case
def test_trains_what_the_fork_trained(its: Case) -> None:
    model = its.trainable()
    trained = {name: w for name, w in model.named_parameters() if w.requires_grad}
    own = dict(model.named_parameters())
    assert {in_memory(name, own) for name in its.facts["trainable"]} == set(trained)
    assert sum(weight.numel() for weight in trained.values()) == its.facts["n_trainable"]
    assert sum(weight.numel() for weight in own.values()) == its.facts["n_all"]


@absent
@every_case
def test_saves_the_keys_of_the_fork(its: Case, tmp_path: Path) -> None:
    model = its.trainable()
    saved = get_peft_model_state_dict(model, save_embedding_layers=False)
    found = {
        name: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for name, tensor in saved.items()
    }
    assert found == its.facts["saved_keys"]


@absent
@every_case
def test_disabled_adapter_is_the_base_model(its: Case) -> None:
    if its.facts.get("disable_adapter_max_diff_to_base_plain", 0.0) != 0.0:
        pytest.skip("the fork recorded trained biases here, which stay")
    model, base = its.loaded(), its.base().eval()
    with torch.no_grad(), model.disable_adapter():
        assert torch.equal(model(**its.batch("plain")).logits, base(**its.batch("plain")).logits)


@absent
@every_case
def test_a_method_of_ours_loads_the_folder(its: Case) -> None:
    name = its.facts["method"]
    if name not in registry.names(methods):
        pytest.skip(f"{name} is not one of our methods")
    method = registry.load(methods, "method", name)
    model = method.load(its.base(), its.folder / "adapter")
    ids, mask = its.batch("leftpad")["input_ids"], its.batch("leftpad")["attention_mask"]
    expected = its.tensors["leftpad.logits"]
    with torch.no_grad():
        logits = method.decoder(model)(**method.inputs(model, ids, mask)).logits
    here = mask == 1
    difference = (logits[:, -mask.shape[1] :] - expected[:, -mask.shape[1] :])[here].abs().max()
    assert difference <= (BF16_LOGITS if its.half else LOGITS)


def table() -> str:
    """The largest differences of each case, over both variants."""
    lines = [
        "| case | logits | loss | gradient (relative) | ten losses | weights after ten steps |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for folder in CASES:
        its = Case(folder)
        figures = [max(its.logits_off(its.loaded(), variant) for variant in VARIANTS)]
        if not its.half:
            losses, gradients = zip(*map(its.loss_and_gradients_off, VARIANTS), strict=True)
            figures += [max(losses), max(off for each in gradients for off in each.values())]
            figures += its.ten_steps_off()
        shown = [f"{figure:.1e}" if figure else "0" for figure in figures]
        cells = [folder.name, *shown, *["not recorded"] * (5 - len(shown))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(table())
