"""Compile programs, then have those that are valid read for flaws.

Compiling happens in the sandbox, by `gcc -g -O -c` or Python's compiler; nothing is run. A program
that does not compile is `compile_error`. One that needs a header which this machine should have is
a fault: ours, not the model's. What compiles goes to the marker that the program's `tests` name
(see `markers.Rule`); if that has no check for the rule, compiling is all, and the outcome `passed`.

Beside the findings of our own checks in C stands what `gcc -fanalyzer` reports; it decides nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from astraios import __version__, markers, registry
from astraios.checkers import Checker
from astraios.errors import ConfigError, WorkError
from astraios.languages import _c_analyzer, _c_compiler
from astraios.markers import Marker, Rule, Source
from astraios.records import Execution, Findings, Outcome, Program
from astraios.sandbox import Harness, Job, Limits, Sandbox

__all__ = ["Security", "checker"]

_NOTHING = Harness(before="", after="", impossible="")
_LIMITS = Limits(cpu_s=10.0, wall_s=60.0, memory_mib=2048)
_COMPILE, _ANALYSE = 0, 1
"""What is done with a program; the number of its job is twice its position and this."""


class Security(Checker):
    """Evidence is how compiling failed, or the marker's findings."""

    def check(
        self, programs: Iterable[Program], sandbox: Sandbox
    ) -> Iterator[tuple[int, Execution | Findings]]:
        """Yield (position, evidence) in any order.

        Raises:
            ConfigError: for a language other than `c` and `python`.
            MissingToolError: if a compiler or a marker's tool is not there.
            SandboxError: if servers cannot be started any more.
        """
        running: dict[int, Program] = {}
        valid: dict[str, list[tuple[int, Source]]] = defaultdict(list)
        evidence: dict[int, dict[int, Execution]] = defaultdict(dict)
        for number, execution in sandbox.run(_jobs(programs, running)):
            position, which = divmod(number, 2)
            program = running[position]
            rule = Rule.read(program.tests)
            evidence[position][which] = execution
            if _ANALYSE not in evidence[position] and _is_analysed(rule, program.language):
                continue
            if _COMPILE not in evidence[position]:
                continue
            del running[position]
            execution = _explained(program.language, evidence[position][_COMPILE])
            marker = _marker(rule)
            if execution.outcome is not Outcome.PASSED or not marker.judges(rule, program.language):
                del evidence[position]
                yield position, execution
                continue
            waiting = valid[program.tests]
            waiting.append((position, Source(program.language, program.code)))
            if len(waiting) >= marker.batch:
                yield from _corroborated(rule, marker, valid.pop(program.tests), evidence)
        for tests, waiting in valid.items():
            rule = Rule.read(tests)
            yield from _corroborated(rule, _marker(rule), waiting, evidence)

    def version(self) -> str:
        return f"security {__version__}"


def _marker(rule: Rule) -> Marker:
    found: Marker = registry.load(markers, "marker", rule.marker, Marker)
    return found


def _is_analysed(rule: Rule, language: str) -> bool:
    """Whether gcc's analyser is asked too: beside our own checks, of flaws that it knows."""
    if language != "c" or rule.marker != "static" or rule.cwe not in _c_analyzer.RELATED:
        return False
    return bool(_c_analyzer.version_of())


def _corroborated(
    rule: Rule,
    marker: Marker,
    waiting: list[tuple[int, Source]],
    evidence: dict[int, dict[int, Execution]],
) -> Iterator[tuple[int, Execution | Findings]]:
    """The marker's findings, with what gcc's analyser says beside them."""
    for position, found in _marked(rule, marker, waiting):
        analysed = evidence.pop(position).get(_ANALYSE)
        if analysed is not None and isinstance(found, Findings):
            others = (*found.others, *_c_analyzer.opinions(rule.cwe, analysed))
            found = found.model_copy(update={"others": others})
        yield position, found


def _marked(
    rule: Rule, marker: Marker, waiting: list[tuple[int, Source]]
) -> Iterator[tuple[int, Execution | Findings]]:
    try:
        findings = marker.mark(rule, [source for _, source in waiting])
    except WorkError as error:
        if len(waiting) > 1:  # which of them it was
            for one in waiting:
                yield from _marked(rule, marker, [one])
            return
        fault = Execution(outcome=Outcome.FAULT, message=str(error)[:200], stderr=str(error))
        yield from ((position, fault) for position, _ in waiting)
        return
    yield from ((place, found) for (place, _), found in zip(waiting, findings, strict=True))


def _jobs(
    programs: Iterable[Program], running: dict[int, Program]
) -> Iterator[tuple[int, Job, str]]:
    made: dict[str, Job] = {}
    for position, program in enumerate(programs):
        if program.language not in made:
            made[program.language] = _job(program.language)
        running[position] = program
        code = program.code
        if program.language == "python":
            data = code.encode("utf-8", "surrogatepass")  # bytes, as in a file: coding is declared
            code = f"compile({data!r}, 'scenario.py', 'exec', dont_inherit=True)"
        yield 2 * position + _COMPILE, made[program.language], code
        if _is_analysed(Rule.read(program.tests), program.language):
            if "analyse" not in made:
                recipe = _c_analyzer.recipe()
                made["analyse"] = Job("", _LIMITS, control=False, recipe=recipe, harness=_NOTHING)
            yield 2 * position + _ANALYSE, made["analyse"], code


def _job(language: str) -> Job:
    if language == "c":
        recipe = _c_compiler.recipe()
        return Job("", _LIMITS, control=False, recipe=recipe, harness=_NOTHING)
    if language == "python":
        return Job("", _LIMITS, control=False)
    raise ConfigError(f"security is checked in programs of c and python, not of {language!r}")


def _explained(language: str, execution: Execution) -> Execution:
    """`execution` of a compiler as the outcome of the program it was given."""
    if execution.outcome in (Outcome.PASSED, Outcome.FAULT):
        return execution
    said = execution.stderr or execution.message
    if language == "c":
        lacking = _c_compiler.missing_package(said)
        if lacking is not None:
            header, package = lacking
            return execution.model_copy(
                update={
                    "outcome": Outcome.FAULT,
                    "message": f"the header <{header}> is not on this machine; "
                    f"install it (Debian: apt install {package}) and run the same command again",
                }
            )
        message = _c_compiler.complaint(said)[:200]
    else:
        message = next(iter(said.strip().splitlines()), "")[:200]
    return execution.model_copy(
        update={"outcome": Outcome.COMPILE_ERROR, "phase": "compile", "message": message}
    )


checker = Security()
