"""Whatever text comes as a candidate of a language with a toolchain: one answer, and it lives on.

As `test_fuzz.py` does for Python. After each strange program an honest one is judged by the same
server. Few examples, since each has to be compiled; the tests marked `slow` try more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astraios import languages, registry
from astraios.checkers.unittests import checker
from astraios.errors import MissingToolError
from astraios.languages import Language, Surroundings
from astraios.records import Execution, Outcome, Program
from astraios.sandbox import Sandbox, open_sandbox

FEW, MANY = 3, 60
MODEL_FAILURES = {
    Outcome.FAILED,
    Outcome.COMPILE_ERROR,
    Outcome.CRASHED,
    Outcome.TIMED_OUT,
    Outcome.OUT_OF_MEMORY,
}


@dataclass(frozen=True)
class Sample:
    """A language's honest program, its tests, and what else its programs are made of."""

    honest: str
    tests: str
    tokens: str


SIGNS = "( ) [ ] { } ; , . : = == != < > + - * / % & | ! ? 0 1 20 41 ' \" // /* */ # @ $ \\ ` ~"
SAMPLES = {
    "java": Sample(
        """class Solution {
    public int f(int n) {
        int total = 0;
        for (int i = 0; i < Math.abs(n); i++) {
            total += n > 0 ? 2 : -2;
        }
        return total + 1;
    }
}
""",
        """
public class Main {
    public static void main(String[] args) {
        Solution s = new Solution();
        if (s.f(20) != 41 || s.f(-3) != -5) {
            throw new AssertionError();
        }
    }
}
""",
        "class interface enum static final public int long String n f return if else for while try "
        "catch throw new null this super import package -> :: <T> @Override System.exit "
        "Main Solution \\u007d \\u0022 var record switch case yield",
    ),
    "js": Sample(
        """const f = (n) => {
  let total = 0;
  for (let i = 0; i < Math.abs(n); i++) {
    total += n > 0 ? 2 : -2;
  }
  return total + 1;
}
""",
        """
const testF = () => {
  console.assert(f(20) === 41)
  console.assert(f(-3) === -5)
}

testF()
""",
        "const let var function => async await yield return if else for while do try catch throw "
        "new this null undefined process.exit require import export ... ${ n f class get set "
        "typeof delete === console \\u2028 eval",
    ),
    "cpp": Sample(
        """int f(int n){
    int total = 0;
    for (int i = 0; i < abs(n); i++) {
        total += n > 0 ? 2 : -2;
    }
    return total + 1;
}
""",
        """
#undef NDEBUG
#include<assert.h>
int main(){
    assert (f(20) == 41);
    assert (f(-3) == -5);
}
""",
        "int char void struct class template<> typename auto const static volatile return if else "
        "for while do goto throw try catch new delete this operator namespace using :: -> << >> "
        '#define #include #if #endif #line R"( __asm__ exit(0) n f ??/ && || ... vector<int>',
    ),
    "go": Sample(
        """func F(n int) int {
    total := 0
    for i := 0; i < n || i < -n; i++ {
        if n > 0 {
            total += 2
        } else {
            total -= 2
        }
    }
    return total + 1
}
""",
        """
func TestF(t *testing.T) {
    assert := assert.New(t)
    assert.Equal(41, F(20))
    assert.Equal(-5, F(-3))
}
""",
        "func var const type struct interface map chan go defer select switch case return if else "
        "for range break fallthrough goto import package <- := ... nil true iota panic recover "
        "append len os.Exit(0) strings. n F int string []int //go:linkname //line",
    ),
    "rust": Sample(
        """fn f(n: i32) -> i32 {
    let mut total = 0;
    for _ in 0..n.abs() {
        total += if n > 0 { 2 } else { -2 };
    }
    total + 1
}
""",
        """
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_f() {
        assert!(f(20) == 41);
        assert!(f(-3) == -5);
    }
}
""",
        "fn let mut struct enum trait impl mod use pub const static unsafe extern match if else "
        "for while loop return break move ref self Self where as dyn async -> => :: .. ..= |x| & "
        "&& n f i32 Vec<i32> vec![] panic!() macro_rules! #[ #![ r#\" 'a b' std::process::exit(0)",
    ),
}


