"""What a training will be, before it begins: sizes, memory and time.

`before` says what a part of one step tells, which takes as long as that part. `outlook` also tries
a few steps and puts what they took beside it; what they leave is thrown away.
"""

from __future__ import annotations

import ctypes
import gc
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from astraios import methods, runs
from astraios.data import Row
from astraios.data.pack import load_tokenizer
from astraios.measure import peak_resident_mib
from astraios.records import RunKind, Step
from astraios.training import sharding
from astraios.training._recorder import METRICS
from astraios.training._trainer import arrange, division, out_of_memory, what_to_lower
from astraios.training.accounting import peak_allocated_mib, peak_mib
from astraios.training.base import QUANTISED
from astraios.training.batches import Collator
from astraios.training.checkpoints import trainable
from astraios.training.config import TrainingConfig
from astraios.training.fit import fit
from astraios.training.memory import Memory, estimate
from astraios.training.processes import processes
from astraios.training.rows import check_positions, check_vocabulary, training_rows
from astraios.training.tune import pad_id, start

N_MEASURED, N_TIMED = 2, 2
"""Steps that are tried: for memory (the second finds the optimizer's states), then for time."""
_GIVES, _KEEPS = (1 << 17, 1 << 16), (1 << 26, 1 << 25)
"""Of glibc: bytes that are kept free, and from which on memory is the system's; the second pair is
where its own rule ends up in a training."""
N_LOOKED_AT = 256
"""Of the longest rows of a training, how many are laid out to find the largest part."""
_MIB = 2**20


class Outlook(Memory):
    """What will happen; memory is one device's."""

    method: str
    devices: int
    trainable_parameters: int
    total_parameters: int
    n_steps: int
    rows_per_step: int
    rows_per_device: int
    accumulation: int
    n_tokens: int
    """Tokens that will be seen, padding not counted."""
    epochs: float
    """How often each of the rows is seen."""
    measured_mib: float | None = None
    """What tensors took over the steps that were tried: allocated on a GPU; on a CPU, the growth of
    the process while freed memory goes back at once, and the weights."""
    error: float | None = None
    """Of the estimate, over what was measured."""
    process_mib: float | None = None
    """The same with what is kept for later: reserved on a GPU; on a CPU, the growth of the process
    while freed memory is kept, which is faster and what a training does."""
    seconds: float | None = None
    """For all steps, at the pace of the last that were tried; validation is not in it."""


def before(tuned: Any, rows: Sequence[Row], config: TrainingConfig, *, pad_id: int = 0) -> Outlook:
    """What training `tuned` on `rows` will be, without a step of it.

    Raises:
        TrainingError: if the rows cannot be divided among the devices, or a part of a step does not
            fit into memory.
    """
    plan, n_devices = config.optimization, processes().num_processes
    per_device, n_parts = division(plan, n_devices)
    lengths = _lengths(rows)
    if config.base_precision not in QUANTISED and config.sharding == "none":
        tuned.to(processes().device)
    at = _largest(tuned, rows, config, pad_id)
    part = [rows[place] for place in range(at, at + per_device)]
    try:
        memory = estimate(tuned, part, config, pad_id=pad_id, n_parts=n_parts, n_devices=n_devices)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise what_to_lower(0, plan, peak_mib(_resident())) from error
    weights = list(tuned.parameters())
    return Outlook(
        **memory.model_dump(),
        method=config.method,
        devices=n_devices,
        trainable_parameters=sum(p.numel() for p in trainable(tuned).values()),
        total_parameters=sum(p.numel() for p in weights),
        n_steps=plan.n_steps,
        rows_per_step=plan.batch_size,
        rows_per_device=per_device,
        accumulation=n_parts,
        n_tokens=sum(lengths),
        epochs=round(len(rows) / _n_distinct(rows), 3),
    )


