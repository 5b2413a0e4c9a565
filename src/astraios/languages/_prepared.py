"""What a toolchain makes once for all programs: a precompiled header, a driver, libraries.

It is made from our own sources by this machine's own tools, outside of the sandbox, and kept in the
cache folder under a name that changes with everything it is made from.
"""

from __future__ import annotations

import atexit
import functools
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from astraios.config import digest, tool_environment, toolchains_dir
from astraios.errors import StorageError, WorkError
from astraios.files import fill_folder

log = logging.getLogger(__name__)


def prepared(name: str, facts: Mapping[str, str], make: Callable[[Path], None]) -> Path:
    """The folder that `make` filled, now or in an earlier run.

    Args:
        name: what it is for, a part of its name.
        facts: everything it depends on: sources, versions, options.
        make: fills the folder it is given.
    """
    home = toolchains_dir()
    if home is not None:
        folder = home.resolve() / f"{name}-{digest(dict(facts))}"
        if folder.is_dir():
            return folder
        try:
            with fill_folder(folder) as scratch:
                log.info("preparing %s in %s", name, folder)
                make(scratch)
            return folder
        except StorageError as error:
            log.warning("%s is prepared anew for this process: %s", name, error)
    return _for_this_process(name, make)


@functools.lru_cache
def _for_this_process(name: str, make: Callable[[Path], None]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"astraios-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    make(folder)
    return folder


def run_tool(command: Sequence[str], folder: Path, **environment: str) -> str:
    """What a trusted tool prints when it is run in `folder`.

    Raises:
        WorkError: if it fails; with what it said.
    """
    done = subprocess.run(
        command, cwd=folder, env={**tool_environment(), **environment}, check=False,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise WorkError(f"{' '.join(command)} fails on this machine:\n{said}")
    return done.stdout
