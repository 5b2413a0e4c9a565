"""`astraios recommend` and `astraios predict`: what a finished study says of the next one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from astraios.cli.options import NAMES, AsJson, interruptible, parted, print_json

Study = Annotated[Path, typer.Argument(metavar="RUNS", help="A study's folder.")]


def recommend(
    runs: Study,
    max_memory: Annotated[
        str | None, typer.Option(help="Peak memory of training, such as 24GiB.")
    ] = None,
    max_hours: Annotated[float | None, typer.Option(help="Wall time of one training.")] = None,
    max_trainable: Annotated[
        str | None, typer.Option(help="Trained parameters: 5M, or 0.5% of the model's.")
    ] = None,
    mergeable: Annotated[
        bool, typer.Option("--mergeable", help="Must fold into the base model.")
    ] = False,
    max_latency: Annotated[
        float | None, typer.Option(help="Seconds of generation a completion, as recorded.")
    ] = None,
    min_tokens_per_s: Annotated[
        float | None, typer.Option(help="Tokens generated a second, as recorded.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="TASK[=WEIGHT]", help="Task that counts." + NAMES),
    ] = None,
    model: Annotated[str | None, typer.Option(help="This base model alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """Name the methods within a budget that are as good as the best, with the evidence."""
    from astraios.analysis import advice
    from astraios.analysis.frames import read_frames
    from astraios.analysis.limits import Limits
    from astraios.analysis.quantities import parse_count, parse_memory, parse_share
    from astraios.analysis.recommend import recommend as find
    from astraios.cli.display import out
    from astraios.errors import ConfigError

    for option, bound in (
        ("--max-hours", max_hours),
        ("--max-latency", max_latency),
        ("--min-tokens-per-s", min_tokens_per_s),
    ):
        if bound is not None and not 0 < bound < float("inf"):
            raise ConfigError(f"{option} must be a number above zero, got {bound:g}")
    share = parse_share(max_trainable, "--max-trainable") if max_trainable is not None else None
    count = max_trainable if share is None else None
    memory = parse_memory(max_memory, "--max-memory") if max_memory is not None else None
    limits = Limits(
        max_memory_mib=memory,
        max_hours=max_hours,
        max_trainable=parse_count(count, "--max-trainable") if count is not None else None,
        max_trainable_share=share,
        mergeable=mergeable,
        max_latency_s=max_latency,
        min_tokens_per_s=min_tokens_per_s,
    )
    with interruptible():
        frames = read_frames(runs)
        found = find(
            frames, limits, _mergeable, weights=_weights(parted("--task", task)), model=model
        )
    if as_json:
        print_json(advice.as_json(found))
        return
    out(advice.answer(found))
    if found.candidates:
        out(f"\n{advice.table(found).text()}")
    if told := advice.details(found):
        out("\n" + "\n".join(told))


def _weights(given: Sequence[str]) -> dict[str, float] | None:
    """`["fix", "synthesize=2"]` as task -> weight."""
    from astraios.errors import ConfigError

    if not given:
        return None
    found: dict[str, float] = {}
    for text in given:
        task, sign, weight = text.partition("=")
        try:
            value = float(weight) if sign else 1.0
        except ValueError:
            raise ConfigError(
                f"--task {text!r}: {weight!r} is no weight; write --task {task}=2"
            ) from None
        if task in found:
            raise ConfigError(f"--task {task} is given twice")
        found[task] = value
    return found


def _mergeable(method: str) -> bool | None:
    """Whether a method folds into its base; None where that is not known here."""
    from astraios.errors import AstraiosError

    try:
        from astraios.methods import method as load

        return bool(load(method.partition("~")[0]).mergeable)
    except (AstraiosError, ModuleNotFoundError):
        return None


def predict(
    runs: Study,
    to: Annotated[str, typer.Option("--to", help="Parameters of the model: 14B, 350M, 1.3e9.")],
    method: Annotated[
        list[str] | None, typer.Option("--method", help="This method alone." + NAMES)
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="This task alone, or 'loss'." + NAMES),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Base model to go by, of one family." + NAMES),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Predict scores and losses at a larger size from those measured, with an interval."""
    from astraios.analysis import forecasting
    from astraios.analysis.frames import read_frames
    from astraios.analysis.predict import LOSS
    from astraios.analysis.predict import predict as find
    from astraios.analysis.quantities import parse_count
    from astraios.cli.display import out

    target = parse_count(to, "--to")
    tasks = tuple(LOSS if name == "loss" else name for name in parted("--task", task))
    chosen = parted("--method", method), parted("--model", model)
    with interruptible():
        frames = read_frames(runs)
        forecast = find(frames, target, methods=chosen[0], tasks=tasks, models=chosen[1])
    if as_json:
        print_json(forecasting.as_json(forecast))
        return
    out(forecasting.answer(forecast))
    out(f"\n{forecasting.table(forecast).text()}\n")
    out("\n".join(forecasting.details(forecast)))
