"""One worker process of engine hf: it holds a model on its device and answers what it is told.

It ends when its parent does, whatever it is busy with: a thread waits on a pipe that the parent
never writes to, and reads its end once the parent is gone.

    from the parent                             to the parent
    call, engine, name, arguments               value, ... or error, exception
    open / close, engine, ...                   value, ...
    answer, engine, prompts, ...                claim, n -> the parent sends numbers of rows
                                                sample, number, sample
                                                progress, new tokens
                                                usage, MiB, CPU seconds
                                                idle, once no rows are left; then: more, or next
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astraios.errors import ConfigError, EngineError
from astraios.generation import Model
from astraios.generation.engines._rows import Row
from astraios.measure import peak_resident_mib
from astraios.records import Sampling

if TYPE_CHECKING:
    from astraios.generation.engines.hf import HFEngine

__all__ = ["Start", "serve"]

TELL_EVERY_S = 0.1
"""Between two messages about progress."""
READER = "astraios.generation.engines._questions"
"""All workers read all prompts; the first one tells what is odd about them."""


@dataclass(frozen=True)
class Start:
    """What a worker begins with."""

    open: Callable[[Model], Any]
    """Makes the engine: `HFEngine.open`."""
    model: Model
    device: str
    number: int
    n_workers: int
    log_level: int


def serve(start: Start, parent: Connection, life: Connection) -> None:
    """Load the model and do what `parent` says, until `life` ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interruption ends
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()
    _tell_logs(start, parent)
    try:
        _Worker(parent).serve(_engine(start))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _end_with(life: Connection) -> None:
    try:
        life.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)


def _engine(start: Start) -> Callable[[], HFEngine]:
    def load() -> HFEngine:
        import torch
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # several at once would overwrite each other
        options = dict(start.model.options)
        if start.device == "cpu":
            options.setdefault("threads", max(1, torch.get_num_threads() // start.n_workers))
        made: HFEngine = start.open(replace(start.model, device=start.device, options=options))
        return made

    return load


def _tell_logs(start: Start, parent: Connection) -> None:
    ours = logging.getLogger("astraios")
    ours.setLevel(start.log_level)
    ours.propagate = False
    ours.addHandler(_ToParent(parent))
    if start.number:
        logging.getLogger(READER).setLevel(logging.CRITICAL)


class _ToParent(logging.handlers.QueueHandler):
    """Hands records to the parent's logging."""

    def __init__(self, parent: Connection) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self._parent = parent

    def enqueue(self, record: logging.LogRecord) -> None:
        self._parent.send(("log", record))


class _Claims:
    """The rows of all workers, of which this one asks the parent for some."""

    def __init__(self, parent: Connection, rows: Sequence[Row]) -> None:
        self._parent = parent
        self._rows = rows
        self._next = 0

    def peek(self) -> Row | None:
        return self._rows[min(self._next, len(self._rows) - 1)] if self._rows else None

    def take(self, n: int) -> list[Row]:
        self._parent.send(("claim", n))
        numbers: list[int] = self._parent.recv()
        self._next = max([self._next, *(number + 1 for number in numbers)])
        return [self._rows[number] for number in numbers]


class _Worker:
    def __init__(self, parent: Connection) -> None:
        self._parent = parent
        self._engines: dict[int, HFEngine] = {}
        self._n_tokens = 0
        self._told_at = 0.0

    def serve(self, load: Callable[[], HFEngine]) -> None:
        self._try(self._open_base, load)
        while True:
            try:
                verb, *arguments = self._parent.recv()
            except (EOFError, OSError):
                raise
            except Exception as error:  # what was sent names something that is not here
                self._parent.send(("error", _unknown(error)))
                continue
            if verb != "next":  # what ends a job, and is read there unless the job failed
                self._try(getattr(self, f"_{verb}"), *arguments)

    def _try(self, work: Callable[..., Any], *arguments: Any) -> None:
        try:
            value = work(*arguments)
            self._tell_usage()
            self._parent.send(("value", value))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            self._parent.send(("error", _sendable(error)))

    def _open_base(self, load: Callable[[], HFEngine]) -> Any:
        self._engines[0] = load()
        return self._facts(0)

    def _open(self, engine: int, method: str | None, adapter: Path | None) -> Any:
        self._engines[engine] = self._engines[0].tuned(method, adapter)
        return self._facts(engine)

    def _close(self, engine: int) -> None:
        self._engines.pop(engine, None)

    def _facts(self, engine: int) -> tuple[dict[str, str], int]:
        return self._engines[engine].environment(), self._engines[engine].n_parameters()

    def _call(self, engine: int, name: str, *arguments: Any) -> Any:
        value = getattr(self._engines[engine], name)(*arguments)
        return value if not hasattr(value, "__next__") else list(value)

    def _answer(self, engine: int, asked: dict[str, Any], sampling: Sampling) -> None:
        rows = self._engines[engine].rows(sampling=sampling, **asked)
        numbers = {row: number for number, row in enumerate(rows)}
        claims = _Claims(self._parent, rows)
        while True:
            for row, sample in self._engines[engine].answers(claims, sampling, self._count):
                self._parent.send(("sample", numbers[row], sample))
            self._tell()
            self._parent.send(("idle",))
            if self._parent.recv()[0] != "more":
                return

    def _count(self, n_tokens: int) -> None:
        self._n_tokens += n_tokens
        if time.monotonic() - self._told_at > TELL_EVERY_S:
            self._tell()

    def _tell(self) -> None:
        self._tell_usage()
        self._parent.send(("progress", self._n_tokens))
        self._n_tokens, self._told_at = 0, time.monotonic()

    def _tell_usage(self) -> None:
        peak_mib = self._engines[0].peak_mib()
        peak_mib = peak_resident_mib() if peak_mib is None else peak_mib
        self._parent.send(("usage", peak_mib, time.process_time()))


def _unknown(error: Exception) -> ConfigError:
    return ConfigError(
        f"a worker process cannot read what it was sent ({type(error).__name__}: {error}); put the "
        "functions it needs into a module that can be imported, or use one device"
    )


def _sendable(error: Exception) -> Exception:
    """`error` itself, if it survives the way to the parent."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    except Exception:
        return EngineError(f"a worker failed: {''.join(traceback.format_exception(error))}")
    return error
