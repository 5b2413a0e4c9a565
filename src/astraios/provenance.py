"""What made a run: our code and the packages that can move a number."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from astraios import __version__
from astraios.config import tool_environment
from astraios.records import Code

PACKAGES = ("torch", "transformers", "peft", "tokenizers", "accelerate", "numpy")


@cache
def code() -> Code:
    """Version of the package and, in a checkout, the commit and whether it was changed."""
    source = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(source), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                env=tool_environment(("PATH",)),
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    tracked = git("ls-files", "--error-unmatch", "runs.py")
    if tracked is None:
        return Code(version=__version__)
    changed = git("status", "--porcelain", "--", ".")
    return Code(version=__version__, commit=git("rev-parse", "HEAD"), dirty=bool(changed))


@cache
def packages() -> Mapping[str, str]:
    """Versions of the packages that can move a number; nothing is imported."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def now() -> str:
    """The time in UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
