"""What stands around a Go candidate: tests, tests with other expectations, and `main`.

Go has no operators or assertions to redefine, but a package may declare anything under the names
that the language brings, `true` or `append`, and the tests, which must be in the same package,
would use that. So a function that is never called does not compile where such a name means
something else.
"""

from __future__ import annotations

import re

from astraios.errors import WorkError
from astraios.languages._expectations import (
    arguments,
    last_literal_changed,
    replace_spans,
    split_at,
)
from astraios.languages._go_source import masked
from astraios.sandbox import Harness

__all__ = ["harness"]

_EQUAL = "assert.Equal"
_TEST = re.compile(r"^func[ \t]+(Test\w*)[ \t]*\([ \t]*\w+[ \t]+\*testing\.T[ \t]*\)", re.MULTILINE)
_DECLARED = re.compile(r"^(?:func|type|var|const)\b", re.MULTILINE)
_NEW = re.compile(r"^[ \t]*assert[ \t]*:=[ \t]*assert\.New\(\w+\)[ \t]*\n", re.MULTILINE)
_FAILING = '    assert.Equal("0", "1")\n'

_BASIC = (
    "bool string int int8 int16 int32 int64 uint uint8 uint16 uint32 uint64 float32 float64 rune "
    "byte"
)
_PLAIN_NAMES = frozenset(f"{_BASIC} true false nil interface map".split())
_PLAIN_TYPES = frozenset((
    "[]bool", "[]string", "[]int", "[]int32", "[]rune", "[]int64", "[]float64", "[2]bool",
    "[2]string", "[2]int", "[2]float64", "[2]interface{}", "[][2]int", "[]interface{}", "[][]int",
    "[][]string", "map[int32]int", "map[rune]int", "map[string]int", "map[int]int",
))  # fmt: skip
"""What `plain/assert.go` compares."""
_COMPOSITE = re.compile(r"((?:\[\w*\]|map\[\w+\])+(?:interface\{\}|\w+))\s*\{")
_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?:\.\w+)*")
_CONVERSION = re.compile(rf"(?:strconv\.Itoa|{_BASIC.replace(' ', '|')})\(")
_USES = re.compile(r"(?<!\w)(?:assert|testing|t)\.\w+")
_PLAIN_USES = frozenset(("assert.New", "assert.Equal", "testing.T"))

_GUARDS = {
    "true": "const _ = true; _ = map[bool]int{1 == 2: 0, true: 1}",
    "false": "const _ = false; _ = map[bool]int{1 == 1: 0, false: 1}",
    "nil": "var _ []struct{} = nil; var _ *struct{} = nil; var _ func() = nil",
    "len": 'const _ = len("ab")',
    "cap": "const _ = cap([2]struct{}{})",
    "append": 'x := "a"[0]; _ = append([]struct{}{}); _ = append(append([]uint8{}, ""...), x)',
    "make": "_ = make([]struct{}, 0)",
    "new": "_ = new(struct{})",
    "panic": "_ = func() *struct{} { panic(0) }",
    "int": "x := 1; var _ *int = &x",
    "float64": "x := 1.5; var _ *float64 = &x",
    "string": 'x := ""; var _ *string = &x',
    "bool": "x := 1 == 1; var _ *bool = &x",
    "rune": "x := 'a'; var _ *rune = &x",
    "int32": "x := 'a'; var _ *int32 = &x",
    "byte": 'x := "a"[0]; var _ *byte = &x',
    "uint8": 'x := "a"[0]; var _ *uint8 = &x',
}
"""Statements that only compile where a name means what the language says."""

_DRIVER = """
var @secret@ [21]byte

func @secret@Mask() {
    for i := range "@secret@"[:17] {
        @secret@[i] ^= "@secret@"[i] | 0x80
    }
}

func astraiosBegin() bool {
    astraiosRead(@secret@[:17])
    @secret@Mask()
    return 1 == 1
}

func main() {
    if @secret@[16] == "@secret@"[16] | 0x80 {
%s    } else {
%s    }
    @secret@Mask()
    @secret@[16] = 0
    astraiosWrite(@secret@[:])
}

func @secret@Guards() {
%s}
"""
"""The token lies in memory masked, so that nobody finds it by looking for random bytes."""


