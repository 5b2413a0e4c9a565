"""The methods section as prose, written from the manifests and nothing else.

What a manifest does not say is not said: a sentence appears only where every run of its stage bears
it out, and where runs differ all values are named. The same parts become plain text, Markdown and
LaTeX.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from astraios.analysis import style
from astraios.analysis.arms import IMPORTED
from astraios.analysis.captions import PAIRED, sandbox
from astraios.analysis.frames import Frames
from astraios.analysis.tables import latex_text, markdown_text
from astraios.metrics import N_RESAMPLES
from astraios.records import RunKind
from astraios.runs import Run

MOST_NAMED = 6
"""Distinct values of one setting that are listed; more are counted."""


@dataclass(frozen=True)
class Part:
    """One paragraph."""

    title: str
    text: str


@dataclass(frozen=True)
class Prose:
    """The methods section of one study."""

    parts: tuple[Part, ...]

    @property
    def plain(self) -> str:
        """One line a paragraph."""
        return "\n\n".join(f"{part.title}. {part.text}" for part in self.parts) + "\n"

    @property
    def markdown(self) -> str:
        """Paragraphs that begin with their title in bold."""
        lines = (f"**{part.title}.** {markdown_text(part.text)}" for part in self.parts)
        return "## Methods\n\n" + "\n\n".join(lines) + "\n"

    @property
    def latex(self) -> str:
        """A section of `\\paragraph`s."""
        lines = (f"\\paragraph{{{part.title}.}} {latex_text(part.text)}" for part in self.parts)
        return "\\section{Methods}\n\n" + "\n\n".join(lines) + "\n"


def prose(frames: Frames) -> Prose:
    """The methods section of the study in `frames`."""
    written = (
        ("Models", _models(frames)),
        ("Tuning", _tuning(frames)),
        ("Learning rates", _searches(frames)),
        ("Tasks", _tasks(frames)),
        ("Decoding", _decoding(frames)),
        ("Grading", _grading(frames)),
        ("Statistics", _statistics(frames)),
        ("Hardware and software", _software(frames.sealed)),
    )
    parts = ((title, " ".join(sentences)) for title, sentences in written)
    return Prose(tuple(Part(title, text) for title, text in parts if text))


def _models(frames: Frames) -> Iterator[str]:
    given = {e.arm.model for e in frames.evaluations if e.arm.method == IMPORTED}
    revisions = _values(frames, (RunKind.TRAIN, RunKind.GENERATE), "revision")
    weights = _inputs(frames, RunKind.TRAIN, "base-weights")
    named = []
    for model in frames.models:
        if model in given:
            continue
        facts = [f"{frames.sizes[model]:,} parameters"] if model in frames.sizes else []
        facts += [f"revision {value}" for value in revisions.get(model, ())]
        facts += [f"weights {value}" for value in weights.get(model, ())]
        named.append(f"{model} ({', '.join(facts)})" if facts else model)
    if named:
        yield f"Base models: {_clipped(named)}."
    pretrained = [run for run in frames.sealed if run.manifest.kind == RunKind.PRETRAIN]
    if pretrained:
        settings = [run.manifest.config for run in pretrained]
        yield (
            f"{len(pretrained)} of them {'was' if len(pretrained) == 1 else 'were'} pretrained in "
            f"this study ({_said(settings, 'optimization.n_steps')} steps, "
            f"learning rate {_said(settings, 'optimization.learning_rate')}, "
            f"seed {_said(settings, 'seed')})."
        )
    if given:
        yield f"Imported generations: {', '.join(sorted(given))}."


def _tuning(frames: Frames) -> Iterator[str]:
    trained = frames.runs[frames.runs["kind"] == RunKind.TRAIN]
    runs = [run for run in frames.sealed if run.manifest.kind == RunKind.TRAIN]
    if not runs:
        return
    methods = ", ".join(style.title(method) for method in style.order(trained["method"]))
    seeds = ", ".join(map(str, sorted(trained["seed"].unique())))
    many = trained["seed"].nunique() > 1
    yield (
        f"Each base model was tuned with {trained['method'].nunique()} "
        f"method{'s' * (trained['method'].nunique() > 1)} ({methods}), training "
        f"seed{'s' * many} {seeds}: {len(trained)} trainings."
    )
    settings = [run.manifest.config for run in runs]
    data = sorted({run.manifest.inputs.get("corpus", "") for run in runs} - {""})
    hashes = f" ({', '.join(data)})" if data else ""
    corpus = _said(settings, "corpus")
    if corpus:
        n = _said(settings, "n_examples")
        yield (
            f"Data: {f'{n} examples of ' if n else ''}{corpus}{hashes}, template "
            f"{_said(settings, 'template') or 'not recorded'}, loss on the "
            f"{_said(settings, 'loss_on') or 'target'} tokens."
        )
    names = (
        ("optimizer", "optimization.optimizer"),
        ("steps", "optimization.n_steps"),
        ("batch size", "optimization.batch_size"),
        ("schedule", "optimization.schedule"),
        ("warm-up steps", "optimization.n_warmup_steps"),
        ("weight decay", "optimization.weight_decay"),
        ("gradient clipping", "optimization.clip"),
        ("precision of the base", "base_precision"),
        ("precision of computation", "compute_precision"),
    )
    found = [f"{title} {said}" for title, path in names if (said := _said(settings, path))]
    if found:
        yield f"Settings: {'; '.join(found)}."
    yield from _rates(runs)


def _rates(runs: Sequence[Run]) -> Iterator[str]:
    rates: dict[str, dict[str, None]] = {}
    for run in runs:
        rate = _at(run.manifest.config, "optimization.learning_rate")
        if rate is not None:
            method = str(run.manifest.config.get("method") or "")
            rates.setdefault(method, {})[f"{rate:g}"] = None
    if not rates:
        return
    if len({tuple(own) for own in rates.values()}) == 1:
        yield f"Learning rate {' or '.join(next(iter(rates.values())))} for all methods."
        return
    named = [f"{style.title(m)} {' or '.join(rates[m])}" for m in style.order(rates)]
    yield f"Learning rates: {', '.join(named)}."


def _searches(frames: Frames) -> Iterator[str]:
    searches = [run for run in frames.sealed if run.manifest.kind == RunKind.SEARCH]
    if not searches:
        return
    methods = style.order(str(run.manifest.config.get("method") or "") for run in searches)
    yield (
        f"The learning rate was chosen by validation loss in {len(searches)} "
        f"search{'es' * (len(searches) != 1)} "
        f"({', '.join(style.title(method) for method in methods)}); the report lists what each "
        "tried."
    )


def _tasks(frames: Frames) -> Iterator[str]:
    judged = {e.arm.task: e.judge for e in frames.evaluations}
    for task in frames.tasks:
        own = frames.problems[frames.problems["task"] == task]
        n, n_samples = own["problem_id"].nunique(), int((own["n"] + own["n_faults"]).max())
        manifest = judged[task].manifest
        told = (
            ("version", manifest.config.get("task_version")),
            ("problems", manifest.inputs.get("problems")),
        )
        facts = [f"{name} {value}" for name, value in told if value]
        of = f" ({', '.join(facts)})" if facts else ""
        yield (
            f"{task}{of}: {n:,} problems, {n_samples} "
            f"completion{'s' * (n_samples != 1)} each; {int(own['n'].sum()):,} verdicts counted, "
            f"{int(own['n_faults'].sum()):,} faults."
        )


def _decoding(frames: Frames) -> Iterator[str]:
    settings = [
        run.manifest.config for run in frames.sealed if run.manifest.kind == RunKind.GENERATE
    ]
    names = (
        ("temperature", "sampling.temperature"),
        ("top-p", "sampling.top_p"),
        ("new tokens at most", "sampling.max_new_tokens"),
        ("sampling seed", "sampling.seed"),
        ("template", "template"),
        ("engine", "engine"),
        ("precision", "precision"),
    )
    found = [f"{title} {said}" for title, path in names if (said := _said(settings, path))]
    if found:
        text = "; ".join(found)
        yield text[0].upper() + text[1:] + "."


def _grading(frames: Frames) -> Iterator[str]:
    if not len(frames.problems):
        return
    settings = [run.manifest.config for run in frames.sealed if run.manifest.kind == RunKind.JUDGE]
    checker = _said(settings, "checker_version") or _said(settings, "checker")
    yield (
        "A completion passes if the program it makes runs to the end of its tests in the sandbox "
        f"(level: {sandbox(frames)}{f'; checker: {checker}' if checker else ''}). pass@1 is the "
        "mean over problems of the share of samples that pass; faults of the engine or the grader "
        "are left out and counted."
    )


def _statistics(frames: Frames) -> Iterator[str]:
    if len(frames.problems):
        yield (
            "Intervals are 95 % percentile bootstraps over problems "
            f"({N_RESAMPLES:,} resamples), and over training seeds where there are several; "
            "samples of one problem are averaged first. "
            f"Methods are compared on the same problems by {PAIRED}, "
            "p-values adjusted over all pairs of one model and task (Holm 1979)."
        )


def _software(sealed: tuple[Run, ...]) -> Iterator[str]:
    codes = {
        f"{run.manifest.code.version}"
        + (f" ({run.manifest.code.commit[:12]}" if run.manifest.code.commit else "")
        + (", with uncommitted changes" if run.manifest.code.dirty else "")
        + (")" if run.manifest.code.commit else "")
        for run in sealed
    }
    if not codes:
        return
    versions: dict[str, set[str]] = {}
    for run in sealed:
        for name, value in run.manifest.environment.items():
            if not name.startswith("sandbox"):
                versions.setdefault(name, set()).add(value)
    named = ", ".join(f"{name} {' / '.join(sorted(seen))}" for name, seen in versions.items())
    times = sorted(run.manifest.finished or run.manifest.started for run in sealed)
    yield (
        f"Made with astraios {', '.join(sorted(codes))} on {named}; the {len(sealed)} runs "
        f"finished between {times[0]} and {times[-1]}."
    )


# --- reading manifests ------------------------------------------------------------------------


def _at(config: Mapping[str, Any], path: str) -> Any:
    value: Any = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _said(settings: Iterable[Mapping[str, Any]], path: str) -> str:
    """All values at `path`, in order of appearance; empty where no run says any."""
    found: dict[str, None] = {}
    for config in settings:
        value = _at(config, path)
        if value is not None and value != "":
            found[value if isinstance(value, str) else _number(value)] = None
    return _clipped(list(found), " or ")


def _number(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    return json.dumps(value, ensure_ascii=False)


def _clipped(values: Sequence[str], joint: str = ", ") -> str:
    if len(values) <= MOST_NAMED:
        return joint.join(values)
    return f"{joint.join(values[:MOST_NAMED])}{joint}{len(values) - MOST_NAMED} more"


def _values(frames: Frames, kinds: tuple[RunKind, ...], path: str) -> dict[str, tuple[str, ...]]:
    """Model -> distinct values of a setting in its runs."""
    found: dict[str, dict[str, None]] = {}
    for run, model in zip(frames.sealed, frames.runs["model"], strict=True):
        value = _at(run.manifest.config, path)
        if run.manifest.kind in kinds and isinstance(value, str) and value:
            found.setdefault(model, {})[value] = None
    return {model: tuple(values) for model, values in found.items()}


def _inputs(frames: Frames, kind: RunKind, name: str) -> dict[str, tuple[str, ...]]:
    """Model -> distinct values of an input of its runs."""
    found: dict[str, dict[str, None]] = {}
    for run, model in zip(frames.sealed, frames.runs["model"], strict=True):
        if run.manifest.kind == kind and name in run.manifest.inputs:
            found.setdefault(model, {})[run.manifest.inputs[name]] = None
    return {model: tuple(values) for model, values in found.items()}
