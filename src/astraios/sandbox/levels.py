"""The levels of isolation, strongest first, and what each of them holds."""

from __future__ import annotations

import importlib.machinery
import sys
from dataclasses import dataclass
from pathlib import Path

from astraios.errors import MissingToolError, SandboxError, UnknownNameError
from astraios.sandbox import adapters

__all__ = [
    "AUTO",
    "BEST",
    "LEVELS",
    "LevelReport",
    "packages",
    "refusal",
    "tried",
    "unavailable_by_platform",
]

AUTO, BEST = "auto", "best"
LEVELS = ("namespaces", "bubblewrap", "podman", "docker", "landlock", "limits")
BY_AUTO = ("namespaces", "bubblewrap")
"""What `auto` tries: levels that hold all that can be held. What is weaker has to be asked for."""
BY_BEST = (*BY_AUTO, "landlock", "limits")
"""What `best` tries. A container is only used if it is named: it takes about a second a server,
runs an image's interpreter instead of this one, and may need a service with root's rights."""

TITLES = {
    "namespaces": "own namespaces, minimal root, system call filter, limits",
    "bubblewrap": "as namespaces, made by bubblewrap",
    "podman": "a container without network or privileges, system call filter, limits",
    "docker": "a container without network or privileges, system call filter, limits",
    "landlock": "Landlock file rules, system call filter, limits",
    "limits": "resource limits and an empty environment only",
}

_REMEDIES = {
    "namespaces": (
        "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1 or "
        "kernel.apparmor_restrict_unprivileged_userns=0), or in a container add "
        "--security-opt seccomp=unconfined or --cap-add SYS_ADMIN"
    ),
    "bubblewrap": "install it (Debian: apt install bubblewrap) and allow user namespaces",
    "podman": "install Podman and get the image: podman pull {image}",
    "docker": "install Docker, start its service and get the image: docker pull {image}",
    "landlock": "use Linux 5.13 or later with Landlock enabled (boot option lsm=landlock,...)",
    "limits": "run as an ordinary user",
}

PACKAGES = ("numpy",)
"""Third-party packages that programs may import."""


@dataclass(frozen=True)
class LevelReport:
    """What a probe of one level found."""

    level: str
    title: str
    works: bool
    reason: str
    """Why it does not work here and what would help; empty if it works."""


def check_name(level: str) -> None:
    """Raise UnknownNameError unless `level` is a level, `auto` or `best`."""
    if level not in (AUTO, BEST, *LEVELS):
        raise UnknownNameError("sandbox level", level, (AUTO, BEST, *LEVELS))


def tried(level: str) -> tuple[str, ...]:
    """The levels that asking for `level` tries, in order."""
    return {AUTO: BY_AUTO, BEST: BY_BEST}.get(level, (level,))


def unavailable_by_platform(level: str) -> str:
    """Why `level` cannot work on this platform, or an empty string."""
    if level in ("namespaces", "bubblewrap", "landlock") and sys.platform != "linux":
        return f"needs Linux, this is {sys.platform}"
    return ""


def refusal(level: str, reason: str) -> SandboxError | MissingToolError:
    """The error for a level that was asked for and does not work."""
    text = (
        f"sandbox level {level!r} does not work here: {reason}; {remedy(level)}, "
        "or choose another level with --sandbox (`astraios doctor` lists them)"
    )
    kind = SandboxError if level == "limits" else MissingToolError
    return kind(text)


def remedy(level: str) -> str:
    """What would make `level` work."""
    return _REMEDIES[level].format(image=adapters.image())


def packages() -> dict[str, list[str]]:
    """Folders of every package that programs may import, with their bundled libraries."""
    found: dict[str, list[str]] = {}
    for name in PACKAGES:
        spec = importlib.machinery.PathFinder.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            continue
        home = Path(next(iter(spec.submodule_search_locations)))
        bundled = (home.with_name(f"{name}.libs"), home.with_name(f"{name}.dylibs"))
        found[name] = [str(home), *(str(path) for path in bundled if path.is_dir())]
    return found
