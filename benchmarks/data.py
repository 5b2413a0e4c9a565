"""Rows per CPU-second and peak memory of `astraios data build`, as its rows double twice.

    python benchmarks/data.py                     2,000, 4,000 and 8,000 generated rows
    python benchmarks/data.py --rows 20000        20,000, 40,000 and 80,000
    python benchmarks/data.py --libraries         also rensa beside datasketch, if that is there

Rows are made: commits with old and new files of about 60 words (CommitPackFT's mean), conversations
and instructions, three to one to one, one in ten a copy, one in ten nearly one, one in fifty with a
token of a known form. Each size runs in a process of its own. The search for texts of benchmarks
looks for the generated benchmark that comes with the package, and with `--data-dir` for all whose
data is there.

`linear` says how the time of a row changes from the smallest to the largest size: 1.0 is linear.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from astraios.cli.data import benchmark_texts
from astraios.config import validate
from astraios.data.building.build import build
from astraios.data.building.config import BuildConfig
from astraios.data.building.contamination import Contamination
from astraios.data.building.near_duplicates import NearDuplicates
from astraios.data.building.plan import plan
from astraios.data.building.secrets import scan
from astraios.data.building.words import shingles
from astraios.data.rules import sift
from astraios.measure import Meter

VERBS = ("Add", "Fix", "Remove", "Update", "Rename", "Handle", "Improve", "Support")
EMBEDDED = ("minipack-synthesize", "minipack-fix")
"""Benchmarks that need no data."""


def words(rng: random.Random, n: int) -> str:
    """Text of `n` words out of twenty thousand, with the layout of code."""
    ends = (" ", " ", " ", " = ", "(", ")\n    ", ".", "\n")
    return "".join(f"name{rng.randrange(20_000)}{rng.choice(ends)}" for _ in range(n))


def commit(rng: random.Random, number: int) -> dict[str, Any]:
    old = words(rng, 60)
    subject = f"{rng.choice(VERBS)} the {' '.join(words(rng, 5).split())[:60]} of this module"
    token = f"\nkey = 'ghp_{rng.getrandbits(180):036x}'" if not number % 50 else ""
    return {
        "commit": f"{number:040x}",
        "old_file": f"src/file{number}.py",
        "new_file": f"src/file{number}.py",
        "old_contents": old,
        "new_contents": f"{old}{words(rng, 20)}{token}",
        "subject": subject,
        "message": subject,
        "lang": rng.choice(("Python", "Java", "Go", "Rust")) if number % 9 else "Python",
        "license": "mit" if number % 7 else "gpl-3.0",
        "repos": f"owner{number % 97}/project",
    }


def conversation(rng: random.Random, number: int) -> dict[str, Any]:
    turns = [("user", words(rng, 25)), ("assistant", words(rng, 150))]
    return {
        "id": f"talk-{number}",
        "messages": [{"role": role, "content": content} for role, content in turns],
    }


def instruction(rng: random.Random, number: int) -> dict[str, Any]:
    return {"id": f"task-{number}", "prompt": words(rng, 30), "completion": words(rng, 120)}


def generate(folder: Path, n: int) -> None:
    """Write rows of three kinds, `n` in all, copies and near copies among them."""
    for name, make, share in (
        ("commits", commit, 0.6),
        ("conversations", conversation, 0.2),
        ("instructions", instruction, 0.2),
    ):
        rng = random.Random(f"{name} {n}")
        recent: list[str] = []
        with (folder / f"{name}.jsonl").open("w") as out:
            for number in range(round(n * share)):
                kind = number % 10 if number > 20 else 0
                if kind == 3:
                    line = rng.choice(recent)
                else:
                    line = json.dumps(make(rng, number))
                    if kind == 7:
                        line = rng.choice(recent).replace("name1", "other", 1)
                recent = [*recent[-50:], line]
                out.write(line + "\n")


def config(name: str) -> BuildConfig:
    return validate(
        {
            "name": name,
            "sources": [
                {"kind": "commits", "data": "commits.jsonl"}
                | {"without": ["A5-extension", "A11-tokens"]},
                {"kind": "conversations", "data": "conversations.jsonl"},
                {"kind": "instructions", "data": "instructions.jsonl"},
            ],
        },
        BuildConfig,
    )


def measured(n: int, data_dir: Path | None) -> dict[str, Any]:
    """One build of `n` rows in this process."""
    texts, _ = benchmark_texts(None if data_dir else EMBEDDED, data_dir)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder, n)
        size = sum(path.stat().st_size for path in folder.iterdir())
        Contamination(texts, 10)  # loads what is loaded once
        meter = Meter()
        report = build(plan(config("bench"), data_dir=folder, benchmarks=texts), folder / "run")
        return {
            "rows": report.n_read,
            "kept": report.n_kept,
            "MB": round(size / 1e6, 1),
            "CPU s": round(meter.cpu_s, 2),
            "rows/CPU s": round(report.n_read / meter.cpu_s),
            "peak MiB": round(meter.peak_mib),
        }


def steps(n: int, data_dir: Path | None) -> list[dict[str, Any]]:
    """What each step alone takes for a row."""
    texts, _ = benchmark_texts(None if data_dir else EMBEDDED, data_dir)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder, n)
        ready = plan(config("bench"), data_dir=folder, benchmarks=texts)
        placed = [(source, p, row) for source in ready.sources for p, row in source.read()]
        records = []
        found: list[dict[str, Any]] = []

        def step(label: str, began: float) -> None:
            took = time.process_time() - began
            found.append({"step": label, "rows/CPU s": round(len(placed) / took)})

        began = time.process_time()
        for source, place, row in placed:
            kept, _ = sift(source.filter.parse(row, place), source.filter.rules)
            if kept is not None:
                records.append(source.filter.joined(kept))
        step("rules", began)
        whole = [f"{record.instruction}\n{record.response}" for record in records]
        began = time.process_time()
        for text in whole:
            list(scan(text))
        step("secrets", began)
        index = Contamination(texts, 10)
        began = time.process_time()
        for text in whole:
            list(index.hits(text))
        step("contamination", began)
        near = NearDuplicates(0.7, 5, 128, 0, whole.__getitem__)
        began = time.process_time()
        for number, text in enumerate(whole):
            near.add(number, text)
        step("near-duplicate", began)
        return found


def libraries() -> list[dict[str, Any]]:
    """Error of the estimate and signatures a CPU-second, on pairs of 20 to 400 words."""
    from hashlib import blake2b

    from datasketch import MinHash
    from rensa import RMinHash

    rng = random.Random("pairs")
    pairs = []
    for _ in range(1_500):
        one = words(rng, rng.randint(20, 400)).split()
        share = rng.choice((0.005, 0.01, 0.02, 0.03, 0.05, 0.1))
        other = [words(rng, 1) if rng.random() < share else word for word in one]
        pairs.append((shingles(" ".join(one), 5), shingles(" ".join(other), 5)))
    exact = [len(a & b) / len(a | b) for a, b in pairs]
    sets = [sorted(side) for pair in pairs for side in pair]

    def sketch(runs: list[str]) -> Any:
        made = MinHash(num_perm=128, seed=1, hashfunc=lambda v: v)
        made.update_batch(
            [int.from_bytes(blake2b(r.encode(), digest_size=4).digest(), "little") for r in runs]
        )
        return made

    def signature(runs: list[str]) -> Any:
        return RMinHash.from_token_sets([runs], num_perm=128, seed=1)[0]

    found = []
    for name, make in (("rensa", signature), ("datasketch", sketch)):
        make(sets[0])
        began = time.process_time()
        made = [make(runs) for runs in sets]
        took = time.process_time() - began
        errors = [made[2 * i].jaccard(made[2 * i + 1]) - exact[i] for i in range(len(exact))]
        rmse = (sum(error * error for error in errors) / len(errors)) ** 0.5
        found.append(
            {
                "library": name,
                "error (RMS)": round(rmse, 4),
                "signatures/CPU s": round(len(sets) / took),
            }
        )
    return found


def show(rows: list[dict[str, Any]]) -> None:
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + " --- |" * len(rows[0]))
    for row in rows:
        shown = (f"{v:,}" if isinstance(v, int) else str(v) for v in row.values())
        print("| " + " | ".join(shown) + " |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--libraries", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one, options.data_dir)))
        return
    rows = []
    for factor in (1, 2, 4):
        command = [sys.executable, __file__, "--one", str(factor * options.rows)]
        if options.data_dir:
            command += ["--data-dir", str(options.data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout))
    show(rows)
    per_row = [row["CPU s"] / row["rows"] for row in rows]
    print(f"linear: {per_row[-1] / per_row[0]:.2f}\n")
    show(steps(options.rows, options.data_dir))
    if options.libraries:
        show(libraries())


if __name__ == "__main__":
    main()
