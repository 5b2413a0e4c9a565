"""Every exception that Astraios raises on purpose.

    AstraiosError
    ├── UsageError             exit status 2: the user can mend the command, the config or the input
    │   ├── UnknownNameError        (KeyError)           a registry does not have that name
    │   ├── ConfigError             (ValueError)         a config field, a YAML file or an override
    │   ├── DataError               (ValueError)         a file that does not hold what it should
    │   │   └── GenerationsError                         generations that do not fit their task
    │   ├── MissingDataError        (FileNotFoundError)  data that is not where it was looked for
    │   ├── MissingToolError        (RuntimeError)       a compiler, library or kernel feature
    │   ├── MethodError             (ValueError)         a tuning method that does not fit the model
    │   └── RunError                (RuntimeError)       a run folder that cannot be used
    │       ├── ForeignRunError                          it belongs to another config
    │       ├── LockedRunError                           another process writes to it
    │       └── UnfinishedRunError                       it is not sealed yet
    └── WorkError              exit status 1: the work itself failed
        ├── StorageError            (OSError)            disk full, no permission
        ├── SandboxError            (RuntimeError)       the sandbox died or is too weak
        ├── TrainingError           (RuntimeError)       out of memory, and
        │   └── DivergedError                            a loss that left where it began, or is none
        ├── EngineError             (RuntimeError)       an engine died or answered nonsense
        └── ContractError           (AssertionError)     a part does not keep what its kind promises

A message says what was seen, what was expected and what to do about it. Every leaf also inherits
the standard exception that a caller who does not know Astraios would catch.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest of `known`, whatever its case, or an empty string."""
    plain = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), plain, n=1)
    return f" Did you mean {plain[near[0]]!r}?" if near else ""


class AstraiosError(Exception):
    """Root of the tree; `exit_status` is what the command line returns."""

    exit_status = 1

    def __str__(self) -> str:  # KeyError would print the repr, OSError an errno
        return str(self.args[0]) if self.args else type(self).__name__


class UsageError(AstraiosError):
    """The command, the config or the input has to change."""

    exit_status = 2


class WorkError(AstraiosError):
    """The request was fine; doing it failed."""


class UnknownNameError(UsageError, KeyError):
    """A registry was asked for a name it does not have."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        listed = ", ".join(self.known) if self.known else "none"
        hint = did_you_mean(name, self.known)
        super().__init__(f"unknown {kind} {name!r}; known: {listed}.{hint}")

    def __reduce__(self) -> tuple[Any, ...]:  # worker processes hand errors back pickled
        return type(self), (self.kind, self.name, self.known)


class ConfigError(UsageError, ValueError):
    """A config file, a field or an override is wrong."""


class DataError(UsageError, ValueError):
    """A data file does not hold what it should."""


class GenerationsError(DataError):
    """A generations file does not fit the task it is graded on."""


class MissingDataError(UsageError, FileNotFoundError):
    """Data is not where it was looked for."""


class MissingToolError(UsageError, RuntimeError):
    """A toolchain, a library or a kernel feature is not there."""


class MethodError(UsageError, ValueError):
    """A tuning method does not fit the model, or an adapter does not fit its base."""


class RunError(UsageError, RuntimeError):
    """A run folder cannot be used as asked."""


class ForeignRunError(RunError):
    """A run folder belongs to another config."""


class LockedRunError(RunError):
    """Another process is writing to the run folder."""


class UnfinishedRunError(RunError):
    """A run folder is not sealed yet."""


class StorageError(WorkError, OSError):
    """A file cannot be written or read: disk full, no permission."""


class SandboxError(WorkError, RuntimeError):
    """The sandbox died, or it is weaker than what was asked for."""


class TrainingError(WorkError, RuntimeError):
    """Training diverged or ran out of memory."""


class DivergedError(TrainingError):
    """The loss is not finite, or has left where it began for good."""


class EngineError(WorkError, RuntimeError):
    """A generation engine died or answered what it should not."""


class ContractError(WorkError, AssertionError):
    """A part does not keep what every part of its kind promises; see `astraios.testing`."""
