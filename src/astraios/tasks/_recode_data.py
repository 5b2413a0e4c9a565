"""The perturbed prompts of ReCode and the prompts of HumanEval they were made from.

ReCode (Wang et al. 2022, arXiv:2212.10264) released its perturbed prompts. They are found in
`<data-dir>/recode/`, in one of these layouts:

    <category>.jsonl(.gz)                    one prompt a line, with `perturbation_name` and `seed`
    <category>/humaneval_<name>_s<seed>.jsonl(.gz)   the authors' files, also below
                                             `perturbed_finalized/humaneval/full/`
    nominal.jsonl(.gz)                       HumanEval, with `partial_prompt` if there is one

Without a data folder, the hub's `RaymondLi/perturbed_humaneval` and `openai/openai_humaneval` are
read (as parquet files, which needs pyarrow).

The authors' files are taken in plain order of their names, as in the published runs, so
`DeadCodeInserterLast` comes before `DeadCodeInserter`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from astraios import perturbations
from astraios.errors import DataError, MissingDataError
from astraios.tasks._codexglue import parquet_rows
from astraios.tasks._hub import hub_files
from astraios.tasks._rows import Row, numbered

FOLDER = "recode"
OFFICIAL = "HumanEval/"
"""What ids of the released data begin with."""
FAMILIES = MappingProxyType(
    {"format": "format", "func_name": "function", "natgen": "syntax", "nlaugmenter": "docstring"}
)
"""Category of the data -> family of our own perturbations, which have the same names."""
NOMINAL = "nominal"
HUB, NOMINAL_HUB = "RaymondLi/perturbed_humaneval", "openai/openai_humaneval"
RELEASED = ("", "perturbed_finalized/humaneval/full/", "humaneval/full/")
NOMINAL_FILES = ("nominal", "nominal/HumanEval", "HumanEval")

_FILE = re.compile(r"humaneval_(?P<name>\w+)_s(?P<seed>\d+)\.jsonl(?:\.gz)?")
_SUFFIXES = (".jsonl.gz", ".jsonl")
_CONVERTED = "refs/convert/parquet"
"""Branch of a hub's data set that holds it as parquet files, whatever it was uploaded as."""

Placed = Iterator[tuple[str, Row]]


@dataclass(frozen=True)
class Nominal:
    """One problem of HumanEval."""

    task_id: str
    entry_point: str
    prompt: str
    canonical_solution: str
    test: str
    partial_prompt: str = ""
    """The prompt with about half of the solution behind it; empty where the data have none."""

    @property
    def solution(self) -> str:
        return self.prompt + self.canonical_solution


@dataclass(frozen=True)
class Variant:
    """One perturbed prompt."""

    task_id: str
    transformation: str
    seed: int
    entry_point: str
    prompt: str
    test: str


def read_nominal(data_dir: Path | None) -> dict[str, Nominal]:
    """HumanEval by task id, in order.

    Raises:
        MissingDataError: where it was looked for and how to get it.
        DataError: a row that lacks a column or repeats an id; file and line.
    """
    found: dict[str, Nominal] = {}
    for where, row in _nominal_rows(data_dir):
        name = _text(row, "task_id", where)
        if name in found:
            raise DataError(f"{where}: task_id {name!r} is there twice")
        found[name] = Nominal(
            task_id=name,
            entry_point=_text(row, "entry_point", where),
            prompt=_text(row, "prompt", where),
            canonical_solution=_text(row, "canonical_solution", where),
            test=_text(row, "test", where),
            partial_prompt=_text(row, "partial_prompt", where) if "partial_prompt" in row else "",
        )
    if not found:
        raise DataError(f"{FOLDER}/{NOMINAL}: no rows; expected one problem a line")
    return found


def read_variants(
    category: str, n_seeds: int, data_dir: Path | None, nominal: Mapping[str, Nominal]
) -> list[Variant]:
    """The prompts of `category`, of each transformation the first `n_seeds` seeds.

    Raises:
        MissingDataError: where they were looked for and how to get them.
        DataError: a row that lacks a column or holds in it what it should not, a problem that one
            of the parts lacks, seeds that are not there.
    """
    found = list(_variants(category, data_dir, nominal))
    if not found:
        raise DataError(f"{FOLDER}/{category}: no rows; expected one prompt a line")
    _refuse_gaps(category, found, n_seeds)
    return [variant for variant in found if variant.seed < n_seeds]


def _refuse_gaps(category: str, found: Sequence[Variant], n_seeds: int) -> None:
    parts: dict[tuple[str, int], list[str]] = defaultdict(list)
    seeds: dict[str, set[int]] = defaultdict(set)
    for variant in found:
        parts[variant.transformation, variant.seed].append(variant.task_id)
        seeds[variant.transformation].add(variant.seed)
    everything = dict.fromkeys(variant.task_id for variant in found)
    for (name, seed), ids in parts.items():
        where = f"{FOLDER}/{category}: {name}, seed {seed}"
        if len(set(ids)) < len(ids):
            twice = next(one for one in ids if ids.count(one) > 1)
            raise DataError(f"{where}: task_id {twice!r} is there twice")
        missing = [one for one in everything if one not in set(ids)]
        if missing:
            raise DataError(
                f"{where}: {len(missing)} of {len(everything)} problems are missing, the first is "
                f"{missing[0]!r}; copy the files again"
            )
    known = _transformations(category)
    if found[0].task_id.startswith(OFFICIAL) and (lacking := sorted(known.keys() - seeds.keys())):
        raise DataError(
            f"{FOLDER}/{category}: no prompts of {', '.join(lacking)}, so the mean and the worst "
            "case would be over fewer transformations than the released ones; copy the files again"
        )
    for name, held in seeds.items():
        wanted = set(range(n_seeds if known.get(name) or len(held) > 1 else 1))
        if not wanted <= held:
            listed = ", ".join(map(str, sorted(wanted - held)))
            raise DataError(
                f"{FOLDER}/{category}: {name} has no seed {listed}; it has "
                f"{', '.join(map(str, sorted(held)))}. Ask for fewer, as in "
                f"recode-...@seeds-{max(held) + 1}"
            )


