"""Every registered method keeps the contract of `astraios.testing`."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from astraios import methods, registry
from astraios.errors import ContractError
from astraios.methods import Method
from astraios.testing import NotApplicable, Property, check_method
from astraios.testing._contract import checked
from astraios.testing.methods import CONTRACT, MethodSubject, subject

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

NAMES = tuple(name for name in registry.names(methods) if name != "qlora")  # test_qlora.py
WEIGHTS_OF_THE_BASE = (
    "base weights are frozen and unchanged",
    "disabled it is the base model",
    "options are fields of the peft config",
    "a tuned model is not tuned again",
)
LEFT_OUT = {
    "bitfit": {
        *WEIGHTS_OF_THE_BASE,
        "the formula holds on llama",
        "the formula holds on qwen3",
        "left padded rows equal rows alone on llama",
    },
    "fft": {*WEIGHTS_OF_THE_BASE},
    "pissa": {*WEIGHTS_OF_THE_BASE[:2]},  # see test_presets.py
    "prefix": {"generation with cache equals generation without"},
}
"""Method -> properties that are none of it."""
LORA = methods.method("lora")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("promise", CONTRACT, ids=lambda one: one.name.replace(" ", "-"))
def test_method_keeps(promise: Property[MethodSubject], name: str) -> None:
    if promise.name in LEFT_OUT.get(name, ()):
        with pytest.raises(NotApplicable):
            promise.check(subject(name))
    else:
        promise.check(subject(name))


# --- the contract itself ----------------------------------------------------------------------


class Broken(Method):
    """LoRA, spoiled."""

    name, title, paper, mergeable = "broken", "", "somebody", False

    def apply(self, model, options=None):
        tuned = LORA.apply(model)
        next(w for n, w in tuned.named_parameters() if "ln_f" in n).requires_grad_(True)
        return tuned

    def save(self, model, folder):
        LORA.save(model, folder)

    def load(self, model, folder, *, trainable=False):
        return LORA.apply(model).eval()

    def n_trainable(self, shape, options=None):
        return 1

    def inputs(self, model, ids_BT, mask_BT):
        return {"input_ids": ids_BT, "attention_mask": mask_BT, "position_ids": None}

    def decoder(self, model):
        return LORA.decoder(model)


def test_every_broken_promise_is_told_with_what_was_seen() -> None:
    with pytest.raises(ContractError) as told:
        checked("method 'broken'", CONTRACT, MethodSubject(Broken()))
    text = str(told.value)
    for seen in (
        "method 'broken' keeps",
        "its name is 'broken'; listed are",
        "give it a title",
        "n_trainable says 1 on gpt_bigcode, ",
        "ln_f.weight of the base is not frozen",
        "saved and loaded: logits differ by",
        "apply with option 'botleneck_size' is not refused; raise MethodError",
    ):
        assert seen in text


def test_what_a_method_keeps_and_leaves_out_is_returned() -> None:
    kept = check_method("prefix")
    assert len(kept.held) == len(CONTRACT) - 1
    assert kept.left_out == {
        "generation with cache equals generation without": "its prompt is in the cache"
    }
