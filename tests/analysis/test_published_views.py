"""Views of the paper's tasks, on a study written as an import writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure as Canvas

from astraios import registry
from astraios.analysis import views
from astraios.analysis.figures import Figure, drawn
from astraios.analysis.frames import Frames, read_frames
from astraios.analysis.published_numbers import KEYS, published_numbers
from astraios.analysis.report import write_report
from astraios.analysis.tables import Range, Table
from astraios.analysis.views import View
from astraios.config import Config
from astraios.records import ArmFacts, Outcome, RunKind, Score, Verdict
from astraios.runs import Run

NAMES = ("comprehension", "comprehension_scores", "humanevalpack", "recode", "published_numbers")
SIZES = {"starcoderbase-1b": 1_137_207_296, "starcoderbase": 15_517_456_384}
METHODS = ("fft", "lora")
TASKS = (
    "devign",
    "devign-oneshot",
    "humanevalsynthesize-python",
    "humanevalfixtests-python",
    "humanevalsynthesize-java",
    "recode-format",
    "recode-docstring",
)
FIX = "humanevalfixtests-python"
STRAY = "Python/142"


class Drawn(Config):
    n_samples: int = 4


class GivenConfig(Config):
    base_model: str
    method: str
    task: str
    engine: str = "published"
    limit_problems: int | None = None
    sampling: Drawn = Drawn()


class JudgingConfig(Config):
    task: str
    task_version: str
    limit_samples: int | None = None


def write(
    root: Path,
    model: str,
    method: str,
    task: str,
    verdicts: Iterable[Verdict],
    scores: Iterable[Score],
    version: str = "original-1",
    engine: str = "published",
    limit_problems: int | None = None,
    limit_samples: int | None = None,
) -> None:
    """One judged cell."""
    folder = root / "eval" / model / method / "seed0" / task
    config = GivenConfig(
        base_model=f"bigcode/{model}",
        method=method,
        task=task,
        engine=engine,
        limit_problems=limit_problems,
    )
    with Run.open(folder, kind=RunKind.GENERATE, config=config) as run:
        run.append("samples")
        run.seal()
    judging = JudgingConfig(task=task, task_version=version, limit_samples=limit_samples)
    environment = {"sandbox": "namespaces"}
    with Run.open(
        folder / "judged", kind=RunKind.JUDGE, config=judging, environment=environment
    ) as run:
        run.append("verdicts", *verdicts)
        run.write_json("scores", list(scores))
        run.seal()


def score(task: str, metric: str, slice_: str, value: float, chance: float | None = None) -> Score:
    ends = {"low": value - 0.02, "high": value + 0.02}
    against = None if chance is None else "below" if value < chance else "above"
    counts = {"n_problems": 2000, "n_samples": 2000, "chance": chance, "against_chance": against}
    return Score(task=task, metric=metric, slice=slice_, value=value, **ends, **counts)


def answered(task: str, accuracy: float, by_word: float) -> tuple[list[Verdict], list[Score]]:
    """A yes/no task with one answer that cannot be read."""
    outcomes = [Outcome.PASSED] * 5 + [Outcome.FAILED] * 4 + [Outcome.UNPARSED]
    verdicts = [
        Verdict(
            problem_id=f"Devign/{n}",
            index=0,
            group=f"Devign/{n}",
            slice="paper-sample",
            outcome=outcome,
            expected=str(n % 2),
        )
        for n, outcome in enumerate(outcomes)
    ]
    scores = [
        score(task, "accuracy", "paper-sample", accuracy, 0.5405),
        score(task, "f1-macro", "paper-sample", 0.3, 0.5),
        score(task, "f1-macro-two-class", "paper-sample", 0.45, 0.5),
        score(task, "valid-rate", "paper-sample", 0.9),
        score(task, "mcc", "paper-sample", 0.01, 0.0),
        score(task, "accuracy", "paper-all", accuracy, 0.54),
        score(task, "accuracy", "by-word", by_word, 0.54),
    ]
    return verdicts, scores


def programs(task: str, n_passed: int, *, n: int = 4) -> tuple[list[Verdict], list[Score]]:
    """A task of programs; the last problem is the one with the stray quote, which none solves."""
    names = [f"Python/{number}" for number in range(n - 1)] + [STRAY]
    verdicts = [
        Verdict(
            problem_id=name,
            index=0,
            group=name,
            outcome=Outcome.PASSED if place < n_passed else Outcome.FAILED,
        )
        for place, name in enumerate(names)
    ]
    return verdicts, [score(task, "pass@1", "all", n_passed / n)]


def robust(task: str, rates: dict[str, float]) -> tuple[list[Verdict], list[Score]]:
    verdicts = [
        Verdict(
            problem_id=f"HumanEval/{n}/{name}/0",
            index=0,
            group=f"HumanEval/{n}",
            slice=name,
            outcome=Outcome.PASSED if n < 4 * rate else Outcome.FAILED,
        )
        for name, rate in rates.items()
        for n in range(4)
    ]
    together = {"mean": sum(rates.values()) / len(rates), "worst-case": min(rates.values())}
    scores = [score(task, "robust-pass@1", name, v) for name, v in (rates | together).items()]
    return verdicts, scores


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few cells of the paper's grid; most are missing."""
    root = tmp_path_factory.mktemp("published")
    grid = {"base_models": [f"bigcode/{m}" for m in SIZES], "methods": METHODS, "tasks": TASKS}
    values = {"name": "published", **{axis: list(names) for axis, names in grid.items()}}
    (root / "study.yaml").write_text(yaml.safe_dump(values))
    facts = [
        ArmFacts(
            model=model,
            method=method,
            trainable_parameters=10**6,
            total_parameters=size,
            source="f",
        )
        for model, size in SIZES.items()
        for method in METHODS
    ]
    (root / "arms.jsonl").write_text("".join(f.model_dump_json() + "\n" for f in facts))
    small, large = SIZES
    write(root, small, "lora", "devign", *answered("devign", 0.4415, 0.4455))
    write(root, large, "fft", "devign", *answered("devign", 0.5605, 0.5605))
    write(root, small, "lora", "devign-oneshot", *answered("devign-oneshot", 0.5, 0.5))
    write(root, small, "lora", TASKS[2], *programs(TASKS[2], 1))
    write(root, small, "fft", TASKS[2], *programs(TASKS[2], 2))
    write(root, small, "lora", FIX, *programs(FIX, 3))
    rates = {"tab_indent": 0.5, "new_lines": 0.25}
    write(root, small, "lora", "recode-format", *robust("recode-format", rates), "seeds-5-1")
    return root


