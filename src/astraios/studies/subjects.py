"""What a user calls a model, and where its base and its adapter are.

MODEL is one of

    minipack-0.7m                    an embedded base model
    astraios-1b-lora                 a model of the paper: base and adapter are known
    runs/train-lora-4f3a...          a training run: its base, and the adapter in it
    path/to/folder                   a base model or a fully tuned one
    bigcode/starcoderbase-1b         a hub id, with @REVISION if need be

and an adapter a model of the paper, a training run, a folder, or a hub id. All of it is decided by
names and by small JSON files: nothing is downloaded, and torch is not needed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from astraios import methods, published
from astraios.config import fingerprint, validate
from astraios.errors import ConfigError, MethodError, MissingDataError, UnknownNameError
from astraios.records import Manifest, RunKind
from astraios.runs import MANIFEST, read_manifest, read_run
from astraios.training.config import EMBEDDED, PretrainingConfig, TrainingConfig
from astraios.training.weights import adapter_mark, weights_mark

__all__ = ["ADAPTER_FOLDER", "BASE_FOLDER", "Adapter", "Base", "base_run", "find", "find_adapter"]

log = logging.getLogger(__name__)

BASE_FOLDER, ADAPTER_FOLDER = "model", "adapter"
"""What pretraining and training runs call the folder of their result."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class Base:
    """A base model, or a whole model that was tuned from one."""

    name: str
    """As manifests say it: a hub id, an embedded model's name, a folder's last name."""
    folder: Path | None = None
    """Where it lies; None: on the hub."""
    revision: str | None = None
    method: str | None = None
    """`fft` where it is known that it was tuned."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Run ids and hashes of what lies here."""
    embedded: str | None = None
    """Its name, where it is pretrained here if it is not there yet."""
    known: str | None = None
    """The base it was tuned from, of a model of the paper."""

    @property
    def short(self) -> str:
        """Its last name."""
        return self.name.rstrip("/").rsplit("/", 1)[-1]

    @property
    def source(self) -> str:
        """Where it comes from, for a reader."""
        if self.folder is not None:
            return str(self.folder)
        return f"{self.name}@{self.revision}" if self.revision else self.name


@dataclass(frozen=True)
class Adapter:
    """Tuned weights for a base."""

    name: str
    """As manifests say it: a run's name, a folder's last name, a hub id with its revision."""
    folder: Path | None
    """Where they lie; None: on the hub."""
    method: str | None
    """None where only the files on the hub tell."""
    revision: str | None = None
    hub_id: str | None = None
    seed: int = 0
    """They were trained with."""
    mark: str | None = None
    """Hash of what lies here."""
    base: str | None = None
    """Name of the base they are for, if anything says so."""
    is_recorded: bool = False
    """Whether their base's weights are compared on loading."""


def base_run(name: str, out: Path) -> Path:
    """The run folder of an embedded base model in `out`, be it there or not."""
    return out / f"base-{name}-{fingerprint(EMBEDDED[name])}"


def find(model: str, out: Path) -> tuple[Base, Adapter | None]:
    """The base that `model` names, and the adapter, if it names one.

    Raises:
        UnknownNameError: for a name that is written like one of ours and is none.
        MissingDataError: for a path that leads nowhere, or to no model.
        UnfinishedRunError: for a run that is not sealed.
    """
    if model in EMBEDDED:
        return _embedded(model, base_run(model, out)), None
    path = Path(model)
    if path.is_dir():
        return _local(path, out)
    name, revision = _hub_id(model, "model")
    paper = published.find(name)
    if paper is not None:
        if paper.is_adapter:
            return Base(paper.base_model), _of_paper(paper, revision)
        revision = revision or paper.revision
        whole = Base(paper.hub_id, None, revision, method=paper.method, known=paper.base_model)
        return whole, None
    _refuse_misspelt(name)
    return Base(name, None, revision), None


def check_base_name(name: str) -> None:
    """Refuse what cannot be a study's base model: no embedded one, no folder and no hub id.

    Raises:
        UnknownNameError: for a name that is written like an embedded one's.
        MissingDataError: for a path that leads nowhere.
    """
    if name not in EMBEDDED and not Path(name).is_dir():
        _hub_id(name, "model")
        _refuse_misspelt(name)


