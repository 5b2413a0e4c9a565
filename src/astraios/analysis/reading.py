"""Verdict files into counts, column by column.

A study holds up to millions of verdicts, and every table needs only how many there are of each
kind. So a run is read in pieces: one regular expression checks that all lines of a piece are
written as `runs.Run.append` writes a `Verdict`, Polars parses the few fields that are counted, and
the piece is counted and dropped. Memory follows the counts, not the samples. A piece with any other
line is read again by the strict reader, which accepts what a `Verdict` accepts, and whose error
names the file, the line and the remedy. `docs/statistics.md` has the times of other readers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from astraios.errors import DataError
from astraios.files import read_records, readable
from astraios.records import Outcome, Verdict
from astraios.runs import Run

if TYPE_CHECKING:
    import polars as pl

VERDICTS = "verdicts"
PIECE = 32 << 20
"""Bytes of a file that are parsed at a time."""
STRICT_PIECE = 20_000
"""Records that the strict reader counts at a time."""

FIELDS = ("problem_id", "index", "group", "slice", "cwe", "expected", "outcome")
"""What is read of a verdict."""
KINDS = ("problem_id", "group", "slice", "cwe", "expected", "outcome")
"""Verdicts that agree in these are counted together."""

ALL = "all"
"""The slice of a robust task that takes all its transformations together."""


@dataclass(frozen=True)
class Counts:
    """The verdicts of one run, counted."""

    kinds: pl.DataFrame
    """`KINDS` and `n`, in the order in which kinds appear in the files."""
    worst: pl.DataFrame
    """`group, slice, n, n_passed`: completions of variants of a problem, the i-th of all variants
    taken together. It counts in `n` if none of its verdicts is a fault, and in `n_passed` if all of
    them are passes. A row a transformation, and one for `ALL`; none where problems have no
    variants."""


def schema() -> dict[str, type[pl.DataType]]:
    """The types of `FIELDS`."""
    import polars as pl

    return {**dict.fromkeys(FIELDS, pl.String), "index": pl.Int64}


def count_verdicts(run: Run) -> Counts:
    """The verdicts of `run`, counted.

    Raises:
        DataError: if a line is no verdict, or one sample has two; names the file and the line, or
            the sample.
    """
    import polars as pl

    kinds: list[pl.DataFrame] = []
    keys: list[pl.DataFrame] = []
    variants: list[pl.DataFrame] = []
    for piece in _pieces(run):
        kinds.append(piece.group_by(KINDS, maintain_order=True).len("n"))
        keys.append(piece.select(pl.struct("problem_id", "index").hash(seed=0).alias("key")))
        found = piece.filter(pl.col("group") != pl.col("problem_id"))
        if len(found):
            variants.append(found.select("group", "slice", "index", "outcome"))
        if len(kinds) > 8:
            kinds = [_added(kinds)]
    if keys and sum(map(len, keys)) != pl.concat(keys)["key"].n_unique():
        _refuse_twins(run)
    return Counts(_added(kinds), _worst(variants))


def _added(kinds: list[pl.DataFrame]) -> pl.DataFrame:
    import polars as pl

    joined = pl.concat(
        [pl.DataFrame(schema={**dict.fromkeys(KINDS, pl.String), "n": pl.UInt32}), *kinds]
    )
    return joined.group_by(KINDS, maintain_order=True).agg(pl.col("n").sum())


def _worst(variants: list[pl.DataFrame]) -> pl.DataFrame:
    import polars as pl

    names = ("group", "slice", "index", "outcome")
    joined = pl.concat([pl.DataFrame(schema={name: schema()[name] for name in names}), *variants])
    both = pl.concat([joined, joined.with_columns(slice=pl.lit(ALL))])
    samples = both.group_by("group", "slice", "index", maintain_order=True).agg(
        passed=(pl.col("outcome") == Outcome.PASSED).all(),
        judged=(pl.col("outcome") != Outcome.FAULT).all(),
    )
    return samples.group_by("group", "slice", maintain_order=True).agg(
        n=pl.col("judged").sum(), n_passed=(pl.col("judged") & pl.col("passed")).sum()
    )


# --- pieces -----------------------------------------------------------------------------------


def _paths(run: Run) -> list[Path]:
    paths = [run.folder / f"{VERDICTS}.jsonl", *sorted(run.folder.glob(f"{VERDICTS}-*.jsonl"))]
    return [path for path in paths if path.exists()]


def _pieces(run: Run) -> Iterator[pl.DataFrame]:
    for path in _paths(run):
        for number, piece in enumerate(_whole_lines(path)):
            found = parsed(piece)
            if found is None:
                # From the beginning of the file, so that an error has the right line; what the
                # pieces before held has been counted already.
                yield from _strictly(path, skip=_n_lines(path, number))
                break
            yield found


def _whole_lines(path: Path) -> Iterator[bytes]:
    """The file in pieces that end with a line; a torn last line, left by a kill, is no record."""
    rest = b""
    with readable(path) as file:
        while block := file.read(PIECE):
            lines, newline, rest_of_block = block.rpartition(b"\n")
            if newline:
                yield rest + lines + newline
                rest = rest_of_block
            else:
                rest += block


def _n_lines(path: Path, n_pieces: int) -> int:
    pieces = _whole_lines(path)
    return sum(next(pieces).count(b"\n") for _ in range(n_pieces))


def parsed(piece: bytes) -> pl.DataFrame | None:
    """The fields of all verdicts of `piece`; None if a line is not written as we write them."""
    import polars as pl

    try:
        text = piece.decode("utf-8")
        n_whole = pl.Series([text]).str.count_matches(_line())[0]
        if n_whole != piece.count(b"\n"):
            return None
        found = pl.read_ndjson(piece, schema=schema())
    except (UnicodeDecodeError, pl.exceptions.PolarsError):
        return None
    return found if len(found) == n_whole else None


@cache
def _line() -> str:
    """Matches a whole line that holds a verdict, and no other line."""
    text = r'"(?:[^"\\\n]|\\.)*"'
    number = r"-?[0-9][0-9.eE+-]*"
    shapes = {
        "problem_id": text,
        "index": "-?[0-9]+",
        "group": text,
        "slice": text,
        "outcome": f'"(?:{"|".join(Outcome)})"',
        "answer": f"(?:null|{text})",
        "expected": f"(?:null|{text})",
        "readings": rf"(?:null|\{{(?:{text}:(?:null|{text}),?)*\}})",
        "log_odds": f"(?:null|{number})",
        "cwe": f"(?:null|{text})",
        "detail": text,
        "cpu_s": number,
        "wall_s": number,
        "peak_mib": number,
    }
    fields = ",".join(f'"{name}":{shapes[name]}' for name in Verdict.model_fields)
    return r"(?m)^\{" + fields + r"\}$"


def _strictly(path: Path, skip: int) -> Iterator[pl.DataFrame]:
    import polars as pl

    records = read_records(path, Verdict)
    for _ in islice(records, skip):
        pass
    while batch := list(islice(records, STRICT_PIECE)):
        columns = {name: [getattr(record, name) for record in batch] for name in FIELDS}
        yield pl.DataFrame(columns, schema=schema())


def _refuse_twins(run: Run) -> None:
    seen: dict[tuple[str, int], Path] = {}
    for path in _paths(run):
        for number, verdict in enumerate(read_records(path, Verdict), 1):
            key = verdict.problem_id, verdict.index
            if key in seen:
                raise DataError(
                    f"{path}:{number}: sample {verdict.index} of problem {verdict.problem_id!r} "
                    f"has a verdict already (in {seen[key].name}); remove one of the two lines, or "
                    f"remove {str(run.folder)!r} and judge again"
                )
            seen[key] = path
