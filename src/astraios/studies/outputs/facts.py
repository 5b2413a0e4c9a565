"""What the paper's models are, without having trained them: sizes of bases, tuned parameters.

Shapes of the four bases are `published.SIZES`; parameters follow from the methods' own formulas
(`methods`), which tests compare with the models.
"""

from __future__ import annotations

from collections.abc import Iterable

from astraios import methods, published
from astraios.methods import Shape
from astraios.published import PublishedModel
from astraios.records import ArmFacts

__all__ = ["arm_facts", "base_name"]


def arm_facts(models: Iterable[PublishedModel]) -> list[ArmFacts]:
    """One record a model."""
    return [
        ArmFacts(
            model=base_name(model),
            method=model.method,
            trainable_parameters=methods.method(model.method).n_trainable(_shape(model)),
            total_parameters=model.n_base_parameters,
            source="by the method's formula, settings of the paper",
        )
        for model in models
    ]


def base_name(model: PublishedModel) -> str:
    """The last part of the base model's name."""
    return model.base_model.rpartition("/")[2]


def _shape(model: PublishedModel) -> Shape:
    """The MLP is four times as wide as the rest; keys and values are those of one head."""
    size = next(size for size in published.SIZES if size.name == model.size)
    return Shape(
        architecture="gpt_bigcode",
        n_layers=size.n_layers,
        hidden=size.hidden,
        inner=4 * size.hidden,
        kv=size.hidden // size.n_heads,
        n_parameters=size.n_parameters,
    )
