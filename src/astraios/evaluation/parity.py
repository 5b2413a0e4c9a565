"""Whether an engine chooses the same greedy tokens as the reference engine.

An engine that is faster than `hf` is trusted after both have gone on from a few of a task's own
prompts and have chosen the same tokens with the same certainty. Three things can be seen:

    equal       the same tokens, and log-probabilities no further apart than rounding brings them
    tie         other tokens, but `hf` finds both equally probable: rounding decides which is taken,
                and from there on nothing can be compared
    different   anything else: other weights, no adapter, another template, another precision

The tolerances are a matter of precision. Logits of a language model lie between 16 and 32 or below,
where the step of bfloat16 is 0.125 and that of float16 is 0.016; two engines round differently on
their way to them.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from astraios.errors import EngineError
from astraios.evaluation.config import EvaluationConfig
from astraios.generation import Drawn
from astraios.records import Manifest, Parity, Prompt
from astraios.tasks import Problem, Task

__all__ = ["N_PROMPTS", "N_TOKENS", "REMEDY", "compare", "fact", "is_owed", "parity_prompts"]

log = logging.getLogger(__name__)

REFERENCE = "hf"
N_PROMPTS = 8
N_TOKENS = 48
REMEDY = (
    "parity=skip (`astraios eval --no-parity`, in a study evaluation.parity=skip) goes on without "
    "the comparison, which is then recorded"
)

NOT_CHECKED = "not checked (parity=skip)"
"""What a manifest says under `parity` of a run whose engine nobody compared."""

Trace = Sequence[Drawn]


@dataclass(frozen=True)
class Tolerance:
    """How far apart equal things may be, in nats."""

    tie: float
    """Two tokens under the reference engine."""
    certainty: float
    """One token under the two engines."""


TOLERANCES: Mapping[str, Tolerance] = MappingProxyType(
    {
        "float32": Tolerance(tie=1e-3, certainty=1e-2),
        "float16": Tolerance(tie=0.05, certainty=0.1),
        "bfloat16": Tolerance(tie=0.25, certainty=0.5),
    }
)
"""Precision of the weights -> tolerances. Half precisions: a few steps of their numbers between 16
and 32; float32: what long sums in another order come to."""


def parity_prompts(
    task: Task[Any], problems: Sequence[Problem], template: str, n_prompts: int = N_PROMPTS
) -> list[Prompt]:
    """First questions of `task`, from the shortest to the longest at even distances."""
    asked = [task.prompt(problem, (), template) for problem in problems]
    prompts = sorted(filter(None, asked), key=lambda prompt: (len(prompt.text), prompt.problem_id))
    if len(prompts) <= n_prompts:
        return prompts
    last = len(prompts) - 1
    return [prompts[round(place * last / (n_prompts - 1))] for place in range(n_prompts)]


def fact(parity: Parity) -> str:
    """One line for a manifest."""
    if parity.outcome == "skipped":
        return NOT_CHECKED
    said = f"{parity.n_prompts} prompts, {parity.n_tokens} tokens equal to {REFERENCE}"
    if parity.largest_difference is not None:
        said += f"; largest difference of a log-probability {parity.largest_difference:.1e}"
    return f"{said}; {parity.n_ties} prompts end in ties" if parity.n_ties else said


def is_owed(manifest: Manifest, config: EvaluationConfig) -> bool:
    """Whether the run was made without a comparison, and `config` wants one."""
    return config.parity == "check" and manifest.environment.get("parity") == NOT_CHECKED


def compare(
    prompts: Sequence[Prompt],
    reference: Sequence[Trace],
    candidate: Sequence[Trace],
    *,
    engine: str,
    precision: str,
    n_tokens: int = N_TOKENS,
) -> Parity:
    """Compare two engines' greedy tokens after `prompts`.

    Tokens are compared by number where both engines tell it, else by the text they make together,
    whatever the places where it is divided. An end token that the candidate does not list is no
    difference.

    Args:
        prompts: what both were asked.
        reference: what `hf` chose, a list a prompt.
        candidate: what the engine chose.
        engine: its name.
        precision: of the weights; decides the tolerances.
        n_tokens: what both were asked for; fewer mean that the model ended.

    Raises:
        EngineError: on the first difference, with problem, position, both tokens and how probable
            each engine finds them; or if there was nothing to compare.
    """
    if len(candidate) != len(prompts):
        raise EngineError(
            f"engine {engine!r} went on from {len(candidate)} of {len(prompts)} prompts; {REMEDY}"
        )
    tolerance = TOLERANCES[precision]
    has_ids = all(drawn.id is not None for trace in (*reference, *candidate) for drawn in trace)
    pairs = zip(reference, candidate, strict=True)
    found = [
        _by_id(a, b, tolerance) if has_ids else _by_text(a, b, tolerance, n_tokens)
        for a, b in pairs
    ]
    different = [(prompt, one) for prompt, one in zip(prompts, found, strict=True) if one.at]
    if different:
        prompt, first = different[0]
        assert first.at is not None
        raise EngineError(
            f"engine {engine!r} is not equal to {REFERENCE} on {len(different)} of {len(prompts)} "
            f"prompts. Problem {prompt.problem_id!r}, {first.at.told(engine, tolerance)}. Do both "
            f"have the same weights, adapter, template and precision ({precision})? {REMEDY}"
        )
    n_ties = sum(one.is_tie for one in found)
    if not any(one.n_tokens for one in found) and not n_ties:
        raise EngineError(
            f"engine {engine!r}: no token could be compared with {REFERENCE} on {len(prompts)} "
            f"prompts; {REMEDY}"
        )
    if 2 * n_ties > len(prompts):
        log.warning(
            "engine %s: the comparison with %s ended in a tie on %d of %d prompts, so it says "
            "little; float32 has fewer of them",
            engine, REFERENCE, n_ties, len(prompts),
        )  # fmt: skip
    gaps = [one.largest for one in found if one.largest is not None]
    return Parity(
        engine=engine,
        outcome="equal",
        precision=precision,
        by="id" if has_ids else "text",
        n_prompts=len(prompts),
        n_tokens=sum(one.n_tokens for one in found),
        n_ties=n_ties,
        largest_difference=max(gaps, default=None),
        tie_tolerance=tolerance.tie,
        tolerance=tolerance.certainty,
    )


# --- one prompt -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where two traces differ."""

    position: int
    ours: Drawn | None
    """None where the reference had ended."""
    theirs: Drawn | None
    kind: Literal["token", "certainty"] = "token"

    def told(self, engine: str, tolerance: Tolerance) -> str:
        """The difference in words, both tokens as both engines see them."""
        if self.kind == "certainty":
            assert self.ours is not None and self.theirs is not None
            return (
                f"token {self.position}, {self.ours.text!r}: log-probability "
                f"{self.ours.log_probability:.4f} under {REFERENCE}, "
                f"{self.theirs.log_probability:.4f} under {engine}, more than "
                f"{tolerance.certainty:g} apart"
            )
        if self.ours and self.theirs and self.ours.text == self.theirs.text:
            numbers = f"number {self.ours.id} under {REFERENCE}, {self.theirs.id} under {engine}"
            ends = f"{REFERENCE} ends with it, {engine} does not"
            said = ends if None in (self.ours.id, self.theirs.id) else numbers
            return f"token {self.position}, {self.ours.text!r}: {said}"
        return (
            f"token {self.position}: {REFERENCE} has {self._seen(self.ours, engine)}, "
            f"{engine} has {self._seen(self.theirs, engine)}"
        )

    def _seen(self, drawn: Drawn | None, engine: str) -> str:
        if drawn is None:
            return "nothing, it has ended"
        both = f"{_under(drawn, self.ours)} under {REFERENCE}, {_under(drawn, self.theirs)} under"
        return f"{drawn.text!r} (log-probability {both} {engine})"


