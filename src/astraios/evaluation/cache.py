"""Evidence of earlier runs, so that a program is run once on a machine and not once a run.

    key      SHA-256 of everything that can move a verdict: the program and its tests, task version,
             limits, checker, toolchains, level and details of the sandbox, whether passes are
             checked, and our own code that runs programs
    value    the `Execution`, with the times of the run that made it

What could have ended otherwise on a machine with more or less to do is not kept, see `is_lasting`.

The file is one SQLite data base in the user's cache folder. Several processes may use it at once.
It is a convenience: where it is broken, locked, full or not writable, one warning is given and
programs are run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from astraios import checkers, languages, sandbox
from astraios.checkers import Checker
from astraios.records import Execution, Findings, Outcome, Program
from astraios.sandbox import Sandbox

log = logging.getLogger(__name__)

SCHEMA = 1
"""In the file's name, so that versions with another layout do not meet in one file."""
LARGEST_MIB = 512
"""About 1.5 million programs; what was not used for longest goes first."""
BATCH = 128
"""Programs looked up at once, and results written at once."""
LARGEST_BATCH = 1 << 20
"""Characters of programs that are looked up at once."""
N_HELD = 8 * BATCH
"""Results found that may wait while a program runs."""
WRITE_EVERY_S = 1.0
"""A killed process loses what it found out in this time."""
PATIENCE_S = 5.0
"""Other processes hold the file for milliseconds; longer than this, something is wrong with it."""
DAY_S = 86_400

KEPT = (Outcome.PASSED, Outcome.FAILED, Outcome.COMPILE_ERROR, Outcome.CRASHED)
SIGKILL = 9


def is_lasting(execution: Execution, limits: Mapping[str, float]) -> bool:
    """Whether the same program would surely come to the same end on a busy machine.

    Not so: time-outs and faults; `out_of_memory` and what was killed from outside, because that may
    be the machine's memory and not the program's; `forged`, which is rare and worth a second look;
    and whatever took more than half of the time it was given.
    """
    return (
        execution.outcome in KEPT
        and execution.signal != SIGKILL
        and execution.cpu_s <= limits.get("cpu_s", float("inf")) / 2
        and execution.wall_s <= limits.get("wall_s", float("inf")) / 2
    )


def runner_digest() -> str:
    """SHA-256 of our code that runs programs: a checkout changes more often than its version."""
    found = sha256()
    for package in (sandbox, checkers, languages):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found.update(f"{path.relative_to(root)}\0".encode())
                found.update(sha256(path.read_bytes()).digest())
    return found.hexdigest()


# --- the file ---------------------------------------------------------------------------------


