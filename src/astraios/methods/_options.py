"""Options of a method: names checked, defaults filled in, and what formulas need of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from astraios.errors import MethodError, did_you_mean
from astraios.methods._architectures import ARCHITECTURES, Architecture, ends_with
from astraios.methods._shape import Shape

__all__ = ["adapted", "only_counted", "resolve"]


def resolve(
    method: str,
    options: Mapping[str, Any] | None,
    defaults: Mapping[str, Any],
    more: Iterable[str] = (),
) -> dict[str, Any]:
    """The method's settings: `defaults` overridden by `options`.

    Args:
        method: its name, for the message.
        options: what the user set.
        defaults: the method's own settings.
        more: names that may be set and have no default here.

    Raises:
        MethodError: on an unknown name; names the nearest one.
    """
    known = sorted({*defaults, *more})
    for name in options or {}:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise MethodError(
                f"method {method!r} has no option {name!r}; options: {listed}."
                f"{did_you_mean(str(name), known)}"
            )
    return {**defaults, **(options or {})}


def only_counted(method: str, settings: Mapping[str, Any], plain: Mapping[str, Any]) -> None:
    """Refuse settings that the formula does not cover.

    Args:
        method: its name, for the message.
        settings: all of them.
        plain: name -> the only value the formula is right for.

    Raises:
        MethodError: naming the first that differs.
    """
    for name, value in plain.items():
        if settings.get(name, value) != value:
            raise MethodError(
                f"the parameter formula of {method!r} does not cover {name}="
                f"{settings[name]!r}; count the trainable weights of the tuned model instead"
            )


def adapted(
    method: str,
    shape: Shape,
    settings: Mapping[str, Any],
    default: Callable[[Architecture], Iterable[str]],
) -> tuple[int, tuple[str, ...]]:
    """How many blocks are adapted, and the paths of the adapted layers inside one.

    `target_modules` and `layers_to_transform` of `settings` are read as PEFT reads them; without
    the first, `default` says which layers.

    Raises:
        MethodError: if the targets are a regular expression or name no layer of the block.
    """
    block = ARCHITECTURES.get(shape.architecture)
    if block is None:
        raise MethodError(
            f"the parameter formula of {method!r} does not cover architecture "
            f"{shape.architecture!r}; count the trainable weights of the tuned model instead"
        )
    layers = settings.get("layers_to_transform")
    n_blocks = (
        shape.n_layers if layers is None else 1 if isinstance(layers, int) else len({*layers})
    )
    targets = settings.get("target_modules")
    if targets is None:
        return n_blocks, tuple(default(block))
    if isinstance(targets, str):
        raise MethodError(
            f"the parameter formula of {method!r} does not read regular expressions "
            f"(target_modules={targets!r}); list names, or count the tuned model's weights"
        )
    found = tuple(path for path in block.paths if any(ends_with(path, name) for name in targets))
    if not found:
        raise MethodError(
            f"target_modules {sorted(targets)} name no layer of a {shape.architecture} block; "
            f"its layers are: {', '.join(block.paths)}"
        )
    return n_blocks, found
