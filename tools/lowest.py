"""Print the lowest versions that `pyproject.toml` allows, as constraints for pip.

    python tools/lowest.py > bounds.txt && pip install -c bounds.txt -e .[dev]

`>=2.10` becomes `==2.10.*`: the lowest version with what was mended in it since, because nobody
stays on a release that was withdrawn. Only what the project names itself is held down; what those
need is left to pip. With names of extras behind it, those count too; without any, all of them do.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[^]]*\])?>=(?P<version>[\d.]+)")


def lowest(extras: list[str] | None = None) -> dict[str, str]:
    """Distribution -> the lowest version that the core or one of `extras` (None: any) allows.

    The highest of them counts where several say so. Raises ValueError for a requirement without a
    lower bound.
    """
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    wanted = list(project["dependencies"])
    for extra in optional if extras is None else extras:
        wanted += optional[extra]
    found: dict[str, str] = {}
    for text in wanted:
        if text.startswith("astraios["):
            continue
        match = REQUIREMENT.match(text)
        if match is None:
            raise ValueError(f"{PROJECT.name}: {text!r} has no lower bound; write NAME>=VERSION")
        name, version = match["name"], match["version"]
        found[name] = max(found.get(name, version), version, key=parts)
    return found


def parts(version: str) -> tuple[int, ...]:
    """`1.10` as (1, 10)."""
    return tuple(int(part) for part in version.split("."))


if __name__ == "__main__":
    for name, version in sorted(lowest(sys.argv[1:] or None).items()):
        sys.stdout.write(f"{name}=={version}.*\n")
