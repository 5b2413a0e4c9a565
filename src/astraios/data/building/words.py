"""Texts as words, and runs of words as numbers: what duplicates and test sets are compared by.

A word is a run of letters and digits, case and form of characters folded; `has_close_elements` are
three words, and where a script writes no spaces each character is one. Layout and signs count for
nothing, so code that was formatted anew is still the same.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.uint64]

_SPACELESS = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Thai, Japanese, Chinese."""
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W_{_SPACELESS}]+")
_FACTOR = 0x9E3779B97F4A7C15
"""Odd, so that multiplying by it loses nothing modulo 2^64."""


def words_of(text: str) -> list[str]:
    """The words of a text in their order."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.casefold())


def shingles(text: str, size: int) -> set[str]:
    """All runs of `size` words; of a shorter text the whole, of one without words the text."""
    words = words_of(text)
    if len(words) <= size:
        return {" ".join(words) or text}
    return {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)}


@lru_cache(maxsize=1 << 18)
def _number(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")


def numbers(words: list[str]) -> Numbers:
    """A 64-bit hash of each word."""
    import numpy as np

    return np.fromiter(map(_number, words), dtype=np.uint64, count=len(words))


def runs(hashes: Numbers, size: int) -> Numbers:
    """A hash of every run of `size` words, from the words' hashes."""
    import numpy as np

    n = max(len(hashes) - size + 1, 0)
    found = np.zeros(n, dtype=np.uint64)
    for offset in range(size if n else 0):
        found = found * np.uint64(_FACTOR) + hashes[offset : offset + n]
    return found
