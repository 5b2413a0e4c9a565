"""Versions of compilers and interpreters, and what to install where one is missing."""

from __future__ import annotations

import shutil
import subprocess
from functools import lru_cache

from astraios.errors import MissingToolError

_ANSWER_S = 30.0


@lru_cache(maxsize=64)
def tool_version(title: str, package: str, *command: str) -> str:
    """First line of what `command` prints about its version.

    Args:
        title: the language, for the message.
        package: what brings the tool on Debian, for the message.
        command: the tool and the argument that makes it name its version.

    Raises:
        MissingToolError: if the tool is not found or does not answer.
    """
    tool = command[0]
    remedy = f"install it (Debian: apt install {package}) or leave the {title} tasks out"
    if shutil.which(tool) is None:
        raise MissingToolError(f"{title} programs need {tool!r}, which was not found; {remedy}")
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            check=True,
            encoding="utf-8",
            errors="replace",
            timeout=_ANSWER_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingToolError(
            f"{title} programs need {tool!r}, which is there but does not tell its version "
            f"({error}); {remedy}"
        ) from None
    lines = (answer.stdout.strip() or answer.stderr.strip()).splitlines()
    return lines[0].strip() if lines else "unknown"


def missing(title: str, what: str, package: str) -> MissingToolError:
    """The error that says which library of a language is not there."""
    return MissingToolError(
        f"{title} programs need {what}, which was not found; install it (Debian: apt install "
        f"{package}) or leave the {title} tasks out"
    )