def harness(tests: str) -> Harness:
    """What stands around the candidates that `tests` are for.

    Raises:
        WorkError: if they hold no test function.
    """
    names = _TEST.findall(masked(tests))
    if not names:
        raise WorkError(f"the tests have no `func TestF(t *testing.T)`:\n{tests[:200]}")
    impossible = _impossible(tests)
    joint = ""
    if len(_DECLARED.findall(masked(tests))) == 1:
        renamed = re.sub(rf"\b{names[0]}\b", "@secret@Test", impossible, count=1)
        joint = f"{tests}\n{renamed}\n{_driver(tests, names, ['@secret@Test'])}"
    return Harness(
        before="" if _is_plain(tests) else "// full\n",
        after=f"{tests}\n{_driver(tests, names, names)}",
        impossible=f"{impossible}\n{_driver(tests, names, names)}",
        joint=joint,
    )


def _driver(tests: str, names: list[str], impossible: list[str]) -> str:
    used = set(_NAME.findall(masked(tests)))
    guards = "".join(f"    {{ {text} }}\n" for name, text in _GUARDS.items() if name in used)
    return _DRIVER % (_calls(names, names), _calls(names, impossible), guards)


def _calls(names: list[str], functions: list[str]) -> str:
    return "".join(
        f'        astraiosRun("{name}", {function})\n'
        for name, function in zip(names, functions, strict=True)
    )


# --- tests that nothing passes ---


def _impossible(tests: str) -> str:
    changed, n_changed = replace_spans(tests, arguments(tests, _EQUAL), _with_another_value)
    if n_changed:
        return changed
    return _NEW.sub(lambda found: found.group() + _FAILING, tests, count=1)


def _with_another_value(call: str) -> str:
    sides = _sides(call)
    for position, side in enumerate(sides[:2]):
        if _is_literal(side):
            sides[position] = _another(side)
            break
    return ",".join(sides)


def _another(value: str) -> str:
    changed = last_literal_changed(value)
    if changed != value:
        return changed
    if "nil" in value:
        return re.sub(r"\bnil\b", '"~"', value, count=1)
    element = '"~"' if "string{" in value or "interface{}{" in value else "7"
    if "map[" in value:
        element = '"~": 7' if "map[string]" in value else "7: 7"
    return re.sub(r"\{\s*\}\s*$", f"{{{element}}}", value)


# --- which package compares them ---


def _is_plain(tests: str) -> bool:
    """Whether the small stand-ins of `testing` and testify do for these tests."""
    return set(_USES.findall(masked(tests))) <= _PLAIN_USES and all(
        any(_is_plain_value(side, tests) for side in _sides(tests[start:end])[:2])
        for start, end in arguments(tests, _EQUAL)
    )


def _sides(call: str) -> list[str]:
    """The arguments of a call, with the space around them."""
    sides: list[str] = []
    while found := split_at(call, (",",)):
        call, _, last = found
        sides.insert(0, last)
    return [call, *sides]


def _is_plain_value(text: str, tests: str) -> bool:
    text = text.strip()
    if _is_literal(text) or _CONVERSION.match(text):
        return True
    begun = [] if not text.isidentifier() else re.findall(rf"\b{text}\s*:=([^\n]*)", tests)
    return bool(begun) and all(map(_is_literal, begun))


def _is_literal(text: str) -> bool:
    """Whether `text` is a value of a known type, written out."""
    seen = masked(text)
    types, names = set(_COMPOSITE.findall(seen)), set(_NAME.findall(seen))
    return names <= _PLAIN_NAMES and types <= _PLAIN_TYPES
