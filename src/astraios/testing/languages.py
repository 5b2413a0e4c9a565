"""What every language keeps: right programs pass, wrong ones fail, endless ones are cut.

Programs run in the strongest sandbox of this machine, against their tests and against impossible
ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from astraios import languages, registry
from astraios.checkers.unittests import checker
from astraios.config import Config, read_yaml
from astraios.errors import ConfigError, MissingToolError
from astraios.languages import Language, Surroundings
from astraios.records import Execution, Outcome, Program
from astraios.sandbox import Sandbox, open_sandbox
from astraios.testing._contract import NotApplicable, Property, properties, require

__all__ = ["CONTRACT", "Examples", "LanguageSubject", "read_examples", "subject"]

PROGRAMS = Path(__file__).parent / "programs"
"""Examples in the languages of the package."""
CPU_S = MappingProxyType({"python": 0.5})
"""Of an endless program; elsewhere starting the runtime is counted too."""


class Examples(Config):
    """Five texts about one function, such as `twice`."""

    right: str
    """Passes the tests."""
    wrong: str
    """Compiles, ends, and gives another answer."""
    endless: str
    """Never ends."""
    broken: str
    """Does not compile."""
    tests: str
    """What follows a program."""


@dataclass(frozen=True)
class LanguageSubject:
    """A language, programs in it, and where they run."""

    language: Language
    examples: Examples
    sandbox: Sandbox

    def outcome(self, code: str) -> Execution:
        """What becomes of `code`.

        Raises:
            NotApplicable: if a toolchain is missing; says what to install.
        """
        language, tests = self.language, "\n" + self.examples.tests
        try:
            language.toolchain()
        except MissingToolError as error:
            raise NotApplicable(str(error)) from None
        code = language.candidate(code, Surroundings(tests=tests))
        program = Program(language=language.name, code=code, tests=tests)
        limits = replace(language.limits, cpu_s=CPU_S.get(language.name, 2.0))
        ((_, execution),) = checker.check([program], self.sandbox, limits=limits)
        return execution


def read_examples(path: Path) -> Examples:
    """The five texts in a YAML file, each under its name.

    Raises:
        MissingDataError: if there is no such file.
        ConfigError: with the line that is wrong.
    """
    return read_yaml(path, Examples)


@contextmanager
def subject(name: str, examples: Examples | None = None) -> Iterator[LanguageSubject]:
    """The language called `name`, with a sandbox for `examples`.

    Raises:
        UnknownNameError: if there is no such language.
        ConfigError: if it is none of the package's and `examples` are missing.
    """
    language: Language = registry.load(languages, "language", name)
    known = PROGRAMS / f"{name}.yaml"
    if examples is None and not known.is_file():
        raise ConfigError(
            f"language {name!r} needs five programs to be tried with: right, wrong, endless, "
            "broken and tests; give --programs FILE (YAML), or Examples(...) in Python"
        )
    given = examples or read_examples(known)
    with open_sandbox("best", jobs=1) as sandbox:
        yield LanguageSubject(language, given, sandbox)


def _it_is_found_by_its_name(of: LanguageSubject) -> None:
    listed, name = registry.names(languages), of.language.name
    require(name in listed, f"its name is {name!r}; listed are {', '.join(listed)}")
    require(of.language.title, "give it a title: how prompts spell it")


def _a_right_program_passes(of: LanguageSubject) -> None:
    _becomes(of, of.examples.right, Outcome.PASSED)


def _a_wrong_program_fails(of: LanguageSubject) -> None:
    _becomes(of, of.examples.wrong, Outcome.FAILED)


def _an_endless_program_is_cut(of: LanguageSubject) -> None:
    _becomes(of, of.examples.endless, Outcome.TIMED_OUT)


def _a_broken_program_does_not_compile(of: LanguageSubject) -> None:
    _becomes(of, of.examples.broken, Outcome.COMPILE_ERROR)


def _becomes(of: LanguageSubject, code: str, outcome: Outcome) -> None:
    found = of.outcome(code)
    said = found.message or found.stderr[-300:]
    require(found.outcome is outcome, f"{found.outcome}, expected {outcome}: {said}")


def _every_stop_word_ends_a_completion(of: LanguageSubject) -> None:
    require(of.language.stops, "it has no stop words")
    for stop in of.language.stops:
        text = f"    x{stop} y"
        cut = of.language.truncate(text)
        require(cut == "    x" or stop not in cut, f"stop {stop!r} is left in {cut!r}")
        require(of.language.finished(text), f"stop {stop!r} does not finish {text!r}")


def _what_follows_a_finished_completion_changes_no_cut(of: LanguageSubject) -> None:
    language, examples = of.language, of.examples
    for code in (examples.right, examples.wrong, examples.endless):
        for start in (0, code.find("\n") + 1):  # the whole program, and what follows its head
            text = f"{code[start:]}\n\n{code}\n{''.join(language.stops)}"
            ends = [n for n in range(len(text) + 1) if language.finished(text[:n])]
            cuts = {language.truncate(text[:n]) for n in ends}
            require(len(cuts) <= 1, f"finished, and yet the cut changes: {sorted(cuts)[:2]}")


def _the_toolchain_names_versions_or_what_to_install(of: LanguageSubject) -> None:
    try:
        found = of.language.toolchain()
    except MissingToolError as error:
        require("install" in str(error), f"say what to install: {error}")
        return
    require(found, "toolchain() names no tool")
    for tool, version in found.items():
        require(version, f"toolchain() has no version of {tool}")


CONTRACT: tuple[Property[LanguageSubject], ...] = properties(
    _it_is_found_by_its_name,
    _a_right_program_passes,
    _a_wrong_program_fails,
    _an_endless_program_is_cut,
    _a_broken_program_does_not_compile,
    _every_stop_word_ends_a_completion,
    _what_follows_a_finished_completion_changes_no_cut,
    _the_toolchain_names_versions_or_what_to_install,
)
