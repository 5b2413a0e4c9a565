"""Tokens of training text a second and peak memory: ours, a plain Trainer script, and TRL.

    plain          transformers.Trainer, one row at a time, 32 of them accumulated, on rows of
                   constant length, the way the original trains
    ours, same     what `astraios train` runs, on the very same rows in the same order
    trl            SFTTrainer with packing "bfd", on documents packed by best fit
    ours, packed   what `astraios train` runs, on the very same packed rows in the same order

All arms train the same texts from the same weights by the same optimizer, with as many rows of the
same length a step, so that losses have to be equal pair by pair, which is checked and shown. Each
arm is a process; they take turns step by step, on one core, and medians of CPU time are told.
Useful tokens are those of the texts; padding is none. Memory is the peak above what was resident
once all libraries were loaded; `a token` divides it by the tokens that go through the model at
once. Operations are counted by PyTorch, attention as full products, and compared with the best rate
of large products of matrices that was seen between the turns.

    python benchmarks/training.py                    the embedded model, LoRA, AdapterH and FFT
    python benchmarks/training.py --json FILE        figures to a file, too
    python benchmarks/training.py --smoke            the GPU's arms at toy size on a CPU

Where PyTorch sees a GPU the model has StarCoderBase-1B's shape with random weights in bf16, rows
have 2,048 tokens, and time is that of the clock. The exit status is 1 where losses differ or LoRA
misses a target: 1.25 times the plain script's tokens (1.5 on a GPU, with 45 % of the rate), no
fewer than TRL's, at no more memory a token than either (on a GPU, no higher peak than TRL's).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from astraios.data.packing import best_fit, documents_by_row
from astraios.minipack.documents import tuning_examples
from astraios.minipack.problems import Part
from astraios.templates import template
from astraios.training.accounting import matmul_rate
from astraios.training.config import EMBEDDED
from astraios.training.pretrain import END, _tokenizer_texts, make_tokenizer

SCRIPT = Path(__file__).with_name("_training_arms.py")
ROWS = 32
PAIRS = (("plain", "ours, same"), ("trl", "ours, packed"))
WARM = 2
"""Steps before the first that counts."""


@dataclass(frozen=True)
class Setting:
    shape: dict[str, int]
    block_length: int
    examples_per_document: int
    """At most; each document joins a few tasks, so that long rows have long documents."""
    rows_at_once: dict[str, int | None]
    """By kind of arm; None: all rows of a step, in parts of the trainer's own choice."""
    bf16: bool


def _shape(hidden: int, layers: int, heads: int, vocabulary: int, positions: int) -> dict[str, int]:
    return {
        "n_embd": hidden,
        "n_layer": layers,
        "n_head": heads,
        "vocab_size": vocabulary,
        "n_positions": positions,
    }


_SMALL = EMBEDDED["minipack-0.7m"]
CPU = Setting(
    _shape(_SMALL.hidden, _SMALL.n_layers, _SMALL.n_heads, _SMALL.vocabulary, _SMALL.n_positions),
    256,
    1,
    {"plain": 1, "trl": 1, "ours": None},
    False,
)
GPU = Setting(
    _shape(2048, 24, 16, 49_152, 8_192), 2_048, 10, {"plain": 1, "trl": 4, "ours": 4}, True
)
SMOKE = Setting(_shape(64, 2, 4, 2_048, 256), 256, 4, {"plain": 1, "trl": 4, "ours": 4}, True)


