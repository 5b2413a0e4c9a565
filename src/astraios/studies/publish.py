"""A study's folder as others may have it: records without weights, and nothing of this machine.

    OUT/
      README.md         what it is, how it was made, how to report on it again
      SHA256SUMS        of every file, as `sha256sum --check` reads them
      study.yaml  plan.jsonl  manifest.json  train/  eval/  search/  ...  report/

What is left out: weights of base models, checkpoints, packed data, caches of engines and locks; and
tuned weights, unless they are asked for.
"""

from __future__ import annotations

import getpass
import gzip
import hashlib
import io
import os
import platform
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from astraios.errors import ConfigError, DataError, ForeignRunError
from astraios.files import fill_folder, replacing, write_text
from astraios.runs import find_runs, read_manifest
from astraios.studies.changes import read_plan, stored_study
from astraios.studies.status import counts, status

__all__ = ["Published", "publish"]

ARCHIVES = (".tar.gz", ".tgz")
RUNS = ("base", "data", "train", "search", "eval", "report")
TOP = ("manifest.json", "study.yaml", "plan.jsonl", "calibration.jsonl", "arms.jsonl")
WEIGHTS = ("adapter", "adapter-best")
LEFT_OUT = ("checkpoints", "model", "tensorboard")
"""Folders in runs: checkpoints, weights of base models, logs for a program that shows them."""
ROWS = (".arrow", ".safetensors", ".bin", ".pt", ".incomplete")
TEXT = (".json", ".jsonl", ".yaml", ".md", ".csv", ".tex", ".html", ".svg", ".txt")
_PATH = re.compile(
    r"(?<![\w./:~<-])/(?:home|root|Users|tmp|var|mnt|data|work|opt|srv)(?:/[\w.+-]+)+"
)
README, SUMS = "README.md", "SHA256SUMS"


@dataclass(frozen=True)
class Published:
    """What was written."""

    where: Path
    n_files: int
    n_bytes: int
    n_runs: int
    weights: bool


def publish(root: Path, out: Path, *, weights: bool = False) -> Published:
    """Copy the study in `root` to `out`: a new folder, or an archive if it ends in `.tar.gz`.

    Args:
        root: the study's folder; it may still run: finished runs are taken.
        out: what to write; it must not be there.
        weights: take tuned weights along.

    Raises:
        ConfigError: if `out` lies in `root`.
        DataError: if a file names a folder, the user or the host of this machine; nothing is left.
        ForeignRunError: if `out` is there.
        MissingDataError: if `root` holds no study.
        StorageError: if it cannot be written.
    """
    study = stored_study(root)
    if out.exists():
        raise ForeignRunError(f"{str(out)!r} is there already; choose a name that is not")
    if out.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"{str(out)!r} lies in the study's own folder; choose another place")
    files = sorted(_files(root, weights))
    _check_private(root, files)
    readme = _readme(root, files, weights)
    if out.name.endswith(ARCHIVES):
        n_bytes = _archive(root, files, readme, out, study.name)
    else:
        with fill_folder(out) as scratch:
            n_bytes = _fill(root, files, readme, scratch)
    n_runs = sum(path.name == "manifest.json" for path in files)
    return Published(out, len(files) + 2, n_bytes, n_runs, weights)


def _files(root: Path, weights: bool) -> Iterator[PurePosixPath]:
    """Files to publish, relative to `root`: those of finished runs, and of the study itself."""
    finished = {run.folder.resolve() for run in find_runs(root)}
    for name in TOP:
        if (root / name).is_file():
            yield PurePosixPath(name)
    skipped = {*LEFT_OUT, *(() if weights else WEIGHTS)}
    for top in RUNS:
        for folder, names, found in os.walk(root / top):
            here = Path(folder)
            names[:] = sorted(n for n in names if n not in skipped and not n.startswith("."))
            within = [p for p in (here, *here.parents) if p.resolve() in finished]
            own = next((p for p in (here, *here.parents) if (p / "manifest.json").is_file()), None)
            if top != "report" and (not within or own != within[0]):
                continue
            in_weights = weights and not set(WEIGHTS).isdisjoint(here.relative_to(root).parts)
            for file in found:
                if file.startswith(".") or (file.endswith(ROWS) and not in_weights):
                    continue
                yield PurePosixPath((here / file).relative_to(root).as_posix())


