"""Function: the same problem under another function name (ReCode, section 3.2).

Signature, documentation, code and tests are renamed together, so the reference still passes.
"""

from __future__ import annotations

import builtins
import keyword
import re
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import replace

from astraios.perturbations import Claim, Told, Transformation
from astraios.perturbations._chance import Chance
from astraios.perturbations._layout import Edit, starts, tokens
from astraios.perturbations._words import KEYS, as_written, exchange, forms, pieces, synonyms

N_TRIES = 20
"""Draws until a name is free; the name stays where none is."""

LETTER = re.compile(r"[A-Za-z]")


def renamed(told: Told, new: str) -> Told:
    """`told` with the function called `new`, wherever the old name means it.

    In code that is every use as a name. In text, names that are also English words (`add`) are
    only renamed where they are called; ReCode's data rename every occurrence of the letters.
    """
    old = told.entry_point
    lone = rf"(?<![\w.]){re.escape(old)}(?!\w)"
    telling = "_" in old.strip("_") or not (old.islower() or old.isdigit())
    in_text = re.compile(lone if telling else rf"{lone}(?=\(|`)")
    prompt, begun, rest = (
        _in_code(part, old, new, in_text) for part in (told.prompt, told.begun, told.rest)
    )
    return replace(
        told,
        entry_point=new,
        prompt=prompt,
        begun=begun,
        rest=rest,
        test=_in_code(told.test, old, new, None),
        text=in_text.sub(new, told.text),
    )


def _in_code(code: str, old: str, new: str, in_text: re.Pattern[str] | None) -> str:
    places, edits, before = starts(code), [], ""
    for token in tokens(code):
        start = places[token.start[0] - 1] + token.start[1]
        if token.type == tokenize.NAME and token.string == old and before != ".":
            edits.append(Edit(start, start + len(old), new))
        elif in_text and token.type in (tokenize.STRING, tokenize.COMMENT):
            told = in_text.sub(new, token.string)
            edits.append(Edit(start, start + len(token.string), told))
        before = token.string
    for edit in reversed(edits):
        code = code[: edit.start] + edit.text + code[edit.end :]
    return code


def _free(told: Told, name: str) -> bool:
    used = {
        token.string
        for part in (told.code, told.test)
        for token in tokens(part)
        if token.type == tokenize.NAME
    }
    taken = keyword.iskeyword(name) or hasattr(builtins, name) or name in used
    return name.isidentifier() and not taken


def _with(draw: Callable[[str, Chance], str]) -> Callable[[Told, Chance], Told]:
    def apply(told: Told, chance: Chance) -> Told:
        for _ in range(N_TRIES):
            name = draw(told.entry_point, chance)
            if name != told.entry_point and _free(told, name):
                return renamed(told, name)
        return told

    return apply


def _butter_fingers(name: str, chance: Chance) -> str:
    letters = [at for at, letter in enumerate(name) if letter in KEYS]
    for at in chance.some(letters, 5):
        name = name[:at] + chance.choice(KEYS[name[at]]) + name[at + 1 :]
    return name


def _camel_case(name: str, chance: Chance) -> str:
    first, *others = name.split("_")
    if others:
        return first + "".join(word[:1].upper() + word[1:] for word in others)
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower() if not name.islower() else name


def _change_char(name: str, chance: Chance) -> str:
    letters = [at for at, letter in enumerate(name) if LETTER.fullmatch(letter)]
    for at in chance.some(letters, 35):
        name = name[:at] + name[at].swapcase() + name[at + 1 :]
    return name


def _swap_char(name: str, chance: Chance) -> str:
    able = [
        at
        for at in range(len(name) - 1)
        if name[at] != name[at + 1] and name[at : at + 2].isalpha()
    ]
    last = -2
    for at in chance.some(able, 7):
        if at > last + 1:
            name, last = exchange(name, at), at
    return name


def _inflect(name: str, chance: Chance) -> str:
    return _other_words(name, chance, forms())


def _synonym(name: str, chance: Chance) -> str:
    return _other_words(name, chance, synonyms())


def _other_words(name: str, chance: Chance, listed: Mapping[str, tuple[str, ...]]) -> str:
    words = pieces(name)
    able = [at for at, word in enumerate(words) if len(word) > 1 and word.lower() in listed]
    for at in chance.some(able, 50):
        others = [other for other in listed[words[at].lower()] if other != words[at].lower()]
        if others:
            words[at] = as_written(chance.choice(others), words[at])
    return "".join(words)


def _made(
    name: str, summary: str, draw: Callable[[str, Chance], str], drawn: bool = True
) -> Transformation:
    return Transformation(f"FuncRename{name}", Claim.NAME, summary, _with(draw), drawn=drawn)


family = (
    _made("ButterFinger", "letters give way to their neighbours on the keyboard", _butter_fingers),
    _made("CamelCase", "snake_case becomes camelCase, and the reverse", _camel_case, drawn=False),
    _made("ChangeChar", "letters change their case", _change_char),
    _made("InflectionalVariation", "words take another form", _inflect),
    _made("SwapChar", "neighbouring letters change places", _swap_char),
    _made("SynonymSub", "words give way to synonyms", _synonym),
)
