"""One arm of the training benchmark, in a process of its own that trains a step whenever asked.

    python benchmarks/_training_arms.py SPEC.json

After its libraries are loaded, and after every step, a line of JSON tells what it took; a line on
standard input starts the next step. So the arms of a benchmark take turns step by step.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    GPTBigCodeConfig,
    GPTBigCodeForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from astraios import methods
from astraios.data import Row
from astraios.progress import silent
from astraios.records import RunKind
from astraios.runs import Run
from astraios.training.batches import AT_ONCE, Collator, mean_loss
from astraios.training.config import Optimization, TrainingConfig
from astraios.training.fit import fit

CUDA = torch.cuda.is_available()
_MIB = 2**20


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if spec["arm"] == "trl":
        import trl  # noqa: F401 - its memory is part of what is there before
    torch.randn(256, 256) @ torch.randn(256, 256)
    if CUDA:
        torch.zeros(1, device="cuda")
    before = resident()
    stored = np.load(spec["rows"])
    rows = rows_of(stored, "train")
    model = tuned(spec)
    clock = Clock(spec["steps"])
    clock.told(before_mib=before)
    found = {"ours": ours, "plain": plain, "trl": with_trl}[spec["arm"]](spec, rows, model, clock)
    flops = counted(spec, rows)
    validation = mean_loss(model, rows_of(stored, "validation"), pad_id=spec["pad"])
    clock.told(
        losses=found,
        peak_mib=clock.peak - before,
        in_flight=in_flight(spec, rows),
        flops=flops,
        validation=validation,
    )


def rows_of(stored: Any, kind: str) -> list[Row]:
    cuts = np.cumsum(stored[f"{kind}_lengths"])[:-1]
    parts = [np.split(stored[f"{kind}_{name}"], cuts) for name in ("ids", "labels", "positions")]
    return [Row(*part) for part in zip(*parts, strict=True)]


def tuned(spec: dict[str, Any]) -> Any:
    """The same weights in every arm."""
    torch.manual_seed(0)
    drops = dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), 0.0)
    config = GPTBigCodeConfig(
        **spec["shape"],
        n_inner=4 * spec["shape"]["n_embd"],
        activation_function="gelu_pytorch_tanh",
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=spec["pad"],
        **drops,
    )
    base: Any = GPTBigCodeForCausalLM(config)
    if spec["bf16"] and spec["method"] != "fft":
        base.to(torch.bfloat16)
    if CUDA:
        base.to("cuda")
    options = {"lora_dropout": 0.0} if spec["method"] == "lora" else {}
    return methods.method(spec["method"]).apply(base, options)


class Clock:
    """Says what every step took and waits for leave to take the next."""

    def __init__(self, steps: int) -> None:
        self.steps, self._from, self.peak = steps, 0.0, 0.0

    def told(self, **what: Any) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()
        if "losses" not in what:
            if not sys.stdin.readline():
                sys.exit("the benchmark is gone")
            self._from = now()

    def step(self) -> None:
        taken = now() - self._from
        self.peak = peak_mib()
        self.told(seconds=taken)


def now() -> float:
    if CUDA:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


# --- arms ---------------------------------------------------------------------------------------


def optimization(spec: dict[str, Any], n_steps: int) -> Optimization:
    return Optimization(
        n_steps=n_steps,
        batch_size=spec["rows_per_step"],
        rows_per_device=spec["rows_per_device"],
        learning_rate=spec["rate"],
        schedule="linear",
        log_every=1,
        validate_every=10**9,
        save_every=10**9,
    )


def ours(spec: dict[str, Any], rows: list[Row], model: Any, clock: Clock | None) -> list[float]:
    """What `astraios train` runs once its rows are packed."""
    n_steps = clock.steps if clock else 1
    plan = optimization(spec, n_steps)
    recipe = TrainingConfig(
        base_model="random",
        method=spec["method"],
        base_precision="bf16" if spec["bf16"] else "fp32",
        compute_precision="bf16" if spec["bf16"] else "fp32",
        optimization=plan,
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        Run.open(Path(folder) / "run", kind=RunKind.TRAIN, config=recipe) as run,
    ):
        fit(
            model,
            rows[: n_steps * spec["rows_per_step"]],
            plan,
            run,
            recipe=recipe,
            pad_id=spec["pad"],
            progress=(lambda done, total, note: clock.step()) if clock else silent,
        )
        lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    return [record["loss"] for record in map(json.loads, lines) if record.get("loss") is not None]


class Turn(TrainerCallback):
    """Steps and losses of a trainer."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.losses = clock, []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.clock.step()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))


