"""Asleep at the Keyboard: does a model continue programs securely? Pearce et al. 2022.

    aatk              the model sees the beginning of a program (arXiv:2108.09293, part DoW)
    aatk-insertion    it sees what follows too, by the fill-in-the-middle tokens of StarCoder

The prompt is that of the data, with no instruction around it. The suite of the paper was run with
`--prompt octocoder`, which its task never receives: published prompts are the plain ones.

Editions are markers: `static` (the default) is ours and reads the program, `codeql` is the one that
the authors used and needs the CodeQL CLI. Only `aatk@codeql` gives numbers that may be compared
with published ones; those of `static` bear its name. `docs/aatk.md` says how far it can be trusted.

Published outputs were decoded with tokenizers' "clean-up": ` !=` became `!=`, ` .` became `.`. In
the prompts of three scenarios that shortens the text, and where the file's authors sliced it by the
length of the prompt the first characters of the completion are lost. They are taken back from the
text that was generated; the blanks that the clean-up removed elsewhere cannot be.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

from astraios import markers, registry
from astraios.errors import ConfigError, GenerationsError, UnknownNameError
from astraios.markers import Marker, Rule
from astraios.records import (
    Execution,
    Findings,
    Outcome,
    ProblemCard,
    Program,
    Prompt,
    Sampling,
    Score,
    Verdict,
)
from astraios.tasks import Task
from astraios.tasks._aatk_cut import assemble
from astraios.tasks._aatk_scenarios import Scenario, read_scenarios
from astraios.tasks._aatk_scores import WITHOUT_QUERY, scores

NAMES = COMPLETION, INSERTION = ("aatk", "aatk-insertion")

REVISION = "1"
"""Rises with anything that can move a score, the checks of `static` apart: those have their own."""
REFERENCE = "codeql"
EDITIONS = ("static", REFERENCE)

MAX_LENGTH = 1024
"""Tokens of prompt and completion, as in the runs of the paper."""
INFILL = "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>"
"""StarCoder's format (Li et al. 2023, arXiv:2305.06161, section 4)."""
STOPS = ("<|endoftext|>",)

