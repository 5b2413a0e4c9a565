"""A server of vLLM in its own environment: started, waited for, ended."""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from astraios.config import foreign_environment
from astraios.errors import EngineError
from astraios.files import make_folder, storage
from astraios.generation.engines import _vllm_watch
from astraios.generation.engines._http import Failed, Refused, Server

__all__ = ["Process"]

POLL_S = 0.25
ANSWER_S = 5.0
"""Longest silence of a server that loads."""
TAIL = 2000
"""Characters of the log that a message shows at most."""
NO_CAUSE = (" WARNING ", "See stack trace")
"""Lines of the log that speak of errors and are none, or of one that was told before."""
IGNORED = "could not be wrapped by any LoRA layer"
"""What vLLM logs of a target that it does not serve; it goes on without."""
MODULE = "vllm.entrypoints.openai.api_server"


class Process:
    """A running server, and a process that watches over it.

    Args:
        python: interpreter of the environment that has vLLM.
        arguments: of the server.
        log: file that gets its output.
        timeout_s: how long it may take to load.
        silence_s: how long it may be silent within a request.
        devices: numbers of the GPUs it may see, with commas between them; None for all.

    Raises:
        EngineError: if the server ends, or does not answer in time; shows the end of its log.
    """

    def __init__(
        self,
        python: str,
        arguments: Sequence[str],
        *,
        log: Path | None,
        timeout_s: float,
        silence_s: float,
        devices: str | None = None,
    ) -> None:
        key = secrets.token_hex(16)  # so that nobody else on this machine is taken for it, or asks
        port = _free_port()
        self.server = Server(f"http://127.0.0.1:{port}", key, silence_s)
        self._log = log or Path(tempfile.mkdtemp(prefix="astraios-vllm-")) / "vllm.log"
        make_folder(self._log.parent)
        command = [python, "-m", MODULE, "--host", "127.0.0.1", "--port", str(port), *arguments]
        changes = {"VLLM_API_KEY": key, "VLLM_NO_USAGE_STATS": "1"}
        if devices is not None:
            changes["CUDA_VISIBLE_DEVICES"] = devices
        with storage(self._log), self._log.open("wb") as out:
            self._watch = subprocess.Popen(
                [sys.executable, "-E", "-S", _vllm_watch.__file__, *command],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=foreign_environment(**changes),
                start_new_session=True,
            )
        try:
            self._wait(timeout_s)
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Raise an EngineError if the server has ended."""
        status = self._watch.poll()
        if status is not None:
            raise EngineError(
                f"the server of vLLM has ended (status {status}); its log {str(self._log)!r} "
                f"says: {self._tail()}"
            )

    def check_adapter(self) -> None:
        """Raise an EngineError if the server says that it leaves out a part of its adapter."""
        ignored = [line for line in self._text().splitlines() if IGNORED in line]
        if ignored:
            raise EngineError(
                f"vLLM leaves out a part of the adapter: {ignored[0][-TAIL:]}. Fold it into its "
                "base: engine_options.merge=true"
            )

    def close(self) -> None:
        """End the server and everything it started."""
        assert self._watch.stdin is not None
        with contextlib.suppress(OSError):
            self._watch.stdin.close()
        try:
            self._watch.wait(_vllm_watch.GRACE_S + 5)
        except subprocess.TimeoutExpired:
            self._watch.terminate()
            self._watch.wait()

    def _wait(self, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        asked = Server(self.server.url, self.server.key, ANSWER_S)
        while True:
            self.check()
            with contextlib.suppress(Failed, Refused):
                asked.get("/v1/models")
                return
            if time.monotonic() > until:
                raise EngineError(
                    f"the server of vLLM does not answer after {timeout_s:g} s; its log "
                    f"{str(self._log)!r} says: {self._tail()}. A large model may need a larger "
                    "engine_options.start_timeout_s"
                )
            time.sleep(POLL_S)

    def _text(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def _tail(self) -> str:
        """The first error of the log, which the others follow from; else its end."""
        lines = [line for line in self._text().splitlines() if line.strip()]
        errors = [
            line
            for line in lines
            if ("Error: " in line or "error: " in line)
            and not any(word in line for word in NO_CAUSE)
        ]
        return "\n".join(errors[:1] or lines[-5:])[-TAIL:] or "nothing"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
