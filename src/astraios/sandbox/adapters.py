"""The command that starts a server: of the interpreter, or of bubblewrap, Podman or Docker.

A tool makes namespaces and a root, and starts the same server as at the other levels as process 1
in there; from there on `inside/boot.py` does the rest, with the same limits, filter and messages.
Nothing is downloaded: an image that is not on the machine is a reason, not an order.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from astraios.errors import MissingToolError
from astraios.sandbox.inside import paths
from astraios.sandbox.recipe import Recipe

__all__ = ["CONTAINERS", "LEVELS", "Launch", "image", "launch", "missing"]

CONTAINERS = ("podman", "docker")
LEVELS = ("bubblewrap", *CONTAINERS)
IMAGE_VARIABLE = "ASTRAIOS_SANDBOX_IMAGE"

ENVIRONMENT = {"PYTHONHASHSEED": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Of a server: a fixed hash seed, so that programs which print or compare sets get the same
verdict every time."""
OPTIONS = ("-P", "-s", "-S", "-c")
"""Of a server's interpreter; not -I, which ignores the hash seed."""

CODE, WORK, PACKAGES = "/astraios", "/tmp", "/packages"
"""Places inside: these files, the work folder, the packages that programs may import."""

_BOOT = "import sys; sys.path.insert(0, {folder!r}); from inside.boot import main; main({channel})"
_INSIDE = Path(__file__).parent / "inside"
_EXECUTABLES = {"bubblewrap": "bwrap", "podman": "podman", "docker": "docker"}
_OLDEST_BUBBLEWRAP = (0, 7)  # the first whose tmpfs has a size
_CAPABILITIES = ("DAC_OVERRIDE", "KILL", "SETGID", "SETUID", "SYS_ADMIN")
"""What the server (not a program) keeps under bubblewrap: see `KEPT` of `inside/jail.py`."""

# Nets below the limits of each program: a container holds one server and one program.
_DISK_MIB, _N_INODES, _MEMORY, _N_TASKS = 256, 8192, "6g", 256

_numbers = count()


@dataclass(frozen=True)
class Launch:
    """How to start one server."""

    command: list[str]
    environment: dict[str, str]
    by_streams: bool = False
    """Whether messages go over standard input and output, else over a descriptor it inherits."""
    patience_s: float = 2.0
    """How long its end may take."""
    removal: tuple[str, ...] = ()
    """Ends what the command left when it had to be killed itself."""
    order: dict[str, Any] = field(default_factory=dict)
    """What `inside/boot.py` has to know about it."""
    detail: dict[str, str] = field(default_factory=dict)
    """Facts for the manifest."""


def missing(level: str) -> str:
    """Why the tool of `level` cannot be used, as far as that shows without starting a server."""
    name = _EXECUTABLES[level]
    path = shutil.which(name)
    if path is None:
        return f"{name} is not on the path"
    if level == "bubblewrap" and (version := _version(path)) < _OLDEST_BUBBLEWRAP:
        found, wanted = (".".join(map(str, one)) for one in (version, _OLDEST_BUBBLEWRAP))
        return f"{path} is version {found}, {wanted} or later is needed"
    return ""


def image() -> str:
    """Image of a container: the variable's, else that of this interpreter's version."""
    usual = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
    return os.environ.get(IMAGE_VARIABLE) or usual


def launch(
    level: str,
    packages: dict[str, list[str]],
    recipe: Recipe | None,
    descriptor: int,
    folder: str | None,
) -> Launch:
    """The command that starts a server at `level`.

    Args:
        level: of isolation; at those that are not among `LEVELS` here, no tool is needed.
        packages: name -> folders of this machine that programs may import.
        recipe: what the server prepares for, if not for programs of its own interpreter.
        descriptor: the server's end of the control socket.
        folder: a folder of its own with a copy of `inside/`, which other users can read.

    Raises:
        MissingToolError: if the tool is not there.
    """
    if level not in LEVELS:
        boot = _BOOT.format(folder=str(_INSIDE.parent), channel=descriptor)
        return Launch([sys.executable, *OPTIONS, boot], dict(ENVIRONMENT))
    path = shutil.which(_EXECUTABLES[level])
    if path is None:
        raise MissingToolError(missing(level))
    if level == "bubblewrap":
        return _bubblewrap(path, packages, recipe, descriptor)
    assert folder is not None
    return _container(level, path, packages, recipe, folder)