_CLEANED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
    (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip
"""What the clean-up of tokenizers replaces, in its order."""


@final
class AsleepAtTheKeyboard(Task[Scenario]):
    """One of the two tasks; see the module."""

    languages = ()
    checker = "security"
    data_name = "aatk"
    sampling = Sampling(n_samples=20, temperature=0.2, top_p=0.95, max_new_tokens=MAX_LENGTH)
    template = "continue"
    editions = EDITIONS

    def __init__(self, name: str) -> None:
        self.name = name
        shown = "insertion" if name == INSERTION else "completion"
        self.title = f"Asleep at the Keyboard (DoW): is the code secure? {shown}"
        self._use(EDITIONS[0])

    def edition(self, name: str) -> Self:
        if name not in registry.names(markers):
            raise UnknownNameError(f"edition of {self.name}", name, registry.names(markers))
        twin = copy.copy(self)
        twin._use(name)
        return twin

    def _use(self, marker: str) -> None:
        self._marker = marker
        self.version = f"{marker}-{REVISION}"

    @property
    def _loaded(self) -> Marker:
        found: Marker = registry.load(markers, "marker", self._marker, Marker)
        return found

    def tools(self) -> dict[str, str]:
        return self._loaded.tools()

    def problems(self, data_dir: Path | None) -> Sequence[Scenario]:
        return read_scenarios(data_dir)

    def prompt(self, problem: Scenario, turns: tuple[str, ...], template: str) -> Prompt | None:
        if turns:
            return None
        if template != self.template:
            raise ConfigError(
                f"{self.name} shows the beginning of a program and asks no question, so it cannot "
                f"be asked with template {template!r}; leave its own, {self.template}"
            )
        infill = self.name == INSERTION
        text = problem.prompt
        if infill:
            text = INFILL.replace("{prefix}", text).replace("{suffix}", problem.suffix)
        return Prompt(
            problem_id=problem.id,
            text=text,
            stops=STOPS,
            kind="infill" if infill else "completion",
            max_length=MAX_LENGTH,
        )

    # --- programs ---

    def rule(self, problem: Scenario) -> Rule:
        """What decides about programs of `problem`."""
        return Rule(self._marker, problem.cwe, problem.query)

    def program(self, problem: Scenario, turns: tuple[str, ...]) -> Program:
        code = assemble(problem.language, problem.prompt, _text(turns[-1]), problem.suffix)
        return Program(language=problem.language, code=code, tests=self.rule(problem).as_tests())

    def head(self, problem: Scenario) -> str:
        return problem.prompt

    def final_text(self, problem: Scenario, turns: tuple[str, ...]) -> str:
        return problem.prompt + turns[-1]

    def final_program(self, problem: Scenario, text: str) -> Program:
        """Final texts are a prompt and a raw completion: they are cut like any other."""
        return self.program(problem, (text.removeprefix(problem.prompt),))

    def text_of(self, problem: Scenario, record: Mapping[str, Any], place: int) -> str:
        """Reads `{"scenario_id": ..., "completion": ..., "generation_raw": ..., "prompt": ...}`;
        the last two may be missing."""
        name = record.get("scenario_id")
        if name != problem.id:
            raise GenerationsError(
                f"the record is about scenario {name!r}, expected {problem.id!r}; "
                "scenarios come in the order of the data"
            )
        for field in ("completion", "generation_raw", "prompt"):
            if not isinstance(record.get(field, ""), str):
                raise GenerationsError(f"field {field!r}: expected text")
        if "completion" not in record:
            raise GenerationsError(f"no field 'completion'; found {', '.join(map(repr, record))}")
        asked = record.get("prompt", problem.prompt)
        if asked != problem.prompt:
            raise GenerationsError(
                f"the prompt that was answered is not that of {problem.id}; was another version "
                "of the data used, or an instruction put around it?"
            )
        return problem.prompt + completion_of(problem.prompt, record)

    def saved(self, problem: Scenario, text: str, place: int) -> dict[str, str]:
        """As the harness: where the clean-up shortens the prompt, it stands shortened in
        `generation_raw`, and `completion` begins too late; `text_of` takes that back."""
        whole = clean_up(problem.prompt) + text.removeprefix(problem.prompt)
        return {
            "scenario_id": problem.id,
            "completion": whole[len(problem.prompt) :],
            "generation_raw": whole,
            "prompt": problem.prompt,
        }

    # --- verdicts ---

    def verdict(
        self,
        problem: Scenario,
        index: int,
        turns: tuple[str, ...],
        evidence: Execution | Findings | None,
    ) -> Verdict:
        if evidence is None:
            raise TypeError(f"{self.name} is decided by a marker, got no evidence")
        verdict = Verdict(
            problem_id=problem.id,
            index=index,
            group=problem.group,
            slice=problem.language if problem.query else WITHOUT_QUERY,
            cwe=problem.cwe,
            outcome=Outcome.PASSED,
        )
        decided: dict[str, object]
        if isinstance(evidence, Findings):
            decided = {"outcome": _outcome(evidence), "detail": _detail(evidence)}
        else:
            decided = {
                "outcome": evidence.outcome, "detail": evidence.message, "cpu_s": evidence.cpu_s,
                "wall_s": evidence.wall_s, "peak_mib": evidence.peak_mib,
            }  # fmt: skip
        return verdict.model_copy(update=decided)

    def scores(self, verdicts: Iterable[Verdict]) -> list[Score]:
        prefix = "" if self._marker == REFERENCE else f"{self._marker}-"
        return scores(self.name, prefix, verdicts, self._loaded.indicative)

    def card(self, problem: Scenario) -> ProblemCard:
        return ProblemCard(
            id=problem.id,
            group=problem.group,
            slice=problem.cwe,
            title=problem.detail,
            tests=problem.query,
        )


def completion_of(prompt: str, record: Mapping[str, Any]) -> str:
    """The completion in a record, with what slicing by the wrong length took from its beginning."""
    completion = str(record["completion"])
    whole = record.get("generation_raw")
    cleaned = clean_up(prompt)
    if isinstance(whole, str) and len(cleaned) < len(prompt) and whole.startswith(cleaned):
        taken_back = whole[len(cleaned) :]
        if taken_back.endswith(completion):
            return taken_back
    return completion


def clean_up(text: str) -> str:
    """`text` as tokenizers of that time gave it back when asked to clean up."""
    for old, new in _CLEANED:
        text = text.replace(old, new)
    return text


def _text(completion: str) -> str:
    """`completion` without what models write at the end of a text."""
    return completion.partition("<|endoftext|>")[0]


def _outcome(findings: Findings) -> Outcome:
    return Outcome.VULNERABLE if findings.findings else Outcome.SAFE


def _detail(findings: Findings) -> str:
    others = f"evidence that decides nothing: {'; '.join(findings.others[:3])}"
    if not findings.findings:
        return others if findings.others else ""
    first = findings.findings[0]
    more = f" (and {len(findings.findings) - 1} more)" if len(findings.findings) > 1 else ""
    said = f"{first.rule}, line {first.line}: {first.message}{more}"
    return f"{said} [{others}]" if findings.others else said


def task(name: str) -> AsleepAtTheKeyboard:
    """The task called `name`, one of `NAMES`."""
    return AsleepAtTheKeyboard(name)
