"""`astraios pack`, `train` and `merge`: from a corpus to a tuned model."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from astraios.cli.options import AsJson, DataDir, Out, Overrides, interruptible, print_json

if TYPE_CHECKING:
    from astraios.data import Row
    from astraios.data.config import PackConfig
    from astraios.training.config import TrainingConfig


def embedded(name: str, out: Path) -> tuple[Path | None, dict[str, str]]:
    """Where the embedded base model `name` lies, pretrained if need be, and its run; else nothing.

    Any other name is a folder or a hub id, which speaks for itself.
    """
    from astraios.cli.display import bar
    from astraios.config import fingerprint
    from astraios.training.config import EMBEDDED

    config = EMBEDDED.get(name)
    if config is None:
        return None, {}
    from astraios.errors import TrainingError
    from astraios.runs import is_done
    from astraios.training.pretrain import MODEL, pretrain
    from astraios.training.processes import processes

    folder = out / f"base-{name}-{fingerprint(config)}"
    if not is_done(folder, config):
        if processes().num_processes > 1:
            raise TrainingError(
                f"base model {name!r} is pretrained here, by one process; run the command once "
                "without torchrun, or take a folder or a hub id as base_model"
            )
        with bar(f"pretrain {name}", "steps") as progress:
            pretrain(config, folder, progress=progress)
    return folder / MODEL, {"base": folder.name}


def pack(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML of a PackConfig.")],
    overrides: Overrides = None,
    out: Out = Path("runs"),
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Tokenize a corpus and pack it into rows, once for all trainings on it."""
    from astraios.cli.display import out as tell
    from astraios.cli.display import table
    from astraios.config import data_dir as find_data
    from astraios.config import read_yaml
    from astraios.data.blocks import read_report
    from astraios.data.config import PackConfig
    from astraios.files import read_json
    from astraios.records import Cost

    read = read_yaml(config, PackConfig, overrides or ())
    from astraios.training.process import settle

    settle()
    with interruptible():
        base, _ = embedded(read.tokenizer, out)
        folder = _packed(read, base, out, find_data(data_dir))
    report = read_report(folder)
    if as_json:
        print_json({"run": folder, **report.model_dump(mode="json")})
        return
    splits = {"train": report.train, "validation": report.validation}
    facts = [name for name in type(report.train).model_fields if name != "dropped"]
    tell(table([{"": f, **{s: _fact(getattr(r, f)) for s, r in splits.items()}} for f in facts]))
    for split, one in splits.items():
        if one.dropped:
            tell(f"dropped of {split}, longer than a row: {', '.join(one.dropped)}")
    cost = read_json(folder / "cost.json", Cost)
    tell(f"\n{cost.n_tokens / cost.cpu_s:,.0f} tokens a CPU second\nrun: {folder}")


def _fact(value: float) -> str:
    """A count, or a share in percent."""
    return f"{value:.1%}" if isinstance(value, float) else f"{value:,}"


def _packed(config: PackConfig, base: Path | None, out: Path, data: Path | None) -> Path:
    """The run folder of the packed corpus, packed if need be."""
    from astraios.cli.display import bar
    from astraios.data.pack import load_tokenizer
    from astraios.training.rows import data_folder, ensure_packed

    tokenizer = load_tokenizer(base or config.tokenizer, config.revision)
    folder = data_folder(config, out, tokenizer=tokenizer, data_dir=data)
    with bar(f"pack {config.corpus}", "records") as progress:
        ensure_packed(config, folder, tokenizer=tokenizer, data_dir=data, progress=progress)
    return folder


def train(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            help="YAML of a TrainingConfig, or a name of `astraios list recipes`.",
        ),
    ],
    overrides: Overrides = None,
    out: Out = Path("runs"),
    data_dir: DataDir = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what would happen, from a few steps. Data are packed and kept (an embedded "
            "base is pretrained); nothing is tuned.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tune one base model by one method."""
    from astraios.cli.display import bar, shown, table
    from astraios.cli.display import out as tell
    from astraios.config import data_dir as find_data
    from astraios.config import fingerprint
    from astraios.training.config import pack_config
    from astraios.training.recipes import read_recipe

    read = read_recipe(config, overrides or ())
    folder = out / f"train-{read.method}-{fingerprint(read)}"
    from astraios.training.process import settle

    settle()  # before libraries are loaded that talk while they are
    from astraios.training.processes import processes
    from astraios.training.tune import tune

    data = find_data(data_dir)
    with interruptible():
        base, inputs = embedded(read.base_model, out)
        packed = _packed(pack_config(read), base, out, data)
        if dry_run:
            from astraios.training.outlook import outlook

            found = outlook(read, packed, base)
        else:
            with bar(f"tune {read.base_model} {read.method}", "steps") as progress:
                tune(
                    read,
                    folder,
                    base=base,
                    data=packed,
                    inputs=inputs,
                    data_dir=data,
                    begin=functools.partial(_foretell, read),
                    progress=progress,
                )
    if not processes().is_main_process:  # of several under torchrun, one speaks
        return
    if dry_run and as_json:
        print_json(found)
    elif dry_run:
        tell(table([{"": name, "is": shown(value)} for name, value in found]))
    elif as_json:
        print_json({"run": folder})
    else:
        tell(f"run: {folder}")


def _foretell(config: TrainingConfig, tuned: Any, rows: Sequence[Row], pad_id: int) -> None:
    """Say what is about to happen, and which choices decide it."""
    from astraios.cli.display import say, shown, table
    from astraios.training.outlook import before

    plan = config.optimization
    facts = {"n_steps": shown(plan.n_steps), "rows_per_step": shown(plan.batch_size)}
    if config.sharding == "none":
        told = before(tuned, rows, config, pad_id=pad_id)
        facts = {name: shown(value) for name, value in told if value}
    facts |= {
        "sharding": config.sharding,  # whole on the host still: a part of a step takes long there
        "base_precision": config.base_precision,
        "compute_precision": config.compute_precision,
        "gradient_checkpointing": "on" if config.gradient_checkpointing else "off",
        "learning_rate": f"{plan.learning_rate:g}, {plan.schedule}",
        "loss": f"{plan.loss}, on {config.loss_on}",
    }
    say(table([{"": name, "will be": value} for name, value in facts.items()]))


def merge(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="Folder of an adapter.")],
    base: Annotated[str, typer.Option(help="Its base model: a folder or a hub id.")],
    to: Annotated[Path, typer.Option(help="New folder for the merged model.")],
    revision: Annotated[str | None, typer.Option(help="Of the base, on the hub.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fold an adapter into its base: an ordinary checkpoint, checked against the two."""
    from astraios.cli.display import out as tell
    from astraios.training.process import settle

    settle()
    from astraios.training.merge import merge as fold

    with interruptible():
        result = fold(adapter, base, to, revision=revision)
    if as_json:
        print_json({"folder": to, **result.model_dump()})
    else:
        tell(
            f"merged {result.method} into {to}; largest change of a logit "
            f"{result.largest_difference:.1e}"
        )
