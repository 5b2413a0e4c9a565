"""The contract, method by method: `python tests/methods/matrix.py` measures and prints the table.

Each cell is tried on a tiny model of the StarCoder architecture: `yes`, `no`, or `-` where the
property is none of the method's. `python tests/methods/matrix.py --write` puts it into
`docs/methods.md`.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import torch  # noqa: E402
from test_any_peft import SETTINGS, WORK, tune  # noqa: E402
from test_contract import BASE_ITSELF, NAMES, RATE, SMALL  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from astraios import methods  # noqa: E402
from astraios.errors import MethodError  # noqa: E402
from astraios.methods import Method, Shape  # noqa: E402
from conftest import tiny_config  # noqa: E402

DOCS = HERE.parents[1] / "docs" / "methods.md"
BEGIN, END = "<!-- contract -->", "<!-- end of contract -->"
COLUMNS = (
    "count = formula",
    "base frozen",
    "gradient everywhere",
    "saved = loaded",
    "off = base",
    "20 steps learn",
    "merged = unmerged",
)


def base() -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(tiny_config()).eval()


def ids() -> Any:
    return torch.randint(3, 90, (3, 6), generator=torch.Generator().manual_seed(3))


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model.eval()(input_ids=ids()).logits[:, -6:]


def row(method: Method, options: dict[str, Any]) -> Iterator[str]:
    """The cells of one method."""
    tuned = method.apply(base(), options)
    weights = {name: w for name, w in tuned.named_parameters() if w.requires_grad}
    yield told(lambda: counted(method, weights, options))
    tune_rate = RATE.get(method.name, 1e-2)
    before = {name: w.detach().clone() for name, w in base().named_parameters()}
    losses = tune(method, tuned, ids(), rate=tune_rate)
    own = method.name in BASE_ITSELF
    yield "-" if own else yes(frozen(tuned, before))
    yield yes(all(w.grad is not None and w.grad.any() for w in weights.values()))
    with tempfile.TemporaryDirectory() as folder:
        method.save(tuned, Path(folder) / "adapter")
        loaded = method.load(base(), Path(folder) / "adapter")
        yield yes(torch.allclose(logits(loaded), logits(tuned), rtol=0, atol=1e-5))
    yield "-" if own else yes(off(tuned))
    yield yes(losses[-1] < losses[0] - 0.01)
    yield merged(method, tuned)


def counted(method: Method, weights: dict[str, Any], options: dict[str, Any]) -> bool:
    found = sum(weight.numel() for weight in weights.values())
    return found == method.n_trainable(Shape.from_config(tiny_config()), options)


def frozen(tuned: Any, before: dict[str, Any]) -> bool:
    for name, weight in tuned.get_base_model().named_parameters():
        plain = name.replace(".base_layer.", ".").replace(".original_module.", ".")
        if plain in before and not torch.equal(weight, before[plain]):
            return False
    return True


def off(tuned: Any) -> bool:
    with tuned.disable_adapter():
        return bool(torch.equal(logits(tuned), logits(base())))


def merged(method: Method, tuned: Any) -> str:
    expected = logits(tuned)
    try:
        found = logits(method.merge(tuned))
    except MethodError:
        return "-"
    return yes(torch.allclose(found, expected, rtol=0, atol=1e-4))


def told(check: Callable[[], bool]) -> str:
    try:
        return yes(check())
    except MethodError:
        return "-"


def yes(holds: bool) -> str:
    return "yes" if holds else "no"


def table() -> str:
    import astraios.peft  # noqa: F401

    lines = [f"| method | {' | '.join(COLUMNS)} |", "| --- |" + " --- |" * len(COLUMNS)]
    entries = [(name, SMALL.get(name, {})) for name in NAMES]
    entries += [
        (f"peft-{kind}", SETTINGS[kind] or {})
        for kind in WORK
        if kind != "adamss" or find_spec("sklearn")
    ]
    for name, options in entries:
        torch.manual_seed(1)
        lines.append(f"| `{name}` | {' | '.join(row(methods.method(name), options))} |")
    return "\n".join(lines)


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    made = table()
    print(made)
    if "--write" in sys.argv:
        head, _, rest = DOCS.read_text("utf-8").partition(BEGIN)
        tail = rest.partition(END)[2]
        DOCS.write_text(f"{head}{BEGIN}\n{made}\n{END}{tail}", "utf-8")


if __name__ == "__main__":
    main()
