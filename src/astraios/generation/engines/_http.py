"""A server that speaks OpenAI's protocol: requests, streams of events, and what goes wrong.

What goes wrong is of two kinds, and nothing else leaves this module:

    Refused   the request is wrong and would be again: 400, 401, 404, ...
    Failed    the server's doing: no connection, no answer in time, 408, 429, 5xx, malformed JSON, a
              stream that breaks off; worth another try

The key is sent in a header and is in no message, not even where the server repeats it.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from astraios.errors import ConfigError, MissingToolError

if TYPE_CHECKING:
    import httpx2

__all__ = ["Client", "Failed", "Refused", "Server", "Tries"]

T = TypeVar("T")

MAX_WAIT_S = 60.0
"""Longest pause that we choose ourselves."""
MAX_RETRY_AFTER_S = 600.0
"""Longest pause that a server may ask for."""
CONNECT_S = 10.0
RETRIED = frozenset({408, 409, 425, 429})
"""Statuses below 500 that say "later", not "wrong"."""
SHOWN = 300
"""Characters of a server's message that are told."""


class Refused(Exception):  # noqa: N818  # never leaves the engines
    """The server says that the request is wrong."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message, self.code = status, message, code


class Failed(Exception):  # noqa: N818
    """The server did not answer, or answered what is no answer."""

    def __init__(
        self, reason: str, *, retry_after_s: float | None = None, again: bool = True
    ) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.again = again
        """Whether another try may end otherwise."""


@dataclass(frozen=True)
class Tries:
    """How often a request is sent, and how long it is waited in between."""

    n: int = 5
    first_s: float = 1.0
    """Pause after the first failure; each following one is twice as long."""

    def pause_s(self, n_failed: int, asked_s: float | None) -> float:
        """Exponential, with jitter so that many requests do not come back at once."""
        chosen = min(self.first_s * 2.0 ** (n_failed - 1), MAX_WAIT_S) * random.uniform(0.5, 1.0)
        return max(chosen, min(asked_s or 0.0, MAX_RETRY_AFTER_S))

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What `attempt` gives.

        Raises:
            Failed: after the last try.
        """
        for n_failed in range(1, self.n + 1):
            try:
                return await attempt()
            except Failed as failure:
                if n_failed == self.n or not failure.again:
                    raise _counted(failure, n_failed) from None
                await asyncio.sleep(self.pause_s(n_failed, failure.retry_after_s))
        raise AssertionError("a request is tried at least once")

    def run_now(self, attempt: Callable[[], T]) -> T:
        """`run`, without an event loop."""
        for n_failed in range(1, self.n + 1):
            try:
                return attempt()
            except Failed as failure:
                if n_failed == self.n or not failure.again:
                    raise _counted(failure, n_failed) from None
                time.sleep(self.pause_s(n_failed, failure.retry_after_s))
        raise AssertionError("a request is tried at least once")


