"""`astraios eval`: one model, with or without adapters, asked some tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from astraios.cli.options import (
    NAMES,
    REPEATED,
    AsJson,
    DataDir,
    Jobs,
    LimitProblems,
    Out,
    Overrides,
    SandboxLevel,
    interruptible,
    parted,
    print_json,
)

if TYPE_CHECKING:
    from astraios.studies.single import Asked, Plan
    from astraios.studies.single_run import Result

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Short names of precisions, as the BigCode harness has them."""


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A hub id (with @REVISION), a folder, a training run, an embedded base model, or "
            "a name of `astraios list models`.",
        ),
    ],
    overrides: Overrides = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="A name of `astraios list tasks`." + NAMES),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            help="An adapter's folder, a training run, a name of `astraios list models`, or a hub "
            "id (with @REVISION)." + REPEATED,
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="What made the adapters, where they do not say.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Of MODEL, on the hub.")] = None,
    engine: Annotated[str, typer.Option(help="A name of `astraios list engines`.")] = "hf",
    url: Annotated[str | None, typer.Option(help="Of the engine's server.")] = None,
    n_samples: Annotated[int | None, typer.Option(min=1, help="Completions a problem.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="0 is greedy.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus mass kept.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of one completion; the prompt not counted.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of drawing.")] = None,
    template: Annotated[
        str | None, typer.Option(help="A name of `astraios list templates`; the task's by default.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; fp32, bf16, fp16 for short.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto (a GPU if any), cpu, cuda, cuda:0,cuda:1, ...")
    ] = None,
    batch_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens a batch may hold; the engine's own otherwise.")
    ] = None,
    limit_problems: LimitProblems = None,
    long_prompts: Annotated[
        str | None, typer.Option(help="Prompts longer than the context: refuse, or cut.")
    ] = None,
    no_parity: Annotated[
        bool, typer.Option("--no-parity", help="Trust another engine than hf without comparing.")
    ] = False,
    generate_only: Annotated[
        bool, typer.Option("--generate-only", help="Leave completions; judge nothing.")
    ] = False,
    out: Out = Path("runs"),
    data_dir: DataDir = None,
    jobs: Jobs = None,
    sandbox: SandboxLevel = "auto",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would happen; load and download nothing."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Have one model write completions for some tasks, judge and score them.

    Completions are drawn as each task's protocol says; options change what they name only. The same
    command goes on where it was stopped.
    """
    from astraios.config import data_dir as find_data
    from astraios.studies.single import Request, plan

    drawn = {
        "n_samples": n_samples,
        "temperature": temperature,
        "top_p": top_p,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
    }
    settings = {
        "engine": engine,
        "revision": revision,
        "template": template,
        "precision": PRECISIONS.get(precision, precision) if precision else None,
        "device": device,
        "batch_tokens": batch_tokens,
        "limit_problems": limit_problems,
        "long_prompts": long_prompts,
        "parity": "skip" if no_parity else None,
        "engine_options": {"url": url} if url else None,
    }
    request = Request(
        model=model,
        tasks=parted("--task", task),
        adapters=tuple(adapter or ()),
        method=method,
        settings={**_given(settings), "sampling": _given(drawn)},
        overrides=tuple(overrides or ()),
        out=out,
        jobs=jobs,
        generate_only=generate_only,
    )
    data = find_data(data_dir)
    with interruptible():
        if dry_run:
            _foretell(plan(request, offline=True), data, as_json)
        else:
            _carry_out(plan(request), data, sandbox, as_json)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


# --- doing ------------------------------------------------------------------------------------


def _carry_out(planned: Plan, data: Path | None, sandbox: str, as_json: bool) -> None:
    from astraios.cli.display import bar, say
    from astraios.cli.display import out as tell
    from astraios.cli.grading import tell_result
    from astraios.cli.tuning import embedded
    from astraios.errors import WorkError
    from astraios.studies.single_run import evaluate as carry_out
    from astraios.studies.single_run import prepare

    ready = prepare(planned, data_dir=data, sandbox=sandbox)
    if planned.needs_weights:
        from astraios.training.process import settle

        settle()  # before libraries are loaded that talk while they are
        if planned.base.embedded is not None:
            embedded(planned.base.embedded, planned.request.out)
    results = []
    for result in carry_out(ready, bars=bar):
        results.append(result)
        if result.was_done:
            say(f"{result.asked.label}: done already, nothing to do")
        if as_json:
            continue
        if len(planned.asked) > 1:
            tell(f"{result.asked.label}\n")
        if result.graded is not None:
            tell_result(result.graded)
        tell(f"completions: {result.asked.folder}" + "\n" * (len(planned.asked) > 1))
    if as_json:
        print_json({"model": planned.request.model, "runs": [_row(one) for one in results]})
    n_asked = sum(result.n_faults for result in results)
    n_judged = sum(result.graded.n_faults for result in results if result.graded is not None)
    if n_asked or n_judged:
        raise WorkError(
            f"{n_asked} completions could not be had and {max(n_judged - n_asked, 0)} programs "
            "could not be judged (fault); they are not counted. The same command tries them again"
        )


def _row(result: Result) -> dict[str, Any]:
    """One run for `--json`; scripts depend on it."""
    asked, graded = result.asked, result.graded
    return {
        "adapter": asked.config.adapter,
        "method": asked.config.method,
        "task": asked.name,
        "scores": [s.model_dump(mode="json") for s in graded.scores] if graded else [],
        "outcomes": graded.outcomes if graded else {},
        "run": asked.folder,
        "judged": graded.run if graded else None,
    }


# --- saying what would happen -----------------------------------------------------------------


def _foretell(planned: Plan, data: Path | None, as_json: bool) -> None:
    from astraios.cli.display import out as tell
    from astraios.cli.display import table

    runs = [_outlook(one, data) for one in planned.asked]
    facts = _facts(planned)
    if as_json:
        print_json({"model": planned.request.model, **facts, "dry_run": True, "runs": runs})
        return
    tell(table([{"": name, "is": _text(value)} for name, value in facts.items() if value]))
    shown = ("adapter", "method", "task", "data", "completions", "drawn", "template", "state")
    tell("")
    if runs:
        tell(table([{name: _text(run[name]) for name in shown} for run in runs]))
    for adapter in planned.unknown:
        tell(f"adapter {adapter.name}: its method is told by its files, which are not here yet")
    tell("")
    for run in runs:
        tell(f"{run['run']}\n  {run['judged'] or run['lacking'] or 'is not judged'}")


def _facts(planned: Plan) -> dict[str, Any]:
    """What holds for all runs."""
    from dataclasses import replace

    from astraios.runs import is_done
    from astraios.studies.checks import lacking_engines
    from astraios.studies.serving import engine_class

    if not planned.asked:
        return {"base": planned.base.source}
    config = planned.asked[0].config
    base = replace(planned.base, revision=config.revision)
    found = engine_class(config.engine)
    there = base.folder is not None and (base.embedded is None or is_done(base.folder.parent))
    where = "here" if there else "pretrained first" if base.embedded else "from the hub"
    return {
        "base": f"{base.source} ({where})",
        "engine": f"{config.engine}, {config.precision}, {config.device}; hosts {found.hosts}",
        "parity": "compared with hf first" if planned.is_compared else "not compared with hf",
        "url": config.engine_options.get("url"),
        "lacking": next(lacking_engines([config]), None),
    }


def _outlook(one: Asked, data: Path | None) -> dict[str, Any]:
    """What would be asked, how, and what is there of it."""
    config, sampling = one.config, one.config.sampling
    n_problems, n_turns, where = _problems(one, data)
    drawn = f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"
    return {
        "adapter": config.adapter,
        "method": config.method,
        "adapter_files": _files(one),
        "task": one.name,
        "problems": n_problems,
        "data": where,
        "turns": n_turns,
        "n_samples": sampling.n_samples,
        "completions": n_problems * n_turns * sampling.n_samples if n_problems else None,
        "drawn": f"{drawn if sampling.temperature else 'greedy'}, <= {sampling.max_new_tokens}",
        "sampling": sampling,
        "template": config.template,
        "state": one.state,
        "run": one.folder,
        "judged": one.judged,
        "lacking": one.lacking,
    }


def _problems(one: Asked, data: Path | None) -> tuple[int | None, int, str]:
    """How many problems would be asked, how many questions each, and what is to be said of it."""
    from itertools import count

    from astraios.errors import MissingDataError

    if one.task.data_name and data is None:
        return None, 0, "from the hub"
    try:
        problems = one.task.problems(data)[: one.config.limit_problems]
    except MissingDataError:
        return None, 0, "not in the data folder"
    template = one.config.template
    n_turns = next(n for n in count() if one.task.prompt(problems[0], ("?",) * n, template) is None)
    questions = f", {n_turns} questions each" if n_turns > 1 else ""
    return len(problems), n_turns, f"{len(problems):,} problems{questions}"


def _files(one: Asked) -> str | None:
    if one.adapter is None:
        return None
    if one.adapter.folder is not None:
        return str(one.adapter.folder)
    return f"{one.adapter.hub_id} on the hub"


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)
