"""Rows that share a run of words with a benchmark's prompt, solution or tests.

As GPT-3 (Brown et al. 2020, appendix C) and Llama 2 (Touvron et al. 2023, appendix A.6) do, with
four decisions: a text shorter than a run has to be in the row as a whole, a run counts only where
at least half of its words have letters (rows of numbers are everywhere), a run that is in more than
ten problems of one benchmark is its boilerplate and tells nothing of any problem, and so is one of
`boilerplate.txt`: headers of licences, blocks of imports, plain counting loops.

`data` knows no tasks: texts come from the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from astraios.data.building.words import numbers, runs, words_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from astraios.data.building.words import Numbers

SHORTEST = 6
"""Words that a text has to have to be looked for; shorter ones are in too much by chance."""
BOILERPLATE = 10
"""Problems of a benchmark that may share a run before it is taken for boilerplate."""

_ANY_ORDER = "any order: "

Part = Literal["prompt", "solution", "tests"]


@dataclass(frozen=True)
class BenchmarkText:
    """One text of a benchmark's problem."""

    problem: str
    group: str
    """Shared by problems that are variants of each other; else the problem."""
    part: Part
    text: str


Benchmarks = Mapping[str, Sequence[BenchmarkText]]
"""Name of a benchmark -> its texts."""


@dataclass(frozen=True)
class Hit:
    """A row and a problem that share runs of words."""

    benchmark: str
    problem: str
    part: Part
    ngram: str
    """The first run they share."""
    n: int
    """How many runs of the row they share."""


@dataclass(frozen=True)
class Looked:
    """What of one benchmark is looked for."""

    n_problems: int
    n_texts: int
    n_too_short: int
    n_ngrams: int
    n_boilerplate: int


def texts_hash(benchmarks: Benchmarks) -> str:
    """What tells these texts from others."""
    digest = sha256()
    for name in sorted(benchmarks):
        for text in benchmarks[name]:
            for field in (name, text.problem, text.group, text.part, text.text):
                raw = field.encode("utf-8", "surrogatepass")
                digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()


class Contamination:
    """An index of the word runs of benchmarks."""

    def __init__(self, benchmarks: Benchmarks, size: int) -> None:
        self.size = size
        self.looked: dict[str, Looked] = {}
        self._texts: list[tuple[str, BenchmarkText]] = []
        self._groups: list[int] = []
        """Number of the group of each text; groups of different benchmarks differ."""
        collected: dict[int, list[tuple[Numbers, NDArray[np.int32]]]] = {}
        for name, texts in benchmarks.items():
            self._collect(name, texts, collected)
        self._index = {length: _sorted(parts) for length, parts in sorted(collected.items())}

    def _collect(
        self,
        name: str,
        texts: Sequence[BenchmarkText],
        collected: dict[int, list[tuple[Numbers, NDArray[np.int32]]]],
    ) -> None:
        import numpy as np

        first_group = max(self._groups, default=-1) + 1
        groups: dict[str, int] = {}
        by_length: dict[int, list[tuple[Numbers, NDArray[np.int32]]]] = {}
        n_too_short = n_ngrams = n_boilerplate = 0
        everywhere = _everywhere()
        listed: dict[int, list[Numbers]] = {}
        for text in texts:
            words = words_of(text.text)
            length = min(len(words), self.size)
            if length < min(SHORTEST, self.size):
                n_too_short += bool(words)
                continue
            found = runs(numbers(words), length)
            common = everywhere.of_lists(words, length)
            listed.setdefault(length, []).append(found[common])
            found = found[_wordy(words, length) & ~common]
            owner = np.full(len(found), len(self._texts), dtype=np.int32)
            by_length.setdefault(length, []).append((found, owner))
            self._texts.append((name, text))
            self._groups.append(groups.setdefault(text.group, first_group + len(groups)))
        of_text = np.asarray(self._groups, dtype=np.int64)
        for length, parts in by_length.items():
            grams = np.concatenate([gram for gram, _ in parts])
            owners = np.concatenate([owner for _, owner in parts])
            # one entry for a run and a group, that of its first text
            order = np.lexsort((owners, of_text[owners], grams))
            grams, owners = grams[order], owners[order]
            group = of_text[owners]
            new = np.ones(len(grams), dtype=bool)
            new[1:] = (grams[1:] != grams[:-1]) | (group[1:] != group[:-1])
            grams, owners = grams[new], owners[new]
            distinct, position, counts = np.unique(grams, return_inverse=True, return_counts=True)
            telling = (counts <= BOILERPLATE) & ~everywhere.of_texts(distinct, length)
            n_ngrams += int(telling.sum())
            n_boilerplate += int((~telling).sum())
            told = telling[position]
            collected.setdefault(length, []).append((grams[told], owners[told]))
        n_boilerplate += sum(len(np.unique(np.concatenate(grams))) for grams in listed.values())
        self.looked[name] = Looked(
            n_problems=len({text.problem for text in texts}),
            n_texts=len(texts),
            n_too_short=n_too_short,
            n_ngrams=n_ngrams,
            n_boilerplate=n_boilerplate,
        )

    def hits(self, text: str) -> Iterator[Hit]:
        """The problems that a row's text shares runs with, in the order the texts were given."""
        words = words_of(text)
        hashes = numbers(words)
        found: dict[int, tuple[int, int, int, int]] = {}
        """Group -> its first text, where the first shared run begins, its length, their number."""
        for length, (grams, owners) in self._index.items():
            mine = runs(hashes, length)
            left = grams.searchsorted(mine, side="left")
            right = grams.searchsorted(mine, side="right")
            for at in (left < right).nonzero()[0].tolist():
                for owner in owners[left[at] : right[at]].tolist():
                    group = self._groups[owner]
                    first = found.get(group, (owner, at, length, 0))
                    found[group] = (*first[:3], first[3] + 1)
        for owner, at, length, n in sorted(found.values()):
            name, where = self._texts[owner]
            ngram = " ".join(words[at : at + length])
            yield Hit(benchmark=name, problem=where.problem, part=where.part, ngram=ngram, n=n)