def _check_private(root: Path, files: list[PurePosixPath]) -> None:
    """Refuse to publish what names this machine.

    Raises:
        DataError: with the file, the line and what it names.
    """
    words = {word for word in (platform.node(), _user()) if len(word) > 3}
    patterns = [re.escape(str(Path.home())), re.escape(str(root.resolve()))]
    own = [re.compile(pattern) for pattern in patterns if len(pattern) > 4]
    own += [re.compile(rf"(?<![\w.-]){re.escape(word)}(?![\w.-])") for word in words]
    for name in files:
        if name.suffix not in TEXT or name.name in ("samples.jsonl", "prompts.jsonl"):
            continue
        judged = name.name in ("verdicts.jsonl", "problems.jsonl") or name.parts[0] == "report"
        with (root / name).open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                found = next((m for p in own if (m := p.search(line))), None)
                if found is None and not judged:  # those hold what models wrote
                    found = _PATH.search(line)
                if found:
                    raise DataError(
                        f"{root / name}:{number}: names {found[0]!r}, which is of this machine; "
                        "nothing was written. Take it out, or leave out the run it is of"
                    )


def _user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return ""
    return "" if name in ("root", "user", "ubuntu") else name


def _fill(root: Path, files: list[PurePosixPath], readme: str, target: Path) -> int:
    sums, n_bytes = [], 0
    for name in files:
        to = target / name
        to.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with (root / name).open("rb") as source, to.open("wb") as copy:
            while block := source.read(1 << 20):
                digest.update(block)
                copy.write(block)
                n_bytes += len(block)
        sums.append((str(name), digest.hexdigest()))
    write_text(target / README, readme)
    write_text(target / SUMS, _sums(sums, readme))
    return n_bytes


def _archive(root: Path, files: list[PurePosixPath], readme: str, out: Path, top: str) -> int:
    """Nothing in it is of this user or of this time: equal studies are equal archives."""
    sums, n_bytes = [], 0
    with (
        replacing(out) as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):

        def add(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))

        for name in files:
            content = (root / name).read_bytes()
            sums.append((str(name), hashlib.sha256(content).hexdigest()))
            add(str(name), content)
            n_bytes += len(content)
        add(README, readme.encode())
        add(SUMS, _sums(sums, readme).encode())
    return n_bytes


def _sums(sums: list[tuple[str, str]], readme: str) -> str:
    """Lines that `sha256sum --check` reads."""
    every = [*sums, (README, hashlib.sha256(readme.encode()).hexdigest())]
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(every))


def _readme(root: Path, files: list[PurePosixPath], weights: bool) -> str:
    study, manifest = stored_study(root), read_manifest(root)
    jobs = status(root, read_plan(root)) if (root / "plan.jsonl").is_file() else []
    rows = [
        f"| {kind} | {n['done']} | {sum(n.values()) - n['done']} |"
        for kind, n in counts(jobs, "kind").items()
    ]
    kinds = "\n".join(["| kind | done | not done |", "| --- | ---: | ---: |", *rows])
    versions = ", ".join(f"{name} {v}" for name, v in sorted(manifest.environment.items()))
    has_report = any(name.parts[0] == "report" for name in files)
    left = "Weights of base models, checkpoints and packed data are left out"
    return "\n".join(
        [
            f"# {study.name}",
            "",
            f"Records of an Astraios study: {len(study.base_models)} base models, "
            f"{len(study.methods)} methods, {len(study.seeds)} seeds, {len(study.tasks)} tasks.",
            f"Made by astraios {manifest.code.version}, commit "
            f"{manifest.code.commit or 'unknown'}, with {versions}.",
            "",
            f"{left}{'.' if weights else '; so are tuned weights.'}",
            "",
            kinds,
            "",
            *(["`report/index.html` is the report as it was.", ""] if has_report else []),
            "`sha256sum --check SHA256SUMS` says whether the files are whole, and",
            f"`astraios report {study.name}` makes the report again. Completions were written by",
            "language models: run none of them outside a sandbox.",
            "",
        ]
    )
