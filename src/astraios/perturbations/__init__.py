"""The same problem told differently: transformations that measure robustness.

One file a family of ReCode (Wang et al. 2022, arXiv:2212.10264, section 3): `format`, `function`,
`syntax` and `docstring`; each exports `family`, a tuple of `Transformation`. They apply to any
problem that looks like HumanEval's: Python code that an answer continues, an instruction or
documentation, a right solution and tests. `docs/perturbations.md` has a table of all.

    told = Told(id="HumanEval/0", entry_point=..., prompt=..., rest=..., test=...)
    perturb(told, "VarRenamerRN", seed=3).told.shown

What comes out depends on the problem, the name and the seed alone: not on the Python version, the
machine or the order of calls. Nothing here runs a program. A transformation *claims* what it
keeps; whoever has a sandbox checks the claim by running `Perturbed.told`'s code with its tests.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

from astraios import registry
from astraios.errors import UnknownNameError
from astraios.perturbations._chance import Chance
from astraios.perturbations._layout import cut

__all__ = [
    "VERSION",
    "Claim",
    "Perturbed",
    "Told",
    "Transformation",
    "begin",
    "families",
    "family",
    "perturb",
    "transformation",
    "transformations",
]

VERSION = "1"
"""Rises with anything that changes what a transformation makes."""


class Claim(StrEnum):
    """What a transformation keeps, strongest first.

    In every case the perturbed problem's own solution passes its own tests.
    """

    LAYOUT = "layout"
    """The code is the same but for white space, line breaks and comments."""
    BEHAVIOUR = "behaviour"
    """Other code that computes the same."""
    NAME = "name"
    """The same code and text under another function name, which the tests call."""
    LETTERS = "letters"
    """The code is the same; letters, case or blanks of the text are disturbed."""
    WORDS = "words"
    """The code is the same; words of the text are others. The meaning is meant to stay, and
    nothing proves that it does."""


@dataclass(frozen=True)
class Told:
    """A problem as a model is told it."""

    id: str
    entry_point: str
    prompt: str
    """Code that the answer continues: imports, helpers, declaration, documentation if it has any.
    Ends in a newline."""
    rest: str
    """What is left to write, right."""
    test: str
    """Code behind the program that decides about it."""
    text: str = ""
    """What is said outside the code: an instruction, if there is one."""
    begun: str = ""
    """The part of the body that is given to the model, behind `prompt`."""

    @property
    def shown(self) -> str:
        """The code that the model sees."""
        return self.prompt + self.begun

    @property
    def code(self) -> str:
        """The whole program, right."""
        return self.prompt + self.begun + self.rest


@dataclass(frozen=True)
class Transformation:
    """One way to tell a problem differently."""

    name: str
    """As in ReCode's released data, so that scores stand under the same names."""
    claim: Claim
    summary: str
    apply: Callable[[Told, Chance], Told]
    """Gives its argument back where it does not apply."""
    drawn: bool = False
    """Whether chance decides, so that seeds differ; ReCode then takes five."""
    partial: bool = False
    """Whether it is about code, so that half of the body is given."""


@dataclass(frozen=True)
class Perturbed:
    """What became of a problem."""

    told: Told
    original: Told
    """The same without the transformation; with half of the body where that is given."""
    transformation: Transformation
    seed: int

    @property
    def changed(self) -> bool:
        """Whether the model is told anything else; some transformations do not always apply."""
        before, after = self.original, self.told
        return (before.text, before.shown) != (after.text, after.shown)


def families() -> tuple[str, ...]:
    """Names of the families."""
    return registry.names(sys.modules[__name__])


def family(name: str) -> tuple[Transformation, ...]:
    """The transformations of a family, in the order of ReCode's files.

    Raises:
        UnknownNameError: if there is none; names the nearest one.
    """
    if name not in families():
        raise UnknownNameError("family of perturbations", name, families())
    found: tuple[Transformation, ...] = registry.load(sys.modules[__name__], "family", name, tuple)
    return found


@cache
def transformations() -> tuple[Transformation, ...]:
    """All transformations of all families."""
    return tuple(one for name in families() for one in family(name))


def transformation(name: str) -> Transformation:
    """The transformation called `name`.

    Raises:
        UnknownNameError: if there is none; names the nearest one.
    """
    for found in transformations():
        if found.name == name:
            return found
    raise UnknownNameError("perturbation", name, tuple(one.name for one in transformations()))


def begin(told: Told) -> Told:
    """`told` with half of its solution given, as ReCode does for code (section 3.3).

    Half the lines, rounded down; where that would end inside a statement, the lines before it.
    """
    if told.begun:
        return told
    at = cut(told.prompt, told.rest)
    return replace(told, begun=told.rest[:at], rest=told.rest[at:])


def perturb(told: Told, name: str, seed: int = 0) -> Perturbed:
    """`told` under one transformation.

    A problem that is already begun stays so under all of them; else those about code begin it.

    Raises:
        UnknownNameError: if there is no such transformation.
    """
    found = transformation(name)
    original = begin(told) if found.partial else told
    chance = Chance("perturbations", VERSION, told.id, name, str(seed))
    return Perturbed(found.apply(original, chance), original, found, seed)
