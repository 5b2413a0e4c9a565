"""OpenAI's protocol: what is sent, and what comes back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from astraios.errors import DataError, EngineError
from astraios.generation import Drawn
from astraios.generation.engines._http import Failed
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
    "fault",
    "likelihood",
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

MALFORMED = (TypeError, KeyError, AttributeError, ValueError, IndexError, OverflowError)
"""What reading a reply comes to that is not as the protocol says."""


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


def fault(problem_id: str, index: int, turn: int, sha: str, reason: str) -> Sample:
    """What stands for a sample without an answer."""
    return Sample(
        problem_id=problem_id,
        index=index,
        turn=turn,
        prompt_sha=sha,
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
        self.is_whole = False
        """Whether it came to its proper end, as a whole answer or a stream with its last mark."""
        self._n_choices = 0
        self._n_characters = 0

    def read(self, event: Any) -> Piece:
        """Take in an event, or None at the proper end.

        Raises:
            Failed: if it is not what the protocol says.
        """
        if event is None:
            self.is_whole = True
            return Piece()
        try:
            return self._read(event)
        except MALFORMED:
            raise Failed(f"the server answered what is no completion: {_shown(event)}") from None

    def _read(self, event: Any) -> Piece:
        if isinstance(event.get("model"), str):
            self.model = event["model"]
        if usage := event.get("usage"):
            self.n_prompt_tokens = int(usage.get("prompt_tokens") or 0)
            self.n_completion_tokens = int(usage.get("completion_tokens") or 0)
        choices = [one for one in event.get("choices") or () if (one.get("index") or 0) == 0]
        if not choices:
            return Piece()
        self._n_choices += 1
        [choice] = choices
        if choice.get("finish_reason"):
            self.reason = str(choice["finish_reason"])
        tokens = _tokens(choice.get("logprobs"))
        self.tells_tokens |= bool(tokens)
        ids = choice.get("token_ids")
        text = _text(choice)
        self._n_characters += len(text)
        return Piece(text, tokens, None if ids is None else tuple(map(int, ids)))

    def finish(self, n_most: int | None = None) -> Finish:
        """Why the server ended the completion.

        Args:
            n_most: tokens that were asked for; given, a text that came to its proper end is taken
                from a server that does not say why it ended.

        Raises:
            Failed: if it did not say so, or for a reason that leaves no completion.
        """
        if not self._n_choices:
            raise Failed("the server's reply holds no completion")
        if self.reason is None and n_most is not None and self.is_whole and self._n_characters:
            n_tokens = self.n_completion_tokens
            return Finish.LENGTH if n_tokens is not None and n_tokens >= n_most else Finish.EOS
        if self.reason is None:
            raise Failed("the server's reply broke off before its end")
        if self.reason not in FINISHES:
            again = self.reason in PASSING
            raise Failed(f"the server ended it with finish_reason {self.reason!r}", again=again)
        return FINISHES[self.reason]


def _text(choice: Mapping[str, Any]) -> str:
    if "text" in choice:
        text = choice["text"]
    else:  # the last delta may be null
        told = choice["delta"] if "delta" in choice else choice["message"]
        text = None if told is None else told.get("content")
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
                    _finite(entry["logprob"]),
                    {other["token"]: float(other["logprob"]) for other in entry["top_logprobs"]},
                )
                for entry in logprobs["content"]
            ]
        tops = logprobs.get("top_logprobs") or [{}] * len(logprobs["tokens"])
        rows = zip(logprobs["tokens"], logprobs["token_logprobs"], tops, strict=True)
        return [
            Drawn(token, _finite(value), {token: float(value), **(others or {})})
            for token, value, others in rows
        ]
    except MALFORMED:
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
        tokens = [str(token) for token in logprobs["tokens"]]
        if len(tokens) != len(values):
            raise ValueError("as many tokens as values")
        return tokens, values
    except MALFORMED:
        raise Failed(f"the server answered what is no completion: {_shown(reply)}") from None


def likelihood(values: Iterable[float | None]) -> float:
    """Log-likelihood of tokens from theirs, in nats; rounding may bring it above 0.

    Raises:
        EngineError: if one of them is not told, or is no number.
    """
    return min(0.0, sum(_finite(value) for value in values))


def _finite(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise EngineError(f"the server told {value!r} for a log-probability of a token")
    return float(value)


def _shown(told: Any) -> str:
    text = json.dumps(told)
    return text if len(text) <= 120 else text[:117] + "..."