@dataclass
class Fuzzed:
    """A language under test and the one server that judges its programs."""

    language: Language
    sandbox: Sandbox
    sample: Sample

    def judge(self, *codes: str) -> list[Execution]:
        limits = replace(self.language.limits, cpu_s=2.0, wall_s=60.0)
        around = Surroundings(tests=self.sample.tests)
        programs = [
            Program(
                language=self.language.name,
                code=self.language.candidate(code, around),
                tests=self.sample.tests,
            )
            for code in codes
        ]
        return [found for _, found in sorted(checker.check(programs, self.sandbox, limits=limits))]

    def never_passes(self, code: str) -> None:
        strange, honest = self.judge(code, self.sample.honest)
        assert strange.outcome in MODEL_FAILURES, (code, strange)
        assert honest.outcome is Outcome.PASSED, honest
        strange.model_dump_json().encode("utf-8")

    def is_judged(self, code: str) -> None:
        """As often as it is asked, and a pass holds without the check on passes too."""
        first, honest, again = self.judge(code, self.sample.honest, code)
        assert first.outcome in MODEL_FAILURES | {Outcome.PASSED}, (code, first)
        assert honest.outcome is Outcome.PASSED, honest
        assert first.outcome == again.outcome, (code, first, again)


@pytest.fixture(scope="module", params=sorted(SAMPLES))
def fuzzed(request: pytest.FixtureRequest) -> Iterator[Fuzzed]:
    language: Language = registry.load(languages, "language", request.param)
    try:
        language.toolchain()
    except MissingToolError as error:
        pytest.skip(str(error))
    with open_sandbox("best", jobs=1) as sandbox:
        yield Fuzzed(language, sandbox, SAMPLES[request.param])


def bytes_at_random(fuzzed: Fuzzed, data: st.DataObject) -> None:
    """What comes out of bytes read as UTF-8 where some are not: lone surrogates."""
    drawn = data.draw(st.binary(max_size=200))
    fuzzed.never_passes(drawn.decode("utf-8", "surrogateescape"))


def text_at_random(fuzzed: Fuzzed, data: st.DataObject) -> None:
    """Anywhere in an honest program, so that some of it is compiled; it may be in a comment."""
    text = data.draw(st.text(max_size=60) | st.sampled_from(("\0", "\ud800", "\ufeff", "\r", "\f")))
    at = data.draw(st.integers(0, len(fuzzed.sample.honest)))
    fuzzed.is_judged(fuzzed.sample.honest[:at] + text + fuzzed.sample.honest[at:])


def tokens_at_random(fuzzed: Fuzzed, data: st.DataObject) -> None:
    """In the place of the function's body."""
    head, _, _ = fuzzed.sample.honest.partition("total")
    tokens = (*SIGNS.split(), *fuzzed.sample.tokens.split(), "\n")
    drawn = data.draw(st.lists(st.sampled_from(tokens), max_size=30))
    fuzzed.never_passes(head + " ".join(drawn))


def mutants(fuzzed: Fuzzed, data: st.DataObject) -> None:
    """One to three places of an honest program changed; some mutants are right."""
    code = fuzzed.sample.honest
    edits = st.tuples(
        st.integers(0, len(code) - 1), st.integers(0, 4),
        st.sampled_from(("", " ", "\n", "(", "}", "0", "-", "n", ";", "'", "//", "/*", "\0")),
    )  # fmt: skip
    for at, n_gone, new in data.draw(st.lists(edits, min_size=1, max_size=3)):
        code = code[:at] + new + code[at + n_gone :]
    fuzzed.is_judged(code)


WAYS = (bytes_at_random, text_at_random, tokens_at_random, mutants)
Way = Callable[[Fuzzed, st.DataObject], None]


def name_of(way: Way) -> str:
    return way.__name__


@settings(max_examples=FEW, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutants_are_judged(fuzzed: Fuzzed, data: st.DataObject) -> None:
    mutants(fuzzed, data)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=name_of)
@settings(max_examples=MANY, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_many_strange_programs_are_judged(fuzzed: Fuzzed, way: Way, data: st.DataObject) -> None:
    way(fuzzed, data)


def test_a_dead_engine_is_not_hidden(fuzzed: Fuzzed) -> None:
    right, empty = fuzzed.judge(fuzzed.sample.honest, "")
    assert right.outcome is Outcome.PASSED, right
    assert empty.outcome in MODEL_FAILURES, empty
