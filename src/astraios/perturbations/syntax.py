"""Syntax: other code that computes the same (ReCode, section 3.3). Half of the body is given.

The whole function is transformed and then divided where it was: what is left to write fits what
is given.
"""

from __future__ import annotations

from astraios.perturbations import Claim, Told, Transformation
from astraios.perturbations._chance import Chance


def _made(name: str, summary: str, drawn: bool = False) -> Transformation:
    def apply(told: Told, chance: Chance) -> Told:
        from astraios.perturbations._programs import MAKERS
        from astraios.perturbations._tree import tree_of

        tree = tree_of(told)
        return MAKERS[name](tree, chance) if tree else told

    return Transformation(name, Claim.BEHAVIOUR, summary, apply, drawn=drawn, partial=True)


family = (
    _made("DeadCodeInserterLast", "code that never runs ends what is given"),
    _made("DeadCodeInserter", "code that never runs, anywhere in it", drawn=True),
    _made("ForWhileTransformer", "for loops become while loops"),
    _made("OperandSwap", "a comparison is told from its other side"),
    _made("VarRenamerCB", "the most used variable gets another usual name"),
    _made("VarRenamerNaive", "the most used variable becomes VAR_0"),
    _made("VarRenamerRN", "a variable gets a random name", drawn=True),
)
