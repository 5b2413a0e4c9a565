"""One model asked some tasks, planned by names; `single_run` carries the plan out.

    <out>/eval/<model>/<method, or base>/<task>-<fp>/      prompts.jsonl  samples.jsonl
        judged-<fp>/                                       verdicts.jsonl  scores.json

The fingerprint covers the config and what the model is made of here, as in a study. Of an adapter
on the hub it covers the id and the revision; the hash of its files is in the manifest, and a run
does not go on over others. The same request continues what is unfinished.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from astraios import tasks, templates
from astraios.config import Places, apply_override, digest, fingerprint, identity, validate
from astraios.errors import ConfigError, MissingToolError
from astraios.evaluation.config import EvaluationConfig
from astraios.evaluation.judge import JudgeConfig, judge_config
from astraios.evaluation.parity import is_owed
from astraios.generation import check_supports
from astraios.runs import MANIFEST, is_done, read_manifest
from astraios.studies.adapters import fetch
from astraios.studies.plan import answering
from astraios.studies.serving import engine_class, model_of
from astraios.studies.study import BASE
from astraios.studies.subjects import Adapter, Base, find, find_adapter
from astraios.tasks import Task

__all__ = ["Asked", "Plan", "Request", "plan"]

DECIDED = ("task", "task_version", "base_model", "method", "adapter")
"""Fields of `EvaluationConfig` that follow from what is evaluated."""

LOCAL = ("hf", "replay")
"""Engines without a server."""
SERVED = ("openai",)
"""Engines whose models are elsewhere."""


@dataclass(frozen=True)
class Request:
    """What a user wants to know."""

    model: str
    """See `subjects`."""
    tasks: tuple[str, ...]
    adapters: tuple[str, ...] = ()
    method: str | None = None
    """Of the adapters, where their folders do not say."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `EvaluationConfig`; of `sampling`, those to be other than the task's protocol."""
    overrides: tuple[str, ...] = ()
    """`field=value`, applied after the settings."""
    out: Path = Path("runs")
    jobs: int | None = None
    generate_only: bool = False


