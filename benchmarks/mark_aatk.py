"""Completions of Asleep at the Keyboard marked per CPU second, by the static marker alone.

    python benchmarks/mark_aatk.py GENERATIONS [--data-dir DIR]

GENERATIONS is a file of the benchmark's generations, such as a published one; `--data-dir` is the
folder with `aatk/scenario_dow.jsonl`. Completions are cut and put together before the clock starts,
compilers are left out, and each program counts, equal ones too: nothing is looked up. What takes
the time is told for each CWE. The exit status is 1 below FLOOR.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

from astraios import tasks
from astraios.evaluation.imports import Generations
from astraios.markers import Source
from astraios.markers.static import marker

FLOOR = 50.0
"""Completions per CPU second."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("generations", type=Path)
    parser.add_argument("--data-dir", type=Path, default=None)
    given = parser.parse_args()
    task = tasks.task("aatk")
    scenarios = task.problems(given.data_dir)
    by_id = {scenario.id: scenario for scenario in scenarios}
    work = defaultdict(list)
    for sample in Generations(given.generations, task, scenarios).samples():
        scenario = by_id[sample.problem_id]
        program = task.final_program(scenario, sample.completion)
        rule = task.rule(scenario)
        if marker.judges(rule, scenario.language) and compiles(program):
            work[scenario.language, scenario.cwe, rule].append(
                Source(program.language, program.code)
            )
    seconds, counts = defaultdict(float), defaultdict(int)
    for (language, cwe, rule), sources in work.items():
        begun = time.process_time()
        marker.mark(rule, sources)
        seconds[language, cwe] += time.process_time() - begun
        counts[language, cwe] += len(sources)
    for key in sorted(counts):
        rate = counts[key] / max(seconds[key], 1e-9)
        print(f"{key[0]:7} {key[1]:8} {counts[key]:5} completions  {rate:8.0f} a CPU second")
    total = sum(counts.values()) / max(sum(seconds.values()), 1e-9)
    print(f"all              {sum(counts.values()):5} completions  {total:8.0f} a CPU second")
    return total < FLOOR


def compiles(program) -> bool:
    """Python that does not parse is never marked; C is read by a parser that takes anything."""
    if program.language != "python":
        return True
    try:
        compile(program.code, "scenario.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
