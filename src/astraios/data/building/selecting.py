"""What needs all rows: duplicates and samples; and, in its turn, what was found in each row.

One pass over the chunks in their order. Texts stay on disk; what is remembered of a row is under a
kilobyte, and five more where near-duplicates are searched for: its signature and bands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from astraios.data.building.config import BuildConfig
from astraios.data.building.filtering import outcomes, passed_at
from astraios.data.building.near_duplicates import NearDuplicates
from astraios.data.building.report import Tally
from astraios.data.building.rows import Contaminated, CorpusRow, Passed, Removed
from astraios.data.building.splitting import drawn
from astraios.data.building.steps import CONTAMINATION, EXACT, NEAR, SAMPLE, SECRETS
from astraios.progress import Progress, silent


@dataclass(frozen=True, slots=True)
class Survivor:
    """A row that is kept so far, and where its text is."""

    id: str
    place: str
    source: str
    language: str | None
    chunk: Path
    at: int
    prompt: bytes
    """Digest of the prompt."""

    def row(self) -> CorpusRow:
        """The row itself, read again."""
        return passed_at(self.chunk, self.at).model_copy(update={"id": self.id})


@dataclass(frozen=True)
class Sinks:
    """Where records go that are not rows of the corpus."""

    removed: Callable[[Removed], None]
    contaminated: Callable[[Contaminated], None]


def select(
    chunks: Sequence[Path],
    n_rows: int,
    config: BuildConfig,
    sinks: Sinks,
    tally: Tally,
    progress: Progress = silent,
) -> list[Survivor]:
    """The rows that every step but the split leaves, in the order they were read.

    Args:
        chunks: what became of each row under the rules of its source.
        n_rows: how many rows the chunks have.
        config: which steps there are.
        sinks: where records of what is not kept go.
        tally: counts every row.
        progress: told of rows.
    """
    passing = _Passing(config)
    survivors: list[Survivor] = []
    used: dict[str, int] = {}
    for chunk in chunks:
        for at, outcome in outcomes(chunk):
            if isinstance(outcome, Passed):
                tally.read_row(outcome.source, outcome.row.language)
                removed = passing.judge(outcome, chunk, at)
                _count_findings(outcome, removed, sinks, tally)
                if removed is None:
                    survivors.append(_survivor(outcome, chunk, at, used))
                    continue
                outcome = removed
            else:
                tally.read_row(outcome.source, outcome.language)
            tally.remove(outcome.source, outcome.rule, outcome.language)
            sinks.removed(outcome)
        progress(tally.read.total(), n_rows, "duplicates")
    survivors = _sampled(survivors, config, sinks, tally)
    for kept in survivors:
        tally.keep(kept.source, kept.language)
    return survivors


class _Passing:
    """Steps that look at one row after the other and remember those before."""

    def __init__(self, config: BuildConfig) -> None:
        self._config = config
        self._seen: dict[bytes, str] = {}
        """Digest of prompt and completion -> place of the first row."""
        self._rows: list[tuple[Path, int, str]] = []
        """Chunk, place in it, place in the source: of the rows that later ones are compared to."""
        near = config.near_duplicates
        self._near = near and NearDuplicates(
            threshold=near.threshold,
            size=near.ngram,
            permutations=near.permutations,
            seed=config.seed % (1 << 32),
            text_of=lambda number: passed_at(*self._rows[number][:2]).text,
        )

    def judge(self, passed: Passed, chunk: Path, at: int) -> Removed | None:
        """The step that removes a row, if one does."""
        row = passed.row
        # Before duplicates: a row that is dropped takes no later one along.
        drops = self._config.secrets
        actions = {"secret": drops.secrets, "email": drops.emails, "address": drops.addresses}
        for leak in passed.leaks:
            if actions[leak.kind] == "drop":
                return _removed(passed, SECRETS, f"{leak.name} at character {leak.at}")
        if self._config.exact_duplicates == "drop":
            key = _key(row.prompt, row.opening + row.completion)
            if key in self._seen:
                return _removed(passed, EXACT, f"equal to {self._seen[key]}")
            self._seen[key] = passed.place
        if self._near:
            self._rows.append((chunk, at, passed.place))
            alike = self._near.add(len(self._rows) - 1, row.text)
            if alike:
                self._rows.pop()
                place = self._rows[alike[0]][2]
                return _removed(passed, NEAR, f"like {place}: Jaccard {alike[1]:.3f}")
        if passed.overlaps:
            first = passed.overlaps[0]
            return _removed(
                passed,
                CONTAMINATION,
                f"{first.benchmark} {first.problem} ({first.part}): {first.ngram}",
            )
        return None


def _count_findings(passed: Passed, removed: Removed | None, sinks: Sinks, tally: Tally) -> None:
    """Count what was found in rows that came as far as the step that looks for it."""
    tally.leaks.update({leak.name for leak in passed.leaks})
    if removed is None or removed.rule != CONTAMINATION:
        return
    tally.contaminated += 1
    for benchmark in {overlap.benchmark for overlap in passed.overlaps}:
        tally.rows_hit[benchmark] += 1
    for overlap in passed.overlaps:
        tally.hits.setdefault(overlap.benchmark, set()).add(overlap.problem)
        sinks.contaminated(
            Contaminated(**overlap.model_dump(), id=passed.row.id, place=passed.place)
        )


def _sampled(
    survivors: list[Survivor], config: BuildConfig, sinks: Sinks, tally: Tally
) -> list[Survivor]:
    limits = {source.title: source.n for source in config.sources if source.n is not None}
    out: set[int] = set()
    for title, n in limits.items():
        mine = [at for at, row in enumerate(survivors) if row.source == title]
        ids = [survivors[at].id for at in mine]
        chosen = drawn(ids, n, config.seed, f"sample {title}")
        out.update(at for position, at in enumerate(mine) if position not in chosen)
    for at in sorted(out):
        row = survivors[at]
        tally.remove(row.source, SAMPLE, row.language)
        sinks.removed(
            Removed(
                id=row.id,
                place=row.place,
                source=row.source,
                language=row.language,
                rule=SAMPLE,
                detail="not drawn",
            )
        )
    return [row for at, row in enumerate(survivors) if at not in out]


def _survivor(passed: Passed, chunk: Path, at: int, used: dict[str, int]) -> Survivor:
    """The row under an id of its own: of two rows with one id, the later's gets a number."""
    identity = passed.row.id
    while identity in used:
        used[passed.row.id] += 1
        identity = f"{passed.row.id}~{used[passed.row.id]}"
    used[identity] = 1
    return Survivor(
        id=identity,
        place=passed.place,
        source=passed.source,
        language=passed.row.language,
        chunk=chunk,
        at=at,
        prompt=_key(passed.row.prompt, ""),
    )


def _removed(passed: Passed, rule: str, detail: str) -> Removed:
    return Removed(
        id=passed.row.id,
        place=passed.place,
        source=passed.source,
        language=passed.row.language,
        rule=rule,
        detail=detail,
    )


def _key(prompt: str, completion: str) -> bytes:
    return sha256(f"{prompt}\0{completion}".encode()).digest()[:16]
