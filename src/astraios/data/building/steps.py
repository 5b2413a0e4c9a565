"""The steps of a build in their order: the rules of each source, then what is for all rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from astraios.data.building.config import BuildConfig, SourceConfig
from astraios.data.rules import Rule, commits, conversations, instructions, switched
from astraios.data.rules.licences import PERMISSIVE, PUBLISHED
from astraios.errors import MissingDataError, MissingToolError
from astraios.records import InstructionRecord, Record

LANGUAGE = "language"
MESSAGES = "messages"
EMPTY = "not-empty"
SECRETS = "secrets"
EXACT = "exact-duplicate"
NEAR = "near-duplicate"
CONTAMINATION = "contamination"
SAMPLE = "sample"
SPLIT = "split"


class Step(Record):
    """One step of a build."""

    name: str
    source: str
    """Name of the source whose rows it sees; empty: all."""
    keeps: str
    """One line: what it keeps or does."""


@dataclass(frozen=True)
class Filter:
    """How the rows of one kind are read, filtered and joined."""

    rules: tuple[Rule[Any], ...]
    parse: Callable[[Mapping[str, Any], str], Any]
    joined: Callable[[Any], InstructionRecord]
    identity: Callable[[Any], str]
    language: Callable[[Any], str | None]


def filter_of(source: SourceConfig, config: BuildConfig) -> Filter:
    """The filter of a source.

    Raises:
        UnknownNameError: if a rule that is left out is none of its rules.
        MissingDataError: if the tokenizer cannot be had.
    """
    if source.kind == "commits":
        return Filter(
            switched(_commit_rules(source, config), source.without),
            commits.Commit.of,
            commits.joined,
            lambda commit: f"{commit.commit}:{commit.new_file}",
            lambda commit: commit.lang.lower() or None,
        )
    if source.kind == "conversations":
        return Filter(
            switched(conversations.conversation_rules(source.preset), source.without),
            conversations.Conversation.of,
            conversations.joined,
            lambda conversation: str(conversation.id),
            lambda conversation: conversation.language,
        )
    return Filter(
        switched(instructions.instruction_rules(source.preset), source.without),
        instructions.Instruction.of,
        instructions.joined,
        lambda instruction: str(instruction.id),
        lambda instruction: instruction.language,
    )


def _commit_rules(source: SourceConfig, config: BuildConfig) -> tuple[Rule[Any], ...]:
    named = {"permissive": PERMISSIVE, "published": PUBLISHED}
    allowed = config.licences
    # Without A11 nothing is counted, and no tokenizer is needed.
    counted = not any(name.startswith("A11") for name in source.without)
    n_tokens, end_of_text = _counter(source) if counted else (len, "")
    return commits.commit_rules(
        source.preset,
        seed=config.seed,
        n_tokens=n_tokens,
        end_of_text=end_of_text,
        licences=named[allowed] if isinstance(allowed, str) else allowed,  # None: the preset's
        opted_out=source.opted_out,
    )


def _counter(source: SourceConfig) -> tuple[Callable[[str], int], str]:
    """Tokens of a text, and the tokenizer's marker between two texts."""
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError:
        raise MissingToolError(
            "rule A11 counts tokens with transformers; install it with: pip install "
            "'astraios[train]', or leave the rule out"
        ) from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.tokenizer, revision=source.revision)
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise MissingDataError(
            f"source {source.title!r}: tokenizer {source.tokenizer!r} of rule A11 cannot be had: "
            f"{said}; name a folder that holds one, or leave the rule out (without: [A11-tokens])"
        ) from None
    # A long file is no mistake here; the warning about the model's context would be one.
    tokenizer.model_max_length = 1 << 60

    def n_tokens(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False).input_ids)

    return n_tokens, tokenizer.eos_token or "<|endoftext|>"


def declared(preset: str) -> tuple[tuple[str, Rule[Any]], ...]:
    """Every rule of a preset with the kind of source it is for, in order.

    Raises:
        UnknownNameError: if there is no such preset.
    """
    by_kind: dict[str, tuple[Rule[Any], ...]] = {
        "commits": commits.commit_rules(preset, seed=0, n_tokens=len, end_of_text=""),
        "conversations": conversations.conversation_rules(preset),
        "instructions": instructions.instruction_rules(preset),
    }
    return tuple((kind, rule) for kind, rules in by_kind.items() for rule in rules)


def steps_of(config: BuildConfig, filters: Mapping[str, Filter]) -> tuple[Step, ...]:
    """All steps in the order in which a row meets them."""
    found: list[Step] = []
    for source in config.sources:
        title = source.title
        if source.languages is not None:
            keeps = f"the language is one of {', '.join(source.languages)}"
            found.append(Step(name=LANGUAGE, source=title, keeps=keeps))
        if source.kind != "commits":
            keeps = "every message has a text, none calls a tool or is a tool's"
            found.append(Step(name=MESSAGES, source=title, keeps=keeps))
        found += (
            Step(name=rule.name, source=title, keeps=rule.keeps) for rule in filters[title].rules
        )
    found.append(_all(EMPTY, "prompt and completion are more than white space"))
    dropped = [name for name, what in config.secrets if what == "drop"]
    if dropped:
        found.append(_all(SECRETS, f"none of these in it: {', '.join(dropped)}"))
    if config.exact_duplicates == "drop":
        found.append(_all(EXACT, "no earlier row has the same prompt and completion"))
    if near := config.near_duplicates:
        found.append(
            _all(
                NEAR,
                f"no earlier row shares {near.threshold:g} or more of all runs of {near.ngram} "
                "words with it (Jaccard)",
            )
        )
    if config.decontaminate:
        found.append(
            _all(
                CONTAMINATION,
                f"no {config.decontaminate.ngram} words in a row in common with a benchmark's "
                "prompt, solution or tests",
            )
        )
    found += (
        Step(name=SAMPLE, source=source.title, keeps=f"{source.n} rows, drawn by a hash of the id")
        for source in config.sources
        if source.n is not None
    )
    found.append(_all(SPLIT, "rows in the order of a hash; rows of one prompt on one side"))
    return tuple(found)


def _all(name: str, keeps: str) -> Step:
    return Step(name=name, source="", keeps=keeps)
