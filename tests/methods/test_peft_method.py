"""A method of any PEFT type is one `PeftMethod`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from astraios.errors import MethodError  # noqa: E402
from astraios.methods import Shape  # noqa: E402
from astraios.methods._peft import PeftMethod  # noqa: E402

pytestmark = [
    pytest.mark.train,
    # PEFT's own check does not know the layer norms that its own method is for.
    pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

OTHERS = {
    "LORA": {"target_modules": ["c_attn"], "r": 2, "use_dora": True},
    "LN_TUNING": {"target_modules": ["ln_1", "ln_2"]},
    "VERA": {"target_modules": ["c_fc"], "r": 2},
    "OFT": {"target_modules": ["c_fc"], "oft_block_size": 4},
    "LOHA": {"target_modules": ["c_fc"], "r": 2},
    "PROMPT_TUNING": {"num_virtual_tokens": 3},
}


def no_formula(shape: Shape, settings: Mapping[str, Any]) -> int:
    raise MethodError("no formula")


@pytest.mark.parametrize("kind", OTHERS)
def test_other_peft_types_apply_save_and_load(
    kind: str, tiny_model: Any, batch: Any, tmp_path: Path
) -> None:
    method = PeftMethod(
        name=kind.lower(),
        title=kind,
        paper="",
        peft_type=kind,
        defaults=OTHERS[kind],
        formula=no_formula,
    )
    tuned = method.apply(tiny_model()).train()
    optimizer = torch.optim.SGD((w for w in tuned.parameters() if w.requires_grad), lr=1.0)
    tuned(input_ids=batch[0], labels=batch[0]).loss.backward()
    optimizer.step()
    method.save(tuned.eval(), tmp_path / "adapter")
    loaded = method.load(tiny_model(), tmp_path / "adapter")
    with torch.no_grad():
        found, expected = loaded(input_ids=batch[0]).logits, tuned(input_ids=batch[0]).logits
        plain = tiny_model()(input_ids=batch[0]).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert not torch.equal(found[:, -10:], plain)
