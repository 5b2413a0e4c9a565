"""OpenAI's protocol: what is sent, what comes back, and what a refusal means."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from astraios.errors import AstraiosError, DataError, EngineError
from astraios.generation import Drawn
from astraios.generation.engines._http import Failed, Refused, Server
from astraios.generation.engines._models import key_hint, listed
from astraios.generation.engines._options import ServerOptions
from astraios.generation.keys import prompt_sha
from astraios.records import Finish, Prompt, Sample, Sampling

__all__ = [
    "CHAT",
    "COMPLETIONS",
    "Piece",
    "Reply",
    "conversation",
    "drawing",
    "drawn",
    "echoed",
    "explained",
    "fault",
    "messages",
]

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"

FINISHES: Mapping[str, Finish] = {
    "stop": Finish.EOS,  # stop strings are not sent, so it is the model that stopped
    "eos": Finish.EOS,  # llama.cpp
    "eos_token": Finish.EOS,  # TGI
    "length": Finish.LENGTH,
}
PASSING = ("abort", "error", "cancelled")
"""Reasons to end that another try may not meet."""

TOO_LONG = re.compile(
    r"context[ _](length|size|window)|maximum context|max_model_len|too many (input )?tokens|"
    r"(input|prompt)\b.{0,40}\btoo long|must be <= \d+|exceeds? the (available )?context",
    re.IGNORECASE,
)


# --- what is sent -----------------------------------------------------------------------------


def drawing(sampling: Sampling, random: int) -> dict[str, Any]:
    """How tokens are drawn: greedily, or by the seed of the sample's own random stream.

    The seed has 31 bits: more than that is not taken everywhere.
    """
    if sampling.temperature == 0:
        return {"temperature": 0}
    seed = random & (2**31 - 1)
    return {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": seed}


def conversation(prompt: Prompt) -> dict[str, Any]:
    """The fields for a prompt of kind chat; a last message of the assistant's is gone on with."""
    found = messages(prompt)
    if found[-1]["role"] != "assistant":
        return {"messages": found}
    if not found[-1]["content"]:
        return {"messages": found[:-1]}
    # fields of vLLM and others; OpenAI itself refuses them, and so it should
    return {"messages": found, "continue_final_message": True, "add_generation_prompt": False}


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """The messages that the text of a prompt of kind chat is.

    Raises:
        DataError: if it is something else, or says nothing.
    """
    try:
        found = json.loads(prompt.text)
    except ValueError:
        found = None
    fine = isinstance(found, list) and all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in found
    )
    if not fine or not any(message["content"] for message in found):
        raise DataError(
            f"problem {prompt.problem_id!r}, turn {prompt.turn}: a prompt of kind chat has to be "
            f"a JSON list of messages, each with a role and a content; found {prompt.text[:60]!r}"
        )
    return list(found)


def fault(prompt: Prompt, index: int, reason: str) -> Sample:
    """What stands for a sample without an answer."""
    return Sample(
        problem_id=prompt.problem_id,
        index=index,
        turn=prompt.turn,
        prompt_sha=prompt_sha(prompt.text),
        completion="",
        finish=Finish.FAULT,
        fault=reason,
    )


# --- what comes back --------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """What one event adds to a completion."""

    text: str = ""
    tokens: tuple[str, ...] | None = None
    """Each as text; None where they are not told."""
    ids: tuple[int, ...] | None = None


