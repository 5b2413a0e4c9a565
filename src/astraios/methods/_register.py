"""Makes the bottleneck method known to PEFT, once.

PEFT has no hook for methods of other packages: its enum of methods is closed, and what a saved
`peft_type` means is looked up there. So the member is added first, then the method is registered
the way PEFT registers its own. All checks come before the first change.
"""

from __future__ import annotations

from typing import Any

import peft
from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING
from peft.utils import register_peft_method

from astraios.errors import MethodError

__all__ = ["NAME", "register"]

NAME = "BOTTLENECK"
"""The `peft_type` of the original's saved configs."""
PREFIX = "adapter_"


def register() -> None:
    """Register `BottleneckConfig` and `BottleneckModel`; does nothing the second time.

    Raises:
        MethodError: if PEFT or another package has taken the name or the prefix; PEFT is then as
            it was.
    """
    if NAME in PeftType.__members__:
        config = PEFT_TYPE_TO_CONFIG_MAPPING.get(PeftType(NAME))
        if config is None or config.__module__ != "astraios.methods._bottleneck_config":
            owner = "no config" if config is None else f"{config.__module__}.{config.__qualname__}"
            raise MethodError(
                f"PEFT {peft.__version__} already has a method {NAME!r} ({owner}), so the one of "
                "Astraios cannot be registered; use peft 0.21, or that method through peft itself"
            )
        return
    taken = [kind for kind, prefix in PEFT_TYPE_TO_PREFIX_MAPPING.items() if prefix == PREFIX]
    if taken:
        raise MethodError(
            f"the PEFT method {taken[0]} already uses {PREFIX!r}, the prefix of these adapters; "
            "use the two in different processes"
        )
    _add_member(NAME)
    try:
        # After the member is there: a config names it when it is made.
        from astraios.methods._bottleneck_config import BottleneckConfig
        from astraios.methods._bottleneck_mixed import join_mixed_models
        from astraios.methods._bottleneck_model import BottleneckModel

        register_peft_method(
            name=NAME.lower(), config_cls=BottleneckConfig, model_cls=BottleneckModel, prefix=PREFIX
        )
        join_mixed_models()
    except BaseException:
        _remove_member(NAME)
        raise


def _add_member(name: str) -> None:
    # `enum` offers no way to add a member; these are the attributes that Python 3.11 to 3.14 use.
    # A test checks look-up, iteration, pickling and copying.
    kind: Any = PeftType
    member = str.__new__(kind, name)
    member._name_ = name
    member._value_ = name
    member.__objclass__ = kind
    member._sort_order_ = len(kind._member_names_)
    kind._member_map_[name] = member
    kind._value2member_map_[name] = member
    kind._member_names_.append(name)
    type.__setattr__(kind, name, member)


def _remove_member(name: str) -> None:
    kind: Any = PeftType
    kind._member_map_.pop(name)
    kind._value2member_map_.pop(name)
    kind._member_names_.remove(name)
    type.__delattr__(kind, name)