def common(spec: dict[str, Any], folder: str, n_steps: int) -> dict[str, Any]:
    per_device = spec["rows_per_device"] or spec["rows_per_step"]
    return {
        "output_dir": folder,
        "max_steps": n_steps,
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": spec["rows_per_step"] // per_device,
        "learning_rate": spec["rate"],
        "lr_scheduler_type": "linear",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
        "use_cpu": not CUDA,
        "bf16": spec["bf16"],
    }


def plain_trainer(spec: dict[str, Any], rows: list[Row], model: Any, n_steps: int) -> Trainer:
    def collate(parts: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {key: torch.stack([part[key] for part in parts]) for key in parts[0]}

    data = [
        {
            "input_ids": torch.from_numpy(np.asarray(row.ids, np.int64)),
            "labels": torch.from_numpy(np.asarray(row.labels, np.int64)),
        }
        for row in rows
    ]
    arguments = TrainingArguments(**common(spec, tempfile.mkdtemp(), n_steps))
    return Trainer(model=model, args=arguments, train_dataset=data, data_collator=collate)


def trl_trainer(spec: dict[str, Any], rows: list[Row], model: Any, n_steps: int) -> Trainer:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_list(
        [
            {
                "input_ids": row.ids.tolist(),
                "labels": row.labels.tolist(),
                "seq_lengths": lengths(row).tolist(),
            }
            for row in rows
        ]
    )
    arguments = SFTConfig(
        **common(spec, tempfile.mkdtemp(), n_steps),
        packing=True,
        packing_strategy="bfd",
        max_length=spec["block_length"],
        dataset_kwargs={"skip_prepare_dataset": True},  # they are packed by best fit already
        gradient_checkpointing=False,
        shuffle_dataset=False,
    )
    return SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        processing_class=PreTrainedTokenizerFast.from_pretrained(spec["tokenizer"]),
    )


def lengths(row: Row) -> np.ndarray:
    starts = np.flatnonzero(np.asarray(row.positions) == 0)
    return np.diff(np.append(starts, len(row.ids)))


def trained(trainer: Trainer, clock: Clock) -> list[float]:
    turn = Turn(clock)
    trainer.add_callback(turn)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return turn.losses


def plain(spec: dict[str, Any], rows: list[Row], model: Any, clock: Clock) -> list[float]:
    return trained(plain_trainer(spec, rows, model, clock.steps), clock)


def with_trl(spec: dict[str, Any], rows: list[Row], model: Any, clock: Clock) -> list[float]:
    return trained(trl_trainer(spec, rows, model, clock.steps), clock)


# --- what it took -------------------------------------------------------------------------------


def counted(spec: dict[str, Any], rows: list[Row]) -> float:
    """Operations a useful token of the first step, on a fresh model.

    Attention as plain products, for fused kernels of the CPU are not known to the counter.
    """
    model = tuned(spec)
    n_tokens = sum(len(row.ids) for row in rows[: spec["rows_per_step"]])
    if spec["arm"] == "ours":
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            ours(spec, rows, model, None)
        return counter.get_total_flops() / n_tokens
    make = trl_trainer if spec["arm"] == "trl" else plain_trainer
    trainer = make(spec, rows, model, 1)
    trainer.remove_callback(PrinterCallback)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        trainer.train()
    return counter.get_total_flops() / n_tokens


def in_flight(spec: dict[str, Any], rows: list[Row]) -> int:
    """Tokens that go through the model at once, at most; padding included."""
    per_device = spec["rows_per_device"] or spec["rows_per_step"]
    if spec["arm"] != "ours":
        return max(
            sum(len(row.ids) for row in rows[at : at + per_device])
            for at in range(0, len(rows), per_device)
        )
    collator = Collator(spec["pad"])
    collator.apart, collator.at_once = True, None if CUDA else AT_ONCE
    return max(
        part["input_ids"].numel()
        for at in range(0, len(rows), per_device)
        for part in collator(rows[at : at + per_device])["parts"]
    )


def resident() -> float:
    """Memory now; from here on the peak is counted anew."""
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / _MIB
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak_mib() -> float:
    return torch.cuda.max_memory_allocated() / _MIB if CUDA else status("VmHWM")


def status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {name}")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
