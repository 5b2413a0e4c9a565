"""Run the study of `miniature.yaml` and pack its records: `python examples/miniature.py`.

A few minutes on two cores. Weights, packed rows, completions and the report stay out of
`miniature.zip`, which holds the records that tables and figures are computed from.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = ("study.yaml", "plan.jsonl", "manifest.json", "metrics.jsonl", "cost.json")
JUDGED = ("verdicts.jsonl", "scores.json")
EPOCH = (2020, 1, 1, 0, 0, 0)  # equal records give equal bytes


def pack(root: Path, target: Path) -> None:
    """The records below `root`, by name, as a zip."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(root.rglob("*")):
            if path.name in NAMES + JUDGED and "report" not in path.parts:
                name = zipfile.ZipInfo(path.relative_to(root).as_posix(), EPOCH)
                name.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(name, path.read_bytes())


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch)
        command = ["astraios", "study", "run", str(HERE / "miniature.yaml"), "--out", str(root)]
        subprocess.run([sys.executable, "-m", *command], check=True)
        pack(root / "miniature", HERE / "miniature.zip")


if __name__ == "__main__":
    main()
