"""The contracts that parts keep, for parts of other projects too.

A method, task, language or engine of your own is held to what ours are held to by one line of a
test, or from a shell:

    def test_contract(): check_method("mymethod")

    pytest --pyargs astraios.testing --method mymethod

The properties are plain functions and need no pytest; methods, and engines that run a model, need
torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astraios.testing._contract import Kept, NotApplicable, Property, checked
from astraios.testing._tiny import (
    byte_tokenizer,
    needs_torch,
    tiny_batch,
    tiny_config,
    tiny_model,
)

if TYPE_CHECKING:
    from astraios.testing.languages import Examples

__all__ = [
    "Kept",
    "NotApplicable",
    "Property",
    "byte_tokenizer",
    "check_engine",
    "check_language",
    "check_method",
    "check_task",
    "tiny_batch",
    "tiny_config",
    "tiny_model",
]


def check_method(name: str, options: Mapping[str, Any] | None = None) -> Kept:
    """Hold a method to its contract, on tiny random models of several architectures.

    Args:
        name: what the registry calls it.
        options: its settings that fit a model of width 32, if its defaults do not.

    Returns:
        What it keeps, and what is none of it.

    Raises:
        ContractError: with every property that does not hold.
        UnknownNameError: if there is no such method.
        MissingToolError: without torch, transformers and peft.
    """
    from astraios.testing import methods

    made = methods.subject(name, options)
    needs_torch("methods are")
    return checked(f"method {name!r}", methods.CONTRACT, made)


def check_task(name: str, data_dir: Path | None = None) -> Kept:
    """Hold a task to its contract, with made-up completions and its reference programs.

    Args:
        name: a full name, such as `humanevalfix-python`.
        data_dir: where its data lies.

    Returns:
        What it keeps, and what is none of it; without its toolchains, references are left out.

    Raises:
        ContractError: with every property that does not hold.
        UnknownNameError: if there is no such task.
    """
    from astraios.testing import tasks

    return checked(f"task {name!r}", tasks.CONTRACT, tasks.subject(name, data_dir))


def check_language(name: str, examples: Examples | None = None) -> Kept:
    """Hold a language to its contract: programs run in the strongest sandbox of this machine.

    Args:
        name: what the registry calls it.
        examples: five programs in it; those of the package are known.

    Returns:
        What it keeps; without its toolchain, running programs is left out.

    Raises:
        ContractError: with every property that does not hold.
        UnknownNameError: if there is no such language.
        ConfigError: if `examples` are missing.
    """
    from astraios.testing import languages

    with languages.subject(name, examples) as made:
        return checked(f"language {name!r}", languages.CONTRACT, made)


def check_engine(
    name: str, options: Mapping[str, Any] | None = None, base_model: str | None = None
) -> Kept:
    """Hold an engine to its contract; one that runs a model, to what `hf` answers.

    Args:
        name: what the registry calls it.
        options: its own settings: the address of a server, ...
        base_model: folder or hub id of the model it speaks for; by default a tiny random one.

    Returns:
        What it keeps, and what is none of it.

    Raises:
        ContractError: with every property that does not hold.
        UnknownNameError: if there is no such engine.
        MissingToolError: for an engine that runs a model, without torch.
    """
    from astraios.testing import engines

    with engines.subject(name, options, base_model) as made:
        return checked(f"engine {name!r}", engines.CONTRACT, made)