def _under(drawn: Drawn, at: Drawn | None) -> str:
    """How probable the engine that chose `at` finds `drawn` at that place."""
    if at is None:
        return "unknown"
    if at is drawn:
        return f"{drawn.log_probability:.4f}"
    found = at.others.get(drawn.text)
    return f"below its {len(at.others)} highest" if found is None else f"{found:.4f}"


@dataclass(frozen=True)
class _Found:
    """What the comparison of one prompt came to."""

    n_tokens: int
    largest: float | None
    is_tie: bool = False
    at: _Place | None = None


class _Gaps:
    """Differences of log-probabilities so far."""

    def __init__(self, tolerance: Tolerance) -> None:
        self._most = tolerance.certainty
        self.largest: float | None = None

    def fits(self, ours: Drawn, theirs: Drawn) -> bool:
        """Whether one token is as certain under both; what is not a number never is."""
        gap = abs(ours.log_probability - theirs.log_probability)
        self.largest = gap if self.largest is None else max(self.largest, gap)
        return gap <= self._most


def _by_id(ours: Trace, theirs: Trace, tolerance: Tolerance) -> _Found:
    gaps = _Gaps(tolerance)
    for at, (a, b) in enumerate(itertools.zip_longest(ours, theirs)):
        if a is None or b is None:
            if b is None and at == len(ours) - 1:
                return _Found(at, gaps.largest)  # the reference's end token, not listed
            return _Found(at, gaps.largest, at=_Place(at, a, b))
        if a.id != b.id:
            return _ended(at, gaps, a, b, tolerance)
        if not gaps.fits(a, b):
            return _Found(at, gaps.largest, at=_Place(at, a, b, "certainty"))
    return _Found(len(ours), gaps.largest)


