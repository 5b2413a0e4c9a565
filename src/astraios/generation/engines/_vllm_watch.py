"""Runs a server and ends it with the process that asked for it, however that one ends.

    python _vllm_watch.py COMMAND ...

The one who asks holds the other end of standard input. Once that is closed, by `close` or by the
kernel after a SIGKILL, the server's whole process group is ended: servers have children of their
own. Standard library only; run by path.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_S = 15.0
"""Time between asking a server to end and killing it."""


def main(command: list[str]) -> int:
    """Run `command` until it ends or standard input does; its exit status."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def end(*_: object) -> None:
        _signal(server.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(GRACE_S)
        _signal(server.pid, signal.SIGKILL)

    def watch() -> None:
        while os.read(0, 4096):
            pass
        end()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the one who asks decides
    threading.Thread(target=watch, daemon=True).start()
    status = server.wait()
    _signal(server.pid, signal.SIGKILL)  # what it may have left
    return status


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
