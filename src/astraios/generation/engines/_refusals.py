"""What a server's refusal means, and which fields of a request can be left out after it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from astraios.errors import AstraiosError, DataError, EngineError
from astraios.generation.engines._http import SHOWN, Failed, Refused, Server
from astraios.generation.engines._models import key_hint, listed
from astraios.generation.engines._options import ServerOptions

__all__ = ["NEWER", "explained", "objection", "of_one_prompt", "without"]

OPTIONAL: Mapping[str, tuple[str, str]] = {
    "logprobs": (r"logprob", "where tokens end is not told"),
    "stream_options": (r"stream_options", "counts of tokens may be numbers of events"),
    "seed": (r"\bseed\b", "the same samples cannot be drawn again"),
    "stream": (r"\bstream(ing)?\b", "completions come as a whole"),
}
"""Fields that a request can do without -> how a refusal names them, what is lost."""
NEWER = "max_completion_tokens"
"""How newer models of OpenAI want `max_tokens` called."""

TOO_LONG = re.compile(
    r"context[ _](length|size|window)|maximum context|max_model_len|too many (input )?tokens|"
    r"(input|prompt)\b.{0,40}\btoo long|must be <= \d+|exceeds? the (available )?context",
    re.IGNORECASE,
)


# --- what can be left out ---------------------------------------------------------------------


def without(body: Mapping[str, Any], left_out: Collection[str]) -> dict[str, Any]:
    """`body` without fields that a server has refused."""
    kept = {name: value for name, value in body.items() if name not in left_out}
    if "stream" not in kept:
        kept.pop("stream_options", None)
    if "max_tokens" in left_out:
        kept[NEWER] = body["max_tokens"]
    return kept


def objection(refused: Refused, body: Mapping[str, Any]) -> tuple[str, str] | None:
    """The field of `body` that was refused and is not needed, and what is lost without it."""
    message = refused.message
    if refused.status not in (400, 422, 501) or is_too_long(refused):
        return None
    if NEWER in message and "max_tokens" in body:
        return "max_tokens", f"it is called {NEWER}"
    for name, (pattern, lost) in OPTIONAL.items():
        if name in body and re.search(pattern, message, re.IGNORECASE):
            return name, lost
    return None


def of_one_prompt(refused: Refused) -> Refused | Failed:
    """`refused`, or a failure if it says nothing of other prompts: moderation of this one."""
    if refused.code.startswith("content_"):  # content_filter, content_policy_violation
        return Failed(f"the server refuses this prompt ({refused})", again=False)
    return refused


# --- what cannot ------------------------------------------------------------------------------


def is_too_long(refused: Refused) -> bool:
    """Whether the prompt and its answer do not fit the model."""
    return refused.status in (400, 413, 422) and (
        TOO_LONG.search(refused.message[:SHOWN]) is not None
        or refused.code == "context_length_exceeded"
    )


def explained(
    refused: Refused, where: str, server: Server, options: ServerOptions, model: str
) -> AstraiosError:
    """The error that says what to change; `where` names the problem."""
    message = refused.message[:SHOWN]
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
    if is_too_long(refused):
        return DataError(
            f"{where}: the prompt and its answer do not fit the context of the served model "
            f"({refused}); shorten the prompt, lower sampling.max_new_tokens, or serve the model "
            "with a longer context"
        )
    remedy = ""
    if "logprob" in message.lower():
        remedy = "; what was asked for needs a server that tells log-probabilities"
    elif re.search(r"continue_final_message|add_generation_prompt|chat template", message):
        remedy = (
            "; this endpoint cannot go on with a message that is begun: use another template "
            "than chat, or engine vllm or hf"
        )
    elif re.search(r"stream_options|unsupported|unknown|unrecognized", message, re.IGNORECASE):
        remedy = "; the server does not speak the protocol that this engine needs"
    return EngineError(f"{where}: the server refuses the request ({refused}){remedy}")