class VerdictCache:
    """Key -> Execution, on disk. Opened at the first look; used in a `with` statement."""

    def __init__(self, folder: Path, *, largest_mib: float = LARGEST_MIB) -> None:
        self.path = folder / f"verdicts-{SCHEMA}.sqlite"
        self._largest = largest_mib * 2**20
        self._data: sqlite3.Connection | None = None
        self._is_usable = True
        self._new: dict[bytes, Execution] = {}
        self._used: set[bytes] = set()
        """Entries to be marked as used today."""
        self._today = int(time.time()) // DAY_S
        self._written = time.monotonic()

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Execution]:
        """The entries among `keys` that are there."""
        found = self._try(lambda data: self._find(data, keys)) or {}
        return found | {key: self._new[key] for key in keys if key in self._new}

    def keep(self, key: bytes, execution: Execution) -> None:
        """Add an entry; it is on disk after `write`, which happens now and then by itself."""
        if not self._is_usable:
            return
        self._new[key] = execution
        late = time.monotonic() - self._written > WRITE_EVERY_S
        if late or len(self._new) >= BATCH:
            self.write()

    def write(self) -> None:
        """Put what is new on disk."""
        if self._new or self._used:
            self._try(self._write)
        self._new.clear()
        self._used.clear()
        self._written = time.monotonic()

    def close(self) -> None:
        """Write what is new and close the file."""
        self.write()
        if self._data is not None:
            with contextlib.suppress(sqlite3.Error):
                self._data.close()
            self._data = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _try(self, action: Callable[[sqlite3.Connection], Any]) -> Any:
        """`action` on the open file; the first failure is told and ends all use of it."""
        if not self._is_usable:
            return None
        try:
            if self._data is None:
                self._data = self._open()
            return action(self._data)
        except (sqlite3.Error, OSError) as error:
            self._is_usable = False
            if self._data is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._data.close()
                self._data = None
            log.warning(
                "the verdict cache %s cannot be used (%s), so programs are run again; "
                "remove the file if it is broken, or set ASTRAIOS_CACHE to another folder",
                self.path,
                error,
            )
            return None

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = sqlite3.connect(self.path, timeout=PATIENCE_S, isolation_level=None)
        try:
            data.execute("PRAGMA auto_vacuum = INCREMENTAL")
            data.execute("PRAGMA journal_mode = WAL")
            data.execute("PRAGMA synchronous = NORMAL")
            data.execute(
                "CREATE TABLE IF NOT EXISTS verdicts"
                " (key BLOB PRIMARY KEY, execution TEXT NOT NULL, day INTEGER NOT NULL)"
                " WITHOUT ROWID"
            )
            data.execute("CREATE INDEX IF NOT EXISTS by_day ON verdicts (day)")
        except BaseException:
            data.close()
            raise
        return data

    def _find(self, data: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, Execution]:
        marks = ",".join("?" * len(keys))
        found = {}
        for key, text, day in data.execute(
            f"SELECT key, execution, day FROM verdicts WHERE key IN ({marks})", keys
        ):
            try:
                found[key] = Execution.model_validate_json(text)
            except ValidationError:  # a record of another version: run it again, replace it
                continue
            if day != self._today:
                self._used.add(key)
        return found

    def _write(self, data: sqlite3.Connection) -> None:
        rows = [
            (key, execution.model_dump_json(exclude_defaults=True), self._today)
            for key, execution in self._new.items()
        ]
        data.execute("BEGIN IMMEDIATE")
        try:
            data.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)", rows)
            data.executemany(
                "UPDATE verdicts SET day = ? WHERE key = ?", [(self._today, k) for k in self._used]
            )
            is_large = self._size(data) > self._largest
            if is_large:
                data.execute(
                    "DELETE FROM verdicts WHERE key IN (SELECT key FROM verdicts ORDER BY day"
                    " LIMIT (SELECT max(1, count(*) / 4) FROM verdicts))"
                )
            data.execute("COMMIT")
        except BaseException:
            if data.in_transaction:
                data.execute("ROLLBACK")
            raise
        if is_large:
            data.execute("PRAGMA incremental_vacuum").fetchall()

    @staticmethod
    def _size(data: sqlite3.Connection) -> int:
        """Bytes in use."""
        pages, free, size = (
            int(data.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size


# --- a checker that remembers -----------------------------------------------------------------


class Remembering(Checker):
    """`checker`, asked only about programs whose end is not known yet."""

    def __init__(self, checker: Checker, cache: VerdictCache, about: Mapping[str, Any]) -> None:
        """Remember what `checker` says in `cache`.

        Args:
            checker: makes the evidence that is not there.
            cache: where evidence is looked up and kept.
            about: what beside program, checker, sandbox and our own code can move a verdict: JSON
                values; `limits`, language -> what a program may use, must be among them.
        """
        self.checker = checker
        self.cache = cache
        self.n_found = 0
        """Programs that did not have to run."""
        self._about = dict(about)
        self._runner = runner_digest()

    def version(self) -> str:
        return self.checker.version()

    def check(
        self, programs: Iterable[Program], sandbox: Sandbox
    ) -> Iterator[tuple[int, Execution | Findings]]:
        return _Pass(self, sandbox, self._start_of_keys(sandbox)).results(enumerate(programs))

    def keep(self, key: bytes, program: Program, evidence: Execution | Findings) -> None:
        """Remember `evidence`, if it is of the kind that lasts."""
        limits = self._about["limits"].get(program.language, {})
        if isinstance(evidence, Execution) and is_lasting(evidence, limits):
            self.cache.keep(key, evidence)

    def _start_of_keys(self, sandbox: Sandbox) -> bytes:
        shared = {
            **self._about,
            "checker": self.version(),
            "sandbox": sandbox.describe(),
            "runner": self._runner,
        }
        return sha256(json.dumps(shared, sort_keys=True).encode()).digest()


Numbered = Iterator[tuple[int, Program]]


class _Pass:
    """One `check`: programs are looked up some at a time, and those not found are run."""

    def __init__(self, owner: Remembering, sandbox: Sandbox, start_of_keys: bytes) -> None:
        self._owner = owner
        self._sandbox = sandbox
        self._start_of_keys = start_of_keys
        self._found: deque[tuple[int, Execution]] = deque()
        self._missing: deque[tuple[int, bytes, Program]] = deque()

    def results(self, programs: Numbered) -> Iterator[tuple[int, Execution | Findings]]:
        while self._look_up(programs):
            if self._missing:
                yield from self._run(programs)
            while self._found:
                yield self._found.popleft()

    def _run(self, programs: Numbered) -> Iterator[tuple[int, Execution | Findings]]:
        running: dict[int, tuple[int, bytes, Program]] = {}
        to_run = self._to_run(programs, running)
        for number, evidence in self._owner.checker.check(to_run, self._sandbox):
            position, key, program = running.pop(number)
            self._owner.keep(key, program, evidence)
            yield position, evidence
            while self._found:
                yield self._found.popleft()

    def _to_run(
        self, programs: Numbered, running: dict[int, tuple[int, bytes, Program]]
    ) -> Iterator[Program]:
        """What was not found; ends early where too much that was found would have to wait."""
        number = 0
        while self._missing or (len(self._found) < N_HELD and self._look_up(programs)):
            while self._missing:
                running[number] = self._missing.popleft()
                number += 1
                yield running[number - 1][2]

    def _look_up(self, programs: Numbered) -> bool:
        """Sort the next few programs into found and missing; False if there are none."""
        asked = [(n, self._key(program), program) for n, program in _some(programs)]
        known = self._owner.cache.find([key for _, key, _ in asked]) if asked else {}
        for number, key, program in asked:
            execution = known.get(key)
            if execution is None:
                self._missing.append((number, key, program))
            else:
                self._found.append((number, execution))
                self._owner.n_found += 1
        return bool(asked)

    def _key(self, program: Program) -> bytes:
        found = sha256(self._start_of_keys)
        for part in (program.language, program.code, program.tests):
            data = part.encode("utf-8", "surrogatepass")
            found.update(len(data).to_bytes(8, "big"))
            found.update(data)
        return found.digest()


def _some(programs: Numbered) -> Numbered:
    """The next few programs; fewer where they are long."""
    n_characters = 0
    for count, (number, program) in enumerate(programs, 1):
        yield number, program
        n_characters += len(program.code)
        if count == BATCH or n_characters > LARGEST_BATCH:
            return
