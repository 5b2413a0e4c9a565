"""Useful tokens per second of several ways to generate, same model and prompts, in one run.

    one at a time    transformers' generate, greedy, one prompt after the other, with a stopping
                     criterion that decodes all new tokens at each step, as the BigCode harness does
    20 of a prompt   transformers' generate, sampling at 0.2, the 20 samples of a prompt as one
                     batch, likewise
    ours, greedy     the hf engine, all prompts at once
    ours, 20 each    the hf engine, all prompts at once, sampling at 0.2
    vllm, ...        the same through a vLLM server, with --model and --url or --vllm-python

On a CPU one process, one torch thread, CPU time of the process; on a GPU wall time; best of some
rounds. Useful tokens are those up to the end of a completion: its end token, or the token that
completes a stop word. What is computed beyond it, because a row waits for the others of its batch,
is a cost and not a use.

By default the model has the shape of the embedded study's `minipack-0.7m` and random weights, with
ends by lot: from position `FIRST_END` on, a fixed rule says after which token at which position
the text ends, one in `ENDS_ONE_IN`. So answers are about as long and as varied as the trained
model's (about 28 tokens, most between 15 and 45), greedy ones are the same whoever generates them
(checked), and sampled ones follow one distribution. Weights are spread so that the next token is
about as certain as a trained model's. `--model DIR` takes a trained model instead.

Parts beside `speed`: `linear` (cost of 1, 2, 4 times the samples), `memory` (stated budget and
peak), `workers` (wall time of two processes), `mixed` (LoRA adapters in one batch), `compile`
(`torch.compile`), `limit` (fraction of the memory bandwidth).

    python benchmarks/generation.py
    python benchmarks/generation.py --parts speed,linear,memory,mixed
    python benchmarks/generation.py --device cuda --shape starcoderbase-1b --dtype bfloat16 \
        --prompts 164 --sampled-prompts 40 --parts speed,limit,linear,memory,compile
    python benchmarks/generation.py --model runs/.../model --prompts 240
    python benchmarks/generation.py --smoke
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from _generation_parts import (
    adapters,
    compiled,
    limit,
    linear,
    memory,
    workers,
)
from _generation_setup import (
    SHAPES,
    Clock,
    generate_each,
    prompts_of,
    random_model,
    trained_tokenizer,
    useful,
)
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from astraios.generation import Engine, Model
from astraios.generation.engines.hf import HFEngine
from astraios.records import Prompt, Sampling

MAX_NEW_TOKENS = 96
PARTS = ("speed", "linear", "memory", "workers", "mixed", "compile", "limit")
BASELINES = {"greedy": "one at a time", "20 each": "20 of a prompt"}


def lengths(samples: Iterable[Any]) -> dict[str, list[int]]:
    """By problem."""
    found: dict[str, list[int]] = {}
    for sample in samples:
        found.setdefault(sample.problem_id, []).append(sample.n_completion_tokens)
    return found


def speed(
    model: Any,
    tokenizer: Any,
    engines: dict[str, Engine],
    prompts: Sequence[Prompt],
    few: Sequence[Prompt],
    samplings: tuple[Sampling, Sampling],
    rounds: int,
    clock: Clock,
) -> tuple[list[dict[str, Any]], list[str]]:
    """The table, and problems whose greedy completions of ours have another length."""
    greedy, sampled = samplings

    def theirs(asked: Sequence[Prompt], sampling: Sampling) -> tuple[float, dict[str, list[int]]]:
        spent, answers = clock(lambda: generate_each(model, tokenizer, asked, sampling))
        return spent, {
            name: [useful(ids, tokenizer) for ids in rows] for name, rows in answers.items()
        }

    def of(engine: Engine) -> Any:
        return lambda asked, sampling: (
            (timed := clock(lambda: list(engine.complete(asked, sampling))))[0],
            lengths(timed[1]),
        )

    ways: dict[str, Any] = {
        "one at a time": (theirs, prompts, greedy),
        "20 of a prompt": (theirs, few, sampled),
    }
    for name, engine in engines.items():
        ways[f"{name}, greedy"] = (of(engine), prompts, greedy)
        ways[f"{name}, 20 each"] = (of(engine), few, sampled)
    for way, asked, sampling in ways.values():
        way(asked[:4], sampling)  # libraries load and buffers grow outside the measurement
    rates: dict[str, float] = {}
    counts: dict[str, dict[str, list[int]]] = {}
    for _ in range(rounds):
        for name, (way, asked, sampling) in ways.items():
            spent, counts[name] = way(asked, sampling)
            n_tokens = sum(map(sum, counts[name].values()))
            rates[name] = max(rates.get(name, 0.0), n_tokens / spent)
    expected, told = counts["one at a time"], counts["ours, greedy"]
    rows = [
        {
            "way": name,
            "prompts": len(counts[name]),
            "completions": sum(map(len, counts[name].values())),
            "useful tokens": sum(map(sum, counts[name].values())),
            f"per {clock.unit}": round(rates[name], 1),
            "ratio": round(rates[name] / rates[BASELINES.get(name.split(", ")[-1], name)], 2),
        }
        for name in ways
    ]
    return rows, [name for name in told if told[name] != expected[name]]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([str(row[h]) for h in heads] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def arguments() -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", default="speed", help=f"of {', '.join(PARTS)}, or all")
    parser.add_argument("--model", help="folder of a trained model with its tokenizer")
    parser.add_argument("--shape", choices=SHAPES, default="minipack-0.7m")
    parser.add_argument("--device", default="cpu", help="with commas: devices of the workers")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--prompts", type=int, default=240, help="for the greedy rows")
    parser.add_argument("--sampled-prompts", type=int, default=48, help="for the sampling rows")
    parser.add_argument("--max-new-tokens", type=int, default=MAX_NEW_TOKENS)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=None)
    parser.add_argument("--memory-mib", default="48,96,192", help="budgets of the part memory")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--url", help="of a vLLM server that serves --model")
    parser.add_argument("--vllm-python", help="interpreter with vLLM, to start a server with")
    parser.add_argument("--smoke", action="store_true", help="every part, with few prompts")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.smoke:
        given.parts, given.prompts, given.sampled_prompts, given.rounds = "all", 6, 2, 1
        given.backend, given.memory_mib = "eager", "48"
    given.parts = PARTS if given.parts == "all" else tuple(given.parts.split(","))
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part {min(unknown)!r}; known: {', '.join(PARTS)}")
    if (given.url or given.vllm_python) and not given.model:
        parser.error("vLLM serves a model that is on disk; give --model")
    return given


def vllm(given: argparse.Namespace, tokenizer: Any) -> Engine:
    """The vllm engine for `--model`."""
    from astraios.generation.engines.vllm import VLLMEngine

    options = {"url": given.url} if given.url else {"python": given.vllm_python}
    return VLLMEngine.open(
        Model(
            load=lambda: (None, tokenizer, None),
            base_model=given.model,
            device=given.device,
            precision=given.dtype,
            options=options,
        )
    )


def main() -> None:
    """Run the parts and print their tables."""
    given = arguments()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    disable_progress_bar()
    torch.set_num_threads(1)
    first = given.device.split(",")[0]
    clock = Clock(first)
    if given.model:
        model = AutoModelForCausalLM.from_pretrained(given.model).eval()
        tokenizer = AutoTokenizer.from_pretrained(given.model)
    else:
        model, tokenizer = random_model(given.shape).eval(), trained_tokenizer()
    model = model.to(device=first, dtype=getattr(torch, given.dtype))
    greedy = Sampling(n_samples=1, temperature=0, max_new_tokens=given.max_new_tokens)
    sampled = greedy.model_copy(update={"n_samples": 20, "temperature": 0.2, "top_p": 0.95})
    engine = HFEngine(model, tokenizer, batch_tokens=given.batch_tokens)
    prompts = prompts_of(given.prompts)
    few = prompts[: given.sampled_prompts]
    found: dict[str, Any] = {}

    def tell(part: str, rows: Sequence[dict[str, Any]]) -> None:
        found[part] = rows
        if not given.json:
            print(f"\n{part}\n\n{table(rows)}", flush=True)

    if "memory" in given.parts:
        budgets = [float(mib) for mib in given.memory_mib.split(",")]
        n = max(given.prompts, 6)
        tell("memory", memory(given.shape, first, given.dtype, budgets, n, sampled))
    if "speed" in given.parts:
        engines: dict[str, Engine] = {"ours": engine}
        if given.url or given.vllm_python:
            engines["vllm"] = vllm(given, tokenizer)
        rows, differing = speed(
            model, tokenizer, engines, prompts, few, (greedy, sampled), given.rounds, clock
        )
        tell("speed", rows)
        found["greedy lengths that differ"] = differing
        if not given.json:
            print(f"\ngreedy completions of another length than one at a time: {len(differing)}")
        for one in engines.values():
            one.close()
    if "linear" in given.parts:
        tell("linear", linear(engine, few, sampled, clock))
    if "limit" in given.parts:
        tell("limit", limit(engine, few, sampled, clock, first))
    if "compile" in given.parts:
        tell("compile", compiled(model, tokenizer, prompts, greedy, clock, given.backend))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if {"workers", "mixed"} & set(given.parts):
            model.save_pretrained(folder)
        if "workers" in given.parts:
            tell("workers", workers(folder, given.device, given.dtype, few, sampled))
        if "mixed" in given.parts:
            counts = (1, 4) if given.smoke else (1, 4, 16, 64, 240)
            tell("mixed", adapters(folder, given.dtype, first, counts, greedy, clock))
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