def _ended(at: int, gaps: _Gaps, ours: Drawn, theirs: Drawn, tolerance: Tolerance) -> _Found:
    """Two tokens differ: a tie, or not."""
    rival = ours.others.get(theirs.text)
    near = rival is not None and abs(ours.log_probability - rival) < tolerance.tie
    is_tie = near and ours.text != theirs.text  # of two tokens spelled alike, one is told of
    place = None if is_tie else _Place(at, ours, theirs)
    return _Found(at, gaps.largest, is_tie, place)


# --- by text ----------------------------------------------------------------------------------

_BROKEN = "\N{REPLACEMENT CHARACTER}"
_END = "\udfff"
"""Stands for the end of a text; no text holds a lone surrogate."""


def _by_text(ours: Trace, theirs: Trace, tolerance: Tolerance, n_tokens: int) -> _Found:
    mine = _Spelled(ours, n_tokens)
    readings = [_Spelled(theirs, n_tokens)]
    if len(theirs) < n_tokens:  # the last token is the end, or the end is not listed
        readings.append(_Spelled(theirs, n_tokens, lists_end=False))
    differences = [_first_difference(mine.text, reading.text) for reading in readings]
    best = max(range(len(readings)), key=lambda n: differences[n] or (len(mine.text) + 1, 0))
    yours, difference = readings[best], differences[best]
    gaps = _Gaps(tolerance)
    for at, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if a.text != b.text or (difference and mine.starts[at + 1] > difference[0]):
            break  # from another division on, tokens of one place are not the same
        if not gaps.fits(a, b):
            return _Found(at, gaps.largest, at=_Place(at, a, b, "certainty"))
    if difference is None:
        n_seen = sum(end <= len(yours.text) for end in mine.starts[1 : len(ours) + 1])
        return _Found(n_seen, gaps.largest)
    i, j = difference
    a_at, b_at = mine.token(i), yours.token(j)
    first = ours[a_at] if a_at < len(ours) else None
    second = theirs[b_at] if b_at < len(theirs) else None
    if second is None and a_at == len(ours) - 1:
        return _Found(a_at, gaps.largest)  # the reference's end token, not listed
    if first and second and i - mine.starts[a_at] == j - yours.starts[b_at]:
        return _ended(a_at, gaps, first, second, tolerance)
    return _Found(a_at, gaps.largest, at=_Place(a_at, first, second))


class _Spelled:
    """A trace as one text."""

    def __init__(self, trace: Trace, n_tokens: int, *, lists_end: bool = True) -> None:
        pieces = [drawn.text for drawn in trace]
        if len(trace) < n_tokens:
            if lists_end and pieces:
                pieces.pop()
            pieces.append(_END)
        self.text = "".join(pieces)
        self.starts = [0, *itertools.accumulate(map(len, pieces))]

    def token(self, character: int) -> int:
        """The place of the token that `character` belongs to."""
        return next(n for n, end in enumerate(self.starts[1:]) if character < end)


def _first_difference(a: str, b: str) -> tuple[int, int] | None:
    """Places of the first characters that differ; None if one text begins with the other.

    A character of several tokens is broken where tokens are spelled alone, and may be whole where
    they are not: what is broken stands for any run of characters beyond ASCII.
    """
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            i, j = i + 1, j + 1
        elif _BROKEN in (a[i], b[j]) and _in_run(a, i) and _in_run(b, j):
            i, j = _past(a, i), _past(b, j)
        else:
            return i, j
    return None


def _in_run(text: str, at: int) -> bool:
    """Whether characters beyond ASCII stand at `at` or end there."""
    return any(not c.isascii() and c != _END for c in text[max(0, at - 1) : at + 1])


def _past(text: str, at: int) -> int:
    while at < len(text) and not text[at].isascii() and text[at] != _END:
        at += 1
    return at
