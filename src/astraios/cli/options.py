"""What several verbs share: options, JSON on standard output, an orderly end when interrupted."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from astraios.errors import ConfigError

REPEATED = " May be repeated."
NAMES = " May be repeated; commas part names."
"""Of options that `parted` reads."""

Out = Annotated[Path, typer.Option("--out", help="Folder that run folders are made in.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Benchmark files; else ASTRAIOS_DATA, else the hub."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON object on standard output, nothing else there.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="FIELD=VALUE", help="Override config fields." + REPEATED),
]

Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Processes at a time; one a core by default.")
]
LimitProblems = Annotated[
    int | None, typer.Option("--limit-problems", min=1, help="First problems only.")
]
LimitSamples = Annotated[
    int | None, typer.Option("--limit-samples", min=1, help="First samples only.")
]
SandboxLevel = Annotated[
    str,
    typer.Option(
        help="Isolation of generated programs: auto (complete, or an error), best (the strongest "
        "that works here), or a level that `doctor` lists."
    ),
]


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end with one line: nothing is lost, the same command goes on."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run the same command again to continue\n")
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)


def parted(option: str, given: Iterable[str] | None) -> tuple[str, ...]:
    """The names that a repeated option was given, each by itself or several with commas between.

    Raises:
        ConfigError: if it was given no name.
    """
    found: list[str] = []
    for text in given or ():
        names = [name.strip() for name in text.split(",")]
        if not all(names):
            raise ConfigError(f"{option} {text!r} has an empty name; take it out")
        found += names
    return tuple(found)


def print_json(value: Any) -> None:
    """One JSON object to standard output."""

    def plain(item: Any) -> Any:
        from pydantic import BaseModel

        return item.model_dump(mode="json") if isinstance(item, BaseModel) else str(item)

    sys.stdout.write(json.dumps(value, default=plain, ensure_ascii=False) + "\n")
