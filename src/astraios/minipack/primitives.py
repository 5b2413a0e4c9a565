"""The primitives: one line of Python each, over the variable `v` and at most one constant `{k}`.

Each has two terse phrases (as comments and docstrings use them) and two imperative ones (as
instructions use them), and mutants labelled with HumanEvalPack's bug types.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial


class Kind(StrEnum):
    """Type of a value that flows through a chain."""

    LIST = "list"
    """List of int."""
    TEXT = "str"
    NUMBER = "int"


@dataclass(frozen=True)
class Mutant:
    """A wrong variant of a primitive's expression."""

    bug_type: str
    expression: str


@dataclass(frozen=True)
class Primitive:
    """One step of a chain."""

    name: str
    takes: Kind
    gives: Kind
    expression: str
    terse: tuple[str, str]
    imperative: tuple[str, str]
    mutants: tuple[Mutant, ...]
    constants: tuple[int, ...] = ()
    """Values that `{k}` may take; empty when the expression has none."""


OPERATOR, VALUE, FUNCTION, VARIABLE = (
    f"{kind} misuse" for kind in ("operator", "value", "function", "variable")
)
MISSING, EXCESS = "missing logic", "excess logic"
SMALL = (2, 3, 4)
DIGITS = (2, 3, 4, 5, 6, 7, 8, 9)


def _make(
    takes: Kind,
    gives: Kind,
    name: str,
    expression: str,
    terse: tuple[str, str],
    imperative: tuple[str, str],
    *mutants: tuple[str, str],
    constants: tuple[int, ...] = (),
) -> Primitive:
    made = tuple(Mutant(bug_type, text) for bug_type, text in mutants)
    return Primitive(name, takes, gives, expression, terse, imperative, made, constants)


