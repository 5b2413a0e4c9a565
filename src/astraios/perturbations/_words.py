"""Words: how identifiers and prose are divided into them, their forms and synonyms.

The lists in `words/` are our own, of words that statements of programming problems are made of.
Nothing is looked up in a dictionary, so a word that is not listed is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_FOLDER = files("astraios.perturbations") / "words"

KEYS = MappingProxyType(
    {
        "q": "was", "w": "qeasd", "e": "wrsdf", "r": "etdfg", "t": "ryfgh", "y": "tughj",
        "u": "yihjk", "i": "uojkl", "o": "ipkl", "p": "ol", "a": "qwsz", "s": "awedxz",
        "d": "serfcx", "f": "drtgvc", "g": "ftyhbv", "h": "gyujnb", "j": "huikmn", "k": "jiolm",
        "l": "kop", "z": "asx", "x": "zsdc", "c": "xdfv", "v": "cfgb", "b": "vghn", "n": "bhjm",
        "m": "njk",
    }
)  # fmt: skip
"""Letters -> those beside them on an English keyboard."""

VERB, NOUN, ADJECTIVE = "verb", "noun", "adjective"
SIZES = MappingProxyType({VERB: 5, NOUN: 2, ADJECTIVE: 3})
"""Forms a line of each kind has: verbs base, third person, past, participle, -ing; nouns singular
and plural; adjectives the three degrees."""


def _lines(name: str) -> list[list[str]]:
    text = (_FOLDER / name).read_text(encoding="utf-8")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


@cache
def forms() -> Mapping[str, tuple[str, ...]]:
    """Word -> all forms of what it is a form of; the first kind that lists it decides."""
    found: dict[str, tuple[str, ...]] = {}
    for _, *words in _lines("forms.txt"):
        for word in words:
            found.setdefault(word, tuple(dict.fromkeys(words)))
    return MappingProxyType(found)


@cache
def verbs() -> Mapping[str, tuple[str, ...]]:
    """Form -> base, third person, past, participle and -ing of the verb."""
    found: dict[str, tuple[str, ...]] = {}
    for kind, *words in _lines("forms.txt"):
        if kind == VERB:
            for word in words[:2]:
                found.setdefault(word, tuple(words))
    return MappingProxyType(found)


@cache
def synonyms() -> Mapping[str, tuple[str, ...]]:
    """Word -> words that can stand for it, itself left out."""
    found: dict[str, dict[str, None]] = {}
    for group in _lines("synonyms.txt"):
        for word in group:
            found.setdefault(word, {}).update((other, None) for other in group if other != word)
    return MappingProxyType({word: tuple(others) for word, others in found.items()})


def as_written(word: str, like: str) -> str:
    """`word` in the case of `like`."""
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


def pieces(name: str) -> list[str]:
    """An identifier as words and what joins them; joined they are `name` again."""
    return re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^A-Za-z]+", name)


def exchange(text: str, at: int) -> str:
    """`text` with the characters at `at` and behind it in each other's place."""
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
