"""A plan of `single` carried out: what is missing is generated, judged and scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from astraios.config import sandbox_level
from astraios.errors import MissingToolError
from astraios.evaluation.generate import generate
from astraios.evaluation.grade import GradeResult, result_of
from astraios.evaluation.judge import judge
from astraios.generation import Engine
from astraios.progress import Progress
from astraios.records import Parity
from astraios.runs import read_manifest
from astraios.sandbox import open_sandbox
from astraios.studies.adapters import fetch
from astraios.studies.serving import engine_class, model_of, trusted_engine
from astraios.studies.single import Asked, Plan
from astraios.studies.subjects import Adapter
from astraios.studies.work import PREPARED
from astraios.tasks import Problem
from astraios.training.weights import weights_mark

if TYPE_CHECKING:
    from astraios.generation.shared_base import SharedBase

__all__ = ["Bars", "Ready", "Result", "evaluate", "prepare"]

Bars = Callable[[str, str], AbstractContextManager[Progress]]
"""Label and unit of a piece of work -> the progress function it is to call."""
Problems = Mapping[str, Sequence[Problem]]
"""Task -> its problems."""


@dataclass(frozen=True)
class Result:
    """What became of one `Asked`."""

    asked: Asked
    n_faults: int
    """Completions that no engine gave."""
    was_done: bool
    """Whether there was nothing to do."""
    graded: GradeResult | None
    """None where nothing was to be judged."""


@dataclass(frozen=True)
class Ready:
    """A plan whose data, toolchains and sandbox are there."""

    plan: Plan
    problems: Problems
    sandbox: str
    """Level of isolation."""


def prepare(planned: Plan, *, data_dir: Path | None, sandbox: str) -> Ready:
    """Look for all that is needed beside models, so that a lack is told before hours of work.

    Args:
        planned: what is to be done.
        data_dir: folder of benchmark files.
        sandbox: level of isolation asked for.

    Raises:
        MissingToolError: if a toolchain is not here, or what an engine needs.
        MissingDataError: if a task's problems are not.
        ConfigError: if a task cannot be asked with the template.
        SandboxError: if there is no such isolation here.
    """
    lacking = [one.lacking for one in planned.asked if one.lacking]
    if lacking:
        raise MissingToolError(f"{lacking[0]}; or generate now and judge later: --generate-only")
    for one in planned.asked:
        if not one.is_generated:
            engine_class(one.config.engine).check_tools(model_of(one.config))
            break  # one engine answers all
    problems = {one.name: one.task.problems(data_dir) for one in planned.asked}
    for one in planned.asked:
        one.task.prompt(problems[one.name][0], (), one.config.template)  # that it can be asked so
    if any(one.task.checker and one.judging and not one.is_through for one in planned.asked):
        with open_sandbox(sandbox_level(sandbox), jobs=1) as opened:
            sandbox = opened.level
    return Ready(planned, problems, sandbox)


def evaluate(ready: Ready, *, bars: Bars) -> Iterator[Result]:
    """Generate, judge and score what is missing; results come as they are there.

    Args:
        ready: what to do.
        bars: shows how far a piece of work is.

    Raises:
        UsageError: if a model is missing, or an adapter does not fit.
        WorkError: if the work fails; what is there stays, and the same request goes on.
    """
    done = {one: one.is_through for one in ready.plan.asked}
    for group in _generated(ready, bars):
        for one in group:
            graded = _judged(one, ready, bars, done[one])
            counts = read_manifest(one.folder).counts
            yield Result(one, int(counts.get("n_faults", 0)), done[one], graded)


def _judged(one: Asked, ready: Ready, bars: Bars, was_done: bool) -> GradeResult | None:
    if one.judging is None or one.judged is None:
        return None
    with bars(f"judge {one.label}", "programs") as progress:
        run = judge(
            one.task,
            one.folder,
            one.judged,
            problems=ready.problems[one.name],
            config=one.judging,
            sandbox=ready.sandbox,
            inputs={"samples": one.folder.name},
            progress=progress,
        )
    return result_of(one.task, run, was_done)


def _generated(ready: Ready, bars: Bars) -> Iterator[list[Asked]]:
    """The tasks of one adapter after the other, once all their completions are there."""
    planned, problems = ready.plan, ready.problems
    groups: dict[Adapter | None, list[Asked]] = {}
    for one in planned.asked:
        groups.setdefault(one.adapter, []).append(one)
    n_open = sum(not all(one.is_generated for one in group) for group in groups.values())
    with ExitStack() as stack:
        shared: SharedBase | None = None
        for adapter, group in groups.items():
            missing = [one for one in group if not one.is_generated]
            if missing:
                here = adapter
                if adapter is not None and planned.needs_weights:
                    here = fetch(adapter, planned.base)
                if shared is None and n_open > 1 and _can_share(planned):
                    shared = stack.enter_context(_shared_base(planned))
                with _engine(planned, missing[0], here, problems, shared) as (engine, parity):
                    marks = _marks(planned, here)
                    for one in missing:
                        _generate(one, marks, engine, parity, problems, bars)
            yield group


def _marks(planned: Plan, adapter: Adapter | None) -> dict[str, str]:
    """What the names of a base and an adapter stand for today: a commit of the hub, a hash."""
    marks = {}
    base, config = planned.base, planned.asked[0].config
    if base.folder is None and config.engine == "hf":
        marks["base-weights"] = weights_mark(base.name, config.revision)
    if adapter is not None and adapter.mark is not None:
        marks["adapter"] = adapter.mark
    return marks


def _generate(
    one: Asked,
    marks: Mapping[str, str],
    engine: Engine,
    parity: Parity | None,
    problems: Problems,
    bars: Bars,
) -> None:
    with bars(f"generate {one.label}", "completions") as progress:
        generate(
            one.task,
            engine,
            one.config.sampling,
            one.folder,
            config=one.config,
            problems=problems[one.name],
            template=one.config.template,
            limit=one.config.limit_problems,
            inputs={**one.inputs, **marks},
            parity=parity,
            progress=progress,
        )


@contextmanager
def _engine(
    planned: Plan,
    first: Asked,
    adapter: Adapter | None,
    problems: Problems,
    shared: SharedBase | None,
) -> Iterator[tuple[Engine, Parity | None]]:
    """The engine that speaks for the base with `adapter`, compared with `hf` where it has to be."""
    folder = adapter.folder if adapter is not None else None
    if shared is not None and adapter is not None:
        with shared.engine(adapter.method, folder) as engine:
            yield engine, None
        return
    root = planned.request.out
    prepared = root / PREPARED / planned.base.short
    model = model_of(first.config, base=planned.base.folder, adapter=folder, folder=prepared)
    with trusted_engine(first.config, model, first.task, problems[first.name], root) as opened:
        yield opened


def _can_share(planned: Plan) -> bool:
    """Whether one base in memory serves all adapters: by `hf` in this process."""
    config = planned.asked[0].config
    return config.engine == "hf" and "," not in config.device


def _shared_base(planned: Plan) -> SharedBase:
    """The base in memory once, for all adapters."""
    from astraios.generation.shared_base import SharedBase

    config = planned.asked[0].config.model_copy(update={"method": None, "adapter": None})
    return SharedBase(model_of(config, base=planned.base.folder))
