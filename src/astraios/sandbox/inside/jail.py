"""Level `namespaces`: this process becomes process 1 of a small world of its own.

New mount, pid, net, ipc, uts and cgroup namespaces (and a user namespace where the caller is not
root); a root made of a tmpfs with read-only binds of the interpreter, the named packages and the
system's libraries, three devices, and a tmpfs to work in. No `/proc`, no network, not even the
loopback interface; nothing else of the host.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from . import frames, paths, syscalls

WORK = "/tmp"
PACKAGES = "/packages"
INSIDE_UID = 1000
"""Id inside a user namespace: an ordinary one."""

KEPT = (
    syscalls.CAP_DAC_OVERRIDE, syscalls.CAP_KILL, syscalls.CAP_SETGID, syscalls.CAP_SETUID,
    syscalls.CAP_SYS_ADMIN,
)  # fmt: skip
"""What a server needs later: end programs, take their id, mount a fresh work folder."""

_NEW = (
    syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWCGROUP
)  # fmt: skip


class JailError(Exception):
    """A step that this machine refuses; the text says which."""


def enter(
    packages: dict[str, list[str]], channel: frames.Channel, tools: dict[str, str] | None = None
) -> bool:
    """Return as process 1 of new namespaces with a new root; the caller's process waits.

    Args:
        packages: name -> folders to offer for import.
        channel: the one descriptor that the inside keeps.
        tools: path of this machine -> path inside, of what commands need.

    Returns:
        Whether the ids of the machine are still in force (no user namespace).

    Raises:
        JailError: if the kernel or a container forbids a step.
    """
    own_ids = _leave_namespaces()
    inside = os.fork()
    if inside:
        channel.close()
        _wait_for(inside)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        root = _build_root(packages, tools or {})
        os.chdir(root)
        syscalls.pivot_root(".", ".")
        syscalls.unmount(".")
        os.chdir("/")
        syscalls.make_read_only("/")
        socket.sethostname("sandbox")
        syscalls.drop_bounding_set(KEPT)
        syscalls.set_capabilities(KEPT)
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    except OSError as error:
        raise JailError(error.strerror or str(error)) from error
    sys.path[:] = [*paths.library_path(), PACKAGES]
    paths.forget_outside()
    return own_ids


def _leave_namespaces() -> bool:
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        try:
            syscalls.unshare(_NEW)
            return True
        except OSError:  # root of a container that may not; it may have user namespaces
            pass
    try:
        syscalls.unshare(_NEW | syscalls.CLONE_NEWUSER)
    except OSError as error:
        raise JailError(f"user namespaces: {error.strerror}") from error
    try:
        Path("/proc/self/setgroups").write_text("deny")  # before the group map, or it is refused
        Path("/proc/self/gid_map").write_text(f"{INSIDE_UID} {gid} 1")
        Path("/proc/self/uid_map").write_text(f"{INSIDE_UID} {uid} 1")
    except OSError as error:
        raise JailError(f"mapping ids: {error.strerror}") from error
    return False


def begin_again() -> None:
    """Return as process 1 of one more process namespace; what was started before is out of reach.

    Raises:
        JailError: if the kernel refuses.
    """
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
    except OSError as error:
        raise JailError(f"process namespace: {error.strerror}") from error
    inside = os.fork()
    if inside:
        _wait_for(inside)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_for(inside: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.waitpid(inside, 0)
    os._exit(0)


def _build_root(packages: dict[str, list[str]], tools: dict[str, str]) -> str:
    """Mount the new root over a folder that nothing here needs, and fill it."""
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    needed = [
        *paths.library_folders(),
        *(path for many in packages.values() for path in many),
        *tools,
    ]
    spare = [path for path in ("/proc", "/mnt", "/media", "/srv") if Path(path).is_dir()]
    root = next(
        (path for path in spare if not any(paths.lies_in(one, path) for one in needed)), None
    )
    if root is None:
        raise JailError("no folder to mount a root on (/proc, /mnt, /media, /srv)")
    syscalls.mount("root", root, "tmpfs", syscalls.MS_NOSUID, "size=1m,nr_inodes=4096,mode=755")
    for path in paths.library_folders():
        _offer(path, root + paths.inside(path))
    for path in map(paths.inside, paths.hidden_folders()):
        if Path(root + path).is_dir():
            syscalls.mount("none", root + path, "tmpfs", syscalls.MS_RDONLY, "size=4k,mode=755")
    for path in paths.library_files():
        _offer_file(path, root + path)
    for source in (path for many in packages.values() for path in many):
        _offer(source, f"{root}{PACKAGES}/{Path(source).name}")
    for source, target in tools.items():
        if not os.path.lexists(root + target):  # else it came with a folder above it
            (_offer if Path(source).is_dir() else _offer_file)(source, root + target)
    for name in paths.DEVICES:
        _offer_file(name, root + name)
    _offer_file("/dev/urandom", root + "/dev/random")
    Path(root + WORK).mkdir(exist_ok=True)
    Path(root + "/dev/shm").symlink_to(WORK)  # where the C library looks for shared memory
    return root


def _offer(source: str, target: str) -> None:
    """A read-only view of folder `source`; a link stays a link."""
    if Path(source).is_symlink():
        if not os.path.lexists(target):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            Path(target).symlink_to(Path(source).readlink())
        return
    Path(target).mkdir(parents=True, exist_ok=True)
    syscalls.mount(source, target, "", syscalls.MS_BIND | syscalls.MS_REC)
    syscalls.make_read_only(target)


def _offer_file(source: str, target: str) -> None:
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).touch()
    syscalls.mount(source, target, "", syscalls.MS_BIND)
