"""The report of a study, as several verbs write it."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["write_report"]


def write_report(root: Path, out: Path | None, as_json: bool, formats: str = "svg,png,pdf") -> Path:
    """Write the report of `root`, say what it found unless `as_json`, and give its first page."""
    from astraios.analysis import report
    from astraios.cli.display import out as tell
    from astraios.cli.display import say

    if sys.stderr.isatty():
        say("writing the report")
    written = report.write_report(root, out, tuple(filter(None, formats.split(","))))
    if not as_json:
        found = written.results
        tell(f"{found.text}\n\n{found.answer}\n\nreport: {written.index}")
    return Path(written.index)
