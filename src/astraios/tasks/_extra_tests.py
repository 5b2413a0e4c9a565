"""More tests for a benchmark's problems, from a user's file, in the manner of HumanEval+.

One JSON object a line, plain or gzip; problems that are not named keep their tests:

    {"task_id": "Python/0", "test": "assert has_close_elements([1.0, 1.1], 0.2)"}

The text stands behind the benchmark's tests, a new line between, and must run by itself: a function
that nothing calls checks nothing. This works where tests are statements, which is so in Python and
in JavaScript (`console.assert(...)`). In Java nothing can stand behind class `Main`, in C++ nothing
behind `main`, and in Go and Rust tests are functions that a test runner looks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from astraios.errors import DataError, did_you_mean
from astraios.tasks._rows import placed_rows


@dataclass(frozen=True)
class ExtraTests:
    """What a file of extra tests holds."""

    texts: Mapping[str, str]
    """Problem id -> tests."""
    places: Mapping[str, str]
    """Problem id -> file and line."""

    @property
    def sha(self) -> str:
        """First 12 hex digits of the SHA-256 of ids and tests, in the order of ids."""
        hashed = sha256()
        for name in sorted(self.texts):
            for text in (name, self.texts[name]):
                raw = text.encode("utf-8", "surrogatepass")
                hashed.update(len(raw).to_bytes(8, "big") + raw)
        return hashed.hexdigest()[:12]

    def of(self, problem_id: str) -> str:
        """The tests of one problem; empty if there are none."""
        return self.texts.get(problem_id, "")

    def must_fit(self, task: str, problem_ids: Sequence[str]) -> None:
        """Refuse tests of problems that `task` does not have.

        Raises:
            DataError: names file and line of the first.
        """
        for name, where in self.places.items():
            if name not in problem_ids:
                raise DataError(
                    f"{where}: {task} has no problem {name!r}.{did_you_mean(name, problem_ids)}"
                )


def read_extra_tests(path: Path) -> ExtraTests:
    """The tests in `path`.

    Raises:
        MissingDataError: if there is no such file, or it cannot be read.
        DataError: a row that is not JSON, lacks a column, is no text, is blank, or repeats an id;
            names file and line.
    """
    texts: dict[str, str] = {}
    places: dict[str, str] = {}
    for where, row in placed_rows(path, ("task_id", "test")):
        name = row["task_id"]
        if not row["test"].strip():
            raise DataError(f"{where}: column 'test' of {name!r} is blank; leave the line out")
        texts[name], places[name] = row["test"], where
    return ExtraTests(MappingProxyType(texts), MappingProxyType(places))
