"""Python, as the BigCode harness cuts, assembles and runs it for HumanEvalPack."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, version

from astraios.errors import MissingToolError
from astraios.languages import Language, Surroundings
from astraios.sandbox import Limits

__all__ = ["Python", "language"]

_IMPORTS = """
import math
import re
import sys
import copy
import datetime
import itertools
import collections
import heapq
import statistics
import functools
import hashlib
import numpy
import numpy as np
import string
from typing import *
from collections import *
""".strip()
"""The import helper of the harness; `collections` comes last, so its names win over `typing`'s."""

_WITHOUT_NUMPY = "\n".join(line for line in _IMPORTS.split("\n") if "numpy" not in line)
_MAY_NAME_NUMPY = re.compile(
    r"\bnp\b|numpy|modules|import_|__|pickle|inspect|ctypes|\b(?:globals|locals|vars|dir|eval|exec)\b"
)
"""By name, or by anything that finds names at run time."""

_PRELOAD = (
    "math", "re", "sys", "copy", "datetime", "itertools", "collections", "heapq", "statistics",
    "functools", "hashlib", "string", "typing", "random",
)  # fmt: skip


_NOTHING = Surroundings()


class Python(Language):
    """Functions that end where the next unindented line begins."""

    name = "python"
    title = "Python"
    tests_are_statements = True
    stops = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\nassert", "<|endoftext|>")
    # 10 s as in the harness, of CPU instead of wall time. It prints into memory without a limit;
    # ours is far above what a program that solves something prints.
    limits = Limits(cpu_s=10.0, wall_s=60.0, memory_mib=2048, output_kib=16384)
    preamble = _IMPORTS

    def truncate(self, completion: str) -> str:
        text = completion.rstrip()
        for stop in self.stops:
            text = text.partition(stop)[0]
        lines = text.split("\n")
        for number, line in enumerate(lines):
            if _is_unindented(line):
                return "\n".join(lines[:number])
        return text

    def finished(self, completion: str) -> bool:
        if any(stop in completion for stop in self.stops):
            return True
        return any(map(_is_unindented, completion.split("\n")))

    def candidate(self, code: str, around: Surroundings = _NOTHING) -> str:
        return f"{_IMPORTS}\n{code}".strip()

    def needed(self, program: str) -> str:
        return _IMPORTS if _needs_numpy(program) else _WITHOUT_NUMPY

    def preload(self, program: str) -> tuple[str, ...]:
        return (*_PRELOAD, "numpy") if _needs_numpy(program) else _PRELOAD

    def toolchain(self) -> dict[str, str]:
        try:
            return {"python": platform.python_version(), "numpy": version("numpy")}
        except PackageNotFoundError:
            raise MissingToolError(
                "programs of HumanEvalPack import numpy, which is not installed beside Astraios; "
                "install it (pip install numpy)"
            ) from None


def _needs_numpy(program: str) -> bool:
    """Whether `program` could notice that numpy is not there: a process without it costs less."""
    return bool(_MAY_NAME_NUMPY.search(program.replace(_IMPORTS, "", 1)))


def _is_unindented(line: str) -> bool:
    return bool(line.strip()) and line[0] not in " \t"


language = Python()
