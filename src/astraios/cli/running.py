"""The options by which `study run` and `study resume` say how jobs are run."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from astraios.cli.options import REPEATED, Jobs
from astraios.errors import ConfigError

if TYPE_CHECKING:
    from astraios.studies.study import Study

__all__ = ["MaxMemory", "Running", "mib", "taking"]

MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        help="Such as 24GiB. Of a plan: what a device has. Of a run: what jobs take together.",
    ),
]
LauncherName = Annotated[
    str, typer.Option("--launcher", help="Where jobs run: local, ray, slurm, or another's name.")
]
Address = Annotated[
    str | None, typer.Option("--address", help="Of a Ray cluster; auto finds the one it runs in.")
]
Devices = Annotated[
    str | None, typer.Option("--devices", help="Accelerators to use, with commas: 0,1.")
]
LauncherOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--launcher-option", metavar="FIELD=VALUE", help="One of the launcher's own." + REPEATED
    ),
]
NoRetry = Annotated[
    bool, typer.Option("--no-retry", help="Leave jobs alone that failed in an earlier run.")
]
RetryFailed = Annotated[
    bool,
    typer.Option("--retry-failed", help="Only jobs that failed, and what builds on them."),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="AXIS=VALUE",
        help="Only these and what they build on: method=lora, kind=train, a folder's pattern."
        + REPEATED,
    ),
]


@dataclass(frozen=True)
class Running:
    """One field an option."""

    jobs: Jobs = None
    launcher: LauncherName = "local"
    address: Address = None
    devices: Devices = None
    launcher_option: LauncherOptions = None
    max_memory: MaxMemory = None
    only: Only = None
    no_retry: NoRetry = False
    retry_failed: RetryFailed = False

    def how(self) -> dict[str, Any]:
        """Arguments of `run_study`.

        Raises:
            ConfigError: for options that contradict each other, or are of another launcher.
        """
        if self.no_retry and self.retry_failed:
            raise ConfigError("--no-retry and --retry-failed contradict each other; give one")
        return {
            "n_workers": self.jobs,
            "launcher": self.launcher,
            "launcher_options": self._options(),
            "max_memory_mib": mib(self.max_memory),
            "only": self.only or (),
            "retry": not self.no_retry,
            "failed_only": self.retry_failed,
        }

    def check(self, study: Study) -> None:
        """Refuse what a run would refuse of its options."""
        from astraios import registry
        from astraios.config import validate
        from astraios.studies import launchers
        from astraios.studies.plan import plan
        from astraios.studies.selection import select

        chosen = registry.load(launchers, "launcher", self.launcher, launchers.Launcher)
        validate(self._options(), chosen.Options, source=f"options of launcher {self.launcher!r}")
        if self.only:
            select(plan(study), self.only)

    def _options(self) -> dict[str, Any]:
        """Fields of the launcher's `Options`."""
        from astraios.config import apply_override

        for name, given, owner in (
            ("--address", self.address, "ray"),
            ("--devices", self.devices, "local"),
        ):
            if given is not None and self.launcher != owner:
                raise ConfigError(
                    f"{name} is of launcher {owner!r}, and {self.launcher!r} was asked for"
                )
        found: dict[str, Any] = {}
        if self.address is not None:
            found["address"] = self.address
        if self.devices is not None:
            parts = (part.strip() for part in self.devices.split(","))
            found["devices"] = tuple(filter(None, parts))
        for option in self.launcher_option or ():
            apply_override(found, option)
        return found


def taking(verb: Callable[..., None]) -> Callable[..., None]:
    """`verb`, whose first parameter is a `Running`, as a command with the options of one."""
    options = inspect.signature(Running, eval_str=True).parameters
    signature = inspect.signature(verb, eval_str=True)
    _, *own = signature.parameters.values()

    @functools.wraps(verb)
    def command(**values: Any) -> None:
        running = Running(**{name: values.pop(name) for name in options})
        verb(running, **values)

    *first, as_json = own
    parameters = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for one in (*first, *options.values(), as_json)
    ]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def mib(text: str | None) -> float | None:
    """The value of `--max-memory`."""
    from astraios.analysis.quantities import parse_memory

    return None if text is None else parse_memory(text, "--max-memory")
