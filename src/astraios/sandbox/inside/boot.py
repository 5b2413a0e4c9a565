"""Entry point of a server process: enter a level of isolation, then serve.

The first message says how:
    {"level": name, "packages": {name: [folder, ...]}, "folder": work folder or null,
     "recipe": fields of a recipe or null}
and at levels that another tool enters, beside that,
    {"seed": number, "covers": [place, ...], "image_packages": whether they are the image's own}
and the answer is {"ready": true, "detail": {...}} or {"ready": false, "reason": text}.
"""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import frames, native, paths, program
from .confine import CHANNEL, Child, Confinement, n_tasks_of_user
from .resident import Resident
from .serve import Server, preload
from .workfolder import PACKAGES, WORK, MemoryFolder, PlainFolder

if TYPE_CHECKING:  # it needs calls that only Linux has
    from .contained import BriefCompiler

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


def main(descriptor: int, writing: int | None = None) -> None:
    """Serve on the socket `descriptor`; never returns in a child that runs a program.

    With a second descriptor the two are pipes, the first one to read from.
    """
    control: frames.Channel
    if writing is None:
        control = socket.socket(fileno=descriptor)
    else:
        from .contained import Pipes

        control = Pipes(descriptor, writing)
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
    streams = server.streams
    del server, control, order, detail
    program.drive(held, streams, CHANNEL)


def _where(error: Exception) -> str:
    """What went wrong in our own code, and in which line of it."""
    trace = traceback.extract_tb(error.__traceback__)[-1]
    text = f"{type(error).__name__}: {error} ({Path(trace.filename).name}:{trace.lineno})"
    return text[:500]


def _enter(order: dict[str, Any], control: frames.Channel) -> tuple[Server, dict[str, str]]:
    if "covers" in order:
        return _contained(order, control)
    enter = {"namespaces": _namespaces, "landlock": _landlock, "limits": _limits}[order["level"]]
    return enter(order["folder"], order["packages"], order["recipe"], control)


def _namespaces(
    _: str | None,
    packages: dict[str, list[str]],
    recipe: dict[str, Any] | None,
    control: frames.Channel,
) -> tuple[Server, dict[str, str]]:
    from . import jail, seccomp

    why = seccomp.available()
    if why:
        raise UnavailableError(why)
    uid = _unprivileged(os.getpid()) if os.geteuid() == 0 else None  # reads /proc: before the jail
    folders = dict(recipe["folders"]) if recipe else {}
    inside = {name: paths.tool_place(name, path) for name, path in folders.items()}
    tools = {path: inside[name] for name, path in folders.items()}
    try:
        own_ids = jail.enter(packages, control, tools)
        return _with_own_root(recipe, inside, uid if own_ids else None, control), {}
    except jail.JailError as error:
        raise UnavailableError(str(error)) from error


def _with_own_root(
    recipe: dict[str, Any] | None,
    inside: dict[str, str],
    uid: int | None,
    control: frames.Channel,
) -> Server:
    """The server of a process that is number 1 and may mount."""
    from . import jail

    confinement = Confinement(uid, (), filtered=True, n_tasks_before=0)
    compiler = _resident(recipe, inside, confinement, jail.WORK, control)
    if compiler is not None:
        jail.begin_again()
    _burn_process_numbers()
    folder = MemoryFolder(jail.WORK, executable=recipe is not None)
    workshop = _workshop(recipe, inside, confinement, folder, control, True, compiler)
    return Server(control, Child(confinement), folder, True, workshop)


def _contained(order: dict[str, Any], control: frames.Channel) -> tuple[Server, dict[str, str]]:
    """Levels that another tool has entered already."""
    from . import contained, jail, seccomp

    contained.silence()
    why = seccomp.available()
    if why:
        raise UnavailableError(why)
    recipe = order["recipe"]
    folders = dict(recipe["folders"]) if recipe else {}
    inside = {name: paths.tool_place(name, path) for name, path in folders.items()}
    of_image = bool(order.get("image_packages"))
    try:
        contained.check(list(inside.values()))
        contained.offer_packages(of_image)
        if contained.may_mount():
            uid = _unprivileged(order["seed"]) if os.geteuid() == 0 else None
            contained.close_root(order["covers"])
            return _with_own_root(recipe, inside, uid, control), {}
        version = contained.close_image(list(inside.values()), of_image, recipe is not None)
    except (contained.ContainedError, jail.JailError) as error:
        raise UnavailableError(str(error)) from error
    detail = {"landlock": version or "none", "python": platform.python_version()}
    return _with_one_user(recipe, inside, control), detail


