"""What a build reads, what it leaves out, and how it splits the rest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from astraios.config import OPERATIONAL, Config

STARCODER = "bigcode/starcoderbase"


class SourceConfig(Config):
    """Rows of one kind and the rules for them."""

    kind: Literal["commits", "conversations", "instructions"]
    data: str | Annotated[tuple[str, ...], Field(min_length=1)]
    """A file (JSONL, Parquet, .gz too), looked for in the data folder first; a name of `astraios
    list corpora`; a folder of files; or `hub:OWNER/NAME[@REVISION][/SPLIT or /FILE]`. Of a list,
    the rows of one follow those of the other."""
    name: str = ""
    """What reports and rows call it; empty: its kind."""
    preset: Literal["mended", "published"] = "mended"
    """The rules with their faults mended, or as the original's scripts have them."""
    without: tuple[str, ...] = ()
    """Names of rules that are left out; `astraios data rules` lists them."""
    languages: tuple[str, ...] | None = None
    """Kept languages, upper and lower case alike; None: all."""
    n: int | None = Field(default=None, ge=1)
    """Rows drawn of those that are left in the end; None: all."""
    tokenizer: str = STARCODER
    """Folder or hub id of the tokenizer that rule A11 counts with."""
    revision: str | None = None
    """Of the tokenizer, on the hub."""
    opted_out: tuple[str, ...] = ()
    """Owners of repositories whose commits are left out."""

    @property
    def places(self) -> tuple[str, ...]:
        """What `data` names, one or several."""
        return (self.data,) if isinstance(self.data, str) else self.data

    @property
    def title(self) -> str:
        """Its name in reports and rows."""
        return self.name or self.kind


class NearDuplicatesConfig(Config):
    """Which rows are so alike that one is enough."""

    threshold: float = Field(default=0.7, gt=0, le=1)
    """Jaccard index of the sets of word runs, from which on the later row is dropped."""
    ngram: int = Field(default=5, ge=1)
    """Words of a run."""
    permutations: int = Field(default=128, ge=16, le=1_024, multiple_of=16)
    """Numbers of a MinHash signature."""


class SecretsConfig(Config):
    """What becomes of rows in which something is found; what is kept is still counted."""

    secrets: Literal["drop", "keep"] = "drop"
    """Private keys, keys and tokens of known forms, passwords in addresses."""
    emails: Literal["drop", "keep"] = "drop"
    """E-mail addresses; those of example domains do not count."""
    addresses: Literal["drop", "keep"] = "keep"
    """Public IPv4 addresses; versions of four numbers look alike."""


class DecontaminationConfig(Config):
    """Which rows tell too much of a benchmark."""

    ngram: int = Field(default=10, ge=5, le=50)
    """Words that a row and a problem have to share in a row."""
    benchmarks: tuple[str, ...] | None = None
    """Names of `astraios list tasks`, whose data has to be there; None: all whose data is there."""


class BuildConfig(Config):
    """From raw rows to a corpus."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    seed: int = 0
    """Draws samples, the order of rows, validation rows, and what rule B4 keeps."""
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    """Where two rows are alike, that of the earlier source stays."""
    licences: Literal["permissive", "published"] | tuple[str, ...] | None = None
    """Of commits: permissive ones, CommitPack's (copyleft among them), or a list of names. None:
    permissive ones, and CommitPack's for a source of the preset `published`."""
    exact_duplicates: Literal["drop", "keep"] = "drop"
    near_duplicates: NearDuplicatesConfig | None = NearDuplicatesConfig()
    """None: no search for them."""
    secrets: SecretsConfig = SecretsConfig()
    decontaminate: DecontaminationConfig | None = DecontaminationConfig()
    """None: no search for texts of benchmarks."""
    validation: Annotated[int, Field(ge=1, strict=True)] | Annotated[float, Field(gt=0, lt=1)] = (
        0.05
    )
    """Rows held out: their number, or their share."""
    chunk: int = Field(default=2_000, ge=1, json_schema_extra=OPERATIONAL)
    """Rows that are filtered before they are put on disk: what a kill can cost."""

    @model_validator(mode="after")
    def _names_differ(self) -> BuildConfig:
        titles = [source.title for source in self.sources]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ValueError(f"two sources are called {twice[0]!r}; give each a name of its own")
        return self
