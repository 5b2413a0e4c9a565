"""Write the golden tables anew: `python tests/analysis/golden/make.py`, then read the diff.

Made from the miniature study of `tests/analysis/conftest.py`, whose verdicts are drawn from hashes
and so are the same everywhere.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

from astraios.analysis.report import write_report

HERE = Path(__file__).parent
TABLES = ("results", "robustness", "outcomes", "differences")


def main() -> None:
    spec = importlib.util.spec_from_file_location("miniature", HERE.parent / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    miniature = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(miniature)
    with tempfile.TemporaryDirectory() as folder:
        report = write_report(miniature.write_study(Path(folder) / "study"))
        for name in TABLES:
            text = (report.folder / "tables" / f"{name}.csv").read_text(encoding="utf-8")
            (HERE / f"{name}.csv").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