def outlook(config: TrainingConfig, data: Path, base: Path | None = None) -> Outlook:
    """Try a few steps of the training that `config` asks for; nothing is kept of them.

    The data are packed before it, and stay packed for the training. The largest step is among those
    that are tried: it decides how much memory is taken.

    Args:
        config: the training.
        data: its packed corpus.
        base: where the base model lies when `config.base_model` is an embedded one's name.

    Raises:
        AstraiosError: what the training itself would raise at its start.
    """
    method, plan = methods.method(config.method), config.optimization
    sharding.refuse(config, method)
    _keep_freed(*_GIVES)  # from the beginning, for what is kept once is used again
    source = base or config.base_model
    tokenizer = load_tokenizer(source, config.revision)
    pad = pad_id(tokenizer)
    rows, validation = training_rows(config, data)
    tuned = start(config, source)
    check_positions(tuned, config, data)
    check_vocabulary(tuned, tokenizer, pad, (rows, validation))
    told = before(tuned, rows, config, pad_id=pad)
    size = plan.batch_size
    first = _largest(tuned, rows, config, pad) // size * size
    n_steps = N_MEASURED + N_TIMED
    places = list(range(first, first + size)) * N_MEASURED + list(range(size)) * N_TIMED
    tried = plan.model_copy(
        update={"n_steps": n_steps, "log_every": 1, "n_warmup_steps": 0, "save_every": 10**9}
    )
    resident = _resident()
    peaks: list[float] = []

    def progress(done: int, total: int, note: str) -> None:
        if done == N_MEASURED:
            allocated = peak_allocated_mib()
            peaks.append(peak_resident_mib() if allocated is None else allocated)
            _keep_freed(*_KEEPS)

    with (
        tempfile.TemporaryDirectory() as scratch,
        runs.Run.open(Path(scratch) / "run", kind=RunKind.TRAIN, config=tried) as run,
    ):
        cost = fit(
            tuned,
            [rows[place] for place in places],
            tried,
            run,
            recipe=config.model_copy(update={"report_to": ()}),
            seed=config.seed,
            pad_id=pad,
            method=method,
            progress=progress,
        )
        paces = [step.tokens_per_s for step in run.read(METRICS, Step) if step.step > N_MEASURED]
    measured, process = (
        max(0.0, peak - resident) + told.weights_mib for peak in (*peaks, cost.peak_mib)
    )
    return told.model_copy(
        update={
            "measured_mib": measured,
            "error": told.estimate_mib / measured - 1,
            "process_mib": process,
            "seconds": told.n_tokens / max(mean(pace for pace in paces if pace), 1e-9),
        }
    )


def _lengths(rows: Sequence[Row]) -> list[int]:
    known = getattr(rows, "lengths", None)  # rows on disk know them without being read
    return [int(n) for n in known] if known is not None else [len(row.ids) for row in rows]


def _n_distinct(rows: Sequence[Row]) -> int:
    known = getattr(rows, "n_distinct", None)
    return int(known) if known is not None else len({id(row) for row in rows})


def _largest(tuned: Any, rows: Sequence[Row], config: TrainingConfig, pad_id: int) -> int:
    """Where the rows begin that a device takes at a time and that hold the largest part of all."""
    size, _ = division(config.optimization, processes().num_processes)
    lengths = _lengths(rows)
    starts = range(0, len(lengths), size)
    by_tokens = sorted(starts, key=lambda at: -sum(lengths[at : at + size]))
    collator = Collator(pad_id)
    arrange(collator, tuned, torch.bfloat16 if config.compute_precision == "bf16" else None)

    def largest_part(at: int) -> int:
        inputs = collator([rows[place] for place in range(at, at + size)])
        return max(int(p["input_ids"].numel()) for p in inputs.get("parts") or [inputs])

    return max(by_tokens[:N_LOOKED_AT], key=largest_part)


def _resident() -> float:
    """Memory of this process now, in MiB, or what the GPU holds for it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        return float(torch.cuda.memory_reserved()) / _MIB
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)  # what was given back by earlier work is no part of this
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _keep_freed(kept: int, from_system: int) -> None:
    """Tell glibc, where there is one, how much freed memory it keeps."""
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(-1, kept)
        option(-3, from_system)