def _lists() -> tuple[Primitive, ...]:
    make = partial(_make, Kind.LIST, Kind.LIST)
    return (
        make(
            "even", "[x for x in v if x % 2 == 0]",
            ("even items", "only evens"),
            ("keep only the even numbers", "drop every odd number"),
            (OPERATOR, "[x for x in v if x % 2 != 0]"),
            (VALUE, "[x for x in v if x % 2 == 1]"),
        ),
        make(
            "odd", "[x for x in v if x % 2 == 1]",
            ("odd items", "only odds"),
            ("keep only the odd numbers", "drop every even number"),
            (VALUE, "[x for x in v if x % 2 == 0]"),
            (OPERATOR, "[x for x in v if x % 2 != 1]"),
        ),
        make(
            "positive", "[x for x in v if x > 0]",
            ("positive items", "items above zero"),
            ("keep only the positive numbers", "select the numbers that are above zero"),
            (OPERATOR, "[x for x in v if x < 0]"),
            (OPERATOR, "[x for x in v if x >= 0]"),
        ),
        make(
            "negative", "[x for x in v if x < 0]",
            ("negative items", "items below zero"),
            ("keep only the negative numbers", "select the numbers that are below zero"),
            (OPERATOR, "[x for x in v if x > 0]"),
            (OPERATOR, "[x for x in v if x <= 0]"),
        ),
        make(
            "above", "[x for x in v if x > {k}]",
            ("items over {k}", "items above {k}"),
            ("keep the numbers greater than {k}", "select every number larger than {k}"),
            (OPERATOR, "[x for x in v if x < {k}]"),
            (OPERATOR, "[x for x in v if x >= {k}]"),
            constants=DIGITS,
        ),
        make(
            "below", "[x for x in v if x < {k}]",
            ("items under {k}", "items below {k}"),
            ("keep the numbers less than {k}", "select every number smaller than {k}"),
            (OPERATOR, "[x for x in v if x > {k}]"),
            (OPERATOR, "[x for x in v if x <= {k}]"),
            constants=DIGITS,
        ),
        make(
            "multiples", "[x for x in v if x % {k} == 0]",
            ("multiples of {k}", "items divisible by {k}"),
            ("keep the numbers divisible by {k}", "select only multiples of {k}"),
            (OPERATOR, "[x for x in v if x % {k} != 0]"),
            (VALUE, "[x for x in v if x % {k} == 1]"),
            constants=(3, 4, 5, 6, 7),
        ),
        make(
            "nonzero", "[x for x in v if x != 0]",
            ("nonzero items", "items without zeros"),
            ("remove all zeros", "throw away each zero"),
            (OPERATOR, "[x for x in v if x == 0]"),
            (VALUE, "[x for x in v if x != 1]"),
        ),
        make(
            "plus", "[x + {k} for x in v]",
            ("items plus {k}", "{k} more than each"),
            ("add {k} to each number", "increase every number by {k}"),
            (OPERATOR, "[x - {k} for x in v]"),
            (VARIABLE, "[{k} + {k} for x in v]"),
            constants=DIGITS,
        ),
        make(
            "minus", "[x - {k} for x in v]",
            ("items minus {k}", "{k} less than each"),
            ("subtract {k} from each number", "decrease every number by {k}"),
            (OPERATOR, "[x + {k} for x in v]"),
            (VARIABLE, "[{k} - x for x in v]"),
            constants=DIGITS,
        ),
        make(
            "times", "[x * {k} for x in v]",
            ("items times {k}", "each item by {k}"),
            ("multiply each number by {k}", "scale every number by {k}"),
            (OPERATOR, "[x + {k} for x in v]"),
            (VARIABLE, "[x * x for x in v]"),
            constants=DIGITS,
        ),
        make(
            "modulo", "[x % {k} for x in v]",
            ("items modulo {k}", "remainders by {k}"),
            ("take each number modulo {k}", "replace every number by its remainder by {k}"),
            (OPERATOR, "[x // {k} for x in v]"),
            (OPERATOR, "[x * {k} for x in v]"),
            constants=DIGITS,
        ),
        make(
            "divide", "[x // {k} for x in v]",
            ("items over {k}, floored", "floored quotients by {k}"),
            (
                "divide each number by {k} rounding down",
                "replace every number by its quotient by {k}",
            ),
            (OPERATOR, "[x % {k} for x in v]"),
            (OPERATOR, "[x * {k} for x in v]"),
            constants=(2, 3, 4, 5),
        ),
        make(
            "square", "[x * x for x in v]",
            ("squares", "items squared"),
            ("square each number", "replace every number by its square"),
            (OPERATOR, "[x + x for x in v]"),
            (EXCESS, "[x * x * x for x in v]"),
        ),
        make(
            "negate", "[-x for x in v]",
            ("negated items", "opposite items"),
            ("negate each number", "flip the sign of every number"),
            (FUNCTION, "[abs(x) for x in v]"),
            (MISSING, "[x for x in v]"),
        ),
        make(
            "absolute", "[abs(x) for x in v]",
            ("absolute items", "sizes without sign"),
            ("take the absolute value of each number", "remove the sign of every number"),
            (FUNCTION, "[-x for x in v]"),
            (MISSING, "[x for x in v]"),
        ),
        make(
            "reverse", "v[::-1]",
            ("items backwards", "reversed items"),
            ("reverse the order", "put the list in reverse"),
            (VALUE, "v[::-2]"),
            (MISSING, "v[::1]"),
        ),
        make(
            "ascending", "sorted(v)",
            ("sorted items", "items in order"),
            ("sort the numbers in ascending order", "arrange the list from small to large"),
            (FUNCTION, "list(reversed(v))"),
            (EXCESS, "sorted(v, reverse=True)"),
        ),
        make(
            "descending", "sorted(v, reverse=True)",
            ("items in falling order", "sorted items, largest first"),
            ("sort the numbers in descending order", "arrange the list from large to small"),
            (MISSING, "sorted(v)"),
            (VALUE, "sorted(v, reverse=False)"),
        ),
        make(
            "head", "v[:{k}]",
            ("first {k} items", "leading {k} items"),
            ("take the first {k} elements", "keep the {k} elements at the start"),
            (MISSING, "v[:1]"),
            (OPERATOR, "v[-{k}:]"),
            constants=SMALL,
        ),
        make(
            "tail", "v[-{k}:]",
            ("last {k} items", "final {k} items"),
            ("take the last {k} elements", "keep the {k} elements at the end"),
            (OPERATOR, "v[:{k}]"),
            (OPERATOR, "v[{k}:]"),
            constants=SMALL,
        ),
        make(
            "skip", "v[{k}:]",
            ("all but the first {k}", "items after {k}"),
            ("skip the first {k} elements", "remove {k} elements from the start"),
            (OPERATOR, "v[:{k}]"),
            (OPERATOR, "v[-{k}:]"),
            constants=SMALL,
        ),
        make(
            "unique", "list(dict.fromkeys(v))",
            ("distinct items", "items once"),
            ("remove duplicates", "keep the first copy of every number"),
            (FUNCTION, "list(v)"),
            (EXCESS, "list(dict.fromkeys(v))[1:]"),
        ),
    )  # fmt: skip


def _list_ends() -> tuple[Primitive, ...]:
    make = partial(_make, Kind.LIST, Kind.NUMBER)
    return (
        make(
            "sum", "sum(v)",
            ("total", "sum of items"),
            ("return the sum", "give the total of the numbers"),
            (FUNCTION, "len(v)"),
            (EXCESS, "sum(v) + 1"),
        ),
        make(
            "count", "len(v)",
            ("item count", "number of items"),
            ("return the length", "give how many numbers are left"),
            (FUNCTION, "sum(v)"),
            (EXCESS, "len(v) + 1"),
        ),
        make(
            "largest", "max(v, default=0)",
            ("largest item", "maximum"),
            ("return the maximum or zero if empty", "give the largest number or zero"),
            (FUNCTION, "min(v, default=0)"),
            (VALUE, "max(v, default=1)"),
        ),
        make(
            "smallest", "min(v, default=0)",
            ("smallest item", "minimum"),
            ("return the minimum or zero if empty", "give the smallest number or zero"),
            (FUNCTION, "max(v, default=0)"),
            (VALUE, "min(v, default=1)"),
        ),
        make(
            "zeros", "v.count(0)",
            ("count of zeros", "how often zero"),
            ("return the number of zeros", "give how many zeros there are"),
            (VALUE, "v.count(1)"),
            (FUNCTION, "len(v)"),
        ),
    )  # fmt: skip


