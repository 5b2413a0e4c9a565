"""What stands around a Rust candidate.

The tests are a module of functions marked `#[test]`, which the test harness of Rust would find and
call. Here the marks go away and `astraios_tests` calls them, once a process: who could call them
again would learn from their complaints what they expect. `drivers/rust` loads and calls that.

Each function takes a flag and expects something else where it is set:

    assert_eq!(f(2), 3)   ->   assert_eq!(f(2), (if flag { 7 } else { 3 }))

so one build serves the tests and the impossible ones, and a candidate cannot tell them apart by
where its functions are called from. The names of flag and tests are secret, and so is that of the
standard library by which the tests call macros: a candidate may define macros of the same names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial

from astraios.languages._expectations import arguments, split_at
from astraios.sandbox import Harness

__all__ = ["as_written", "harness"]

_SECRET = "@secret@"
"""Also the name of the flag."""
_STD = "@secret@_std"
_ENTRY = "astraios_tests"
"""As `drivers/rust/src/main.rs` calls it."""

_TEST = re.compile(
    r"#\[test\](?P<between>(?:\s|//[^\n]*\n|#\[[^\]]*\])*)"
    r"(?:pub\s+)?fn\s+(?P<name>\w+)\s*\(\s*\)(?P<result>[^{]*)\{"
)
_MODULE = re.compile(r"\bmod\s+(\w+)\s*\{")
_MACRO = re.compile(
    r"(?<![\w:.$])(?=(?:assert|assert_eq|assert_ne|format|matches|panic|print|println|unreachable|"
    r"vec|write|writeln)!\s*[(\[{])"
)
_OTHER_MACRO = re.compile(r"(?<!\bvec)!\s*[(\[{]")
_STRING = re.compile(r"\blet\s+(?:mut\s+)?(\w+)\s*:\s*String\b|\blet\s+mut\s+(\w+)\s*=\s*String::")
_LITERAL = re.compile(
    r"""(?<![\w])(?P<text>r?"(?:[^"\\]|\\.)*")|(?<![\w])(?P<sign>'(?:[^'\\\n]|\\[^u])')"""
    r"""|(?<![\w.])(?P<number>\d[\d_]*(?P<fraction>\.\d[\d_]*)?(?P<power>[eE][-+]?\d+)?)"""
    r"""(?P<suffix>_?(?:[iu](?:8|16|32|64|128|size)|f32|f64))?(?![\w.])"""
    r"""|\b(?P<word>true|false)\b""",
    re.DOTALL,
)
_COMPARISONS = ("==", "!=", "<=", ">=", "<", ">")
_FITS_ALL = 64
"""Twice a smaller number, and one, fits into every type of numbers."""


def harness(tests: str) -> Harness:
    """Driver and tests for candidates of one problem."""
    tests = _MACRO.sub(f"{_STD}::", tests)
    found = list(_TEST.finditer(tests))
    calls = [_path(tests, test) for test in found]
    switched = _rewritten(tests, found, _switched)
    return Harness(
        before="",
        after=_after(_rewritten(tests, found, str), calls, "false"),
        impossible=_after(switched, calls, "true"),
        joint=_after(switched, calls, _SECRET),
    )


def _after(tests: str, calls: Iterable[str], flag: str) -> str:
    called = " ".join(f"{call}({flag});" for call in calls)
    # As in an executable: without a `main` of the right kind nothing compiles.
    return f"""{tests}
extern crate std as {_STD};
fn {_SECRET}_main<R: {_STD}::process::Termination>(_: fn() -> R) {{}}
static {_SECRET}_BEGUN: {_STD}::sync::atomic::AtomicBool =
    {_STD}::sync::atomic::AtomicBool::new(false);
#[no_mangle]
pub fn {_ENTRY}({_SECRET}: bool) {{
    if {_SECRET}_BEGUN.swap(true, {_STD}::sync::atomic::Ordering::SeqCst) {{
        {_STD}::process::abort();
    }}
    {_SECRET}_main(main);
    {called}
}}
"""


def _path(tests: str, test: re.Match[str]) -> str:
    """How the root of the program calls a test: by its module, if it has one."""
    return "::".join([*_MODULE.findall(tests[: test.start()])[-1:], _name(test)])


