"""The parts of `generation.py` beside speed: cost, memory, workers, adapters, compilation, limits.

Each returns rows of a table: name of a column -> value.
"""

from __future__ import annotations

import logging
import multiprocessing
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _generation_setup import (
    EndingModel,
    copy_bandwidth,
    prompts_of,
    random_model,
    trained_tokenizer,
)

from astraios import methods
from astraios.generation import Model
from astraios.generation.engines.hf import HFEngine
from astraios.generation.shared_base import SharedBase
from astraios.measure import Meter
from astraios.records import Prompt, Sampling

Rows = list[dict[str, Any]]


def n_tokens(samples: Iterable[Any]) -> int:
    """Tokens drawn, of samples or of pairs with one."""
    return sum((s[1] if isinstance(s, tuple) else s).n_completion_tokens for s in samples)


def linear(engine: HFEngine, prompts: Sequence[Prompt], sampling: Sampling, clock: Any) -> Rows:
    """Cost of 1, 2 and 4 times as many samples."""
    rows, first = [], 0.0
    list(engine.complete(prompts[:4], sampling))
    for times in (1, 2, 4):
        asked = sampling.model_copy(update={"n_samples": times * sampling.n_samples})
        spent, samples = clock(lambda asked=asked: list(engine.complete(prompts, asked)))
        first = first or spent
        rows.append(
            {
                "samples": len(samples),
                clock.unit: round(spent, 2),
                "of the first": round(spent / first, 2),
                "per sample, of the first": round(spent / first / times, 2),
            }
        )
    return rows


