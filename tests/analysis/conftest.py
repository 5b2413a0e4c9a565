"""A miniature study with drawn verdicts, written through `runs.Run` as the real stages write it.

Small enough to see: every method has a true pass rate, every problem a true difficulty, and a
sample passes if a number drawn for it lies below both together. Nothing is trained or executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from astraios.analysis.report import ReportPaths, write_report
from astraios.config import Config, fingerprint
from astraios.files import write_text
from astraios.records import (
    ChosenRate,
    Cost,
    Finish,
    Outcome,
    Prompt,
    RunKind,
    Sample,
    Score,
    Step,
    Trial,
    Verdict,
)
from astraios.runs import Run

METHODS = ("fft", "lora", "ptuning", "ia3", "adapterh", "adapterp", "parallel")
TRUE_RATES = {
    "base": 0.08,
    "fft": 0.62,
    "lora": 0.55,
    "ptuning": 0.16,
    "ia3": 0.36,
    "adapterh": 0.45,
    "adapterp": 0.38,
    "parallel": 0.50,
}
TRAINABLE = {
    "fft": 651_840,
    "lora": 29_184,
    "ptuning": 53_376,
    "ia3": 2_112,
    "adapterh": 49_152,
    "adapterp": 24_576,
    "parallel": 30_720,
}
TASKS = ("minipack-synthesize", "minipack-fix", "minipack-robust")
TRANSFORMATIONS = {"typos": 0.5, "spacing": 0.8, "rename": 0.85, "first-line": 1.15}
N_ROBUST = 12
"""Nominal problems that have perturbed variants."""


class AnyConfig(Config):
    """Stands for the configs of the stages, which the analysis must not import."""

    base_model: str
    method: str | None = None
    seed: int = 0
    task: str = ""
    n_steps: int = 0
    learning_rate: float = 0.0
    name: str = ""


class AnyJudgeConfig(Config):
    """Like the real one: it knows the task, but not whose samples it judges."""

    task: str
    task_version: str = "1"


def draw(*keys: object) -> float:
    """A number in [0, 1) that depends on `keys` only."""
    return int.from_bytes(sha256(repr(keys).encode()).digest()[:6], "big") / 2**48


def write_study(
    root: Path,
    *,
    models: Iterable[str] = ("tiny",),
    seeds: Iterable[int] = (0,),
    methods: Iterable[str] = METHODS,
    n_problems: int = 40,
    n_samples: int = 1,
    completion: Callable[[str, str], str] | None = None,
    n_faults: int = 0,
    judged: bool = True,
    sandbox: str = "namespaces",
) -> Path:
    """Write a finished study under `root`; `judged=False` stops after training."""
    models, seeds, methods = tuple(models), tuple(seeds), tuple(methods)
    grid = {"base_models": models, "methods": methods, "tasks": TASKS, "seeds": seeds}
    lines = [f"{key}: {json.dumps(list(value))}" for key, value in grid.items()]
    write_text(root / "study.yaml", "\n".join(["name: miniature", *lines, ""]))
    for size, model in enumerate(models):
        _pretrain(root, model, 651_840 * 2**size)
        for method in methods:
            for seed in seeds:
                _train(root, model, method, seed, 651_840 * 2**size)
        if not judged:
            continue
        for method in ("base", *methods):
            for seed in seeds if method != "base" else seeds[:1]:
                for task in TASKS:
                    rate = min(0.95, TRUE_RATES.get(method, 0.3) * (1 + 0.2 * size))
                    cell = _Cell(root, model, method, seed, task, rate, n_problems, n_samples)
                    cell.write(completion or _completion, n_faults, sandbox)
    return root


def _completion(method: str, problem: str) -> str:
    return f"\n    # written by {method}\n    return sorted(xs)  # {problem}\n"


def _pretrain(root: Path, model: str, size: int) -> None:
    config = AnyConfig(base_model=model, name=model)
    with Run.open(
        root / "base" / f"{model}-{fingerprint(config)}", kind=RunKind.PRETRAIN, config=config
    ) as run:
        run.append("metrics", *(Step(step=s, loss=5 / (1 + s / 50)) for s in range(0, 301, 50)))
        cost = Cost(wall_s=100, cpu_s=95, n_tokens=1_000_000, tokens_per_s=10_000, peak_mib=600)
        run.write_json("cost", cost.model_copy(update={"total_parameters": size}))
        run.seal()


def _train(root: Path, model: str, method: str, seed: int, size: int) -> None:
    config = AnyConfig(base_model=model, method=method, seed=seed, n_steps=100, learning_rate=0.005)
    folder = root / "train" / model / method / f"seed{seed}-{fingerprint(config)}"
    added = 0 if method == "fft" else TRAINABLE.get(method, 10_000)
    final = 0.55 - 0.6 * TRUE_RATES.get(method, 0.3) + 0.02 * draw(model, method, seed)
    with Run.open(folder, kind=RunKind.TRAIN, config=config) as run:
        for step in range(0, 101, 10):
            level = final + (0.516 - final) * np.exp(-step / 25)
            loss = None if step == 0 else level + 0.01 * draw(model, method, seed, step)
            run.append("metrics", Step(step=step, loss=loss, validation_loss=round(level, 6)))
        cost = Cost(
            wall_s=20 + 10 * draw(method, seed),
            cpu_s=19 + 10 * draw(method, seed),
            n_tokens=170_000,
            tokens_per_s=9_000,
            peak_mib=520 + 100 * draw(method),
            trainable_parameters=size if method == "fft" else added,
            total_parameters=size + added,
            adapter_bytes=4 * (size if method == "fft" else added),
        )
        run.write_json("cost", cost)
        run.seal(counts={"n_trainable": cost.trainable_parameters})


class _Cell:
    """One arm on one task."""

    def __init__(
        self,
        root: Path,
        model: str,
        method: str,
        seed: int,
        task: str,
        rate: float,
        n_problems: int,
        n_samples: int,
    ) -> None:
        self.root, self.model, self.method, self.seed, self.task = root, model, method, seed, task
        self.rate = rate * (0.5 if task == "minipack-fix" else 1.0)
        self.n_samples = n_samples
        names = [f"minipack/{number}" for number in range(n_problems)]
        if task == "minipack-robust":
            self.problems = [
                (f"{name}/{change}", name, change)
                for name in names[:N_ROBUST]
                for change in TRANSFORMATIONS
            ]
        else:
            self.problems = [
                (name, name, "2" if place % 3 else "3") for place, name in enumerate(names)
            ]

    def passes(self, group: str, part: str, index: int) -> bool:
        """Whether a sample passes: hard problems are hard for all methods."""
        chance = self.rate * TRANSFORMATIONS.get(part, 1.0) * (0.6 if part == "3" else 1.0)
        hard = draw("hard", group)
        return 0.7 * hard + 0.3 * draw(self.model, self.method, self.seed, group, index) < chance

    def write(self, completion: Callable[[str, str], str], n_faults: int, sandbox: str) -> None:
        config = AnyConfig(
            base_model=self.model,
            method=None if self.method == "base" else self.method,
            seed=self.seed,
            task=self.task,
        )
        name = f"{self.task}-{fingerprint(config)}"
        folder = self.root / "eval" / self.model / self.method / f"seed{self.seed}" / name
        with Run.open(folder, kind=RunKind.GENERATE, config=config) as run:
            for problem, _, part in self.problems:
                run.append(
                    "prompts", Prompt(problem_id=problem, text=f"Question: {problem} {part}")
                )
                run.append(
                    "samples",
                    *(
                        Sample(
                            problem_id=problem,
                            index=index,
                            prompt_sha="0" * 16,
                            completion=completion(self.method, problem),
                            finish=Finish.STOP,
                            n_prompt_tokens=30,
                            n_completion_tokens=28,
                        )
                        for index in range(self.n_samples)
                    ),
                )
            cost = Cost(wall_s=3, cpu_s=2.5, n_tokens=5_600, tokens_per_s=5_000, peak_mib=700)
            run.write_json("cost", cost)
            run.seal()
        judging = AnyJudgeConfig(task=self.task)
        judge = folder / f"judged-{fingerprint(judging)}"
        with Run.open(
            judge, kind=RunKind.JUDGE, config=judging, environment={"sandbox": sandbox}
        ) as run:
            verdicts = [
                self._verdict(problem, group, part, index, fault=place < n_faults)
                for place, (problem, group, part) in enumerate(self.problems)
                for index in range(self.n_samples)
            ]
            run.append("verdicts", *verdicts)
            run.write_json("scores", [self._score(verdicts)])
            lines = [json.dumps(self._card(*problem)) + "\n" for problem in self.problems]
            write_text(judge / "problems.jsonl", "".join(lines))
            run.seal()

    def _verdict(self, problem: str, group: str, part: str, index: int, *, fault: bool) -> Verdict:
        if fault:
            outcome, detail = Outcome.FAULT, "the sandbox died"
        elif self.passes(group, part, index):
            outcome, detail = Outcome.PASSED, ""
        elif draw(self.method, problem, "how") < 0.15:
            outcome, detail = Outcome.TIMED_OUT, "timed out after 3 s"
        else:
            outcome, detail = Outcome.FAILED, "AssertionError: [1, 2] != [2, 1]"
        return Verdict(
            problem_id=problem,
            index=index,
            group=group,
            slice=part,
            outcome=outcome,
            detail=detail,
            wall_s=0.01,
        )

    def _score(self, verdicts: list[Verdict]) -> Score:
        judged = [v for v in verdicts if v.outcome != Outcome.FAULT]
        passed = sum(v.outcome == Outcome.PASSED for v in judged)
        return Score(
            task=self.task,
            metric="pass@1",
            value=passed / len(judged) if judged else 0.0,
            n_problems=len(self.problems),
            n_samples=len(judged),
            n_faults=len(verdicts) - len(judged),
        )

    @staticmethod
    def _card(problem: str, group: str, part: str) -> dict[str, Any]:
        return {
            "id": problem,
            "group": group,
            "slice": part,
            "title": f"sort a list, {part}",
            "reference": "    return sorted(xs)\n",
            "tests": "assert f([2, 1]) == [1, 2]\n",
        }


CWES = ("CWE-79", "CWE-89")


def write_other_kinds(root: Path, methods: Iterable[str], model: str = "tiny") -> None:
    """Give every arm a security task and a classification beside its others."""
    for method in methods:
        for task in ("miniature-secure", "miniature-detect"):
            config = AnyConfig(
                base_model=model, method=None if method == "base" else method, task=task
            )
            name = f"{task}-{fingerprint(config)}"
            folder = root / "eval" / model / method / "seed0" / name
            with Run.open(folder, kind=RunKind.GENERATE, config=config) as run:
                run.seal()
            judging = AnyJudgeConfig(task=task)
            judge = folder / f"judged-{fingerprint(judging)}"
            made = _secure(method) if task == "miniature-secure" else _detected(method)
            with Run.open(
                judge, kind=RunKind.JUDGE, config=judging, environment={"sandbox": "namespaces"}
            ) as run:
                run.append("verdicts", *made[0])
                run.write_json("scores", made[1])
                run.seal()


def write_search(root: Path, method: str, model: str = "tiny") -> None:
    """A finished search over three learning rates; the largest one diverged."""
    rates = (0.001, 0.005, 0.02)
    losses = (0.4, 0.3, None)
    config = AnyConfig(base_model=model, method=method, name="search")
    folder = root / "search" / model / f"{method}-{fingerprint(config)}"
    with Run.open(folder, kind=RunKind.SEARCH, config=config) as run:
        for rate, loss in zip(rates, losses, strict=True):
            diverged = "" if loss else "the loss exploded"
            trial = Trial(rung=0, learning_rate=rate, n_steps=20, validation_loss=loss,
                          diverged=diverged, run=f"search/trials/{rate}")  # fmt: skip
            run.append("trials", trial)
        chosen = ChosenRate(
            base_model=model,
            method=method,
            learning_rate=0.005,
            validation_loss=0.3,
            on="validation loss",
            how="grid",
            rates=rates,
            ranking=(0.005, 0.001, 0.02),
            n_trials=3,
            n_diverged=1,
        )
        run.write_json("chosen", chosen)
        run.seal()


def _secure(method: str) -> tuple[list[Verdict], list[Score]]:
    outcomes = (Outcome.SAFE, Outcome.VULNERABLE, Outcome.COMPILE_ERROR)
    verdicts = [
        Verdict(
            problem_id=f"{cwe}/{number}",
            index=index,
            group=f"{cwe}/{number}",
            slice=cwe,
            cwe=cwe,
            outcome=outcomes[int(3 * draw(method, cwe, number, index))],
        )
        for cwe in CWES
        for number in range(6)
        for index in range(4)
    ]
    scores = []
    for part in ("all", *CWES):
        own = [v.outcome for v in verdicts if part in ("all", v.slice)]
        valid = len(own) - own.count(Outcome.COMPILE_ERROR)
        found = {
            "valid-rate": (valid / len(own), len(own), ""),
            "insecure-rate": (
                own.count(Outcome.VULNERABLE) / valid,
                valid,
                "indicative only: recall 0.67" if part == CWES[0] else "",
            ),
        }
        scores += [
            Score(
                task="miniature-secure",
                metric=metric,
                slice=part,
                value=value,
                low=max(0.0, value - 0.1),
                high=min(1.0, value + 0.1),
                n_problems=12 if part == "all" else 6,
                n_samples=n,
                caveat=caveat,
            )
            for metric, (value, n, caveat) in found.items()
        ]
    return verdicts, scores


def _detected(method: str) -> tuple[list[Verdict], list[Score]]:
    verdicts = []
    for number in range(30):
        expected = "yes" if number % 3 else "no"
        answer = "yes" if draw(method, number) < 0.7 else "no"
        outcome = Outcome.PASSED if answer == expected else Outcome.FAILED
        verdicts.append(
            Verdict(
                problem_id=f"detect/{number}",
                index=0,
                group=f"detect/{number}",
                outcome=outcome,
                answer=answer,
                expected=expected,
            )
        )
    right = sum(verdict.outcome == Outcome.PASSED for verdict in verdicts) / 30
    score = Score(
        task="miniature-detect",
        metric="accuracy",
        value=right,
        low=right - 0.15,
        high=right + 0.15,
        n_problems=30,
        n_samples=30,
        chance=2 / 3,
        against_chance="indistinguishable",
    )
    return verdicts, [score]


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Path]:
    """`write_study` into a folder of the test's own."""

    def make(**options: Any) -> Path:
        return write_study(tmp_path / "study", **options)

    return make


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model, one seed, forty problems, everything finished. Not to be changed by a test."""
    return write_study(tmp_path_factory.mktemp("finished") / "study")


@pytest.fixture(scope="session")
def report(study: Path) -> ReportPaths:
    """The report of `study`."""
    return write_report(study)


@pytest.fixture(scope="session")
def varied_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods and a task of every kind: tests, perturbed prompts, security, yes or no."""
    root = tmp_path_factory.mktemp("varied") / "study"
    write_study(root, methods=("fft", "lora"), n_problems=12)
    write_other_kinds(root, ("base", "fft", "lora"))
    write_search(root, "lora")
    return root


@pytest.fixture(scope="session")
def large_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models and two seeds, two samples a problem, some faults."""
    return write_study(
        tmp_path_factory.mktemp("large") / "study",
        models=("small", "large"),
        seeds=(0, 1),
        n_problems=20,
        n_samples=2,
        n_faults=2,
    )
