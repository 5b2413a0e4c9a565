"""What packing costs beside tokenizing: tokens per CPU second of both, in one run.

    python benchmarks/packing.py                         the shared instructions, 10 times over
    python benchmarks/packing.py --instructions FILE     another JSONL of prompt and completion

A byte-level BPE tokenizer is trained on the instructions, of 49,152 tokens or as many as they give.
The arms take turns: the tokenizer alone, `tokenizer(texts)` in the batches that packing uses, on
texts that lie in memory; and `pack` from the JSONL file to sealed shards, of each layout. Asked is

    tokens per CPU second of pack >= 0.80 x those of the tokenizer alone
    utilisation of best_fit       >= 0.98

CPU seconds are those of all threads of the process. `growth` is the cost a record at 1, 2 and 4
times the records, as a share of the first: 1 is linear. The exit status is 1 where a bound is
missed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from astraios.data.config import PackConfig
from astraios.data.pack import pack
from astraios.data.tokens import BATCH
from astraios.training.pretrain import make_tokenizer

SHARE, UTILISATION, VOCABULARY = 0.80, 0.98, 49_152
LAYOUTS = {
    "best_fit": {"layout": "best_fit", "too_long": "split"},
    "constant_length": {
        "layout": "constant_length",
        "template": "question_answer",
        "loss_on": "all",
    },
}


@dataclass
class Arm:
    """A way to make ids, and what it took."""

    name: str
    run: Callable[[], int]
    """Returns tokens."""
    rates: list[float] = field(default_factory=list)

    def turn(self) -> None:
        before = time.process_time()
        n_tokens = self.run()
        self.rates.append(n_tokens / (time.process_time() - before))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--instructions", type=Path, default=None)
    parser.add_argument("--times", type=int, default=10, help="Copies of the instructions.")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = read(given.instructions or _shared())
    tokenizer = make_tokenizer((row["prompt"] + row["completion"] for row in rows), VOCABULARY)
    print(f"{len(rows)} records, {len(tokenizer):,} tokens in the vocabulary")
    with tempfile.TemporaryDirectory() as scratch:
        good = utilisation(rows, tokenizer, Path(scratch))
        good &= speed(rows * given.times, tokenizer, Path(scratch), given.rounds)
        growth(rows * given.times, tokenizer, Path(scratch), given.rounds)
    return 0 if good else 1


def read(path: Path) -> list[dict[str, str]]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _shared() -> Path:
    named = os.environ.get("ASTRAIOS_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    path = folder / "data/instructions/train.jsonl.gz"
    if not path.is_file():
        sys.exit(f"{path} does not exist; give --instructions FILE, or set ASTRAIOS_SHARED")
    return path


def utilisation(rows: list[dict[str, str]], tokenizer: Any, scratch: Path) -> bool:
    """How full the rows of the instructions are, each once."""
    report = packed(rows, tokenizer, scratch, LAYOUTS["best_fit"]).train
    print(
        f"best_fit, block_length 2,048: {report.n_tokens:,} tokens of {report.n_documents} "
        f"documents in {report.n_rows} rows, utilisation {report.utilisation:.4f}"
    )
    return bool(report.utilisation >= UTILISATION)


def speed(rows: list[dict[str, str]], tokenizer: Any, scratch: Path, rounds: int) -> bool:
    """Tokens per CPU second of the tokenizer alone and of `pack`."""
    texts = [f"Question: {row['prompt']}\n\nAnswer:\n{row['completion']}" for row in rows]

    def alone() -> int:
        batches = (texts[at : at + BATCH] for at in range(0, len(texts), BATCH))
        return sum(len(ids) for batch in batches for ids in tokenizer(batch)["input_ids"])

    arms = [Arm("tokenizer", alone)]
    for name, how in LAYOUTS.items():

        def run(how: dict[str, Any] = how) -> int:
            report = packed(rows, tokenizer, scratch, how)
            return int(report.train.n_tokens + report.train.n_left_over)

        arms.append(Arm(name, run))
    for round_ in range(rounds + 1):
        for arm in arms:
            arm.turn()
        if not round_:  # caches are filled
            for arm in arms:
                arm.rates.clear()
    base = median(arms[0].rates)
    print(
        f"{len(rows):,} records, {rounds} rounds: tokens per CPU second, share of the tokenizer's"
    )
    for arm in arms:
        shares = [rate / own for rate, own in zip(arm.rates, arms[0].rates, strict=True)]
        rate = median(arm.rates)
        print(f"  {arm.name:16}{rate:14,.0f}{rate / base:8.3f}  rounds " + _range(shares))
    return all(median(arm.rates) >= SHARE * base for arm in arms[1:])


def growth(rows: list[dict[str, str]], tokenizer: Any, scratch: Path, rounds: int) -> None:
    """CPU seconds a record at 1, 2 and 4 times the records."""
    for name, how in LAYOUTS.items():
        costs = []
        for times in (1, 2, 4):
            spent = []
            for _ in range(max(1, rounds // 2)):
                before = time.process_time()
                packed(rows * times, tokenizer, scratch, how)
                spent.append(time.process_time() - before)
            costs.append(median(spent) / (times * len(rows)))
        told = ", ".join(f"{cost / costs[0]:.2f}" for cost in costs)
        print(f"  {name:16}growth of the cost a record at 1, 2, 4 times: {told}")


def packed(rows: list[dict[str, str]], tokenizer: Any, scratch: Path, how: dict[str, Any]) -> Any:
    """Pack `rows`; the JSONL file is written the first time, in a round that is not counted."""
    corpus = scratch / f"corpus-{len(rows)}"
    if not corpus.exists():
        corpus.mkdir()
        for split, part in (("train", rows), ("validation", rows[:64])):
            with (corpus / f"{split}.jsonl").open("w", encoding="utf-8") as out:
                out.writelines(
                    json.dumps({**row, "id": f"{at}"}, ensure_ascii=False) + "\n"
                    for at, row in enumerate(part)
                )
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        config = PackConfig(corpus=str(corpus), tokenizer="trained here", **how)
        return pack(config, Path(folder) / "packed", tokenizer=tokenizer)


def _range(values: list[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


if __name__ == "__main__":
    sys.exit(main())