def _name(test: re.Match[str]) -> str:
    return f"{_SECRET}_{test['name']}"


def _rewritten(tests: str, found: list[re.Match[str]], change: Callable[[str], str]) -> str:
    """The tests as functions that take the flag, with `change` made to what follows each head."""
    ends = [*(test.start() for test in found[1:]), len(tests)]
    parts = [tests[: found[0].start()] if found else tests]
    for test, end in zip(found, ends, strict=False):
        head = f"{test['between']}pub fn {_name(test)}({_SECRET}: bool){test['result']}{{"
        parts += [head, change(tests[test.end() : end])]
    return "".join(parts)


def _switched(body: str) -> str:
    """A function's body with two values for each thing expected."""
    strings = {name for pair in _STRING.findall(body) for name in pair if name}
    new = _changed(body, "assert_eq!", partial(_equality, strings))
    new = _changed(new, "assert!", partial(_condition, strings))
    return new if new != body else f" {_STD}::assert!(!{_SECRET});{body}"


def _changed(text: str, macro: str, change: Callable[[str], str]) -> str:
    """`text` with `change` made to the arguments of each call of `macro`."""
    parts, last = [], 0
    for start, end in arguments(text, macro):
        parts += [text[last:start], change(text[start:end])]
        last = end
    return "".join([*parts, text[last:]])


def _equality(strings: set[str], inner: str) -> str:
    pair = split_at(inner.rstrip().removesuffix(","), (",",))
    if pair is None:
        return inner
    left, comma, right = pair
    return f"{left}{comma}{_two_valued(strings, right)}"


def _condition(strings: set[str], inner: str) -> str:
    parts = split_at(inner, _COMPARISONS)
    if split_at(inner, ("&&", "||", ",")):
        return inner
    if parts is None:
        # Nothing but a bool: another type could be true both ways.
        return f"{_SECRET} ^ {{ let {_SECRET}: bool = {inner}; {_SECRET} }}"
    left, operator, right = parts
    if operator == "==":
        return f"{left}=={_two_valued(strings, right)}"
    number = _LITERAL.fullmatch(right.strip())
    if operator in ("<", "<=") and number and (number["fraction"] or number["power"]):
        return f"{left}{operator} (if {_SECRET} {{ -1e30 }} else {{ {right.strip()} }})"
    return inner


def _two_valued(strings: set[str], expected: str) -> str:
    """`expected` with another value for its last literal where the flag is set."""
    name = expected.strip()
    if name in strings:
        return f' {_STD}::format!("{{}}{{}}", {name}, if {_SECRET} {{ "~" }} else {{ "" }})'
    literals = list(_LITERAL.finditer(expected))
    if not literals or _OTHER_MACRO.search(expected):
        return expected
    last = literals[-1]
    either = f"(if {_SECRET} {{ {_other(last)} }} else {{ {last.group()} }})"
    return expected[: last.start()] + either + expected[last.end() :]


def _other(literal: re.Match[str]) -> str:
    """Another value of the same type."""
    if literal["word"]:
        return "false" if literal["word"] == "true" else "true"
    if literal["text"]:
        return f'{literal["text"][:-1]}~"'
    if literal["sign"]:
        return "'~'" if literal["sign"] != "'~'" else "'!'"
    number, suffix = literal["number"].replace("_", ""), literal["suffix"] or ""
    if literal["fraction"] or literal["power"]:
        return f"{2 * float(number) + 1!r}{suffix}"
    value = int(number)
    return f"{2 * value + 1 if value < _FITS_ALL else value // 2}{suffix}"


# --- and back ---------------------------------------------------------------------------------

_EITHER = re.compile(r"\(?if [a-z]{20} \{ .*? \} else \{ (.*?) \}\)?")
_ASCRIBED = re.compile(r"([a-z]{20}) \^ \{ let \1: bool = (.*); \1 \}")
_NAMED = re.compile(r"\b[a-z]{20}_(?:std::)?")


def as_written(complaint: str) -> str:
    """An assertion as it stands in the tests, out of a message that quotes it as rewritten."""
    return _NAMED.sub("", _ASCRIBED.sub(r"\2", _EITHER.sub(r"\1", complaint)))
