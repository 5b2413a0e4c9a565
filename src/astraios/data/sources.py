"""Any corpus by one word: a registered name, a file, a folder, or a data set of the hub."""

from __future__ import annotations

from pathlib import Path
from typing import final

from astraios import registry
from astraios.data import Corpus, corpora
from astraios.data.hubrows import HUB, hub_rows
from astraios.data.rowcorpus import Parts, RowCorpus, files_of
from astraios.data.rowfiles import SUFFIXES, file_rows
from astraios.errors import DataError, MissingDataError, UnknownNameError
from astraios.records import RunKind
from astraios.runs import MANIFEST, read_run

_VALIDATION = ("validation", "test")
"""What a file of validation rows is called, where that of training rows is called `train`."""


def find_corpus(spec: str) -> Corpus:
    """The corpus that `spec` names.

    Raises:
        UnknownNameError: if there is none of that name, nor a file or folder.
        MissingDataError: if a path leads nowhere; a file that is needed is not there.
        DataError: if a folder holds no training rows.
    """
    if spec.removeprefix(HUB) == "bigcode/guanaco-commits":
        return _registered("guanaco_commits")
    if spec.startswith(HUB):
        return HubCorpus(spec)
    if _module(spec) in registry.names(corpora):
        return _registered(spec)
    path = Path(spec)
    if path.is_dir():
        return FolderCorpus(path)
    if path.is_file():
        file_rows(path)  # a name whose format cannot be told is refused here
        return FileCorpus(path)
    if "/" in spec or spec.lower().endswith(SUFFIXES):
        raise MissingDataError(f"corpus {spec!r}: there is no such file or folder")
    raise UnknownNameError("corpus", spec, registry.names(corpora))


def _module(name: str) -> str:
    return name.replace("-", "_")


def _registered(name: str) -> Corpus:
    found: Corpus = registry.load(corpora, "corpus", _module(name), Corpus)
    return found


# --- corpora that are not registered ----------------------------------------------------------


@final
class FileCorpus(RowCorpus):
    """A file; one beside it whose name says `validation` for `train` holds its validation rows."""

    licence = "not stated"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.name.partition(".")[0]
        self.title = f"the file {path.name}"

    def parts(self, data_dir: Path | None) -> Parts:
        if not self._path.is_file():
            raise MissingDataError(f"corpus {str(self._path)!r}: there is no such file")
        stem, dot, _ = self._path.name.partition(".")
        for word in _VALIDATION if "train" in stem else ():
            beside = stem.replace("train", word) + dot
            found = [self._path.with_name(beside + suffix[1:]) for suffix in SUFFIXES]
            if here := [path for path in found if path.is_file()]:
                return Parts((file_rows(self._path),), (file_rows(here[0]),))
        return Parts((file_rows(self._path),))


@final
class FolderCorpus(RowCorpus):
    """A folder of files `train` and `validation` (or `test`), such as `astraios data build` makes.

    A part may be cut in several files, `train-00000-of-00002.parquet`, read in order of name.
    """

    licence = "not stated"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.resolve().name
        self.title = f"the folder {self.name}"

    def parts(self, data_dir: Path | None) -> Parts:
        if (self._path / MANIFEST).exists():
            kind = read_run(self._path).manifest.kind  # an unfinished one is refused
            if kind is not RunKind.DATA:
                raise DataError(
                    f"corpus {str(self._path)!r} is a {kind} run; a corpus is a data run, the "
                    "folder that `astraios data build` writes"
                )
        train = files_of(self._path, "train")
        if not train:
            raise MissingDataError(
                f"corpus {str(self._path)!r} has no file of training rows; looked for "
                + ", ".join(f"train{suffix}" for suffix in SUFFIXES)
            )
        validation = next(filter(None, (files_of(self._path, word) for word in _VALIDATION)), ())
        return Parts(train, validation)


@final
class HubCorpus(RowCorpus):
    """A data set of the hub, read as it comes; without a named split, its split `train`."""

    licence = "as the hub says"

    def __init__(self, spec: str) -> None:
        self._rows = hub_rows(spec)
        self.name = spec.removeprefix(HUB)
        self.title = f"hub data set {self.name}"

    def parts(self, data_dir: Path | None) -> Parts:
        return Parts((self._rows,))