@pytest.fixture(scope="module")
def frames(published: Path) -> Frames:
    return read_frames(published)


def view(name: str) -> View:
    found: View = registry.load(views, "view", name)
    return found


def table(name: str, frames: Frames) -> Table:
    made = view(name).render(frames)
    assert isinstance(made, Table)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_view_renders_and_says_what_it_rests_on(name: str, frames: Frames) -> None:
    assert view(name).lacks(frames) == ()
    made = view(name).render(frames)
    if isinstance(made, Figure):
        assert len(made.data)
    else:
        assert made.rows
        assert "sandbox: namespaces" in made.caption


def test_views_say_what_other_studies_lack(make_study: Callable[..., Path]) -> None:
    frames = read_frames(make_study(methods=("lora",), n_problems=12))
    for name in NAMES:
        [lacks] = view(name).lacks(frames)
        assert "judged" in lacks


@pytest.mark.slow
def test_study_without_trainings_has_a_report(published: Path, tmp_path: Path) -> None:
    paths = write_report(published, tmp_path / "report", formats=("svg",))
    page = paths.index.read_text(encoding="utf-8")
    for name in NAMES:
        assert view(name).title in page


def test_comprehension_figure_has_gaps_where_cells_are_empty(frames: Frames) -> None:
    figure = view("comprehension").render(frames)
    assert isinstance(figure, Figure)
    data = figure.data.set_index(["task", "metric", "model", "method"])["value"]
    assert data["devign", "accuracy", "starcoderbase-1b", "lora"] == 0.4415
    assert data["devign", "f1", "starcoderbase-1b", "lora"] == 0.3
    assert ("devign", "accuracy", "starcoderbase-1b", "fft") not in data
    assert "5 of 8 cells were not judged" in figure.caption
    svg = drawn(figure, "comprehension")["svg"].decode()
    for text in ("Defect detection", "Defect detection, one example", "best guess", "1b", "16b"):
        assert text in svg