@dataclass
class Arm:
    name: str
    method: str
    process: Any
    seconds: list[float] = field(default_factory=list)
    n_tokens: float = 0.0
    """Useful ones of a step that counts, in the mean."""
    end: dict[str, Any] = field(default_factory=dict)

    def answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"arm {self.name!r} of {self.method} ended: see its words above")
        return json.loads(line)

    def go(self) -> None:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=10, help="Of each arm, two to warm up.")
    parser.add_argument("--methods", nargs="+", default=["lora", "adapterh", "fft"])
    parser.add_argument("--rows-at-once", nargs="+", default=[], metavar="ARM=N", help="As trl=4.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    cuda = torch.cuda.is_available()
    setting = SMOKE if given.smoke else GPU if cuda else CPU
    for change in given.rows_at_once:
        arm, _, n = change.partition("=")
        if arm not in setting.rows_at_once or not n.isdigit() or ROWS % int(n):
            parser.error(
                f"--rows-at-once {change}: an arm is one of plain, trl, ours; N divides {ROWS}"
            )
        setting.rows_at_once[arm] = int(n)
    steps = 3 if given.smoke else given.steps
    if not cuda:
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        made = prepare(setting, steps, Path(folder))
        arms: list[Arm] = []
        rate = 0.0
        for method in given.methods:
            found = started(setting, method, steps, Path(folder), made)
            rate = max(rate, take_turns(found, steps, cuda, setting.bf16))
            arms += found
    failures = told(arms, rate, cuda, smoke=given.smoke)
    if given.json:
        given.json.write_text(json.dumps(as_json(arms, rate), indent=1) + "\n")
    return 1 if failures else 0


# --- data ---------------------------------------------------------------------------------------


def prepare(setting: Setting, steps: int, folder: Path) -> dict[str, float]:
    """Rows of both kinds and a tokenizer in `folder`; useful tokens of a step in the mean."""
    few = _SMALL.model_copy(update={"n_tokenizer_documents": 1_000})
    tokenizer = make_tokenizer(_tokenizer_texts(few), few.vocabulary)
    tokenizer.save_pretrained(folder / "tokenizer")
    end = tokenizer.convert_tokens_to_ids(END)
    asked, chance = template("octocoder"), random.Random("benchmark")
    examples = tuning_examples(Part.TRAIN, 0)
    wanted, held = (steps + 1) * ROWS * setting.block_length, 64
    texts: list[list[tuple[str, str]]] = []
    n_characters = 0
    while n_characters < 4 * wanted:
        some = islice(examples, chance.randint(1, setting.examples_per_document))
        texts.append(
            [(asked.prompt(question, opening), answer) for _, question, opening, answer in some]
        )
        n_characters += sum(len(a) + len(b) for a, b in texts[-1])
    documents = []
    for parts in texts:
        ids, labels = [], []
        for prompt, answer in parts:
            one, other = (
                tokenizer(t, add_special_tokens=False)["input_ids"] for t in (prompt, answer)
            )
            ids += [*one, *other, end]
            labels += [*(-100 for _ in one), *other, end]
        documents.append((ids[: setting.block_length], labels[: setting.block_length]))
    validation = [(*d, list(range(len(d[0])))) for d in documents[:held]]
    train = documents[held:]
    n_rows = steps * ROWS
    means = {}
    for kind, rows in (("same", cut(train, setting)), ("packed", packed(train, setting))):
        if len(rows) < n_rows:
            raise SystemExit(f"{len(rows)} {kind} rows were made, {n_rows} are needed")
        write(folder / f"{kind}.npz", rows[:n_rows], validation)
        counting = rows[WARM * ROWS : n_rows]
        means[kind] = sum(len(ids) for ids, _, _ in counting) / (steps - WARM)
    return means


def cut(documents: list[tuple[list[int], list[int]]], setting: Setting) -> list[Any]:
    """The stream of all documents in rows of one length, not isolated."""
    ids = [token for own, _ in documents for token in own]
    labels = [label for _, own in documents for label in own]
    size = setting.block_length
    return [
        (ids[at : at + size], labels[at : at + size], list(range(size)))
        for at in range(0, len(ids) - size + 1, size)
    ]


def packed(documents: list[tuple[list[int], list[int]]], setting: Setting) -> list[Any]:
    """Whole documents by best fit; first tokens count in no loss, in neither arm."""
    sizes = np.array([len(ids) for ids, _ in documents])
    rows = []
    for members in documents_by_row(best_fit(sizes, setting.block_length)):
        own = [documents[at] for at in members.tolist()]
        rows.append(
            (
                [token for ids, _ in own for token in ids],
                [label for _, labels in own for label in (-100, *labels[1:])],
                [at for ids, _ in own for at in range(len(ids))],
            )
        )
    return rows


def write(path: Path, train: list[Any], validation: list[Any]) -> None:
    arrays = {}
    for kind, rows in (("train", train), ("validation", validation)):
        arrays[f"{kind}_lengths"] = np.array([len(ids) for ids, _, _ in rows])
        for name, parts in zip(
            ("ids", "labels", "positions"), zip(*rows, strict=True), strict=True
        ):
            arrays[f"{kind}_{name}"] = np.concatenate([np.array(p, np.int32) for p in parts])
    np.savez(path, **arrays)


# --- turns --------------------------------------------------------------------------------------


def started(
    setting: Setting, method: str, steps: int, folder: Path, means: dict[str, float]
) -> list[Arm]:
    arms = []
    for name in (name for pair in PAIRS for name in pair):
        kind = "same" if name in PAIRS[0] else "packed"
        which = name.partition(",")[0]
        spec = {
            "arm": which,
            "method": method,
            "rows": str(folder / f"{kind}.npz"),
            "tokenizer": str(folder / "tokenizer"),
            "shape": setting.shape,
            "block_length": setting.block_length,
            "rows_per_step": ROWS,
            "rows_per_device": setting.rows_at_once[which],
            "bf16": setting.bf16,
            "rate": 1e-3,
            "pad": 1,
            "steps": steps,
        }
        path = folder / f"{method}-{kind}-{which}.json"
        path.write_text(json.dumps(spec))
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stderr if os.environ.get("TRAINING_VERBOSE") else subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            if not torch.cuda.is_available()
            else dict(os.environ),
        )
        arm = Arm(name, method, process, n_tokens=means[kind])
        arm.answer()  # one after the other: nothing else runs while an arm loads
        arms.append(arm)
    return arms


