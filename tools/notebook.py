"""Run a notebook without Jupyter: `python tools/notebook.py examples/analysis.ipynb [--write]`.

Cells are run in order in one namespace, in the notebook's folder. What a cell prints, the value of
its last line and the figures of pyplot are its outputs, as Jupyter would store them. Without
`--write` nothing is changed, and the exit status is 1 if texts differ from those that are stored.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

Cell = dict[str, Any]


def run(path: Path) -> tuple[dict[str, Any], list[Cell]]:
    """The notebook as stored, and its code cells with the outputs that they have here.

    Raises:
        Exception: whatever a cell raises; a note names the cell.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    space: dict[str, Any] = {"__name__": "__main__"}
    found = []
    with contextlib.chdir(path.parent):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                number = len(found) + 1
                try:
                    outputs = _outputs("".join(cell["source"]), space, number)
                except Exception as error:
                    error.add_note(f"in code cell {number} of {path}")
                    raise
                found.append({**cell, "execution_count": number, "outputs": outputs})
    return notebook, found


def _outputs(source: str, space: dict[str, Any], number: int) -> list[Cell]:
    body = ast.parse(source).body
    last = ast.Expression(body.pop().value) if isinstance(body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), f"cell {number}", "exec"), space)  # noqa: S102
        value = eval(compile(last, f"cell {number}", "eval"), space) if last else None  # noqa: S307
    outputs: list[Cell] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": lines(printed)})
    if value is not None:
        html = getattr(value, "_repr_html_", None)
        data = {"text/plain": lines(repr(value)), **({"text/html": lines(html())} if html else {})}
        outputs.append(
            {
                "output_type": "execute_result",
                "execution_count": number,
                "metadata": {},
                "data": data,
            }
        )
    outputs += [
        {"output_type": "display_data", "metadata": {}, "data": {"image/svg+xml": lines(image)}}
        for image in _figures()
    ]
    return outputs


def _figures() -> list[str]:
    """The figures of pyplot as SVG; they are closed."""
    if "matplotlib.pyplot" not in sys.modules:
        return []
    from matplotlib import pyplot

    found = []
    for number in pyplot.get_fignums():
        out = io.StringIO()
        with pyplot.rc_context({"svg.hashsalt": "notebook"}):
            pyplot.figure(number).savefig(out, format="svg", metadata={"Date": None})
        found.append(out.getvalue())
    pyplot.close("all")
    return found


def lines(text: str | io.StringIO) -> list[str]:
    """Text as notebooks store it."""
    whole = text if isinstance(text, str) else text.getvalue()
    return whole.splitlines(keepends=True)


def texts(cells: list[Cell]) -> list[list[str]]:
    """What a reader sees of each cell, images left out."""
    return [
        [
            "".join(output.get("text") or output["data"]["text/plain"])
            for output in cell["outputs"]
            if "text" in output or "text/plain" in output["data"]
        ]
        for cell in cells
    ]


def main() -> int:
    os.environ.setdefault("MPLBACKEND", "agg")
    path = Path(sys.argv[1]).resolve()
    notebook, found = run(path)
    stored = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if "--write" in sys.argv:
        fresh = iter(found)
        cells = [c if c["cell_type"] != "code" else next(fresh) for c in notebook["cells"]]
        text = json.dumps({**notebook, "cells": cells}, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return 0
    differ = [
        n for n, (a, b) in enumerate(zip(texts(found), texts(stored), strict=True), 1) if a != b
    ]
    for number in differ:
        sys.stderr.write(f"{path.name}: code cell {number} says something else than is stored\n")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
