"""What became of every row, counted by step, source and language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from pydantic import Field

from astraios.data.building.rows import CorpusRow
from astraios.data.building.steps import Step
from astraios.errors import DataError
from astraios.records import Record

NO_LANGUAGE = "none"
"""What counts call the language of rows that name none."""


class StepCount(Record):
    """Rows that one step removed of one source."""

    step: str
    removed: int
    by_language: dict[str, int]


class SourceReport(Record):
    """What became of one source; `read` is `kept` and all that its steps removed."""

    data: str
    data_hash: str
    read: int
    kept: int
    steps: tuple[StepCount, ...]
    """In their order, those that removed nothing too."""
    read_by_language: dict[str, int]
    kept_by_language: dict[str, int]


class BenchmarkReport(Record):
    """What of one benchmark was looked for, and how many rows told of it."""

    n_problems: int
    n_texts: int
    n_too_short: int
    """Texts of fewer than six words, not looked for."""
    n_ngrams: int
    n_boilerplate: int
    """Runs of words in more than ten problems or of `boilerplate.txt`, not looked for."""
    rows_hit: int
    problems_hit: int


class SplitReport(Record):
    """One side of the corpus."""

    rows: int
    characters: int
    by_source: dict[str, int]
    by_language: dict[str, int]


class Report(Record):
    """`report.json`."""

    name: str
    seed: int
    steps: tuple[Step, ...]
    """What was done, in this order."""
    sources: dict[str, SourceReport]
    leaks: dict[str, int] = Field(default_factory=dict)
    """Name of what was found -> rows it was found in, those that were kept all the same too."""
    benchmarks: dict[str, BenchmarkReport] = Field(default_factory=dict)
    absent_benchmarks: dict[str, str] = Field(default_factory=dict)
    """Benchmark -> why its texts were not looked for."""
    contaminated_rows: int = 0
    train: SplitReport
    validation: SplitReport

    @property
    def n_read(self) -> int:
        """Rows of all sources."""
        return sum(source.read for source in self.sources.values())

    @property
    def n_kept(self) -> int:
        """Rows of the corpus."""
        return self.train.rows + self.validation.rows


@dataclass
class Tally:
    """Counts as rows go by."""

    read: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(source, language) -> rows."""
    removed: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(source, step, language) -> rows."""
    kept: Counter[tuple[str, str]] = field(default_factory=Counter)
    leaks: Counter[str] = field(default_factory=Counter)
    hits: dict[str, set[str]] = field(default_factory=dict)
    """Benchmark -> problems that rows told of."""
    rows_hit: Counter[str] = field(default_factory=Counter)
    contaminated: int = 0

    def read_row(self, source: str, language: str | None) -> None:
        self.read[source, language or NO_LANGUAGE] += 1

    def remove(self, source: str, step: str, language: str | None) -> None:
        self.removed[source, step, language or NO_LANGUAGE] += 1

    def keep(self, source: str, language: str | None) -> None:
        self.kept[source, language or NO_LANGUAGE] += 1

    def source(self, name: str, data: str, data_hash: str, steps: tuple[Step, ...]) -> SourceReport:
        """The counts of one source.

        Raises:
            AssertionError: if a row is counted nowhere, or twice: a mistake of this program.
        """
        counted = []
        for step in steps:
            if step.source in ("", name):
                by_language = {
                    language: n
                    for (source, rule, language), n in sorted(self.removed.items())
                    if (source, rule) == (name, step.name)
                }
                counted.append(
                    StepCount(
                        step=step.name, removed=sum(by_language.values()), by_language=by_language
                    )
                )
        report = SourceReport(
            data=data,
            data_hash=data_hash,
            read=sum(self._of(self.read, name).values()),
            kept=sum(self._of(self.kept, name).values()),
            steps=tuple(counted),
            read_by_language=self._of(self.read, name),
            kept_by_language=self._of(self.kept, name),
        )
        gone = sum(step.removed for step in report.steps)
        if report.read != report.kept + gone:
            raise AssertionError(
                f"{name}: {report.read} rows read, {report.kept} kept, {gone} removed"
            )
        return report

    @staticmethod
    def _of(counts: Counter[tuple[str, str]], name: str) -> dict[str, int]:
        return {language: n for (source, language), n in sorted(counts.items()) if source == name}

    def refuse_nothing(self) -> None:
        """Complain that no row is left.

        Raises:
            DataError: names the steps that removed them all, the hungriest first.
        """
        n_read = self.read.total()
        if not n_read:
            raise DataError("the sources hold no rows; look at their files")
        by_step: Counter[tuple[str, str]] = Counter()
        for (source, step, _), n in self.removed.items():
            by_step[source, step] += n
        eaten = ", ".join(
            f"{step} {n:,} of {source}" for (source, step), n in by_step.most_common()
        )
        raise DataError(
            f"no row is left of {n_read:,}: {eaten}; removed.jsonl in the run folder has every "
            "row's step. Leave steps out (without), or look whether the rows are of the right kind"
        )


@dataclass
class SplitTally:
    """Counts of one side of the corpus."""

    rows: int = 0
    characters: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)

    def add(self, row: CorpusRow) -> None:
        self.rows += 1
        self.characters += len(row.prompt) + len(row.opening) + len(row.completion)
        self.sources[row.source] += 1
        self.languages[row.language or NO_LANGUAGE] += 1

    def report(self) -> SplitReport:
        return SplitReport(
            rows=self.rows,
            characters=self.characters,
            by_source=dict(sorted(self.sources.items())),
            by_language=dict(sorted(self.languages.items())),
        )


def table_rows(report: Report) -> Iterator[dict[str, str]]:
    """The report as rows of a table: what each step removed and left of each source."""
    for name, source in report.sources.items():
        left = source.read
        yield {"source": name, "step": "read", "removed": "", "left": f"{left:,}"}
        for step in source.steps:
            left -= step.removed
            if step.removed or step.step == "split":
                yield {
                    "source": name,
                    "step": step.step,
                    "removed": f"{step.removed:,}",
                    "left": f"{left:,}",
                }