def take_turns(arms: list[Arm], steps: int, cuda: bool, bf16: bool) -> float:
    """Train all arms step by step; the best rate of products that was seen in between."""
    device, dtype = ("cuda:0", torch.bfloat16) if cuda else ("cpu", torch.float32)
    rate = 0.0
    for _ in range(steps):
        for arm in arms:
            arm.go()
            arm.seconds.append(arm.answer()["seconds"])
        rate = max(rate, matmul_rate.__wrapped__(device, dtype))
    for arm in arms:  # one after the other, for the operations are counted on another step
        arm.go()
        arm.end = arm.answer()
        arm.process.wait()
    return rate


# --- figures ------------------------------------------------------------------------------------


def speed(arm: Arm) -> float:
    return arm.n_tokens / median(arm.seconds[WARM:])


def per_token(arm: Arm) -> float:
    return arm.end["peak_mib"] * 1024 / arm.end["in_flight"]


def reached(arm: Arm, rate: float) -> float:
    return arm.end["flops"] * speed(arm) / rate


def told(arms: list[Arm], rate: float, cuda: bool, *, smoke: bool) -> list[str]:
    second = "s" if cuda else "CPU s"
    print(
        f"| method | arm | useful tokens / {second} | / plain | / trl | peak MiB | at once "
        "| KiB a token | MFLOP a token | of the rate | loss first .. last | validation |"
    )
    print("| --- " * 12 + "|")
    failures = []
    for method in dict.fromkeys(arm.method for arm in arms):
        own = {arm.name: arm for arm in arms if arm.method == method}
        for arm in own.values():
            losses = arm.end["losses"]
            print(
                f"| {method} | {arm.name} | {speed(arm):,.0f} "
                f"| {speed(arm) / speed(own['plain']):.2f} "
                f"| {speed(arm) / speed(own['trl']):.2f} | {arm.end['peak_mib']:.0f} "
                f"| {arm.end['in_flight']:,} | {per_token(arm):.1f} | {arm.end['flops'] / 1e6:.2f} "
                f"| {reached(arm, rate):.0%} | {losses[0]:.4f} .. {losses[-1]:.4f} "
                f"| {arm.end['validation']:.4f} |"
            )
        failures += differing(own, method, cuda or smoke)
        if method == "lora" and not smoke:  # at toy size figures mean nothing
            failures += missed(own, rate, cuda)
    print(f"\nrate of large products: {rate / 1e9:,.0f} GFLOP/s")
    for method in dict.fromkeys(arm.method for arm in arms):
        own = {arm.name: arm for arm in arms if arm.method == method}
        for theirs, ours in PAIRS:
            print(
                f"{method}: largest difference of a step's loss, {theirs} and {ours}: "
                f"{difference(own[theirs], own[ours]):.1e}"
            )
    for failure in failures:
        print(f"missed: {failure}")
    return failures


def difference(one: Arm, other: Arm) -> float:
    return max(abs(a - b) for a, b in zip(one.end["losses"], other.end["losses"], strict=True))


def differing(own: dict[str, Arm], method: str, half: bool) -> list[str]:
    bound = 2e-2 if half else 1e-4
    return [
        f"{method}: losses of {theirs} and {ours} differ"
        for theirs, ours in PAIRS
        if difference(own[theirs], own[ours]) > bound
    ]


def missed(own: dict[str, Arm], rate: float, cuda: bool) -> list[str]:
    """Targets of LoRA."""
    found = []
    plain, trl, ours = own["plain"], own["trl"], own["ours, packed"]
    wanted = 1.5 if cuda else 1.25
    if speed(ours) < wanted * speed(plain):
        found.append(f"lora: {speed(ours) / speed(plain):.2f} of plain, not {wanted}")
    if speed(ours) < speed(trl):
        found.append(f"lora: {speed(ours) / speed(trl):.2f} of trl")
    if cuda:
        if reached(ours, rate) < 0.45:
            found.append(f"lora: {reached(ours, rate):.0%} of the rate, not 45 %")
        if ours.end["peak_mib"] > trl.end["peak_mib"]:
            found.append("lora: a higher peak than trl")
    elif per_token(ours) > min(per_token(plain), per_token(trl)):
        found.append("lora: more memory a token")
    return found


def as_json(arms: list[Arm], rate: float) -> dict[str, Any]:
    return {
        "rate": rate,
        "arms": [
            {
                **{k: v for k, v in asdict_of(arm).items() if k != "process"},
                "tokens_per_s": speed(arm),
                "kib_per_token": per_token(arm),
                "of_rate": reached(arm, rate),
            }
            for arm in arms
        ],
    }


def asdict_of(arm: Arm) -> dict[str, Any]:
    return {name: getattr(arm, name) for name in ("name", "method", "seconds", "n_tokens", "end")}


if __name__ == "__main__":
    sys.exit(main())
