"""A config with what it names: rows, rules, texts of benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, final

from astraios import registry
from astraios.config import digest, fingerprint
from astraios.data import Corpus, corpora
from astraios.data.building.config import BuildConfig, SourceConfig
from astraios.data.building.contamination import Benchmarks, texts_hash
from astraios.data.building.steps import Filter, Step, filter_of, steps_of
from astraios.data.hubrows import HUB, HubRows, hub_rows
from astraios.data.rowcorpus import RowCorpus, rows_hash
from astraios.data.rowfiles import PlacedRow, Rows, file_rows
from astraios.data.sources import find_corpus
from astraios.errors import ConfigError, MissingDataError


@dataclass(frozen=True)
class PlannedSource:
    """One source, its rows found and its rules made."""

    config: SourceConfig
    rows: tuple[Rows, ...]
    filter: Filter

    def read(self, start: int = 0) -> Iterator[PlacedRow]:
        """Its rows from number `start` on, those of all its files counted through."""
        for rows in self.rows:
            n = rows.n_rows() if start else 0
            if start and n is not None and n <= start:
                start -= n
                continue
            if n is None and rows is not self.rows[-1]:
                for placed in rows.read():
                    if not start:
                        yield placed
                    start = max(0, start - 1)
                continue
            yield from rows.read(start)
            start = 0

    def n_rows(self) -> int | None:
        """How many there are; None where only reading them would tell."""
        counts = [rows.n_rows() for rows in self.rows]
        return None if None in counts else sum(filter(None, counts))


@dataclass(frozen=True)
class Plan:
    """All that a build depends on."""

    config: BuildConfig
    """As it is recorded: files and folders by their last name, told apart by `inputs`."""
    sources: tuple[PlannedSource, ...]
    steps: tuple[Step, ...]
    inputs: Mapping[str, str]
    benchmarks: Benchmarks = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    """Benchmark -> why its texts are not looked for."""

    @property
    def folder(self) -> str:
        """Name for its run folder: equal for equal configs and equal inputs."""
        return f"data-{self.config.name}-{digest([fingerprint(self.config), dict(self.inputs)])}"


def plan(
    config: BuildConfig,
    *,
    data_dir: Path | None = None,
    benchmarks: Benchmarks | None = None,
    absent: Mapping[str, str] | None = None,
) -> Plan:
    """Find what `config` names.

    Args:
        config: what to build.
        data_dir: where files are looked for first.
        benchmarks: texts that no row may tell; of the benchmarks that the config asks for.
        absent: benchmarks whose texts are not at hand, and why.

    Raises:
        MissingDataError: if a file, a data set or a tokenizer is not there.
        ConfigError: if the config looks for benchmarks and no text of any is given.
    """
    if config.decontaminate and not benchmarks:
        why = "".join(f"\n  {name}: {reason}" for name, reason in (absent or {}).items())
        raise ConfigError(
            "decontaminate: there is no benchmark to look for; name the folder of their data with "
            f"--data-dir, or set decontaminate to null{why}"
        )
    looked_for = dict(benchmarks or {}) if config.decontaminate else {}
    sources, filters, inputs = [], {}, {}
    for source in config.sources:
        rows = rows_of(source, data_dir)
        filters[source.title] = filter_of(source, config)
        inputs[f"source {source.title}"] = rows_hash(rows)
        if source.kind == "commits" and Path(source.tokenizer).is_dir():
            inputs[f"tokenizer of {source.title}"] = _folder_hash(Path(source.tokenizer))
        sources.append(PlannedSource(source, rows, filters[source.title]))
    if looked_for:
        inputs["benchmarks"] = texts_hash(looked_for)
    recorded = config.model_copy(
        update={"sources": tuple(_without_folders(source) for source in config.sources)}
    )
    return Plan(
        config=recorded,
        sources=tuple(sources),
        steps=steps_of(config, filters),
        inputs=inputs,
        benchmarks=looked_for,
        absent=dict(absent or {}) if config.decontaminate else {},
    )


def rows_of(source: SourceConfig, data_dir: Path | None) -> tuple[Rows, ...]:
    """Where the rows of a source are: validation rows of a corpus after its training rows.

    Raises:
        MissingDataError: if there are none.
        ConfigError: if they never end.
    """
    return tuple(
        rows.pinned() if isinstance(rows, HubRows) else rows
        for spec in source.places
        for rows in _rows_at(spec, source.title, data_dir)
    )


def _rows_at(spec: str, title: str, data_dir: Path | None) -> tuple[Rows, ...]:
    for path in (*((data_dir / spec,) if data_dir else ()), Path(spec)):
        if path.is_file():
            return (file_rows(path),)
        # a registered corpus has its own way of finding its folder
        if path.is_dir() and spec.replace("-", "_") not in registry.names(corpora):
            return _all_rows(find_corpus(str(path)), data_dir)
    if spec.startswith(HUB) and spec != f"{HUB}bigcode/guanaco-commits":
        return (hub_rows(spec),)
    try:
        corpus = find_corpus(spec)
    except MissingDataError:
        looked = [str(data_dir / spec)] if data_dir else []
        raise MissingDataError(
            f"source {title!r}: {spec!r} is no file, folder, corpus or hub data set; looked "
            f"for {', '.join(map(repr, [*looked, spec]))}"
        ) from None
    return _all_rows(corpus, data_dir)


def _all_rows(corpus: Corpus, data_dir: Path | None) -> tuple[Rows, ...]:
    if isinstance(corpus, RowCorpus):
        parts = corpus.parts(data_dir)
        return (*parts.train, *parts.validation)
    if corpus.endless:
        raise ConfigError(
            f"corpus {corpus.name!r} is generated and never ends, so nothing can be built of it; "
            "train on it by its name"
        )
    return tuple(CorpusRows(corpus, split, data_dir) for split in ("train", "validation"))


@final
@dataclass(frozen=True)
class CorpusRows(Rows):
    """A split of a corpus of another project, its records as rows."""

    corpus: Corpus
    split: str
    data_dir: Path | None

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.corpus.name}/{self.split}"

    def read(self, start: int = 0) -> Iterator[PlacedRow]:
        records = self.corpus.records(self.split, 0, self.data_dir)
        for number, record in enumerate(records, 1):
            if number > start:
                row: dict[str, Any] = record.model_dump(mode="json")
                yield (
                    f"{self.name}:{number}",
                    {
                        "id": row["id"],
                        "source": row["source"],
                        "language": row["language"],
                        "prompt": row["instruction"],
                        "opening": row["opening"],
                        "completion": row["response"],
                        "messages": row["messages"],
                    },
                )

    def data_hash(self) -> str:
        return self.corpus.data_hash(self.data_dir)

    def n_rows(self) -> int | None:
        return None


def _without_folders(source: SourceConfig) -> SourceConfig:
    """Two machines have the same file in different folders: what it holds is told by its hash."""
    names = tuple(
        spec if spec.startswith(HUB) else Path(spec).name or spec for spec in source.places
    )
    changed: dict[str, Any] = {"data": names[0] if isinstance(source.data, str) else names}
    if Path(source.tokenizer).is_dir():
        changed["tokenizer"] = Path(source.tokenizer).resolve().name
    return source.model_copy(update=changed)


def _folder_hash(folder: Path) -> str:
    names: Sequence[Path] = sorted(path for path in folder.iterdir() if path.is_file())
    found = sha256()
    for path in names:
        found.update(f"{path.name}\0{sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()
