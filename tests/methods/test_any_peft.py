"""Every type that PEFT registers: entered by name and held to the contract, or refused and why.

The table of settings below covers all types; one that a newer PEFT adds fails the first test until
it is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from astraios import methods  # noqa: E402
from astraios.errors import MethodError, UnknownNameError  # noqa: E402
from astraios.methods import Method, Shape  # noqa: E402
from astraios.methods._generic import REFUSED, peft_types  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # of the many libraries in PEFT
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

Tiny = Callable[..., Any]
# Settings that fit a model of width 32, the same for every base. None: it has to be refused.
SETTINGS: dict[str, dict[str, Any] | None] = {
    "adalora": {"init_r": 4, "target_r": 2, "total_step": 20},
    "adamss": {"r": 4, "num_subspaces": 2},
    "beft": {},
    "boft": {"boft_block_size": 4},
    "bottleneck": {"bottleneck_size": 8, "placement": "adapterh"},
    "c3a": {"block_size": 16},
    "deft": {},
    "delora": {"r": 4},
    "fourierft": {"n_frequency": 20},
    "frod": {},
    "glora": {"r": 4},
    "gralora": {"r": 4, "gralora_k": 2},
    "hira": {"r": 4},
    "hra": {"r": 4},
    "ia3": {},
    "lily": {"r": 4},
    "ln_tuning": {"target_modules": ["ln_1", "ln_2", "ln_f"]},
    "loha": {"r": 4},
    "lokr": {"r": 4},
    "lora": {"r": 4},
    "miss": {"r": 4},
    "oft": {"oft_block_size": 8},
    "osf": {},
    "p_tuning": {"num_virtual_tokens": 4},
    "peanut": {"r": 4},
    "prefix_tuning": {"num_virtual_tokens": 4},
    "prompt_tuning": {"num_virtual_tokens": 4},
    "psoft": {"r": 4},
    "pvera": {"r": 4},
    "randlora": {"r": 4},
    "road": {"group_size": 8},
    "shira": {"r": 2},
    "supertuning": {},
    "tinylora": {},
    "trainable_tokens": {"token_indices": [3, 4, 5], "target_modules": ["wte"]},
    "unilora": {},
    "vblora": {"vector_length": 16, "num_vectors": 8, "r": 2},
    "vera": {"r": 4},
    "waveft": {"n_frequency": 20},
    **dict.fromkeys(REFUSED),
}
WORK = tuple(name for name, settings in SETTINGS.items() if settings is not None)


def the(kind: str) -> Method:
    import astraios.peft  # noqa: F401

    return methods.method(f"peft-{kind}")


def trained(model: Any) -> dict[str, Any]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def logits(model: Any, ids_BT: Any) -> Any:
    with torch.no_grad():
        return model.eval()(input_ids=ids_BT).logits[:, -ids_BT.shape[1] :]


def tune(
    method: Method, model: Any, ids_BT: Any, n_steps: int = 20, rate: float = 3e-2
) -> list[float]:
    model.train()
    optimizer = torch.optim.AdamW(trained(model).values(), lr=rate, weight_decay=0.0)
    losses = []
    for step in range(n_steps):
        loss = model(input_ids=ids_BT, labels=ids_BT).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(model, step + 1)
    return losses


def test_every_type_of_peft_is_looked_at() -> None:
    import astraios.peft  # noqa: F401

    peft_types.cache_clear()
    assert set(peft_types()) == set(SETTINGS)


@pytest.mark.parametrize("kind", WORK)
def test_is_tuned_saved_and_loaded(kind: str, tiny_model: Tiny, batch: Any, tmp_path: Path) -> None:
    if kind == "adamss":
        pytest.importorskip("sklearn", reason="PEFT's AdaMSS needs scikit-learn")
    method, ids_BT = the(kind), batch[0][:, 4:]
    torch.manual_seed(1)
    tuned = method.apply(tiny_model(), SETTINGS[kind])
    losses = tune(method, tuned, ids_BT)
    assert losses[-1] < losses[0]
    method.save(tuned, tmp_path / "adapter")
    loaded = method.load(tiny_model(), tmp_path / "adapter")
    torch.testing.assert_close(logits(loaded, ids_BT), logits(tuned, ids_BT), rtol=0, atol=1e-5)
    assert not trained(loaded)
    assert not torch.allclose(logits(loaded, ids_BT), logits(tiny_model(), ids_BT))


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_is_refused_with_the_reason(kind: str, tiny_model: Tiny) -> None:
    with pytest.raises(MethodError, match=REFUSED[kind]):
        the(kind).apply(tiny_model())


def test_unknown_type_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="loha"):
        the("lohaa")


def test_unknown_option_names_the_nearest(tiny_model: Tiny) -> None:
    with pytest.raises(MethodError, match=r"no option 'alpa'.*alpha"):
        the("loha").apply(tiny_model(), {"alpa": 3})


def test_there_is_no_formula(tiny_config: Tiny) -> None:
    with pytest.raises(MethodError, match="count the trainable weights"):
        the("loha").n_trainable(Shape.from_config(tiny_config()))


def test_a_label_changes_nothing() -> None:
    assert methods.method("lora~wide") is methods.method("lora")
    assert methods.method("peft-loha~a").name == "peft-loha"