def _transformations(category: str) -> dict[str, bool]:
    """Released transformations of `category`, and whether each was left to chance, so has seeds."""
    ours = perturbations.family(FAMILIES[category]) if category in FAMILIES else ()
    known = {one.name: one.drawn for one in ours}
    return known if category != "nlaugmenter" else {**known, "BackTranslation": False}


# --- rows -------------------------------------------------------------------------------------


def _variants(
    category: str, data_dir: Path | None, nominal: Mapping[str, Nominal]
) -> Iterator[Variant]:
    for where, row, transformation, seed in _placed(category, data_dir):
        name = _text(row, "task_id", where)
        if "test" in row:
            test = _text(row, "test", where)
        elif name in nominal:
            test = nominal[name].test
        else:
            raise DataError(
                f"{where}: the row has no tests, and HumanEval as it is has no problem {name!r}"
            )
        yield Variant(
            task_id=name,
            transformation=transformation,
            seed=seed,
            entry_point=_text(row, "entry_point", where),
            prompt=_text(row, "prompt", where),
            test=test,
        )


def _placed(category: str, data_dir: Path | None) -> Iterator[tuple[str, Row, str, int]]:
    """Rows with their place, transformation and seed, in the order of the published runs."""
    if data_dir is not None:
        files = _released(category, data_dir / FOLDER)
        for path, name, seed in files:
            for where, row in numbered(path):
                yield where, row, name, seed
        if files:
            return
        rows = numbered(_file(category, data_dir))
    else:
        rows = _from_hub(HUB, f"{category}/test/0000.parquet", _CONVERTED, category)
    for where, row in rows:
        yield where, row, _text(row, "perturbation_name", where), _seed(row, where)


def _released(category: str, folder: Path) -> list[tuple[Path, str, int]]:
    for below in RELEASED:
        named = [
            (path, match["name"], int(match["seed"]))
            for path in sorted(folder.glob(f"{below}{category}/*"), key=lambda path: path.name)
            if (match := _FILE.fullmatch(path.name))
        ]
        if named:
            return named
    return []


def _file(category: str, data_dir: Path) -> Path:
    for suffix in _SUFFIXES:
        path = data_dir / FOLDER / f"{category}{suffix}"
        if path.is_file():
            return path
    home = data_dir / FOLDER
    raise MissingDataError(
        f"ReCode: no perturbed prompts; looked for {str(home / category)!r} with .jsonl.gz or "
        f".jsonl, and for humaneval_<transformation>_s<seed>.jsonl in {str(home / category)!r} "
        f"and {str(home / RELEASED[1] / category)!r}. Copy the authors' files "
        f"(amazon-science/recode, perturbed_finalized) there, or leave --data-dir out to load the "
        f"hub's data set {HUB}"
    )


def _nominal_rows(data_dir: Path | None) -> Placed:
    if data_dir is None:
        file = "openai_humaneval/test-00000-of-00001.parquet"
        return _from_hub(NOMINAL_HUB, file, None, NOMINAL)
    paths = [
        *(data_dir / FOLDER / f"{name}{end}" for name in NOMINAL_FILES for end in _SUFFIXES),
        *(data_dir / "humaneval" / f"HumanEval{end}" for end in _SUFFIXES),
    ]
    for path in paths:
        if path.is_file():
            return numbered(path)
    raise MissingDataError(
        f"HumanEval: no rows; looked for {', '.join(repr(str(path)) for path in paths)}. Copy "
        "HumanEval.jsonl.gz (openai/human-eval) there, or leave --data-dir out to load the hub's "
        f"data set {NOMINAL_HUB}"
    )


def _from_hub(name: str, file: str, revision: str | None, part: str) -> Placed:
    remedy = f"give --data-dir (or set ASTRAIOS_DATA) a folder that holds {FOLDER}/{part}.jsonl.gz"
    folder = hub_files(FOLDER, name, file, remedy, revision)
    return parquet_rows([folder / file], remedy)


def _text(row: Row, column: str, where: str) -> str:
    if column not in row:
        listed = ", ".join(sorted(map(str, row))) or "none"
        raise DataError(f"{where}: column {column!r} is missing; the row has {listed}")
    if not isinstance(row[column], str):
        held = type(row[column]).__name__
        raise DataError(f"{where}: column {column!r} holds {held}, expected text")
    return str(row[column])


def _seed(row: Row, where: str) -> int:
    value = row.get("seed")
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"{where}: column 'seed' holds {value!r}, expected a number from 0 on")
    return value