def test_comprehension_table_shows_what_a_quirk_changes(frames: Frames) -> None:
    made = table("comprehension_scores", frames)
    assert len(made.rows) == 8  # two tasks, two sizes, two methods: holes are rows
    by_cell = {(row["task"], row["model"], row["method"]): row for row in made.rows}
    row = by_cell["Defect detection", "starcoderbase-1b", "lora"]
    assert row["accuracy"] == Range(0.4415, 0.4215, 0.4615)
    assert (row["mark"], row["paper_f1"], row["f1"]) == ("BELOW", 0.3, 0.45)
    assert "accuracy" not in by_cell["Defect detection", "starcoderbase-1b", "fft"]
    assert "54.05 % on devign" in made.caption
    assert "15.0 points higher" in made.caption  # without the third class
    assert "+0.40 points (devign, starcoderbase-1b, lora)" in made.caption  # read by word


def test_humanevalpack_names_the_stray_quote_and_what_is_missing(frames: Frames) -> None:
    made = table("humanevalpack", frames)
    keys = [column.key for column in made.columns]
    assert keys == ["model", "method", TASKS[2], FIX, "without", "humanevalsynthesize-java"]
    assert len(made.rows) == 4
    [row] = [r for r in made.rows if (r["model"], r["method"]) == ("starcoderbase-1b", "lora")]
    assert row[FIX].value == 0.75
    assert row["without"] == 1.0
    assert "9 of 12 cells have no answers" in made.caption
    assert "25.00 points higher" in made.caption
    assert "–" in made.markdown()


def test_clean_edition_has_no_footnote(tmp_path: Path) -> None:
    write(tmp_path, "starcoderbase-1b", "lora", FIX, *programs(FIX, 3), version="clean-1")
    made = table("humanevalpack", read_frames(tmp_path))
    assert "without" not in [column.key for column in made.columns]
    assert STRAY not in made.caption


def test_problem_that_was_not_judged_has_no_footnote(tmp_path: Path) -> None:
    verdicts, scores = programs(FIX, 3)
    some = [verdict for verdict in verdicts if verdict.problem_id != STRAY]
    write(tmp_path, "starcoderbase-1b", "lora", FIX, some, scores)
    made = table("humanevalpack", read_frames(tmp_path))
    assert "without" not in [column.key for column in made.columns]
    assert STRAY not in made.caption


def test_words_that_change_nothing_name_no_cell(tmp_path: Path) -> None:
    write(tmp_path, "starcoderbase-1b", "lora", "devign", *answered("devign", 0.44, 0.44))
    made = table("comprehension_scores", read_frames(tmp_path))
    assert "is the same in all 1 cells" in made.caption
    assert "+0.00" not in made.caption


def test_base_is_spoken_of_only_where_it_is(frames: Frames) -> None:
    figure = view("quality").render(frames)
    assert isinstance(figure, Figure)
    assert "untuned base" not in figure.caption


def test_tick_of_one_size_stands_amid_its_points(tmp_path: Path) -> None:
    for method in METHODS:
        for model in SIZES:
            write(tmp_path, model, method, "devign", *answered("devign", 0.44, 0.44))
        write(tmp_path, "starcoderbase-1b", method, FIX, *programs(FIX, 3))
    figure = view("scaling").render(_sized(tmp_path))
    assert isinstance(figure, Figure)
    canvas = Canvas()
    figure.draw(canvas)
    [axes] = [one for one in canvas.axes if FIX in one.get_title()]
    low, high = axes.get_xlim()
    [tick] = axes.get_xticks()
    assert 0.3 < np.log(tick / low) / np.log(high / low) < 0.7


def _sized(root: Path) -> Frames:
    facts = [
        ArmFacts(
            model=model, method="lora", trainable_parameters=1, total_parameters=size, source="f"
        )
        for model, size in SIZES.items()
    ]
    (root / "arms.jsonl").write_text("".join(f.model_dump_json() + "\n" for f in facts))
    return read_frames(root)


def test_recode_table_has_every_transformation_and_both_sums(frames: Frames) -> None:
    made = table("recode", frames)
    rows = {(r.get("slice"), r.get("model")): r for r in made.rows}
    assert rows["new_lines", "starcoderbase-1b"]["lora"].value == 0.25
    assert rows["mean of transformations", "starcoderbase-1b"]["lora"].value == 0.375
    assert rows["all of them passed", "starcoderbase-1b"]["lora"].value == 0.25
    assert "lora" not in rows["new_lines", "starcoderbase"]
    assert made.rows[-1] == {"task": "recode-docstring"}
    assert "No outputs of recode-docstring were judged" in made.caption


