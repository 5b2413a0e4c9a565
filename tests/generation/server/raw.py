"""A server that answers with given bytes, in threads of the test's process."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

Answer = Callable[[str, dict[str, Any]], bytes | Iterable[bytes]]
"""Path and body of a request -> what is sent, head and all; then the connection is closed."""


class Raw:
    """Listens on 127.0.0.1; leave the context to end it."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: list[tuple[str, dict[str, Any]]] = []
        """Path and body of every request."""
        self.heads: list[str] = []
        self.n_open = 0
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self.n_open += 1
        try:
            with connection, contextlib.suppress(OSError):
                data = b""
                while b"\r\n\r\n" not in data:
                    data += connection.recv(65536) or b"\r\n\r\n"
                head, _, rest = data.partition(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                length = next(
                    (int(x[15:]) for x in lines if x.lower().startswith("content-length:")), 0
                )
                while len(rest) < length:
                    rest += connection.recv(65536)
                path = lines[0].split()[1]
                body = json.loads(rest or b"{}")
                self.seen.append((path, body))
                self.heads.append(head.decode())
                sent = self.answer(path, body)
                for part in [sent] if isinstance(sent, bytes) else sent:
                    connection.sendall(part)
        finally:
            self.n_open -= 1

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()


def http(
    body: bytes | str | dict[str, Any],
    *,
    status: int = 200,
    kind: str | None = "application/json",
    **headers: str,
) -> bytes:
    """A reply that ends with its connection."""
    if isinstance(body, dict):
        body = json.dumps(body)
    data = body if isinstance(body, bytes) else body.encode()
    head = f"HTTP/1.0 {status} Said\r\n"
    head += "" if kind is None else f"Content-Type: {kind}\r\n"
    head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return head.encode() + b"\r\n" + data


def stream(*events: Any, end: str = "\n", before: str = "", done: bool = True) -> bytes:
    """A reply of events."""
    told = [*map(json.dumps, events), *(["[DONE]"] if done else [])]
    body = before + "".join(f"data: {one}{end}{end}" for one in told)
    return http(body, kind="text/event-stream")
