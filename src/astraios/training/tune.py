"""One training run: a base model, a method, a corpus -> tuned weights, losses, costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from astraios import methods
from astraios.data import Row
from astraios.data.pack import load_tokenizer
from astraios.data.sources import find_corpus
from astraios.errors import MethodError
from astraios.files import storage
from astraios.methods import Method
from astraios.progress import Progress, silent
from astraios.records import Cost, RunKind
from astraios.runs import Run
from astraios.training import card, checkpoints
from astraios.training.base import QUANTISED, load_base, prepared
from astraios.training.config import TrainingConfig, pack_config
from astraios.training.fit import fit
from astraios.training.processes import open_run, processes
from astraios.training.rows import (
    check_packed,
    check_positions,
    check_vocabulary,
    data_folder,
    ensure_packed,
    training_rows,
)
from astraios.training.weights import weights_mark

ADAPTER = "adapter"
BEST = "adapter-best"


def tune(
    config: TrainingConfig,
    folder: Path,
    *,
    base: Path | None = None,
    data: Path | None = None,
    inputs: dict[str, str] | None = None,
    data_dir: Path | None = None,
    begin: Callable[[Any, Sequence[Row], int], None] | None = None,
    opened: Callable[[], AbstractContextManager[Any]] | None = None,
    progress: Progress = silent,
) -> None:
    """Tune the base model of `config` in the run folder `folder`, or finish that run.

    The corpus is packed first, unless it lies packed in `data`: a run folder of its own, which all
    trainings on the same data share.

    Args:
        config: what to train.
        folder: run folder; the tuned weights end up in `folder/adapter`, and those of the lowest
            validation loss, where that was not the last, in `folder/adapter-best`.
        base: where the base model lies when `config.base_model` is an embedded one's name.
        data: the packed corpus; by default a folder beside `folder`.
        inputs: run ids the manifest should name.
        data_dir: folder of data files.
        begin: told the model, the rows and the padding token before the first step.
        opened: gives the base model that is in memory already; by default it is read. The method is
            put on what it gives, which is as it was read.
        progress: called after every step.
    """
    method = methods.method(config.method)
    if config.base_precision in QUANTISED and method.trains_base:
        raise MethodError(
            f"method {config.method!r} trains the base, whose weights in "
            f"{config.base_precision} cannot be trained; set base_precision to bf16 or fp32"
        )
    source = base or config.base_model
    packing = pack_config(config)
    inputs = inputs or {}
    tokenizer = load_tokenizer(source, config.revision)
    data = data or data_folder(packing, folder.parent, tokenizer=tokenizer, data_dir=data_dir)
    check_packed(packing, data, tokenizer=tokenizer, data_dir=data_dir)
    inputs = {
        "data": data.name,
        "corpus": find_corpus(config.corpus).data_hash(data_dir),
        "base-weights": weights_mark(source, config.revision),
        **inputs,
    }
    run = open_run(folder, kind=RunKind.TRAIN, config=config, inputs=inputs)
    with run:
        if run.done:
            if processes().is_main_process:
                checkpoints.remove(folder)  # where a kill came between the two last lines
            return
        ensure_packed(packing, data, tokenizer=tokenizer, data_dir=data_dir)
        rows, validation = training_rows(config, data)
        with opened() if opened else nullcontext() as model:
            tuned = start(config, source, model)
            check_positions(tuned, config, data)
            check_vocabulary(tuned, tokenizer, pad_id(tokenizer), (rows, validation))
            if begin is not None and processes().is_main_process:
                begin(tuned, rows, pad_id(tokenizer))
            cost = fit(
                tuned,
                rows,
                config.optimization,
                run,
                recipe=config,
                validation=validation,
                seed=config.seed,
                pad_id=pad_id(tokenizer),
                method=method,
                progress=progress,
            )
            if processes().is_main_process:
                _finish(run, method, tuned, tokenizer, cost, config.optimization.n_steps, source)
            processes().wait_for_everyone()


def start(config: TrainingConfig, source: str | Path, model: Any = None) -> Any:
    """The base model at `source` with the method's weights on it, as the first step finds it.

    What is trained is fp32, whatever the base was read in: small updates are lost in bf16. `model`
    is that base, where it is in memory already.

    Raises:
        MissingDataError: if there is no such base.
        MethodError: if the method does not fit it.
    """
    method = methods.method(config.method)
    if model is None:
        model, _ = load_base(source, config.revision, precision=config.base_precision)
    torch.manual_seed(config.seed)  # the new weights of a method are drawn from it
    tuned: Any = method.apply(
        prepared(model, config.base_precision),
        method.options_for(config.method_options, config.optimization.n_steps),
    )
    _hold_in_fp32(tuned, config)
    return tuned


def _hold_in_fp32(tuned: Any, config: TrainingConfig) -> None:
    """Give what is trained fp32, where it is in the base's own precision.

    Raises:
        MethodError: if only a part of the base is trained and products are not computed under
            autocast: layers would then meet two precisions.
    """
    weights = list(tuned.parameters())
    if all(weight.requires_grad for weight in weights):
        tuned.float()
        return
    half = (torch.bfloat16, torch.float16)
    small = [weight for weight in weights if weight.requires_grad and weight.dtype in half]
    if small and config.compute_precision == "fp32":
        raise MethodError(
            f"method {config.method!r} trains some of the base's own weights, in which "
            f"{config.base_precision} loses small updates; set compute_precision to bf16, under "
            "which they are held in fp32, or base_precision to fp32"
        )
    for module in tuned.modules():
        own = [weight for weight in module.parameters(recurse=False) if weight.dtype in half]
        if any(weight.requires_grad for weight in own):
            for weight in own:
                if weight.requires_grad or weight.ndim == 1:  # a norm takes one precision
                    weight.data = weight.data.float()


def _finish(
    run: Run,
    method: Method,
    tuned: Any,
    tokenizer: Any,
    cost: Cost,
    n_steps: int,
    source: str | Path,
) -> None:
    """Save what was trained, then seal the run."""
    _save(run, method, tuned, tokenizer, ADAPTER)
    size = sum(f.stat().st_size for f in (run.folder / ADAPTER).rglob("*") if f.is_file())
    run.write_json("cost", cost.model_copy(update={"adapter_bytes": size}))
    best = checkpoints.read_best(run.folder)
    if best is not None:
        run.write_json("best", best)
        if best.step < n_steps:
            checkpoints.fill_best(tuned, run.folder)
            method.after_put_back(tuned)
            _save(run, method, tuned, tokenizer, BEST)
            card.write(run.folder, run.folder / BEST, source=source)
    card.write(run.folder, run.folder / ADAPTER, source=source)
    run.seal({"n_tokens": cost.n_tokens, "n_trainable": cost.trainable_parameters})
    checkpoints.remove(run.folder)  # last: without them, an unsealed run would begin afresh


def _save(run: Run, method: Method, tuned: Any, tokenizer: Any, name: str) -> None:
    """The tuned weights; a whole model takes its tokenizer along."""
    folder = run.folder / name
    method.save(tuned, folder)
    if method.trains_base:
        with storage(folder):
            tokenizer.save_pretrained(folder)


def pad_id(tokenizer: Any) -> int:
    """The padding token, else end-of-text; padding never counts in a loss."""
    found = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if found is None else found)