class Reply:
    """What the events of one reply said."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.model: str | None = None
        self.n_prompt_tokens: int | None = None
        self.n_completion_tokens: int | None = None
        self.tells_tokens = False
        self._n_choices = 0

    def read(self, event: Any) -> Piece:
        """Take in an event.

        Raises:
            Failed: if it is not what the protocol says.
        """
        try:
            return self._read(event)
        except (TypeError, KeyError, AttributeError, ValueError, IndexError):
            raise Failed(f"the server answered what is no completion: {_shown(event)}") from None

    def _read(self, event: Any) -> Piece:
        if isinstance(event.get("model"), str):
            self.model = event["model"]
        if usage := event.get("usage"):
            self.n_prompt_tokens = int(usage.get("prompt_tokens") or 0)
            self.n_completion_tokens = int(usage.get("completion_tokens") or 0)
        choices = [choice for choice in event["choices"] if choice.get("index", 0) == 0]
        if not choices:
            return Piece()
        self._n_choices += 1
        [choice] = choices
        if choice.get("finish_reason"):
            self.reason = str(choice["finish_reason"])
        tokens = _tokens(choice.get("logprobs"))
        self.tells_tokens |= bool(tokens)
        ids = choice.get("token_ids")
        return Piece(_text(choice), tokens, None if ids is None else tuple(map(int, ids)))

    def finish(self) -> Finish:
        """Why the server ended the completion.

        Raises:
            Failed: if it did not say so, or for a reason that leaves no completion.
        """
        if not self._n_choices:
            raise Failed("the server's reply holds no completion")
        if self.reason is None:
            raise Failed("the server's reply broke off before its end")
        if self.reason not in FINISHES:
            again = self.reason in PASSING
            raise Failed(f"the server ended it with finish_reason {self.reason!r}", again=again)
        return FINISHES[self.reason]


def _text(choice: Mapping[str, Any]) -> str:
    if "text" in choice:
        text = choice["text"]
    else:
        told = choice["delta"] if "delta" in choice else choice["message"]
        text = told.get("content")
    if not isinstance(text, str | None):
        raise TypeError
    return text or ""


def _tokens(logprobs: Any) -> tuple[str, ...] | None:
    """The tokens of a choice, by the two forms of the protocol; None if it tells none."""
    if not logprobs:
        return None
    if logprobs.get("content") is not None:
        return tuple(str(entry["token"]) for entry in logprobs["content"])
    return tuple(map(str, logprobs["tokens"])) if logprobs.get("tokens") is not None else None


def drawn(reply: Any) -> list[Drawn]:
    """The tokens of a whole reply, with their log-probabilities.

    Raises:
        EngineError: if the server does not tell them.
        Failed: if the reply is none.
    """
    try:
        logprobs = reply["choices"][0].get("logprobs")
        if not logprobs:
            raise EngineError("the server tells no log-probabilities of its tokens")
        if logprobs.get("content") is not None:
            return [
                Drawn(
                    entry["token"],
                    float(entry["logprob"]),
                    {other["token"]: float(other["logprob"]) for other in entry["top_logprobs"]},
                )
                for entry in logprobs["content"]
            ]
        tops = logprobs.get("top_logprobs") or [{}] * len(logprobs["tokens"])
        rows = zip(logprobs["tokens"], logprobs["token_logprobs"], tops, strict=True)
        return [
            Drawn(token, float(value), {token: float(value), **(others or {})})
            for token, value, others in rows
        ]
    except (TypeError, KeyError, AttributeError, ValueError, IndexError):
        raise Failed(f"the server answered what is no completion: {_shown(reply)}") from None


def echoed(reply: Any) -> tuple[list[str], list[float | None]]:
    """Tokens of an echoed prompt and the log-probability of each; None for the first.

    Raises:
        EngineError: if the server does not echo log-probabilities of prompts.
        Failed: if the reply is none.
    """
    try:
        logprobs = reply["choices"][0].get("logprobs")
        values = (logprobs or {}).get("token_logprobs")
        if not values or values[0] is not None:  # a first token with one is not the prompt's
            raise EngineError(
                "the server does not echo prompts with log-probabilities, which likelihoods need; "
                "use engine hf or vllm"
            )
        return [str(token) for token in logprobs["tokens"]], values
    except (TypeError, KeyError, AttributeError, IndexError):
        raise Failed(f"the server answered what is no completion: {_shown(reply)}") from None


def _shown(told: Any) -> str:
    text = json.dumps(told)
    return text if len(text) <= 120 else text[:117] + "..."


# --- what a refusal means ---------------------------------------------------------------------


def explained(
    refused: Refused, where: str, server: Server, options: ServerOptions, model: str
) -> AstraiosError:
    """The error that says what to change; `where` names the problem."""
    message = refused.message
    if refused.status in (401, 403):
        return EngineError(f"the server refuses access ({refused}); {key_hint(options)}")
    if refused.status == 404 and ("model" in message.lower() or "model" in refused.code):
        return EngineError(
            f"the server does not know the model {model!r} ({refused}); it serves: "
            f"{listed(server) or 'it does not say what'}. Give engine_options.model=NAME"
        )
    if refused.status in (404, 405):
        return EngineError(
            f"the server has no such endpoint ({refused}); check engine_options.url, and "
            "engine_options.endpoint (completions or chat)"
        )
    if refused.status in (400, 413, 422) and (
        TOO_LONG.search(message) or refused.code == "context_length_exceeded"
    ):
        return DataError(
            f"{where}: the prompt and its answer do not fit the context of the served model "
            f"({refused}); shorten the prompt, lower sampling.max_new_tokens, or serve the model "
            "with a longer context"
        )
    remedy = ""
    if "logprob" in message.lower():
        remedy = "; if the server cannot tell log-probabilities, give engine_options.logprobs=false"
    elif re.search(r"continue_final_message|add_generation_prompt|chat template", message):
        remedy = (
            "; this endpoint cannot go on with a message that is begun: use another template "
            "than chat, or engine vllm or hf"
        )
    elif re.search(r"stream_options|unsupported|unknown|unrecognized", message, re.IGNORECASE):
        remedy = "; the server does not speak the protocol that this engine needs"
    return EngineError(f"{where}: the server refuses the request ({refused}){remedy}")
