"""What `astraios show` tells of a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from astraios import files, runs
from astraios.errors import DataError, did_you_mean
from astraios.records import Manifest, ProblemCard, Prompt, RunKind, Sample, Verdict


def manifest(folder: Path) -> Manifest:
    """The manifest of a run, sealed or not."""
    return runs.read_manifest(folder)


def manifest_text(record: Manifest) -> str:
    """A manifest as YAML."""
    values = record.model_dump(mode="json", exclude_none=True)
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True)).rstrip()


def problem(folder: Path, problem_id: str) -> dict[str, Any]:
    """Everything the run knows of one problem: card, prompts, samples, verdicts.

    `folder` may be a generation run or a judged one, and the other is looked up beside it; or a
    graded file's, which holds both.

    Raises:
        DataError: if the run has no such problem; names the nearest.
    """
    kind = manifest(folder).kind
    if kind not in (RunKind.GENERATE, RunKind.JUDGE):
        raise DataError(
            f"{str(folder)!r} is a {kind} run; problems are in generate and judge runs (eval/...)"
        )
    asked, judged = folder, [folder]
    if kind is RunKind.JUDGE:
        asked = folder if (folder / "samples.jsonl").exists() else folder.parent
    else:
        judged = sorted(path.parent for path in folder.glob(f"judged-*/{runs.MANIFEST}"))
    prompts = list(files.read_records(asked / "prompts.jsonl", Prompt))
    samples = list(files.read_records(asked / "samples.jsonl", Sample))
    verdicts = [v for j in judged for v in files.read_records(j / "verdicts.jsonl", Verdict)]
    cards = [c for j in judged for c in files.read_records(j / "problems.jsonl", ProblemCard)]
    known = {p.problem_id for p in prompts} | {s.problem_id for s in samples}
    known |= {v.problem_id for v in verdicts}
    if problem_id not in known:
        raise DataError(
            f"run {str(folder)!r} has no problem {problem_id!r}; it has {len(known)}, such as "
            f"{min(known, default='none')!r}.{did_you_mean(problem_id, known)}"
        )
    return {
        "card": next((c for c in cards if c.id == problem_id), None),
        "prompts": [p for p in prompts if p.problem_id == problem_id],
        "samples": [s for s in samples if s.problem_id == problem_id],
        "verdicts": [v for v in verdicts if v.problem_id == problem_id],
    }


def problem_text(story: dict[str, Any]) -> str:
    """The same for reading."""
    parts: list[str] = []
    card = story["card"]
    if card:
        parts += [_titled(f"{card.id}  {card.title}", "")]
    parts += [_titled(f"prompt, turn {p.turn}", p.text) for p in story["prompts"]]
    verdicts = {v.index: v for v in story["verdicts"]}
    shown = set()
    for sample in story["samples"]:
        verdict = verdicts.get(sample.index)
        said = f": {verdict.outcome} {verdict.detail}".rstrip() if verdict else ""
        head = f"completion {sample.index}, turn {sample.turn}, {sample.finish}{said}"
        parts.append(_titled(head, sample.completion))
        shown.add(sample.index)
    parts += [
        _titled(f"sample {v.index}: {v.outcome} {v.detail}".rstrip(), "")
        for v in story["verdicts"]
        if v.index not in shown
    ]
    if card and card.reference:
        parts.append(_titled("reference", card.reference))
    if card and card.tests:
        parts.append(_titled("tests", card.tests))
    return "\n".join(parts).rstrip()


def _titled(title: str, text: str) -> str:
    return f"=== {title}\n{text.rstrip()}\n" if text.strip() else f"=== {title}\n"
