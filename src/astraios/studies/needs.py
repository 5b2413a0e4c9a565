"""What a job takes of a machine, as far as it is known before it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from astraios import published
from astraios.evaluation.config import EvaluationConfig
from astraios.methods import LABEL
from astraios.records import RunKind
from astraios.studies.plan import Job
from astraios.training.config import EMBEDDED, PretrainingConfig, TrainingConfig

__all__ = ["Needs", "needs"]

MIB = 2**20
GRAIN_MIB = 64
"""Estimates are rounded up to this, so that jobs of about equal needs are scheduled as equals."""

LIBRARIES_MIB = 640
"""Resident memory of a process with torch, transformers and PEFT, beside any model."""
JUDGE_MIB = 448
"""Of a process that judges: the libraries of a worker, and programs at a time."""
CONTEXT_MIB = 768
"""What CUDA and its kernels take of a device before the first tensor."""


@dataclass(frozen=True)
class Needs:
    """Memory in MiB and devices; None where it cannot be told.

    What is not known is taken to be one worker's share of the machine, and a device alone.
    """

    host_mib: int | None = None
    """Of the machine, the base model included."""
    device_mib: int | None = None
    """Of each device."""
    n_devices: int = 0
    """Accelerators, where there are any."""
    own_device: bool = True
    """Whether the job runs on whichever device it is given; False: its config names devices."""
    base_mib: int = 0
    """Of `host_mib` or, on a device, of `device_mib`: the base model."""


def needs(job: Job) -> Needs:
    """A conservative estimate from the size of the model and the kind of work.

    Of a model whose size is unknown, memory is None. It is for scheduling: without torch, in
    microseconds and rather too much; `estimates` tells people what a training takes.
    """
    config = job.config
    if job.kind is RunKind.JUDGE:
        return Needs(host_mib=JUDGE_MIB)
    if job.kind is RunKind.PACK:
        return Needs(host_mib=LIBRARIES_MIB)
    if isinstance(config, PretrainingConfig):
        return _needs(_embedded(config), 4, 16, 1, True)
    if isinstance(config, TrainingConfig):
        width = {"fp32": 4, "bf16": 2, "int8": 1, "nf4": 1}[config.base_precision]
        # Weights; with full fine-tuning fp32 masters, gradients and two moments; else a third of
        # the weights again, for an adapter with its moments and the activations of a step.
        trained = 16 if config.method.partition(LABEL)[0] == "fft" else width + 2
        return _needs(_n_parameters(config.base_model, config.revision), width, trained, 1, True)
    if isinstance(config, EvaluationConfig):
        if config.engine not in ("hf", "vllm"):
            return Needs(host_mib=LIBRARIES_MIB)
        width = 4 if config.precision == "float32" else 2
        named = [name.strip() for name in config.device.split(",")]
        n_devices = 0 if named == ["cpu"] else len(named)
        return _needs(
            _n_parameters(config.base_model, config.revision),
            width,
            width + 2,
            n_devices,
            named in (["auto"], ["cuda"]) and config.engine == "hf",
        )
    return Needs()


def _needs(n: int | None, width: int, all_bytes: int, n_devices: int, own_device: bool) -> Needs:
    """Of a model of `n` parameters, `width` bytes each, `all_bytes` with what work adds to it."""
    if n is None:
        return Needs(n_devices=n_devices, own_device=own_device)
    weights, everything = n * width / MIB, n * all_bytes / MIB
    return Needs(
        host_mib=_rounded(LIBRARIES_MIB + max(everything, 2 * weights)),  # read, then converted
        device_mib=_rounded(CONTEXT_MIB + 1.3 * everything) if n_devices else None,
        n_devices=n_devices,
        own_device=own_device,
        base_mib=_rounded(weights),
    )


def _rounded(mib: float) -> int:
    return -int(-mib // GRAIN_MIB) * GRAIN_MIB


def _n_parameters(base_model: str, revision: str | None) -> int | None:
    """Parameters of a base model: an embedded one, the paper's, a folder, or by its name."""
    if base_model in EMBEDDED:
        return _embedded(EMBEDDED[base_model])
    for size in published.SIZES:
        if base_model == size.base_model:
            return size.n_parameters
    folder = Path(base_model)
    if folder.is_dir():
        n_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        return n_bytes // 2 or None  # if it is stored in 32 bits, these are half as many
    told = re.search(r"(?i)(?<![a-z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-z0-9])", base_model)
    if told is None:
        return None
    return int(float(told[1]) * (10**9 if told[2].lower() == "b" else 10**6))


def _embedded(config: PretrainingConfig) -> int:
    """Parameters of a decoder with an inner width of at most four times the hidden one."""
    layer = 12 * config.hidden**2 + 13 * config.hidden
    return config.n_layers * layer + 2 * config.vocabulary * config.hidden
