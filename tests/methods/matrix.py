"""The contract, method by method: `python tests/methods/matrix.py` measures and prints the table.

Each cell is tried on a tiny model of the StarCoder architecture: `yes`, `no`, or `-` where the
property is none of the method's. `python tests/methods/matrix.py --write` puts it into
`docs/methods.md`.
"""

from __future__ import annotations

import logging
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import torch  # noqa: E402
from test_any_peft import SETTINGS, WORK  # noqa: E402
from test_contract import NAMES  # noqa: E402

from astraios.errors import ContractError, MethodError  # noqa: E402
from astraios.testing import NotApplicable, Property  # noqa: E402
from astraios.testing.methods import CONTRACT, MethodSubject, subject  # noqa: E402

DOCS = HERE.parents[1] / "docs" / "methods.md"
MERGED = "merged = unmerged"
BEGIN, END = "<!-- contract -->", "<!-- end of contract -->"
COLUMNS = {
    "count = formula": "trainable count is the formulas",
    "base frozen": "base weights are frozen and unchanged",
    "gradient everywhere": "gradient reaches every new weight",
    "saved = loaded": "saved and loaded gives equal logits",
    "off = base": "disabled it is the base model",
    "20 steps learn": "twenty steps lower the loss",
    MERGED: "merged equals unmerged",
}
"""What the table says -> the property of the contract."""
PROMISES = {promise.name: promise for promise in CONTRACT}


def cell(promise: Property[MethodSubject], of: MethodSubject) -> str:
    try:
        promise.check(of)
    except (NotApplicable, MethodError):
        return "-"
    except ContractError:
        return "no"
    return "yes"


def row(of: MethodSubject) -> list[str]:
    """The cells of one method."""
    cells = {column: cell(PROMISES[name], of) for column, name in COLUMNS.items()}
    if not of.method.mergeable:  # it keeps its promise by refusing
        cells[MERGED] = "-"
    return list(cells.values())


def table() -> str:
    import astraios.peft  # noqa: F401

    lines = [f"| method | {' | '.join(COLUMNS)} |", "| --- |" + " --- |" * len(COLUMNS)]
    entries = [(name, None) for name in NAMES]
    entries += [
        (f"peft-{kind}", SETTINGS[kind] or {})
        for kind in WORK
        if kind != "adamss" or find_spec("sklearn")
    ]
    for name, options in entries:
        lines.append(f"| `{name}` | {' | '.join(row(subject(name, options)))} |")
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