@dataclass(frozen=True)
class _Everywhere:
    """What `boilerplate.txt` says."""

    texts: tuple[Numbers, ...]
    lists: Mapping[str, int]
    """Word -> a bit for each list that it is in."""

    def of_lists(self, words: list[str], length: int) -> NDArray[np.bool_]:
        """Of each run of `words`, whether it is of nothing but words of one list."""
        import numpy as np

        bits = np.fromiter((self.lists.get(word, 0) for word in words), np.int64, len(words))
        n = len(words) - length + 1
        shared = bits[:n].copy()
        for offset in range(1, length):
            shared &= bits[offset : offset + n]
        return np.asarray(shared != 0)

    def of_texts(self, grams: Numbers, length: int) -> NDArray[np.bool_]:
        """Of each run of `length` words, whether it is in a text."""
        import numpy as np

        return np.isin(grams, np.concatenate([runs(text, length) for text in self.texts]))


@cache
def _everywhere() -> _Everywhere:
    text = files("astraios.data.building").joinpath("boilerplate.txt").read_text(encoding="utf-8")
    texts: list[Numbers] = []
    lists: dict[str, int] = {}
    bit = 1
    for line in text.splitlines():
        if line.startswith(_ANY_ORDER):
            for word in words_of(line.removeprefix(_ANY_ORDER)):
                lists[word] = lists.get(word, 0) | bit
            bit <<= 1
        elif line and not line.startswith("#"):
            texts.append(numbers(words_of(line)))
    return _Everywhere(tuple(texts), MappingProxyType(lists))


def _wordy(words: list[str], length: int) -> NDArray[np.bool_]:
    """Of each run, whether at least half of its words have letters."""
    import numpy as np

    lettered = np.array([0, *(not word.isdecimal() for word in words)], dtype=np.int64).cumsum()
    return np.asarray(2 * (lettered[length:] - lettered[:-length]) >= length)


def _sorted(
    parts: list[tuple[Numbers, NDArray[np.int32]]],
) -> tuple[Numbers, NDArray[np.int32]]:
    import numpy as np

    grams = np.concatenate([gram for gram, _ in parts])
    owners = np.concatenate([owner for _, owner in parts])
    order = np.argsort(grams, kind="stable")
    return grams[order], owners[order]
