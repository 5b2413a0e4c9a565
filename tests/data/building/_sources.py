"""Raw rows for builds, and builds of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from astraios.config import validate
from astraios.data.building.build import build
from astraios.data.building.config import BuildConfig
from astraios.data.building.contamination import Benchmarks
from astraios.data.building.plan import plan
from astraios.data.building.report import Report

WORDS = (
    "river", "stone", "lamp", "orchard", "copper", "violet", "engine", "harbour", "meadow",
    "ladder", "quartz", "saddle", "timber", "velvet", "walnut", "anchor", "basket", "candle",
    "desert", "ember", "falcon", "garnet", "hollow", "island", "jacket", "kettle",
)  # fmt: skip
LANGUAGES = ("Python", "Java", "Go")


def prose(number: int, n: int = 24) -> str:
    """Words that differ from number to number."""
    return " ".join(
        f"{WORDS[(number * 7 + i * i) % len(WORDS)]}{number * 31 + i}" for i in range(n)
    )


def commit(number: int, **changes: Any) -> dict[str, Any]:
    """A commit that every rule keeps."""
    language = LANGUAGES[number % 3]
    ending = {"Python": "py", "Java": "java", "Go": "go"}[language]
    row = {
        "commit": f"{number:040x}",
        "old_file": f"src/module{number}.{ending}",
        "new_file": f"src/module{number}.{ending}",
        "old_contents": f"{prose(number)}\n",
        "new_contents": f"{prose(number)}\nreturn {number}\n",
        "subject": f"Add a return value to {WORDS[number % len(WORDS)]} handling",
        "message": f"Add a return value to {WORDS[number % len(WORDS)]} handling",
        "lang": language,
        "license": "mit",
        "repos": f"owner{number}/project",
    }
    return {**row, **changes}


def conversation(number: int, **changes: Any) -> dict[str, Any]:
    """A conversation that every rule keeps."""
    messages = [
        {"role": "user", "content": f"Tell me of {prose(number, 12)}"},
        {"role": "assistant", "content": f"Here it is: {prose(number + 1_000)}"},
    ]
    return {"id": f"talk-{number}", "lang": "en", "messages": messages, **changes}


def instruction(number: int, **changes: Any) -> dict[str, Any]:
    """A row of a prompt and a completion that every rule keeps."""
    return {
        "id": f"task-{number}",
        "prompt": f"Describe {prose(number + 2_000, 12)}",
        "completion": prose(number + 3_000),
        "language": None,
        **changes,
    }


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def config(*sources: dict[str, Any], **fields: Any) -> BuildConfig:
    """A config that looks for no benchmark and counts no tokens unless told to."""
    shaped = [
        {**source, "without": source.get("without", ["A11-tokens"])}
        if source["kind"] == "commits"
        else source
        for source in sources
    ]
    return validate(
        {"name": "test", "sources": shaped, "decontaminate": None, **fields}, BuildConfig
    )


def built(
    folder: Path, read: BuildConfig, data: Path, benchmarks: Benchmarks | None = None
) -> Report:
    return build(plan(read, data_dir=data, benchmarks=benchmarks), folder)


def kept_ids(folder: Path) -> set[str]:
    return {
        row["id"] for name in ("train", "validation") for row in lines(folder / f"{name}.jsonl")
    }


def removed(folder: Path) -> dict[str, str]:
    """Id -> the step that removed it."""
    return {row["id"]: row["rule"] for row in lines(folder / "removed.jsonl")}
