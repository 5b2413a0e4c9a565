"""Which models a server serves, and which of them is meant."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from astraios.errors import EngineError, did_you_mean
from astraios.generation.engines._http import Failed, Refused, Server
from astraios.generation.engines._options import ServerOptions

__all__ = ["cards", "key_hint", "listed", "served_model"]

log = logging.getLogger(__name__)

SHOWN = 20
"""Models that a message lists."""


def cards(server: Server, options: ServerOptions) -> dict[str, Mapping[str, Any]] | None:
    """Name -> what the server says about the model; None where it has no such list.

    Raises:
        EngineError: if the server is not there, is out of order, or refuses the key.
    """
    try:
        told = options.tries.run_now(partial(server.get, "/v1/models"))
    except Failed as failure:
        raise EngineError(
            f"the server does not answer: {failure}; start it, or mend engine_options.url"
        ) from None
    except Refused as refused:
        if refused.status in (401, 403):
            raise EngineError(
                f"the server refuses access ({refused}); {key_hint(options)}"
            ) from None
        log.info("the server does not list its models (%s)", refused)
        return None
    return _by_name(told)


def listed(server: Server) -> str:
    """The names of the served models, for a message; empty where they cannot be had."""
    try:
        return _names(_by_name(server.get("/v1/models")) or {})
    except (Failed, Refused):
        return ""


def served_model(server: Server, options: ServerOptions, base_model: str) -> str:
    """The name to ask for: the one given, else the base model's, else the only one there is.

    Where a server lists none, the first request decides whether it knows the name.

    Raises:
        EngineError: if none of these is served; lists those that are. And as `cards`.
    """
    found = cards(server, options)
    if options.model is not None:
        if found is not None and options.model not in found:
            # hosted endpoints know more names than they list, so the first request decides
            log.warning("the server does not list model %r", options.model)
        return options.model
    if found is None or base_model in found:
        return base_model
    if len(found) == 1:
        [name] = found
        log.info("the server serves model %r alone, which is asked", name)
        return name
    raise EngineError(
        f"the server does not serve {base_model!r}; it serves: {_names(found) or 'nothing'}."
        f"{did_you_mean(base_model, found)} Give engine_options.model=NAME"
    )


def key_hint(options: ServerOptions) -> str:
    """What to do about a key that is refused."""
    if options.api_key_variable is None:
        return "give the NAME of the variable that holds a key: engine_options.api_key_variable"
    return f"check the key in the environment variable {options.api_key_variable!r}"


def _by_name(told: Any) -> dict[str, Mapping[str, Any]] | None:
    """The cards of a list of models; None if it is none."""
    try:
        return {str(card["id"]): card for card in told["data"]} or None
    except (TypeError, KeyError):
        return None


def _names(found: Mapping[str, Any]) -> str:
    names = sorted(found)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