@dataclass(frozen=True, eq=False)
class Asked:
    """One model, with or without an adapter, asked one task."""

    name: str
    """Of the task, with its edition if one was named."""
    task: Task[Any]
    adapter: Adapter | None
    config: EvaluationConfig
    folder: Path
    inputs: Mapping[str, str]
    """Of the generation run, as far as they are known by name."""
    judging: JudgeConfig | None
    """None where nothing is to be judged, or a toolchain is missing."""
    lacking: str = ""
    """What judging needs and is not here."""

    @property
    def label(self) -> str:
        """For progress lines and tables."""
        method = self.config.method if self.adapter is None else self.adapter.name
        return f"{self.folder.parent.parent.name} {method} {self.name}"

    @property
    def judged(self) -> Path | None:
        """The folder of verdicts."""
        return self.folder / f"judged-{fingerprint(self.judging)}" if self.judging else None

    @property
    def is_generated(self) -> bool:
        """Whether every completion is there, of an engine that was compared where it has to be."""
        if not is_done(self.folder):
            return False
        manifest = read_manifest(self.folder)
        return not manifest.counts.get("n_faults") and not is_owed(manifest, self.config)

    @property
    def is_judged(self) -> bool:
        """Whether every completion is judged."""
        judged = self.judged
        if judged is None or not self.is_generated or not is_done(judged):
            return False
        return not read_manifest(judged).counts.get("n_faults")

    @property
    def is_through(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_judged if self.judging or self.lacking else self.is_generated

    @property
    def state(self) -> str:
        """How far it is."""
        if self.is_judged:
            return "judged"
        if self.is_generated:
            return "generated"
        if is_done(self.folder) and is_owed(read_manifest(self.folder), self.config):
            return "to be compared"
        return "begun" if (self.folder / MANIFEST).exists() else "to do"


@dataclass(frozen=True)
class Plan:
    """What a request comes to."""

    request: Request
    base: Base
    asked: tuple[Asked, ...]
    unknown: tuple[Adapter, ...] = ()
    """Adapters on the hub whose method only their files tell; they are not here yet."""

    @property
    def is_compared(self) -> bool:
        """Whether the engine has to choose the tokens of `hf` first."""
        config = self.asked[0].config
        runs_model = engine_class(config.engine).runs_model
        return config.engine != "hf" and runs_model and config.parity == "check"

    @property
    def needs_weights(self) -> bool:
        """Whether base and adapters have to be here, for something that is not generated yet."""
        engine = self.asked[0].config.engine
        here = engine not in SERVED and engine_class(engine).runs_model
        return (here or self.is_compared) and any(not one.is_generated for one in self.asked)


# --- planning ---------------------------------------------------------------------------------


def plan(request: Request, *, offline: bool = False) -> Plan:
    """What `request` comes to; nothing is downloaded, loaded or written, but for one case.

    Of an adapter on the hub that is none of the paper's, and without `method`, only the files tell
    what made it. They are fetched, unless `offline`.

    Raises:
        UsageError: what of the request has to change.
    """
    if not request.tasks:
        raise ConfigError("no task was named; add --task NAME (see `astraios list tasks`)")
    asked = _tasks(request.tasks)
    base, own = find(request.model, request.out)
    given = [find_adapter(name, base, request.method) for name in dict.fromkeys(request.adapters)]
    if own is not None and request.method not in (None, own.method):
        raise ConfigError(
            f"{request.model!r} was tuned by {own.method!r}, not {request.method!r}; "
            "leave out --method"
        )
    adapters = list(dict.fromkeys([*([own] if own is not None else []), *given]))
    if request.method is not None and not adapters:
        if request.method != "fft":
            raise ConfigError(
                f"method {request.method!r} is that of an adapter, and none was named; "
                "add --adapter, or leave out --method"
            )
        base = replace(base, method=request.method)
    known, unknown = _with_methods(adapters, base, offline)
    subjects: list[Adapter | None] = [*known] if adapters else [None]
    found = tuple(
        _ask(request, base, adapter, name, task)
        for adapter in subjects
        for name, task in asked.items()
    )
    return Plan(request, base, found, tuple(unknown))


def _tasks(names: Sequence[str]) -> dict[str, Task[Any]]:
    """Name, with the edition if one is named, -> task; those of two names once."""
    found: dict[tuple[str, str], tuple[str, Task[Any]]] = {}
    for name in names:
        task = tasks.task(name)
        found.setdefault((task.name, task.version), (name if "@" in name else task.name, task))
    return dict(found.values())


def _with_methods(
    adapters: Sequence[Adapter], base: Base, offline: bool
) -> tuple[list[Adapter], list[Adapter]]:
    known: list[Adapter] = []
    unknown: list[Adapter] = []
    for adapter in adapters:
        here = adapter if adapter.method else fetch(adapter, base, offline=offline)
        (known if here.method else unknown).append(here)
    return known, unknown


def _ask(
    request: Request, base: Base, adapter: Adapter | None, name: str, task: Task[Any]
) -> Asked:
    config = _config(request, base, adapter, task)
    engine = engine_class(config.engine)
    check_supports(engine, None if config.method == BASE else config.method)
    engine.check(model_of(config))
    inputs = dict(base.inputs)
    if adapter is not None and adapter.mark is not None and adapter.hub_id is None:
        inputs["adapter"] = adapter.mark
    inputs |= answering(config)
    mark = digest({"config": identity(config), "inputs": inputs})
    judging, lacking = None, ""
    if not request.generate_only:
        try:
            judging = judge_config(task, jobs=request.jobs, limit_problems=config.limit_problems)
        except MissingToolError as error:
            lacking = str(error)
    folder = request.out / "eval" / base.short / str(config.method) / f"{task.name}-{mark}"
    return Asked(name, task, adapter, config, folder, inputs, judging, lacking)


def _config(
    request: Request, base: Base, adapter: Adapter | None, task: Task[Any]
) -> EvaluationConfig:
    method = base.method if adapter is None else adapter.method
    settings = dict(request.settings)
    sampling = {**task.sampling.model_dump(), **settings.pop("sampling", {})}
    values: dict[str, Any] = {
        "task": task.name,
        "task_version": task.version,
        "template": task.template,
        "base_model": base.name,
        "revision": base.revision,
        "method": method or BASE,
        "adapter": adapter.name if adapter is not None else None,
        "seed": adapter.seed if adapter is not None else 0,
        **settings,
        "sampling": sampling,
    }
    places: Places = {("sampling",): f"sampling of {task.name}"}
    for override in request.overrides:
        path = apply_override(values, override)
        if path[0] in DECIDED:
            raise ConfigError(
                f"override {override!r}: {path[0]} follows from MODEL, --adapter and --task"
            )
        places[path] = f"override {override!r}"
    drawn = values["sampling"]
    n_samples = drawn.get("n_samples") if isinstance(drawn, dict) else None
    if isinstance(n_samples, int) and n_samples > 1 and drawn.get("temperature") == 0:
        raise ConfigError(
            f"{task.name}: {n_samples} completions of each problem at temperature 0 would "
            "all be equal; add --n-samples 1, or take a temperature above 0"
        )
    config = validate(values, EvaluationConfig, source="astraios eval", places=places)
    templates.template(config.template)  # that there is one
    if config.revision is not None and base.folder is not None:
        raise ConfigError(
            f"{str(base.folder)!r} is a folder here and has no revision {config.revision!r}; leave "
            "out --revision, or give the hub id as MODEL"
        )
    named = request.model.partition("@")[2]
    if named and named == base.revision and config.revision != named:
        raise ConfigError(
            f"{request.model!r} names a revision, and {config.revision!r} is another one; leave "
            "out one of them"
        )
    if config.engine in LOCAL and "url" in config.engine_options:
        raise ConfigError(
            f"engine {config.engine} speaks to no server and takes no --url; use --engine openai"
        )
    return config
