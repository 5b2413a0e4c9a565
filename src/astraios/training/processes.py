"""The processes of one training run: one, or as many as `torchrun` or `accelerate` started.

Every process computes; the first alone writes the run folder. accelerate reads how many there are
from what the launcher set, so a run says nothing about them and its folder is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import PartialState
from pydantic import BaseModel

from astraios import runs
from astraios.records import RunKind


def processes() -> PartialState:
    """This process among the others; joins them at the first call."""
    return PartialState(cpu=not torch.cuda.is_available())


def mean_of(value: float) -> float:
    """The mean over all processes of the number that each has."""
    state = processes()
    if state.num_processes == 1:
        return value
    total = torch.tensor([value], device=state.device, dtype=torch.float32)
    torch.distributed.all_reduce(total)
    return float(total.item() / int(state.num_processes))


def open_run(
    folder: Path, *, kind: RunKind, config: BaseModel, inputs: Mapping[str, str] | None = None
) -> runs.Run:
    """The run folder: opened for writing by the first process, for reading by all others."""
    state = processes()
    if state.is_main_process:
        run = runs.Run.open(
            folder,
            kind=kind,
            config=config,
            inputs=inputs,
            environment={"processes": str(state.num_processes)} if state.num_processes > 1 else {},
        )
        state.wait_for_everyone()
        return run
    state.wait_for_everyone()
    return runs.read_run(folder, unfinished=True)
