"""Which files of this machine an interpreter needs while it runs programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")

_SYSTEM = ("/usr/lib", "/usr/lib64", "/usr/lib32", "/lib", "/lib64", "/lib32")
_PREFIX = "/python"
"""Where the interpreter's own folders lie in a jail, unless they are the system's."""
_FOREIGN = ("site-packages", "dist-packages")


def lies_in(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def library_folders() -> list[str]:
    """The standard library, compiled modules, and the system's shared libraries."""
    stdlib = str(Path(os.__file__).parent)
    prefix = sys.base_prefix.rstrip("/")
    wanted = [*_SYSTEM, stdlib, f"{prefix}/lib", f"{prefix}/lib64", *_mapped_folders()]
    kept: list[str] = []
    for path in sorted(dict.fromkeys(wanted), key=len):
        if Path(path).is_dir() and not any(lies_in(path, one) for one in kept):
            kept.append(path)
    return kept


def _mapped_folders() -> list[str]:
    """Folders of the shared objects in use: distributions that keep them elsewhere (Nix, Guix)."""
    found = []
    try:
        maps = Path("/proc/self/maps").read_text(errors="surrogateescape")
    except OSError:
        return []
    for line in maps.splitlines():
        _, _, path = line.partition("/")
        if ".so" in path:
            found.append(str(Path("/" + path).parent))
    return found


def library_files() -> list[str]:
    """The cache of the dynamic linker, which knows libraries outside the usual folders."""
    return [path for path in ("/etc/ld.so.cache",) if Path(path).is_file()]


def hidden_folders() -> list[str]:
    """Installed packages inside library folders: a program gets the named packages only."""
    return [
        str(found)
        for folder in library_folders()
        if not Path(folder).is_symlink()
        for pattern in ("python3*", "pypy3*")
        for home in Path(folder).glob(pattern)
        for found in (home / name for name in _FOREIGN)
        if found.is_dir()
    ]


def library_path() -> list[str]:
    """`sys.path` without installed packages and without the folder of these files."""
    own = str(Path(__file__).parent.parent)
    return [path for path in sys.path if path and path != own and Path(path).name not in _FOREIGN]


def inside(path: str) -> str:
    """Where `path` of the machine lies in a jail.

    An interpreter below somebody's home moves to `/python`, so that a program sees no home.
    """
    prefix = sys.base_prefix.rstrip("/")
    if not lies_in(path, prefix) or lies_in(prefix, "/usr"):
        return path
    return _PREFIX + path[len(prefix) :]


def tool_place(name: str, path: str) -> str:
    """Where folder or file `path` of the machine, called `name` by a recipe, lies in a jail."""
    system = ("/usr", "/opt", "/etc", "/lib", "/lib64", "/bin")
    return path if any(lies_in(path, one) for one in system) else f"/toolchain/{name}"


def forget_outside() -> None:
    """Let the import system look for everything where it lies in the jail."""
    sys.path[:] = map(inside, sys.path)
    sys.path_importer_cache.clear()
    for module in list(sys.modules.values()):
        spec = getattr(module, "__spec__", None)
        for holder, name in ((module, "__path__"), (spec, "submodule_search_locations")):
            folders = getattr(holder, name, None)
            if isinstance(folders, list):
                folders[:] = map(inside, folders)
        if isinstance(getattr(module, "__file__", None), str):
            module.__file__ = inside(str(module.__file__))
    sys.executable = ""  # nothing can be executed
    sys.prefix = sys.exec_prefix = sys.base_exec_prefix = inside(sys.base_prefix)
    sys.base_prefix = sys.prefix
