"""CPU time of judging programs of one language: ours, and a compiler and a process a program.

    python benchmarks/languages.py --language java --programs 90 --data-dir D

Each `_<language>.py` beside this file has `measure(n)`, which judges about `n` programs in every
way it knows and returns a row for each: `arm`, `n_programs`, `cpu_s`, `passed` (one truth a
program), and what else it has to say. The first row is what others are compared with. The arms must
agree on which programs pass, else there is nothing to compare: exit status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from astraios import languages, registry


def measured() -> list[str]:
    """Languages that have a benchmark here."""
    folder = Path(__file__).parent
    return [name for name in registry.names(languages) if (folder / f"_{name}.py").exists()]


def report(language: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print the table; the same numbers, without single verdicts.

    Raises:
        SystemExit: if the arms do not agree.
    """
    base = rows[0]
    for row in rows[1:]:
        pairs = list(zip(base["passed"], row["passed"], strict=True))
        differ = [place for place, (one, other) in enumerate(pairs) if one != other]
        if differ:
            raise SystemExit(f"programs {differ} differ between {base['arm']!r} and {row['arm']!r}")
    print(
        f"{language}: {base['n_programs']} programs, {sum(base['passed'])} pass\n"
        f"{'':28} {'CPU s':>8} {'ms/program':>11} {'x less':>7}",
        file=sys.stderr,
    )
    numbers = []
    for row in rows:
        less = base["cpu_s"] / max(row["cpu_s"], 1e-9)
        ms = 1000 * row["cpu_s"] / row["n_programs"]
        print(f"{row['arm']:28} {row['cpu_s']:8.2f} {ms:11.1f} {less:7.2f}", file=sys.stderr)
        kept = {name: value for name, value in row.items() if name != "passed"}
        numbers.append(kept | {"ms_per_program": round(ms, 2), "times_less": round(less, 2)})
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time of judging programs of one language")
    parser.add_argument("--language", nargs="+", choices=measured(), default=measured())
    parser.add_argument("--programs", type=int, default=60, help="about so many a language")
    parser.add_argument("--data-dir", type=Path, help="folder of benchmark files")
    options = parser.parse_args()
    if options.data_dir:
        os.environ["ASTRAIOS_DATA"] = str(options.data_dir.resolve())
    sys.path.insert(0, str(Path(__file__).parent))
    found = {}
    for language in options.language:
        rows = import_module(f"_{language}").measure(options.programs)
        found[language] = report(language, rows)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
