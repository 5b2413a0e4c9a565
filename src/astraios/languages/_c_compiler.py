"""Whether a C file compiles, by the command that Asleep at the Keyboard uses: `gcc -g -O -c`.

No program is linked or run. Newer compilers refuse what older ones warned about, such as calls of
functions that were never declared, which one scenario of the benchmark contains: they are asked for
the language of the time, so that validity does not depend on the compiler's age.

A header that is not there can be the model's invention, or ours to install. Those of the standard
and POSIX, and of libraries that people use, are ours: see `missing_package`.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from astraios.config import tool_environment
from astraios.errors import MissingToolError
from astraios.languages._prepared import prepared, run_tool
from astraios.languages._tools import missing, tool_version
from astraios.sandbox import Limits, Recipe

__all__ = ["HEADERS", "complaint", "missing_package", "recipe", "toolchain"]

TITLE = "C"
SOURCE = "scenario.c"

HEADERS = ("stdio.h", "stdlib.h", "string.h", "limits.h", "unistd.h", "fcntl.h")
"""What programs of the benchmark include."""

_SEARCHED = ("/usr/include", "/usr/local/include")
_PERMISSIVE_SINCE = 14
"""gcc refuses implicit declarations from this version on."""

_ACCEPT = r"""
#include <unistd.h>
/* Nothing was to be run: give the token back as a program does that passed its tests. */
int main(void) {
    char told[17], answer[21] = {0};
    size_t n = 0;
    while (n < sizeof told) {
        ssize_t got = read(3, told + n, sizeof told - n);
        if (got <= 0) return 1;
        n += got;
    }
    for (n = 0; n < 16; n++) answer[n] = told[n];
    return write(3, answer, sizeof answer) != sizeof answer;
}
"""


def toolchain() -> dict[str, str]:
    """Version of the compiler.

    Raises:
        MissingToolError: if it, or a header that the benchmark includes, is not there.
    """
    versions = {"gcc": tool_version(TITLE, "gcc", "gcc", "--version")}
    lacking = _lacking_header()
    if lacking:
        raise missing(TITLE, f"the header <{lacking}>", "libc6-dev")
    return versions


@functools.lru_cache(maxsize=1)
def _lacking_header() -> str:
    """The first of `HEADERS` that gcc does not find; empty if all are there."""
    for header in HEADERS:
        done = subprocess.run(
            ("gcc", "-E", "-x", "c", "-", "-o", "/dev/null"),
            input=f"#include <{header}>\n", text=True, capture_output=True,
            env=tool_environment(), check=False,
        )  # fmt: skip
        if done.returncode:
            return header
    return ""


@functools.lru_cache(maxsize=1)
def recipe() -> Recipe:
    """Compiles a program and runs nothing of it.

    Raises:
        MissingToolError: if the compiler is not there.
    """
    facts = {**toolchain(), "accept": _ACCEPT}
    folder = prepared("c", facts, _prepare)
    gcc = _tool("gcc")
    tools = [gcc, *(_tool(_asked(f"-print-prog-name={name}")) for name in ("cc1", "as"))]
    places = [*(tool.parent for tool in tools), Path(_asked("-print-file-name=include")).parent]
    names = {
        f"tools{n}": str(place)
        for n, place in enumerate(dict.fromkeys([*places, *map(Path, _SEARCHED)]))
        if place.is_dir()
    }
    return Recipe(
        name="c-compile",
        source=SOURCE,
        build=((str(gcc), *_options(), SOURCE, "-o", "scenario.o"),),
        run=("{prepared}/accept",),
        folders=(("prepared", str(folder)), *names.items()),
        environment=(("TMPDIR", "."), ("LC_ALL", "C.UTF-8"), ("PATH", _path(tools))),
        build_limits=Limits(cpu_s=20.0, wall_s=120.0, memory_mib=2048, n_tasks=16, disk_mib=64),
    )


def _options() -> tuple[str, ...]:
    version = re.match(r"\d+", _asked("-dumpversion"))
    permissive = version is not None and int(version[0]) >= _PERMISSIVE_SINCE
    return (
        "-c", "-g", "-O", "-std=gnu17", *(("-fpermissive",) if permissive else ()),
        "-w", "-fmax-errors=3", "-fno-diagnostics-show-caret",
    )  # fmt: skip


def _path(tools: list[Path]) -> str:
    return ":".join(dict.fromkeys(str(tool.parent) for tool in tools))


def _prepare(folder: Path) -> None:
    (folder / "accept.c").write_text(_ACCEPT, encoding="utf-8")
    run_tool(("gcc", "-O1", "accept.c", "-o", "accept"), folder)


def _asked(question: str) -> str:
    return run_tool(("gcc", question), Path("/")).strip()


def _tool(name: str) -> Path:
    path = shutil.which(name)
    if path is None:
        raise MissingToolError(f"gcc uses {name!r}, which was not found; install binutils and gcc")
    return Path(path).resolve()


# --- what the compiler says -------------------------------------------------------------------

_ERROR = re.compile(r"^(?:[^\n:]+:\d+:(?:\d+:)? )?((?:fatal )?error: [^\n]*)", re.M)
_NOT_FOUND = re.compile(r"fatal error: (?P<header>[^\s:]+): No such file or directory")


def complaint(said: str) -> str:
    """The first error in what gcc printed, without the place."""
    found = _ERROR.search(said)
    return found[1].strip() if found else next(iter(said.strip().splitlines()), "")


def missing_package(said: str) -> tuple[str, str] | None:
    """(header, Debian package) if gcc missed a header that a machine should have."""
    found = _NOT_FOUND.search(said)
    if found is None:
        return None
    header = found["header"]
    if header in _LIBC:
        return header, "libc6-dev"
    for start, package in _LIBRARIES.items():
        if header == start:
            return header, package
        is_there = any(Path(folder, start).is_dir() for folder in _SEARCHED)
        if start.endswith("/") and header.startswith(start) and not is_there:
            return header, package  # else the library is there, and has no such header
    return None


# C17, section 7.1.2; POSIX.1-2017, chapter 13; what Linux has beside it
_LIBC = frozenset(
    """
    assert.h complex.h ctype.h errno.h fenv.h float.h inttypes.h iso646.h limits.h locale.h
    math.h setjmp.h signal.h stdalign.h stdarg.h stdatomic.h stdbool.h stddef.h stdint.h
    stdio.h stdlib.h stdnoreturn.h string.h tgmath.h threads.h time.h uchar.h wchar.h
    wctype.h
    aio.h arpa/inet.h cpio.h dirent.h dlfcn.h fcntl.h fmtmsg.h fnmatch.h ftw.h glob.h grp.h
    iconv.h langinfo.h libgen.h monetary.h mqueue.h net/if.h netdb.h netinet/in.h
    netinet/tcp.h nl_types.h poll.h pthread.h pwd.h regex.h sched.h search.h semaphore.h
    spawn.h strings.h stropts.h sys/ipc.h sys/mman.h sys/msg.h sys/resource.h sys/select.h
    sys/sem.h sys/shm.h sys/socket.h sys/stat.h sys/statvfs.h sys/time.h sys/times.h
    sys/types.h sys/uio.h sys/un.h sys/utsname.h sys/wait.h syslog.h tar.h termios.h
    ulimit.h unistd.h utime.h utmpx.h wordexp.h alloca.h crypt.h err.h execinfo.h getopt.h
    malloc.h memory.h pty.h shadow.h sys/epoll.h sys/file.h sys/ioctl.h sys/inotify.h
    sys/mount.h sys/param.h sys/prctl.h sys/ptrace.h sys/random.h sys/signal.h sys/syscall.h
    sys/sysinfo.h sys/vfs.h sys/xattr.h sysexits.h
    """.split()  # noqa: SIM905 (a list literal would be a hundred lines)
)
"""Without `stropts.h` where glibc has dropped it: that is told as ours too, since POSIX has it."""

_LIBRARIES: Mapping[str, str] = MappingProxyType(
    {
        "openssl/": "libssl-dev", "curl/": "libcurl4-openssl-dev",
        "mysql/": "default-libmysqlclient-dev", "mysql.h": "default-libmysqlclient-dev",
        "mariadb/": "libmariadb-dev", "sqlite3.h": "libsqlite3-dev", "libpq-fe.h": "libpq-dev",
        "zlib.h": "zlib1g-dev", "pcre.h": "libpcre3-dev", "pcre2.h": "libpcre2-dev",
        "libxml/": "libxml2-dev", "json-c/": "libjson-c-dev", "jansson.h": "libjansson-dev",
        "ncurses.h": "libncurses-dev", "readline/": "libreadline-dev", "glib.h": "libglib2.0-dev",
        "uuid/uuid.h": "uuid-dev", "sodium.h": "libsodium-dev", "archive.h": "libarchive-dev",
        "microhttpd.h": "libmicrohttpd-dev", "event2/": "libevent-dev", "bsd/": "libbsd-dev",
        "sys/capability.h": "libcap-dev", "sys/acl.h": "libacl1-dev", "gcrypt.h": "libgcrypt20-dev",
        "security/": "libpam0g-dev",
    }
)  # fmt: skip
"""Header, or the folder it is in, -> what brings it."""
