"""Rows of data sets of the Hugging Face hub, streamed: they come as they are read.

hub:OWNER/NAME[@REVISION][/SPLIT]           a split of a data set
hub:OWNER/NAME[@REVISION]/FILE.jsonl        one file of it
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, final

from astraios.data.rowfiles import SUFFIXES, PlacedRow, Rows
from astraios.errors import ConfigError, DataError, MissingDataError, MissingToolError

HUB = "hub:"
_HUB = re.compile(r"(?P<name>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w.-]+))?(?:/(?P<rest>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def hub_rows(spec: str, split: str = "train") -> Rows:
    """The rows of a hub data set; `split` is read where `spec` names none.

    Raises:
        ConfigError: if `spec` is not of the form.
    """
    found = _HUB.fullmatch(spec.removeprefix(HUB))
    if not found:
        raise ConfigError(f"{spec!r} is not of the form hub:OWNER/NAME[@REVISION][/SPLIT or /FILE]")
    return HubRows(found["name"], found["revision"], found["rest"] or split)


@final
@dataclass(frozen=True)
class HubRows(Rows):
    """A split of a hub data set, or one file of it; rows come over the network as they are read."""

    dataset: str
    revision: str | None
    part: str

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.dataset}/{self.part}"

    def read(self, start: int = 0) -> Iterator[PlacedRow]:
        with self._reached():
            stream = self._load()
            if start:
                stream = stream.skip(start)
            for number, row in enumerate(stream, start + 1):
                yield f"{self.name}:{number}", dict(row)

    def data_hash(self) -> str:
        if self.revision and _COMMIT.fullmatch(self.revision):
            return self.revision
        with self._reached():
            from huggingface_hub import HfApi

            return str(HfApi().dataset_info(self.dataset, revision=self.revision).sha)

    def pinned(self) -> HubRows:
        """The same at the revision of this moment, so that it does not move while it is read."""
        return replace(self, revision=self.data_hash())

    def n_rows(self) -> int | None:
        if self.part.endswith(SUFFIXES):
            return None
        with self._reached():
            split = (self._load().info.splits or {}).get(self.part)
            return split.num_examples if split else None

    def _load(self) -> Any:
        from datasets import load_dataset

        if not self.part.endswith(SUFFIXES):
            return load_dataset(
                self.dataset, revision=self.revision, split=self.part, streaming=True
            )
        at = f"@{self.revision}" if self.revision else ""
        return load_dataset(
            "parquet" if self.part.endswith(".parquet") else "json",
            data_files=f"hf://datasets/{self.dataset}{at}/{self.part}",
            split="train",
            streaming=True,
        )

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Errors of the hub's libraries as ours: not there, no network, no such split."""
        try:
            import datasets  # noqa: F401
        except ModuleNotFoundError:
            raise MissingToolError(
                f"hub:{self.name}: reading the hub needs datasets; "
                "install it with: pip install 'astraios[data]'"
            ) from None
        try:
            yield
        except Exception as error:
            said = " ".join(str(error).split())[:300] or type(error).__name__
            if isinstance(error, OSError) or _is_of_network(error):  # not found, gated, offline
                raise MissingDataError(
                    f"hub data set {self.dataset!r} (part {self.part!r}) cannot be had: {said}; "
                    "check its name and the network, or download its files and name them instead"
                ) from None
            if isinstance(error, ValueError):  # an unknown split, columns that do not agree
                raise DataError(f"hub:{self.name}: {said}") from None
            raise


def _is_of_network(error: Exception) -> bool:
    """Whether the hub's HTTP library raised it; which one that is depends on the hub's version."""
    libraries = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return bool(libraries & {"httpx", "httpx2", "requests", "aiohttp"})
