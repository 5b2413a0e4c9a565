"""What the paper's models are, without having trained them: sizes of bases, tuned parameters.

Config values of the four bases are those of their repositories on the hub; parameters follow from
the methods' own formulas (`methods`), which tests compare with the models.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from astraios import methods, published
from astraios.methods import Shape
from astraios.published import PublishedModel
from astraios.records import ArmFacts

__all__ = ["arm_facts", "base_name"]

LAYERS = MappingProxyType({"1b": (24, 2048), "3b": (36, 2816), "7b": (42, 4096), "16b": (40, 6144)})
"""Size -> blocks and width; the MLP is four times as wide, keys and values are one head of 128."""
HEAD = 128


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
    n_layers, width = LAYERS[model.size]
    parameters = next(size.n_parameters for size in published.SIZES if size.name == model.size)
    return Shape(
        architecture="gpt_bigcode",
        n_layers=n_layers,
        hidden=width,
        inner=4 * width,
        kv=HEAD,
        n_parameters=parameters,
    )
