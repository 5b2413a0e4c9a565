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
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from astraios.errors import ConfigError, MissingToolError

if TYPE_CHECKING:
    import httpx2

__all__ = ["Client", "Failed", "Refused", "Server", "Tries"]

T = TypeVar("T")

CONNECT_S = 10.0
GET_S = 30.0
"""Longest silence of a server that is asked about itself, at most."""
RETRIED = frozenset({408, 409, 425, 429})
"""Statuses below 500 that say "later", not "wrong"."""
SHOWN = 300
"""Characters of a server's message that are told."""


class Refused(Exception):  # noqa: N818  # never leaves the engines
    """The server says that the request is wrong."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(f"{status}: {_short(message)}")
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
    longest_s: float = 60.0
    """Longest pause, also where a server asks for a longer one."""

    def pause_s(self, n_failed: int, asked_s: float | None) -> float:
        """Exponential, with jitter so that many requests do not come back at once."""
        doubled = self.first_s * 2.0 ** min(n_failed - 1, 60)
        chosen = min(doubled, self.longest_s) * random.uniform(0.5, 1.0)
        return max(chosen, min(asked_s or 0.0, self.longest_s))

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
        ConfigError: if the url is none, or it or the key holds what it may not.
        MissingToolError: if the HTTP client is not installed.
    """

    url: str
    """With or without `/v1` at the end."""
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 300.0
    """Longest wait for an answer, or for the next event of one."""

    def __post_init__(self) -> None:
        httpx = library()
        if "@" in self.url or "?" in self.url or "#" in self.url:  # not shown: it may be secret
            raise ConfigError(
                "the url holds a user name, a password or a query; give the address alone, and the "
                "key by api_key_variable, the name of an environment variable"
            )
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"url {self.url!r} is none: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(f"url {self.url!r} has to begin with http:// or https:// and a host")
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise ConfigError("the key has characters that no header can hold; set its variable")

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
        within = min(self.timeout_s, GET_S)
        with library().Client(**self._how(within)) as client, self._failures(within):
            response = client.get(self.base + path)
            self._check(response)
            return self._json(response.content)

    def post(self, path: str, body: Mapping[str, Any]) -> None:
        """Send JSON now; what is answered is of no interest. Raises as `get`."""
        within = self.timeout_s
        with library().Client(**self._how(within)) as client, self._failures(within):
            self._check(client.post(self.base + path, content=_body(body), headers=_JSON))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client for many requests, within one event loop."""
        # The number of connections is the number of requests at once, which the caller bounds.
        limits = library().Limits(max_connections=None, max_keepalive_connections=64)
        async with library().AsyncClient(**self._how(self.timeout_s), limits=limits) as client:
            yield Client(self, client)

    # --- what goes wrong ----------------------------------------------------------------------

    @contextmanager
    def _failures(self, within_s: float) -> Iterator[None]:
        """Turn the client's errors into `Failed`."""
        httpx = library()
        try:
            yield
        except httpx.ConnectError as error:
            raise Failed(f"no connection to {self.base}: {error}") from None
        except (httpx.TimeoutException, TimeoutError) as error:
            within = CONNECT_S if isinstance(error, httpx.ConnectTimeout) else within_s
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
        if (status >= 500 and status != 501) or status in RETRIED:
            told = f"the server answered {status}: {_short(message)}"
            raise Failed(told, retry_after_s=_retry_after_s(response.headers.get("retry-after")))
        if 300 <= status < 400:
            to = self.clean(response.headers.get("location", ""))
            message = f"it redirects to {to!r}; give the url that it wants"
        raise Refused(status, message, code)

    def _message(self, content: bytes) -> tuple[str, str]:
        """What an error's body says, and its code."""
        try:
            told = json.loads(content)
        except (ValueError, RecursionError):
            return self.clean(content.decode("utf-8", "replace")), ""
        return self._error(told) or (self.clean(json.dumps(told)), "")

    def _error(self, told: Any) -> tuple[str, str] | None:
        """Message and code of a JSON answer that is an error."""
        error = told.get("error") if isinstance(told, dict) else None
        if isinstance(error, dict):
            return self.clean(str(error.get("message", error))), str(error.get("code") or "")
        if isinstance(error, str) and error:
            return self.clean(error), str(told.get("error_type") or "")
        return None

    def _json(self, content: bytes | str) -> Any:
        try:
            told = json.loads(content)
        except (ValueError, RecursionError):
            raise Failed("the server answered malformed JSON") from None
        error = self._error(told)
        if error is not None:  # with status 200: in a stream, whose status was sent before
            message, code = error
            if code.isdigit() and 400 <= int(code) < 500 and int(code) not in RETRIED:
                raise Refused(int(code), message)
            raise Failed(f"the server reported: {_short(message)}")
        return told

    def clean(self, message: str) -> str:
        """`message` on one line, the key struck out."""
        message = message.replace(self.key, "***") if self.key else message
        return " ".join(message.split())

    def _how(self, within_s: float) -> dict[str, Any]:
        httpx = library()
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        url = httpx.URL(self.url)
        is_here = url.host in ("localhost", "0.0.0.0", "::1") or url.host.startswith("127.")
        return {
            "headers": headers,
            "timeout": httpx.Timeout(within_s, connect=CONNECT_S, pool=None),
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
        within, url = self.server.timeout_s, self.server.base + path
        with self.server._failures(within):
            async with asyncio.timeout(within):
                response = await self.client.post(url, content=_body(body), headers=_JSON)
            self.server._check(response)
            return self.server._json(response.content)

    async def events(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """The JSON of every event of the stream that answers `body`, and None at its proper end.

        A server that does not stream gives one event. Close the iterator to end the request.
        """
        within, url = self.server.timeout_s, self.server.base + path
        request = self.client.build_request("POST", url, content=_body(body), headers=_JSON)
        with self.server._failures(within):
            async with asyncio.timeout(within):
                response = await self.client.send(request, stream=True)
            async with aclosing(response):
                if response.status_code != 200 or not _is_stream(response):
                    async with asyncio.timeout(within):
                        await response.aread()
                    self.server._check(response)
                    yield self.server._json(response.content)
                    yield None
                    return
                response.encoding = "utf-8-sig"  # whatever is declared; with a mark or without
                # unlike `aiter_lines`, it does not take U+2028 in a completion for a line's end
                async with aclosing(aiter(library().EventSource(response))) as events:
                    while True:
                        async with asyncio.timeout(within):  # comments are no events
                            event = await anext(events, None)
                        if event is None:
                            return
                        if event.data == "[DONE]":
                            yield None
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


def _is_stream(response: httpx2.Response) -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == "text/event-stream"


def _short(message: str) -> str:
    return message if len(message) <= SHOWN else message[: SHOWN - 3] + "..."


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