def _with_one_user(
    recipe: dict[str, Any] | None, inside: dict[str, str], control: frames.Channel
) -> Server:
    """The server of a process that is number 1, without any privilege."""
    from . import contained, jail

    # The server is one more task of the programs' user.
    confinement = Confinement(None, (), filtered=True, n_tasks_before=1)
    work = PlainFolder(jail.WORK, None)
    compiler = None
    if recipe is not None and recipe["compiler"]:
        start = _compiler(recipe, inside, confinement, work.path, control)
        compiler = contained.BriefCompiler(start)
    workshop = _workshop(recipe, inside, confinement, work, control, True, compiler)
    return Server(control, Child(confinement), work, True, workshop)


def _resident(
    recipe: dict[str, Any] | None,
    folders: dict[str, str],
    confinement: Confinement,
    folder: str,
    control: frames.Channel,
) -> Resident | None:
    """The compiler that stays, if the recipe has one."""
    if recipe is None or not recipe["compiler"]:
        return None
    return _compiler(recipe, folders, confinement, folder, control)()


def _compiler(
    recipe: dict[str, Any],
    folders: dict[str, str],
    confinement: Confinement,
    folder: str,
    control: frames.Channel,
) -> Callable[[], Resident]:
    """What starts the recipe's compiler."""
    limits = native.limits_of(recipe["build_limits"])
    child = Child(confinement, "run")
    # It lives as long as the server: CPU time is bounded by what it is asked, one at a time.
    child.prepare(replace(limits, cpu_s=1e6))
    command = native.placed(recipe["compiler"], {**folders, "cpu_s": str(limits.cpu_s)})
    environment = native.environment_of(recipe, folders)
    return lambda: Resident(command, environment, child, folder, limits, control.fileno())


def _workshop(
    recipe: dict[str, Any] | None,
    folders: dict[str, str],
    confinement: Confinement,
    folder: MemoryFolder | PlainFolder,
    control: frames.Channel,
    alone: bool,
    compiler: Resident | BriefCompiler | None,
) -> native.Workshop | None:
    if recipe is None:
        return None
    children = {kind: Child(confinement, kind) for kind in ("run", "build")}
    return native.Workshop(recipe, folders, children, folder, control, alone, compiler)


def _landlock(
    folder: str | None,
    packages: dict[str, list[str]],
    recipe: dict[str, Any] | None,
    control: frames.Channel,
) -> tuple[Server, dict[str, str]]:
    from . import landlock, seccomp, syscalls

    why = seccomp.available()
    if why:
        raise UnavailableError(why)
    assert folder is not None
    folders = dict(recipe["folders"]) if recipe else {}
    sources = [*(path for many in packages.values() for path in many), *folders.values()]
    n_tasks = None if os.geteuid() == 0 else n_tasks_of_user()
    uid = _unprivileged(os.getpid()) if os.geteuid() == 0 else None
    work = PlainFolder(f"{folder}/{WORK}", uid)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    readable = [*paths.library_folders(), *sources, f"{folder}/{PACKAGES}"]
    version = landlock.restrict(
        readable, paths.hidden_folders(), list(paths.DEVICES), work.path, recipe is not None
    )
    # An interpreter below a private home can be read by root only. Reading is all this allows,
    # and Landlock has the last word on what.
    kept = () if uid is None or _readable_by_all(readable) else (syscalls.CAP_DAC_READ_SEARCH,)
    _refuse_private(folders, uid)
    _offer(folder)
    confinement = Confinement(
        uid, kept, filtered=True, n_tasks_before=0 if uid is not None else n_tasks
    )
    compiler = _resident(recipe, folders, confinement, work.path, control)
    workshop = _workshop(recipe, folders, confinement, work, control, False, compiler)
    server = Server(control, Child(confinement), work, False, workshop)
    return server, {"landlock": str(version)}


def _refuse_private(folders: dict[str, str], uid: int | None) -> None:
    """Capabilities end where a command begins, so another user must be able to read it."""
    for name, path in folders.items():
        if uid is not None and not _readable_by_all([path]):
            raise UnavailableError(
                f"the toolchain's {name} ({path}) lies below a private folder, and programs run "
                "as another user; install it for all users, or run as an ordinary user"
            )


def _limits(
    folder: str | None,
    packages: dict[str, list[str]],
    recipe: dict[str, Any] | None,
    control: frames.Channel,
) -> tuple[Server, dict[str, str]]:
    assert folder is not None
    uid = _unprivileged(os.getpid()) if os.geteuid() == 0 else None
    folders = dict(recipe["folders"]) if recipe else {}
    _refuse_private(folders, uid)
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
    confinement = Confinement(uid, None, filtered=False, n_tasks_before=n_tasks)
    work = PlainFolder(f"{folder}/{WORK}", uid)
    compiler = _resident(recipe, folders, confinement, work.path, control)
    workshop = _workshop(recipe, folders, confinement, work, control, False, compiler)
    return Server(control, Child(confinement), work, False, workshop), detail


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