def _refuse_misspelt(name: str) -> None:
    if any(name.startswith(f"{known.partition('-')[0]}-") for known in EMBEDDED):
        raise UnknownNameError("embedded base model", name, EMBEDDED)


def find_adapter(adapter: str, base: Base, method: str | None = None) -> Adapter:
    """The adapter that `adapter` names.

    Args:
        adapter: what the user said.
        base: what it is for.
        method: what made it, where the user says so.

    Raises:
        ConfigError: for a model that takes no adapter, or a name of a whole model.
        MethodError: if it is for another base, or made by another method.
        MissingDataError: for a path that leads nowhere, or to no adapter.
    """
    if base.method is not None:
        of = f"; its base is {base.known}" if base.known else ""
        raise ConfigError(
            f"{base.name} is a whole model, tuned in full, and takes no adapter: leave out "
            f"--adapter, or give the adapter's own base{of}"
        )
    path = Path(adapter)
    if path.is_dir():
        found = _run_of(path)
        made = _trained(*found) if found is not None else _folder(path, method)
    else:
        name, revision = _hub_id(adapter, "adapter")
        paper = published.find(name)
        if paper is not None and not paper.is_adapter:
            raise ConfigError(
                f"{paper.name} is a whole model and no adapter: evaluate it by itself, "
                f"`astraios eval {paper.name}`"
            )
        if paper is not None:
            made = _of_paper(paper, revision)
        else:
            made = Adapter(adapter, None, method, revision=revision, hub_id=name)
    if method is not None and made.method not in (None, method):
        raise _made_otherwise(adapter, str(made.method), method)
    check_base(made, base)
    return made


def check_method(adapter: str, told: methods.Told, method: str) -> None:
    """Refuse `method` for an adapter whose folder names another; its PEFT type is seen on loading.

    Raises:
        MethodError: naming both.
    """
    if told.is_named and told.method != method:
        raise _made_otherwise(adapter, told.method, method)


def _made_otherwise(adapter: str, its: str, method: str) -> MethodError:
    return MethodError(
        f"adapter {adapter!r} was made by method {its!r}, not {method!r}; leave out --method"
    )


def check_base(adapter: Adapter, base: Base) -> None:
    """Refuse an adapter that says by name that it is for another base.

    Names that are paths say nothing: the weights are compared on loading, as far as the adapter
    keeps a record of them. Where it keeps none, a warning says that only shapes are.

    Raises:
        MethodError: naming both.
    """
    its = adapter.base
    is_name = its is not None and (its in EMBEDDED or _HUB_ID.fullmatch(its))
    if its is None or not is_name or (base.folder is not None and base.name not in EMBEDDED):
        if adapter.folder is not None and not adapter.is_recorded:
            log.warning(
                "adapter %r keeps no record of its base's weights%s; whether it is for %r is "
                "checked by shapes alone",
                adapter.name,
                "" if its is None else f" (its base was {its!r})",
                base.name,
            )
        return
    if its.rsplit("/", 1)[-1] != base.short:
        raise MethodError(
            f"adapter {adapter.name!r} is for the base model {its!r}, and this one is "
            f"{base.name!r}; evaluate it as `astraios eval {its} --adapter {adapter.name}`"
        )


# --- by kind ----------------------------------------------------------------------------------


def _embedded(name: str, run: Path) -> Base:
    return Base(name, run / BASE_FOLDER, inputs={"base": run.name}, embedded=name)


def _local(path: Path, out: Path) -> tuple[Base, Adapter | None]:
    found = _run_of(path)
    if found is not None:
        run, manifest, _ = found
        if manifest.kind == RunKind.PRETRAIN:
            return _pretrained(run), None
        config = _training_config(manifest, run)
        return _base_of(config, manifest, run, out), _trained(*found)
    if (path / "adapter_config.json").exists() or (path / "astraios.json").exists():
        raise ConfigError(
            f"{str(path)!r} is an adapter's folder; give its base model as MODEL and the folder "
            f"by --adapter {path}"
        )
    if not (path / "config.json").exists():
        raise MissingDataError(
            f"{str(path)!r} is neither a model's folder (it has no config.json) nor a training run"
        )
    mark = weights_mark(path)
    return Base(path.resolve().name, path, inputs={"base-weights": mark}), None