@pytest.mark.parametrize("name", ["recode", "comprehension_scores"])
def test_tables_of_one_seed_say_which_of_several_they_show(name: str, frames: Frames) -> None:
    assert "training seeds" not in table(name, frames).caption
    again = frames.scores.assign(seed=1, value=0.0)
    several = replace(frames, scores=pd.concat([frames.scores, again], ignore_index=True))
    assert table(name, several).rows == table(name, frames).rows
    assert "Of several training seeds the lowest number is shown" in table(name, several).caption


def test_figure_says_that_it_averages_seeds(frames: Frames) -> None:
    scores = pd.concat([frames.scores, frames.scores.assign(seed=1)], ignore_index=True)
    one, several = (
        view("comprehension").render(f) for f in (frames, replace(frames, scores=scores))
    )
    assert "scores are averaged" not in one.caption
    assert "scores are averaged, and so are the ends of their intervals" in several.caption


def test_prompts_that_are_no_python_are_counted(tmp_path: Path) -> None:
    """One of four problems has a variant to which nothing compiles."""
    for method, passed in (("lora", (1, 1, 1)), ("fft", (0, 1, 1))):
        outcomes = [Outcome.PASSED if one else Outcome.FAILED for one in passed]
        verdicts = [
            Verdict(
                problem_id=f"HumanEval/{n}/words/{seed}",
                index=0,
                group=f"HumanEval/{n}",
                slice="words",
                outcome=Outcome.COMPILE_ERROR if (n, seed) == (3, 1) else outcome,
            )
            for n, outcome in enumerate([*outcomes, Outcome.PASSED])
            for seed in (0, 1)
        ]
        rate = sum(passed) / 4
        scores = [score("recode-docstring", "robust-pass@1", "words", rate)]
        write(tmp_path, "starcoderbase-1b", method, "recode-docstring", verdicts, scores, "seeds-2")
    made = table("recode", read_frames(tmp_path))
    [row] = made.rows
    assert row["reachable"] == 0.75
    assert row["lora"].value == 0.75
    assert "at most 75.0 %; without them every rate is 1.33 times as high" in made.caption


def test_drop_needs_the_prompts_unperturbed(frames: Frames) -> None:
    [lacks] = view("robustness_drop").lacks(frames)
    assert "unperturbed" in lacks


def test_published_numbers_stand_beside_ours(frames: Frames) -> None:
    figure = view("published_numbers").render(frames)
    assert isinstance(figure, Figure)
    data = figure.data.set_index(KEYS)
    row = data.loc[("devign", "accuracy", "paper-sample", "starcoderbase-1b", "lora")]
    assert (row["published"], row["ours"], row["difference"]) == (44.15, 44.15, 0.0)
    assert "within 0.3 points" in figure.caption


def test_scores_of_other_runs_are_not_compared_with_the_papers(tmp_path: Path) -> None:
    cell = answered("devign", 0.4415, 0.4455)
    write(tmp_path, "starcoderbase-1b", "lora", "devign", *cell, engine="hf")
    assert view("published_numbers").lacks(read_frames(tmp_path))


@pytest.mark.parametrize(
    ("limits", "compared"),
    [
        ({"limit_problems": 40}, False),
        ({"limit_samples": 3}, False),
        ({"limit_samples": 4}, True),
    ],
)
def test_scores_of_a_part_are_not_compared_with_those_of_all(
    tmp_path: Path, limits: dict[str, int], compared: bool
) -> None:
    cell = answered("devign", 0.4415, 0.4455)
    write(tmp_path, "starcoderbase-1b", "lora", "devign", *cell, **limits)
    assert bool(view("published_numbers").lacks(read_frames(tmp_path))) != compared


def test_known_numbers_are_distinct_and_of_the_papers_models() -> None:
    known = published_numbers()
    assert len(known) == 595
    assert not known.duplicated(KEYS).any()
    assert set(known["origin"]) == {"regraded", "figure"}
    assert known["percent"].between(0, 100).all()
    assert known["method"].nunique() == 7
    assert known["model"].nunique() == 4