def _texts() -> tuple[Primitive, ...]:
    make = partial(_make, Kind.TEXT, Kind.TEXT)
    return (
        make(
            "upper", "v.upper()",
            ("upper case", "capitals"),
            ("convert the text to upper case", "make all letters capital"),
            (FUNCTION, "v.lower()"),
            (FUNCTION, "v.title()"),
        ),
        make(
            "lower", "v.lower()",
            ("lower case", "small letters"),
            ("convert the text to lower case", "make all letters small"),
            (FUNCTION, "v.upper()"),
            (FUNCTION, "v.title()"),
        ),
        make(
            "swap", "v.swapcase()",
            ("swapped case", "case flipped"),
            ("swap the case of the letters", "flip upper and lower case"),
            (FUNCTION, "v.upper()"),
            (FUNCTION, "v.lower()"),
        ),
        make(
            "title", "v.title()",
            ("title case", "words capitalised"),
            ("capitalise each word", "start every word with a capital"),
            (FUNCTION, "v.capitalize()"),
            (FUNCTION, "v.upper()"),
        ),
        make(
            "backwards", "v[::-1]",
            ("text backwards", "reversed text"),
            ("reverse the text", "write the string in reverse"),
            (VALUE, "v[::-2]"),
            (MISSING, "v[::1]"),
        ),
        make(
            "letters", "''.join(c for c in v if c.isalpha())",
            ("letters only", "just letters"),
            ("keep only the letters", "drop all characters but letters"),
            (FUNCTION, "''.join(c for c in v if c.isdigit())"),
            (EXCESS, "''.join(c for c in v if not c.isalpha())"),
        ),
        make(
            "digits", "''.join(c for c in v if c.isdigit())",
            ("digits only", "just digits"),
            ("keep only the digits", "drop all characters but digits"),
            (FUNCTION, "''.join(c for c in v if c.isalpha())"),
            (EXCESS, "''.join(c for c in v if not c.isdigit())"),
        ),
        make(
            "consonants", "''.join(c for c in v if c not in 'aeiou')",
            ("no vowels", "text without vowels"),
            ("remove the vowels", "delete every vowel"),
            (OPERATOR, "''.join(c for c in v if c in 'aeiou')"),
            (VALUE, "''.join(c for c in v if c not in 'aei')"),
        ),
        make(
            "double", "''.join(c * 2 for c in v)",
            ("doubled characters", "each character twice"),
            ("repeat each character twice", "double every character"),
            (VALUE, "''.join(c * 3 for c in v)"),
            (VARIABLE, "''.join(v * 2 for c in v)"),
        ),
        make(
            "start", "v[:{k}]",
            ("first {k} characters", "leading {k} characters"),
            ("take the first {k} characters", "keep the {k} characters at the start"),
            (MISSING, "v[:1]"),
            (OPERATOR, "v[-{k}:]"),
            constants=SMALL,
        ),
        make(
            "end", "v[-{k}:]",
            ("last {k} characters", "final {k} characters"),
            ("take the last {k} characters", "keep the {k} characters at the end"),
            (OPERATOR, "v[:{k}]"),
            (OPERATOR, "v[{k}:]"),
            constants=SMALL,
        ),
        make(
            "repeat", "v * {k}",
            ("text {k} times", "{k} copies"),
            ("repeat the text {k} times", "join {k} copies of the string"),
            (EXCESS, "v * {k} + v"),
            (VALUE, "v * 1"),
            constants=SMALL,
        ),
        make(
            "unspaced", "v.replace(' ', '')",
            ("no spaces", "text without spaces"),
            ("remove the spaces", "delete every space"),
            (VALUE, "v.replace(' ', '_')"),
            (FUNCTION, "v.strip(' ')"),
        ),
    )  # fmt: skip


def _text_ends() -> tuple[Primitive, ...]:
    make = partial(_make, Kind.TEXT, Kind.NUMBER)
    return (
        make(
            "length", "len(v)",
            ("text length", "number of characters"),
            ("return the number of characters", "give the length of the text"),
            (EXCESS, "len(v) + 1"),
            (FUNCTION, "len(v.split())"),
        ),
        make(
            "words", "len(v.split())",
            ("word count", "number of words"),
            ("return the number of words", "give how many words there are"),
            (FUNCTION, "len(v)"),
            (EXCESS, "len(v.split()) + 1"),
        ),
        make(
            "vowels", "sum(c in 'aeiou' for c in v)",
            ("vowel count", "number of vowels"),
            ("return the number of vowels", "give how many vowels there are"),
            (OPERATOR, "sum(c not in 'aeiou' for c in v)"),
            (VALUE, "sum(c in 'aei' for c in v)"),
        ),
    )  # fmt: skip


PRIMITIVES: tuple[Primitive, ...] = (*_lists(), *_list_ends(), *_texts(), *_text_ends())
