"""Samples of a published ReCode file judged in a CPU second: ours, and an interpreter a sample.

    python benchmarks/grade_recode.py --file 1b-lora.json.gz --task recode-format --data-dir D

By default the first 328 prompts (two transformations), of which the plain way judges the first 100.
The arms, their agreement and how CPU time is counted: `grading.py`. Programs that loop cost every
arm their time limit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import grading

ARMS = (grading.SUBPROCESS, "ours, every sample", "ours")


def main() -> None:
    parser = argparse.ArgumentParser(description="ReCode samples judged in a CPU second")
    parser.add_argument("--file", type=Path, required=True, help="a published file")
    parser.add_argument("--task", required=True, help="such as recode-format")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of benchmark files")
    parser.add_argument("--problems", type=int, default=328, help="only the first so many prompts")
    options = parser.parse_args()
    command = [
        sys.executable, grading.__file__, "--file", str(options.file), "--task", options.task,
        "--data-dir", str(options.data_dir), "--problems", str(options.problems), "--arms", *ARMS,
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    numbers = json.loads(done.stdout)
    speeds = {row["arm"]: 1000 / row["cpu_ms_per_sample"] for row in numbers["arms"]}
    for arm, speed in speeds.items():
        ratio = speed / speeds[grading.SUBPROCESS]
        print(f"{arm:24} {speed:8.1f} samples/CPU s   {ratio:6.1f} x", file=sys.stderr)
    print(json.dumps({**numbers, "samples_per_cpu_s": speeds}))


if __name__ == "__main__":
    main()