@dataclass(frozen=True)
class Server:
    """Where a server is and how it is spoken to.

    Raises:
        ConfigError: if the url is none, or holds a password.
        MissingToolError: if the HTTP client is not installed.
    """

    url: str
    """With or without `/v1` at the end."""
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 300.0
    """Longest silence of a server that has a request."""

    def __post_init__(self) -> None:
        httpx = library()
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"url {self.url!r} is none: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(f"url {self.url!r} has to begin with http:// or https:// and a host")
        if url.userinfo:
            raise ConfigError(
                "the url holds a user name or a password; give the key by api_key_variable, "
                "the name of an environment variable"
            )

    @property
    def base(self) -> str:
        """The url without `/v1`."""
        return self.url.rstrip("/").removesuffix("/v1").rstrip("/")

    def get(self, path: str) -> Any:
        """The JSON at `path`, now.

        Raises:
            Refused: ...
            Failed: ... both after one try.
        """
        with library().Client(**self._how()) as client, self._failures():
            response = client.get(self.base + path)
            self._check(response)
            return self._json(response.content)

    def post(self, path: str, body: Mapping[str, Any]) -> None:
        """Send JSON now; what is answered is of no interest. Raises as `get`."""
        with library().Client(**self._how()) as client, self._failures():
            self._check(client.post(self.base + path, content=_body(body), headers=_JSON))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client for many requests, within one event loop."""
        # The number of connections is the number of requests at once, which the caller bounds.
        limits = library().Limits(max_connections=None, max_keepalive_connections=64)
        async with library().AsyncClient(**self._how(), limits=limits) as client:
            yield Client(self, client)

    # --- what goes wrong ----------------------------------------------------------------------

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn the client's errors into `Failed`."""
        httpx = library()
        try:
            yield
        except httpx.ConnectError as error:
            raise Failed(f"no connection to {self.base}: {error}") from None
        except httpx.TimeoutException as error:
            within = CONNECT_S if isinstance(error, httpx.ConnectTimeout) else self.timeout_s
            raise Failed(f"no answer from {self.base} within {within:g} s") from None
        except httpx.HTTPError as error:
            told = str(error) or type(error).__name__
            raise Failed(f"the connection to {self.base} broke off ({told})") from None

    def _check(self, response: httpx2.Response) -> None:
        """Refuse a status that is no success; the body has been read."""
        status = response.status_code
        if 200 <= status < 300:
            return
        message, code = self._message(response.content)
        message = message or response.reason_phrase
        if status >= 500 or status in RETRIED:
            told = f"the server answered {status}: {message}"
            raise Failed(told, retry_after_s=_retry_after_s(response.headers.get("retry-after")))
        if 300 <= status < 400:
            message = f"it redirects to {response.headers.get('location')!r}; give that as url"
        raise Refused(status, message, code)

    def _message(self, content: bytes) -> tuple[str, str]:
        """What an error's body says, and its code."""
        try:
            told = json.loads(content)
        except ValueError:
            return self._clean(content.decode("utf-8", "replace")), ""
        return self._error(told) or (self._clean(json.dumps(told)), "")

    def _error(self, told: Any) -> tuple[str, str] | None:
        """Message and code of a JSON answer that is an error."""
        error = told.get("error") if isinstance(told, dict) else None
        if isinstance(error, dict):
            return self._clean(str(error.get("message", error))), str(error.get("code") or "")
        if isinstance(error, str):
            return self._clean(error), str(told.get("error_type") or "")
        return None

    def _json(self, content: bytes | str) -> Any:
        try:
            told = json.loads(content)
        except ValueError:
            raise Failed("the server answered malformed JSON") from None
        error = self._error(told)
        if error is not None:  # with status 200: in a stream, whose status was sent before
            message, code = error
            if code.isdigit() and 400 <= int(code) < 500 and int(code) not in RETRIED:
                raise Refused(int(code), message)
            raise Failed(f"the server reported: {message}")
        return told

    def _clean(self, message: str) -> str:
        message = " ".join(message.split())
        if self.key:
            message = message.replace(self.key, "***")
        return message if len(message) <= SHOWN else message[: SHOWN - 3] + "..."

    def _how(self) -> dict[str, Any]:
        httpx = library()
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        url = httpx.URL(self.url)
        is_here = url.host in ("localhost", "127.0.0.1", "::1")
        return {
            "headers": headers,
            "timeout": httpx.Timeout(self.timeout_s, connect=CONNECT_S, pool=None),
            "trust_env": not is_here,  # a proxy for the outside does not know this machine
            "verify": url.scheme == "https",  # reading certificates takes longer than a request
        }


@dataclass(frozen=True)
class Client:
    """Requests to a server within an event loop; nothing is tried twice here."""

    server: Server
    client: httpx2.AsyncClient

    async def answer(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that answers `body`."""
        with self.server._failures():
            url = self.server.base + path
            response = await self.client.post(url, content=_body(body), headers=_JSON)
            self.server._check(response)
            return self.server._json(response.content)

    async def events(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """The JSON of every event of the stream that answers `body`.

        A server that does not stream gives one event. Close the iterator to end the request.
        """
        httpx = library()
        with self.server._failures():
            url = self.server.base + path
            async with self.client.stream(
                "POST", url, content=_body(body), headers=_JSON
            ) as response:
                if response.status_code != 200:
                    await response.aread()
                    self.server._check(response)
                kind = response.headers.get("content-type", "").partition(";")[0].strip()
                if kind != "text/event-stream":
                    await response.aread()
                    yield self.server._json(response.content)
                    return
                # unlike `aiter_lines`, it does not take U+2028 in a completion for a line's end
                async for event in httpx.EventSource(response):
                    if event.data == "[DONE]":
                        return
                    if event.data:
                        yield self.server._json(event.data)


def library() -> Any:
    """The HTTP client.

    Raises:
        MissingToolError: if it is not installed.
    """
    try:
        import httpx2
    except ImportError:
        raise MissingToolError(
            "servers are spoken to by httpx2, which is not installed; install it with: "
            "pip install 'astraios[server]'"
        ) from None
    return httpx2


_JSON = {"Content-Type": "application/json"}


def _body(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values).encode("ascii")  # a lone surrogate has no other spelling


def _counted(failure: Failed, n_tries: int) -> Failed:
    tries = f" ({n_tries} tries)" if n_tries > 1 else ""
    return Failed(f"{failure}{tries}", again=False)


def _retry_after_s(value: str | None) -> float | None:
    """Seconds, from seconds or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (then - datetime.now(UTC)).total_seconds()) if then.tzinfo else None