def limit(
    engine: HFEngine, prompts: Sequence[Prompt], sampling: Sampling, clock: Any, device: str
) -> Rows:
    """How near decoding comes to reading weights, keys and values at the speed of a copy."""
    decoder, read = engine._decoder, []
    weights = sum(weight.nbytes for weight in decoder.parameters())
    list(engine.complete(prompts[:4], sampling))

    def note(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        cache = kwargs["past_key_values"]
        past = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
        read.append(weights + past)

    handle = decoder.register_forward_pre_hook(note, with_kwargs=True)
    spent, samples = clock(lambda: list(engine.complete(prompts, sampling)))
    handle.remove()
    bandwidth = copy_bandwidth(device, clock)
    return [
        {
            "completions": len(samples),
            "steps": len(read),
            "tokens a step": round(n_tokens(samples) / len(read), 1),
            f"tokens per {clock.unit}": round(n_tokens(samples) / spent),
            "GB/s read": round(sum(read) / spent / 1e9, 1),
            "GB/s of a copy": round(bandwidth / 1e9, 1),
            "fraction": round(sum(read) / spent / bandwidth, 3),
        }
    ]


def _peak(shape: str, device: str, dtype: str, memory_mib: float, n: int, s: Sampling) -> Any:
    """In a process of its own: the most memory beside the model, in MiB, and tokens."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    model = random_model(shape).eval().to(device=device, dtype=getattr(torch, dtype))
    tokenizer = trained_tokenizer()
    # libraries load outside the measurement
    list(HFEngine(model, tokenizer, batch_tokens=1).complete(prompts_of(1), s))
    engine = HFEngine(model, tokenizer, memory_mib=memory_mib)
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        tokens = n_tokens(engine.complete(prompts_of(n), s))
        return (torch.cuda.max_memory_allocated() - before) / 2**20, tokens, engine._budget
    page = resource.getpagesize()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * page / 2**20
    meter = Meter()
    tokens = n_tokens(engine.complete(prompts_of(n), s))
    return meter.peak_mib - before, tokens, engine._budget


def memory(
    shape: str, device: str, dtype: str, budgets: Sequence[float], n: int, sampling: Sampling
) -> Rows:
    """Stated budgets beside the memory that was taken."""
    rows = []
    for budget in budgets:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peak, tokens, found = pool.apply(_peak, (shape, device, dtype, budget, n, sampling))
        rows.append(
            {
                "budget MiB": budget,
                "tokens": found.n_tokens,
                "rows": found.n_rows,
                "peak MiB": round(peak, 1),
                "drawn": tokens,
            }
        )
    return rows


def stored_base(folder: Path) -> Any:
    """The random model in `folder`, which workers read too."""
    torch.set_num_threads(1)
    return EndingModel.from_pretrained(folder).eval(), trained_tokenizer(), None


def workers(
    folder: Path, device: str, dtype: str, prompts: Sequence[Prompt], sampling: Sampling
) -> Rows:
    """Wall time of one process and of worker processes."""
    rows, first = [], 0.0
    for devices in (device.split(",")[0], device if "," in device else f"{device},{device}"):
        described = Model(
            load=partial(stored_base, folder),
            base_model=str(folder),
            device=devices,
            precision=dtype,
            options={} if devices.startswith("cuda") else {"threads": 1},
        )
        with HFEngine.open(described) as engine:
            list(engine.complete(prompts, sampling))
            begun = time.perf_counter()
            tokens = n_tokens(engine.complete(prompts, sampling))
            rate = tokens / (time.perf_counter() - begun)
        first = first or rate
        rows.append(
            {"devices": devices, "tokens per s": round(rate), "ratio": round(rate / first, 2)}
        )
    return rows


def adapters(
    folder: Path, dtype: str, device: str, counts: Sequence[int], sampling: Sampling, clock: Any
) -> Rows:
    """LoRA adapters one after the other, and in one batch."""
    n_adapters = 6
    named = {}
    for number in range(n_adapters):
        model, _, _ = stored_base(folder)
        tuned = methods.method("lora").apply(model)
        torch.manual_seed(number)
        with torch.no_grad():
            for weight in tuned.parameters():
                if weight.requires_grad:
                    weight.add_(0.02 * torch.randn_like(weight))
        path = folder / f"lora{number}"
        if not path.exists():
            methods.method("lora").save(tuned, path)
        named[f"lora{number}"] = ("lora", path)
    described = Model(
        load=partial(stored_base, folder), base_model="tiny", device=device, precision=dtype
    )
    rows = []
    with SharedBase(described) as shared:
        alone = {name: shared.engine(*one) for name, one in named.items()}
        mixed = shared.mixed(named)
        for count in counts:
            asked = dict.fromkeys(named, prompts_of(count))

            def one_by_one(asked: Any = asked) -> list[Any]:
                return [(n, s) for n, p in asked.items() for s in alone[n].complete(p, sampling)]

            def together(asked: Any = asked) -> list[Any]:
                return list(mixed.complete(asked, sampling))

            told, spent = [], []
            for way in (one_by_one, together):
                way()
                seconds, samples = min((clock(way) for _ in range(2)), key=lambda each: each[0])
                spent.append(seconds)
                told.append({(n, s.problem_id, s.index): s.completion for n, s in samples})
            rows.append(
                {
                    "adapters": n_adapters,
                    "completions of each": len(told[0]) // n_adapters,
                    f"apart, {clock.unit}": round(spent[0], 2),
                    f"mixed, {clock.unit}": round(spent[1], 2),
                    "ratio": round(spent[0] / spent[1], 2),
                    "differing": sum(told[0][key] != told[1][key] for key in told[0]),
                }
            )
    return rows


def compiled(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    clock: Any,
    backend: str,
) -> Rows:
    """The same engine with the model's forward through `torch.compile`."""
    rows, first = [], 0.0
    plain = model.forward
    for name in ("as it is", f"torch.compile, {backend}"):
        if name != "as it is":
            model.forward = torch.compile(plain, dynamic=True, backend=backend)
        engine = HFEngine(model, tokenizer)
        try:
            begun, _ = clock(lambda e=engine: list(e.complete(prompts, sampling)))
        except torch._dynamo.exc.TorchDynamoException as error:
            said = str(error).strip().splitlines()
            print(f"{name} failed: {said[1] if len(said) > 1 else said[0]}", file=sys.stderr)
            rows.append(dict.fromkeys(rows[0], "failed") | {"forward": name})
            continue
        spent, samples = clock(lambda e=engine: list(e.complete(prompts, sampling)))
        rate = n_tokens(samples) / spent
        first = first or rate
        rows.append(
            {
                "forward": name,
                f"first run, {clock.unit}": round(begun, 1),
                f"tokens per {clock.unit}": round(rate),
                "ratio": round(rate / first, 2),
            }
        )
    model.forward = plain
    return rows