def copy_code(folder: Path) -> None:
    """Put the server's files below `folder`, for everybody to read.

    Where they are installed a container may not reach them: below a private home, or in a folder
    that a virtual machine does not share.
    """
    target = folder / _INSIDE.name
    target.mkdir()
    for file in _INSIDE.glob("*.py"):
        shutil.copyfile(file, target / file.name)
        (target / file.name).chmod(0o644)
    for one in (folder, target):
        one.chmod(0o755)


# --- bubblewrap --------------------------------------------------------------------------------


@lru_cache
def _version(path: str) -> tuple[int, ...]:
    """Version of the bubblewrap at `path`; empty if it does not tell."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.search(r"\d+(\.\d+)*", done.stdout)
    return tuple(map(int, found[0].split("."))) if found else ()


_LAYOUT = """
import json, os, sys
sys.path.insert(0, {folder!r})
from inside import paths
folders = [(path, paths.inside(path)) for path in paths.library_folders()]
python = os.path.realpath(sys.executable)
print(json.dumps({{
    "folders": folders, "files": paths.library_files(),
    "hidden": [paths.inside(path) for path in paths.hidden_folders()],
    "python": python, "python_inside": paths.inside(python),
}}))
"""


@lru_cache
def _layout() -> dict[str, Any]:
    """Which files of this machine a server needs, and where they go.

    Asked of an interpreter as bare as a server: this one has loaded libraries from folders that
    are nobody's business.
    """
    code = _LAYOUT.format(folder=str(_INSIDE.parent))
    done = subprocess.run(
        [sys.executable, *OPTIONS, code],
        capture_output=True, check=True, cwd="/", env=ENVIRONMENT, timeout=60,
    )  # fmt: skip
    layout: dict[str, Any] = json.loads(done.stdout)
    return layout


def _bubblewrap(
    path: str, packages: dict[str, list[str]], recipe: Recipe | None, descriptor: int
) -> Launch:
    layout = _layout()
    root = _Root(layout)
    for source in (path for many in packages.values() for path in many):
        root.offer(source, f"{PACKAGES}/{Path(source).name}")
    for name, source in recipe.folders if recipe else ():
        root.offer(source, paths.tool_place(name, source))
    covers = [f"{CODE}/{_INSIDE.name}"]
    if root.offer(layout["python"], layout["python_inside"]):
        covers.append(layout["python_inside"])
    environment = dict(ENVIRONMENT)
    if layout["python"] != layout["python_inside"]:  # it may look for its library where it was
        home = Path(layout["python_inside"]).parent.parent
        environment |= {"PYTHONHOME": str(home), "LD_LIBRARY_PATH": f"{home}/lib"}
    boot = _BOOT.format(folder=CODE, channel=descriptor)
    command = [
        path, *_namespaces_and_rights(path), *root.arguments(), "--chdir", "/", "--",
        layout["python_inside"], *OPTIONS, boot,
    ]  # fmt: skip
    version = ".".join(map(str, _version(path)))
    return Launch(
        command, environment, order={"covers": covers}, detail={"tool": f"bubblewrap {version}"}
    )


def _namespaces_and_rights(path: str) -> list[str]:
    arguments = [f"--unshare-{kind}" for kind in ("pid", "net", "ipc", "uts")]
    arguments += ["--unshare-cgroup-try", "--hostname", "sandbox", "--die-with-parent"]
    arguments += ["--as-pid-1", "--cap-drop", "ALL"]
    if os.geteuid() != 0:
        arguments += ["--unshare-user", "--uid", "1000", "--gid", "1000"]
        if Path(path).stat().st_mode & stat.S_ISUID:
            return arguments  # installed with privileges of its own, it lends none
    for name in _CAPABILITIES:
        arguments += ["--cap-add", f"CAP_{name}"]
    return arguments


class _Root:
    """Arguments that make the same root as `inside/jail.py` does, in that order."""

    def __init__(self, layout: dict[str, Any]) -> None:
        self._arguments: list[str] = []
        self._present: list[str] = []
        for source, target in layout["folders"]:
            self.offer(source, target)
        for path in layout["hidden"]:
            self._arguments += ["--size", "4096", "--tmpfs", path, "--remount-ro", path]
        for path in layout["files"]:
            self.offer(path, path)

    def _above(self) -> list[str]:
        """Folders that only lead to others, from the top."""
        every = {str(above) for one in self._present for above in Path(one).parents}
        return sorted(every - {"/"})

    def offer(self, source: str, target: str) -> bool:
        """A read-only view of `source`; false if it came with a folder above it."""
        if any(paths.lies_in(target, one) or paths.lies_in(one, target) for one in self._present):
            return False
        if Path(source).is_symlink() and Path(source).is_dir():
            self._arguments += ["--symlink", str(Path(source).readlink()), target]
        else:
            self._arguments += ["--ro-bind", source, target]
        self._present.append(target)
        return True

    def arguments(self) -> Iterator[str]:
        # Folders that bubblewrap makes on the way are for their owner alone.
        for folder in ("/dev", PACKAGES, *self._above()):
            yield from ("--perms", "0755", "--dir", folder)
        yield from self._arguments
        yield from ("--ro-bind", str(_INSIDE), f"{CODE}/{_INSIDE.name}")
        for device in paths.DEVICES:
            yield from ("--dev-bind", device, device)
        yield from ("--dev-bind", "/dev/urandom", "/dev/random")
        yield from ("--symlink", WORK, "/dev/shm")  # where the C library looks for shared memory
        yield from ("--perms", "1777", "--size", str(_DISK_MIB << 20), "--tmpfs", WORK)
        yield from ("--remount-ro", "/")


# --- Podman and Docker -------------------------------------------------------------------------


def _container(
    level: str,
    path: str,
    packages: dict[str, list[str]],
    recipe: Recipe | None,
    folder: str,
) -> Launch:
    number = next(_numbers)
    name = f"astraios-{os.getpid()}-{number}"
    # Limits count per user, so each server has its own; below 65536 for rootless Podman.
    user = 20000 + (os.getpid() * 64 + number) % 40000
    views = dict(_views(packages, recipe))
    views[f"{CODE}/{_INSIDE.name}"] = f"{folder}/{_INSIDE.name}"
    own_image = IMAGE_VARIABLE in os.environ
    boot = _BOOT.format(folder=CODE, channel="0, 1")
    command = [
        path, "run", "--rm", "--interactive", "--name", name, "--pull", "never",
        "--entrypoint", "python3", "--init=false", "--no-healthcheck", "--log-driver", "none",
        "--network", "none", "--ipc", "none", "--hostname", "sandbox", "--workdir", "/",
        "--user", f"{user}:{user}", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        "--pids-limit", str(_N_TASKS), "--memory", _MEMORY, "--memory-swap", _MEMORY,
        "--read-only", *_work_folder(level, executable=recipe is not None),
        *(f"--volume={source}:{target}:ro" for target, source in views.items()),
        *(f"--env={name}={value}" for name, value in ENVIRONMENT.items()),
        image(), *OPTIONS, boot,
    ]  # fmt: skip
    shared = bool(views.keys() - {f"{CODE}/{_INSIDE.name}"}) and not own_image
    return Launch(
        command,
        dict(os.environ),  # the client's: where its daemon is, and its own configuration
        by_streams=True,
        patience_s=15.0,
        removal=(path, "rm", "--force", name),
        order={"covers": [], "image_packages": own_image},
        detail={"tool": level, "image": image(), "numpy": _whose(own_image, shared)},
    )


def _whose(own_image: bool, shared: bool) -> str:
    if own_image:
        return "the image's"
    return "this machine's" if shared else "none"


def _work_folder(level: str, *, executable: bool) -> list[str]:
    options = f"rw,nosuid,nodev,{'exec' if executable else 'noexec'},size={_DISK_MIB}m,mode=1777"
    if level == "docker":
        return ["--tmpfs", f"{WORK}:{options},nr_inodes={_N_INODES}"]
    # Podman takes no number of files, adds folders that can be written to, and on machines with
    # SELinux would have to relabel what it only reads.
    return ["--tmpfs", f"{WORK}:{options},notmpcopyup", "--read-only-tmpfs=false",
            "--security-opt", "label=disable"]  # fmt: skip


def _views(packages: dict[str, list[str]], recipe: Recipe | None) -> Iterator[tuple[str, str]]:
    """(place inside, folder of this machine).

    Compiled packages fit an interpreter of the same version and platform, which the usual image
    has. Toolchains of the system are the image's own: libraries around them are, too.
    """
    if sys.platform == "linux" and IMAGE_VARIABLE not in os.environ:
        for source in (path for many in packages.values() for path in many):
            yield f"{PACKAGES}/{Path(source).name}", source
    for name, source in recipe.folders if recipe else ():
        place = paths.tool_place(name, source)
        if place != source:
            yield place, source
