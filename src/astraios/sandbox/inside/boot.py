"""Entry point of a server process: enter a level of isolation, then serve.

The first message says how:
    {"level": name, "packages": {name: [folder, ...]}, "folder": work folder or null}
and the answer is {"ready": true, "detail": {...}} or {"ready": false, "reason": text}.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from . import frames, paths, program
from .confine import CHANNEL, Child, Confinement, n_tasks_of_user
from .serve import Server, preload
from .workfolder import PACKAGES, WORK, MemoryFolder, PlainFolder

_LIKELY_MODULES = (
    "abc", "array", "ast", "base64", "bisect", "calendar", "cmath", "collections.abc",
    "contextlib", "copy", "dataclasses", "datetime", "decimal", "difflib", "enum", "fractions",
    "functools", "glob", "hashlib", "heapq", "inspect", "io", "itertools", "json", "keyword",
    "locale", "math", "numbers", "operator", "os", "pathlib", "pprint", "queue", "random", "re",
    "secrets", "statistics", "string", "struct", "tempfile", "textwrap", "threading", "time",
    "traceback", "types", "typing", "unicodedata", "unittest", "urllib.parse", "uuid", "warnings",
    "zlib", "numpy",
)  # fmt: skip


class UnavailableError(Exception):
    """This machine does not offer the level; the text says why."""


def main(descriptor: int) -> None:
    """Serve on the socket `descriptor`; never returns in a child that runs a program."""
    control = socket.socket(fileno=descriptor)
    order = frames.read(control)
    if order is None:
        return
    try:
        server, detail = _enter(order, control)
    except (UnavailableError, OSError) as error:
        control.sendall(frames.pack({"ready": False, "reason": str(error)}))
        return
    except Exception as error:
        control.sendall(frames.pack({"ready": False, "reason": _where(error)}))
        return
    _forget_own_modules()
    control.sendall(frames.pack({"ready": True, "detail": detail}))
    try:
        held = server.serve()
    except Exception as error:
        with contextlib.suppress(OSError):
            control.sendall(frames.pack({"died": _where(error)}))
        held = None
    if held is None:
        os._exit(0)
    characters = server.output_characters
    del server, control, order, detail
    program.drive(held, characters, CHANNEL)


def _where(error: Exception) -> str:
    """What went wrong in our own code, and in which line of it."""
    trace = traceback.extract_tb(error.__traceback__)[-1]
    text = f"{type(error).__name__}: {error} ({Path(trace.filename).name}:{trace.lineno})"
    return text[:500]


def _enter(order: dict[str, Any], control: socket.socket) -> tuple[Server, dict[str, str]]:
    level, packages = order["level"], order["packages"]
    enter = {"namespaces": _namespaces, "landlock": _landlock, "limits": _limits}[level]
    return enter(order["folder"], packages, control)


def _namespaces(
    _: str | None, packages: dict[str, list[str]], control: socket.socket
) -> tuple[Server, dict[str, str]]:
    from . import jail, seccomp

    why = seccomp.available()
    if why:
        raise UnavailableError(why)
    uid = _unprivileged(os.getpid()) if os.geteuid() == 0 else None  # reads /proc: before the jail
    try:
        own_ids = jail.enter(packages, control)
    except jail.JailError as error:
        raise UnavailableError(str(error)) from error
    _burn_process_numbers()
    child = Child(Confinement(uid if own_ids else None, (), filtered=True, n_tasks_before=0))
    return Server(control, child, MemoryFolder(jail.WORK), alone=True), {}


def _landlock(
    folder: str | None, packages: dict[str, list[str]], control: socket.socket
) -> tuple[Server, dict[str, str]]:
    from . import landlock, seccomp, syscalls

    why = seccomp.available()
    if why:
        raise UnavailableError(why)
    assert folder is not None
    sources = [path for many in packages.values() for path in many]
    n_tasks = None if os.geteuid() == 0 else n_tasks_of_user()
    uid = _unprivileged(os.getpid()) if os.geteuid() == 0 else None
    work = PlainFolder(f"{folder}/{WORK}", uid)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    readable = [*paths.library_folders(), *sources, f"{folder}/{PACKAGES}"]
    version = landlock.restrict(readable, paths.hidden_folders(), list(paths.DEVICES), work.path)
    # An interpreter below a private home can be read by root only. Reading is all this allows,
    # and Landlock has the last word on what.
    kept = () if uid is None or _readable_by_all(readable) else (syscalls.CAP_DAC_READ_SEARCH,)
    _offer(folder)
    child = Child(
        Confinement(uid, kept, filtered=True, n_tasks_before=0 if uid is not None else n_tasks)
    )
    return Server(control, child, work, alone=False), {"landlock": str(version)}


def _limits(
    folder: str | None, packages: dict[str, list[str]], control: socket.socket
) -> tuple[Server, dict[str, str]]:
    assert folder is not None
    uid = _unprivileged(os.getpid()) if os.geteuid() == 0 else None
    n_tasks: int | None = 0 if uid is not None else n_tasks_of_user()
    if sys.platform == "linux":
        try:
            from . import syscalls
        except (ImportError, OSError):  # an interpreter without ctypes
            pass
        else:
            syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    _offer(folder)
    detail = {}
    if uid is not None and not _readable_by_all(paths.library_folders()):
        # The interpreter lies below a private home, so programs cannot import by themselves.
        preload(_LIKELY_MODULES)
        detail["imports"] = "preloaded modules only"
    child = Child(Confinement(uid, None, filtered=False, n_tasks_before=n_tasks))
    return Server(control, child, PlainFolder(f"{folder}/{WORK}", uid), alone=False), detail


def _offer(folder: str) -> None:
    """Make the named packages importable, and none of their neighbours."""
    sys.path[:] = [*paths.library_path(), f"{folder}/{PACKAGES}"]


def _unprivileged(seed: int) -> int:
    """An id that nobody has, another one for each server, as limits count per user."""
    for uid in (0x6A000000 + seed % 0x1000000, 60000 + seed % 5000, 65534):
        if _is_mapped(uid):
            return uid
    raise UnavailableError("no unprivileged user id can be taken here")


def _is_mapped(uid: int) -> bool:
    try:
        lines = Path("/proc/self/uid_map").read_text().splitlines()
    except OSError:
        return uid < 65535
    ranges = [tuple(map(int, line.split())) for line in lines]
    return any(first <= uid < first + n for first, _, n in ranges)


def _readable_by_all(folders: list[str]) -> bool:
    reached = {above for folder in map(Path, folders) for above in (folder, *folder.parents)}
    return all(above.stat().st_mode & 0o001 for above in reached)


def _burn_process_numbers() -> None:
    """Begin at a random process number: a program cannot tell from its own which run it is."""
    import threading

    for _ in range(os.urandom(1)[0] % 64):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()


def _forget_own_modules() -> None:
    """Take these files out of the import system; what runs keeps its own references."""
    package = __name__.rpartition(".")[0]
    for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
        del sys.modules[name]
    main_names = vars(sys.modules["__main__"])
    main_names.clear()
    main_names["__name__"] = "__main__"
