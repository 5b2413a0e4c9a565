"""Time and memory of reading a large study, of its statistics and of its whole report.

    python benchmarks/analysis.py                  28 models x 10 tasks x 164 problems x 20 samples
    python benchmarks/analysis.py --times 1 10     that, and ten times as many problems
    python benchmarks/analysis.py --readers        also single readers on one file of verdicts

The study is made: four base models, seven methods, one seed; seven tasks of unit tests, one of
perturbed prompts, one of yes/no questions, one of security. Each arm runs in a process of its own:

    report      `write_report`: everything
    ours        `read_frames`, then quality, pairs and robustness of all tasks
    plain       `json.loads` a line, pandas' `groupby`, `scipy.stats.bootstrap` a model and a pair

`plain` does less: tasks of unit tests only, no perturbed prompts, no adjusted p-values. Times are
wall and CPU seconds, memory is the peak resident set of the process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from astraios.config import Config
from astraios.files import write_bytes, write_text
from astraios.records import Cost, Finish, Outcome, RunKind, Sample, Step, Verdict
from astraios.runs import Run

SIZES = {"1b": 1_000, "3b": 3_000, "7b": 7_000, "16b": 16_000}
MODELS = {f"synthetic-{name}": size for name, size in SIZES.items()}
"""Name -> millions of parameters."""
METHODS = ("fft", "lora", "ptuning", "ia3", "adapterh", "adapterp", "parallel")
PASS_TASKS = (
    *(f"humanevalsynthesize-{language}" for language in ("python", "js", "java", "go")),
    *(f"humanevalfix-{language}" for language in ("python", "js", "java")),
)
ROBUST, QUESTIONS, SECURITY = "perturbed-humaneval-format", "devign", "aatk"
TASKS = (*PASS_TASKS, ROBUST, QUESTIONS, SECURITY)
TRANSFORMATIONS = ("new_lines", "tab_indent", "split_lines", "new_line_afterdoc")
N_PROBLEMS, N_SAMPLES = 164, 20
ARMS = ("report", "ours", "plain")

Row = dict[str, Any]


class MadeConfig(Config):
    """Stands for the configs of the stages."""

    base_model: str = ""
    method: str | None = None
    seed: int = 0
    task: str = ""
    task_version: str = "1"


# --- the study --------------------------------------------------------------------------------


def make_study(root: Path, times: int) -> int:
    """Write the study and return the number of its verdicts; equal arguments give equal files."""
    lines = [f"base_models: {json.dumps(list(MODELS))}", f"methods: {json.dumps(METHODS)}",
             f"tasks: {json.dumps(TASKS)}"]  # fmt: skip
    write_text(root / "study.yaml", "\n".join(["name: synthetic", *lines, ""]))
    n = 0
    for place, model in enumerate(MODELS):
        for rank, method in enumerate(METHODS):
            _train(root, model, method, rank)
            for number, task in enumerate(TASKS):
                skill = 0.25 + 0.12 * place + 0.03 * rank
                n += _judge(root, model, method, task, number, skill, times)
    return n


def _train(root: Path, model: str, method: str, rank: int) -> None:
    config = MadeConfig(base_model=model, method=method)
    size = MODELS[model] * 1_000_000
    added = size if method == "fft" else size // (100 + 50 * rank)
    with Run.open(root / "train" / model / method, kind=RunKind.TRAIN, config=config) as run:
        losses = [0.9 - 0.04 * rank + 0.5 * 0.98**step for step in range(0, 201, 5)]
        steps = [Step(step=5 * n, loss=v, validation_loss=v) for n, v in enumerate(losses)]
        run.append("metrics", *steps)
        cost = Cost(
            wall_s=3600, cpu_s=3600, n_tokens=10**7, tokens_per_s=2_800, peak_mib=20_000,
            trainable_parameters=added, total_parameters=size, adapter_bytes=2 * added,
        )  # fmt: skip
        run.write_json("cost", cost)
        run.seal()


def _judge(
    root: Path, model: str, method: str, task: str, number: int, skill: float, times: int
) -> int:
    generating = MadeConfig(base_model=model, method=method, task=task)
    folder = root / "eval" / model / method / task
    n = N_PROBLEMS * times
    with Run.open(folder, kind=RunKind.GENERATE, config=generating) as run:
        made = [line for place in range(n) for line in _samples(f"{task}/{place}", method)]
        write_bytes(run.folder / "samples.jsonl", "".join(made).encode())
        cost = Cost(wall_s=60, cpu_s=60, n_tokens=10**6, tokens_per_s=10**4, peak_mib=20_000)
        run.write_json("cost", cost)
        run.seal()
    random = np.random.default_rng([number, list(MODELS).index(model), METHODS.index(method)])
    hard = np.random.default_rng(number).uniform(size=n)  # for all methods alike
    chance = np.clip(skill + 0.8 * (0.5 - hard), 0, 1)
    passed = random.uniform(size=(n, N_SAMPLES)) < chance[:, None]
    judging = MadeConfig(task=task)
    with Run.open(
        folder / "judged", kind=RunKind.JUDGE, config=judging, environment={"sandbox": "namespaces"}
    ) as run:
        lines = [line for place, row in enumerate(passed) for line in _lines(task, place, row)]
        write_bytes(run.folder / "verdicts.jsonl", "".join(lines).encode())
        run.seal()
    return len(lines)


def _samples(problem: str, method: str) -> list[str]:
    """The completions of one problem, as `Run.append` writes them."""
    sample = Sample(
        problem_id=problem, index=987654321, prompt_sha="0" * 16, finish=Finish.STOP,
        completion=f"\n    # by {method}\n    return sorted(values, key=lambda v: (len(v), v))\n",
        n_prompt_tokens=150, n_completion_tokens=30,
    )  # fmt: skip
    a, _, b = sample.model_dump_json().partition("987654321")
    return [f"{a}{n}{b}\n" for n in range(N_SAMPLES)]


def _lines(task: str, place: int, passed: np.ndarray[Any, Any]) -> list[str]:
    """The verdicts about one problem, as `Run.append` writes them."""
    name = group = f"{task}/{place}"
    part, cwe, expected, good, bad = "", None, None, Outcome.PASSED, Outcome.FAILED
    if task == ROBUST:
        group, part = f"{task}/{place // len(TRANSFORMATIONS)}", TRANSFORMATIONS[place % 4]
    elif task == QUESTIONS:
        expected = str(place % 2)
    elif task == SECURITY:
        cwe, good, bad = f"CWE-{place % 8}", Outcome.SAFE, Outcome.VULNERABLE
    whole = []
    for outcome, detail in ((good, ""), (bad, "AssertionError: [1, 2, 3] != [3, 2, 1] in line 4")):
        verdict = Verdict(
            problem_id=name, index=987654321, group=group, slice=part, outcome=outcome, cwe=cwe,
            expected=expected, detail=detail, cpu_s=0.004098, wall_s=0.00927, peak_mib=14.32,
        )  # fmt: skip
        whole.append(verdict.model_dump_json().partition("987654321"))
    (a, _, b), (c, _, d) = whole
    return [f"{a}{n}{b}\n" if ok else f"{c}{n}{d}\n" for n, ok in enumerate(passed.tolist())]


# --- arms -------------------------------------------------------------------------------------


def report(root: Path) -> Row:
    """The whole report."""
    from astraios.analysis.report import write_report

    with tempfile.TemporaryDirectory(prefix="astraios-report-") as out:
        written = write_report(root, Path(out) / "report")
        return {"page_mib": written.index.stat().st_size / 2**20}


def ours(root: Path) -> Row:
    """Reading, then the statistics of all tasks."""
    from astraios.analysis.frames import read_frames

    began = time.perf_counter()
    frames = read_frames(root)
    frames.problems  # noqa: B018, counted when first asked for
    read_s = time.perf_counter() - began
    n = len(frames.quality) + len(frames.quality_pairs) + len(frames.robustness)
    return {"read_s": read_s, "statistics_s": time.perf_counter() - began - read_s, "rows": n}


def plain(root: Path) -> Row:
    """What one would write first."""
    import pandas as pd
    from scipy.stats import bootstrap

    began = time.perf_counter()
    rows = []
    for path in sorted(root.glob("eval/*/*/*/judged/verdicts.jsonl")):
        model, method, task = path.parts[-5:-2]
        if task not in PASS_TASKS:
            for line in path.open():
                json.loads(line)
            continue
        for line in path.open():
            found = json.loads(line)
            rows.append((model, method, task, found["problem_id"], found["outcome"] == "passed"))
    names = ["model", "method", "task", "problem", "passed"]
    rates = pd.DataFrame(rows, columns=names).groupby(names[:4])["passed"].mean()
    read_s = time.perf_counter() - began
    n = 0
    for _, cell in rates.groupby(["model", "task"]):
        wide = cell.unstack("method")
        columns = [wide[method].to_numpy() for method in wide]
        pairs = [a - b for a, b in combinations(columns, 2)]
        for values in (*columns, *pairs):
            bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=0)
            n += 1
    return {"read_s": read_s, "statistics_s": time.perf_counter() - began - read_s, "rows": n}


def readers(path: Path) -> list[Row]:
    """Readers of one file, microseconds a line."""
    import polars as pl

    from astraios.analysis import reading

    data = path.read_bytes()
    lines = data.splitlines()
    shape = reading.schema()
    ways: dict[str, Callable[[], object]] = {
        "json.loads": lambda: [json.loads(line) for line in lines],
        "pydantic": lambda: [Verdict.model_validate_json(line) for line in lines],
        "polars, nothing checked": lambda: pl.read_ndjson(data, schema=shape),
        "polars, all fields inferred": lambda: pl.read_ndjson(data, infer_schema_length=None),
        "polars, every line checked": lambda: reading.parsed(data),
    }
    try:
        import pyarrow as pa
        import pyarrow.json as arrow
    except ImportError:
        pass
    else:
        kinds = {"index": pa.int64(), "log_odds": pa.float64(), "cpu_s": pa.float64(),
                 "wall_s": pa.float64(), "peak_mib": pa.float64()}  # fmt: skip
        wanted = pa.schema([(name, kinds.get(name, pa.string())) for name in Verdict.model_fields])
        options = arrow.ParseOptions(explicit_schema=wanted, unexpected_field_behavior="error")
        ways["pyarrow, unknown fields refused"] = lambda: arrow.read_json(
            pa.BufferReader(data), parse_options=options
        )
    found = []
    for name, way in ways.items():
        way()
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(10):
            way()
        n = 10 * len(lines) / 1e6
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        found.append({"reader": name, "wall_us": wall_s / n, "cpu_us": cpu_s / n})
    return found


# --- printing ---------------------------------------------------------------------------------


def measured(arm: str, root: Path) -> Row:
    """One arm in a process of its own."""
    command = [sys.executable, __file__, "--arm", arm, "--study", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{arm}: {done.stderr}")
    found: Row = json.loads(done.stdout)
    return found


def run_arm(arm: str, root: Path) -> Row:
    """Measure `arm` in this process."""
    began = time.perf_counter()
    found = {"report": report, "ours": ours, "plain": plain}[arm](root)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    found |= {
        "wall_s": time.perf_counter() - began,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
    }
    return found


def show(times: int, n: int, found: dict[str, Row]) -> None:
    """One line an arm."""
    print(f"\n{n:,} verdicts ({times} x {N_PROBLEMS} problems)")
    print(f"{'arm':8}{'wall s':>9}{'CPU s':>9}{'read s':>9}{'stats s':>9}{'peak MiB':>10}")
    for arm, row in found.items():
        parts = (row.get("read_s"), row.get("statistics_s"))
        cells = "".join(f"{part:9.1f}" if part is not None else f"{'':9}" for part in parts)
        print(f"{arm:8}{row['wall_s']:9.1f}{row['cpu_s']:9.1f}{cells}{row['peak_mib']:10.0f}")
    if {"ours", "plain"} <= found.keys():
        one, other = found["plain"], found["ours"]
        ratios = {key: one[key] / other[key] for key in ("read_s", "statistics_s", "peak_mib")}
        print("plain / ours: " + ", ".join(f"{key} {ratio:.1f}" for key, ratio in ratios.items()))


def main() -> None:
    """Make the studies, measure, clean up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--times", type=int, nargs="+", default=[1], help="times as many problems")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--readers", action="store_true", help="also time single readers")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--study", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        print(json.dumps(run_arm(options.arm, options.study)))
        return
    before: dict[str, float] = {}
    for times in options.times:
        with tempfile.TemporaryDirectory(prefix="astraios-study-") as folder:
            n = make_study(Path(folder), times)
            found = {arm: measured(arm, Path(folder)) for arm in options.arms}
            show(times, n, found)
            for arm, row in found.items():
                if arm in before:
                    print(f"{arm}: {row['wall_s'] / before[arm]:.1f} x the time of the size before")
                before[arm] = row["wall_s"]
            if options.readers:
                path = Path(folder) / "eval" / "synthetic-1b" / "lora" / PASS_TASKS[0] / "judged"
                print(f"\n{'reader':34}{'wall':>8}{'CPU':>8}  microseconds a line")
                for row in readers(path / "verdicts.jsonl"):
                    print(f"{row['reader']:34}{row['wall_us']:8.2f}{row['cpu_us']:8.2f}")


if __name__ == "__main__":
    main()
