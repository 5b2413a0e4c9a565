"""What a config's `engine_options` may say to engines that speak to a server."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from astraios.config import Config, secret
from astraios.generation.engines._http import Server, Tries

__all__ = ["OpenAIOptions", "ServerOptions", "VLLMOptions"]


class ServerOptions(Config):
    """How any server is spoken to."""

    url: str | None = None
    """Of the server, with or without `/v1`."""
    model: str | None = None
    """The name under which the server knows the model."""
    api_key_variable: str | None = None
    """NAME of the environment variable that holds the key; the key itself is stored nowhere."""
    timeout_s: float = Field(default=300.0, gt=0)
    """Longest wait for an answer, or for the next event of a stream, in seconds."""
    n_at_once: int = Field(default=16, ge=1, le=4096)
    """Requests in flight."""
    n_tries: int = Field(default=5, ge=1)
    """How often a request is sent before it is a fault."""
    first_pause_s: float = Field(default=1.0, ge=0)
    """Pause after a failure, in seconds; twice as long after each further one."""
    max_pause_s: float = Field(default=60.0, ge=0)
    """Longest pause, in seconds, also where a server asks for a longer one."""

    def server(self, url: str) -> Server:
        """The server at `url`, with the key.

        Raises:
            ConfigError: if the url is none, or the key's variable is not set.
        """
        key = None if self.api_key_variable is None else secret(self.api_key_variable)
        return Server(url, key, self.timeout_s)

    @property
    def tries(self) -> Tries:
        """How requests are repeated."""
        return Tries(self.n_tries, self.first_pause_s, self.max_pause_s)


class OpenAIOptions(ServerOptions):
    """Any endpoint that speaks OpenAI's protocol."""

    endpoint: Literal["completions", "chat"] = "completions"
    """Where prompts go that are plain text: `/v1/completions` goes on with them; to `/v1/chat/
    completions` each is a user's message, for servers that have nothing else."""
    logprobs: bool = True
    """Ask for log-probabilities along with the text: they tell where tokens end and how many there
    are. Without them a completion ends with the last character of a stop instead of its token."""


class VLLMOptions(ServerOptions):
    """A server of vLLM: a running one by its `url`, or one that is started by `python`."""

    python: str | None = None
    """Interpreter of the environment that vLLM is installed in; `ASTRAIOS_VLLM_PYTHON` by default.
    A server is started with it and ended with the engine."""
    arguments: tuple[str, ...] = ()
    """More arguments of the server that is started, such as `--max-model-len`, `4096`."""
    start_timeout_s: float = Field(default=900.0, gt=0)
    """How long a server may take to load its model, in seconds."""
    merge: bool = False
    """Fold an adapter that vLLM could serve as it is into its base."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.url is not None and (self.python is not None or self.arguments):
            raise ValueError("url is for a running server, python and arguments for one to start")
        return self