def _run_of(path: Path) -> tuple[Path, Manifest, Path] | None:
    """The training or pretraining run that `path` is, or lies in: run, manifest, weights."""
    for run, weights in ((path, None), (path.absolute().parent, path)):
        if (run / MANIFEST).is_file():
            manifest = read_manifest(run)
            if manifest.kind in (RunKind.TRAIN, RunKind.PRETRAIN):
                return run, read_run(run).manifest, weights or run / ADAPTER_FOLDER
            if weights is None:
                raise MissingDataError(
                    f"{str(path)!r} is a {manifest.kind} run, which holds no model; give a "
                    "training run, or the model's folder"
                )
    return None


def _pretrained(run: Path) -> Base:
    config = read_manifest(run).config
    name = validate(config, PretrainingConfig, source=str(run / MANIFEST)).name
    return Base(name, run / BASE_FOLDER, inputs={"base": run.resolve().name})


def _training_config(manifest: Manifest, run: Path) -> TrainingConfig:
    return validate(manifest.config, TrainingConfig, source=str(run / MANIFEST))


def _base_of(config: TrainingConfig, manifest: Manifest, run: Path, out: Path) -> Base:
    """The base of a training run: where the run says, or on the hub."""
    name = config.base_model
    if name in EMBEDDED:
        named = manifest.inputs.get("base", "")
        beside = [parent / named for parent in run.absolute().parents if named]
        there = [folder for folder in beside if (folder / MANIFEST).is_file()]
        return _pretrained(there[0]) if there else _embedded(name, base_run(name, out))
    path = Path(name)
    if path.is_dir():
        return Base(path.resolve().name, path, inputs={"base-weights": weights_mark(path)})
    if not _HUB_ID.fullmatch(name):
        raise MissingDataError(
            f"training run {str(run)!r} was made from the base model {name!r}, which is not "
            f"there; give its folder as MODEL and the run by --adapter {run}"
        )
    return Base(name, None, config.revision)


def _trained(run: Path, manifest: Manifest, weights: Path) -> Adapter:
    if manifest.kind != RunKind.TRAIN:
        raise ConfigError(f"{str(run)!r} is a pretraining run and no adapter; give it as MODEL")
    config = _training_config(manifest, run)
    part = "" if weights.name == ADAPTER_FOLDER else f"/{weights.name}"
    return Adapter(
        run.resolve().name + part,
        weights,
        config.method,
        seed=config.seed,
        mark=adapter_mark(weights),
        base=config.base_model,
        is_recorded=True,
    )


def _folder(path: Path, method: str | None) -> Adapter:
    whole = (path / "config.json").exists() and not (path / "adapter_config.json").exists()
    if whole and not (path / "astraios.json").exists():
        if method != published.FFT:
            raise ConfigError(f"{str(path)!r} is a whole model and no adapter; give it as MODEL")
        return Adapter(path.resolve().name, path, method, mark=adapter_mark(path))
    told = methods.told(path)
    if method is not None:
        check_method(str(path), told, method)
    return Adapter(
        path.resolve().name,
        path,
        method or told.method,
        mark=adapter_mark(path),
        base=told.base_model,
        is_recorded=told.is_recorded,
    )


def _of_paper(paper: published.PublishedModel, revision: str | None) -> Adapter:
    revision = revision or paper.revision
    return Adapter(
        f"{paper.hub_id}@{revision}" if revision else paper.hub_id,
        None,
        paper.method,
        revision=revision,
        hub_id=paper.hub_id,
        base=paper.base_model,
    )


def _hub_id(text: str, kind: str) -> tuple[str, str | None]:
    """Name and revision of `owner/name@revision`.

    Raises:
        MissingDataError: for what cannot be a hub id, and so is a path that leads nowhere.
    """
    name, at, revision = text.partition("@")
    if not _HUB_ID.fullmatch(name) or (at and not revision):
        raise MissingDataError(
            f"{kind} {text!r} is not a folder here, and no hub id (owner/name, owner/name@revision)"
        )
    return name, revision or None
