"""From a model to a server of vLLM that serves it: found, or started."""

from __future__ import annotations

import contextlib
import logging
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from astraios.config import foreign_environment, vllm_python
from astraios.errors import ConfigError, EngineError, MissingToolError
from astraios.generation import Model
from astraios.generation.engines._http import Failed, Refused, Server
from astraios.generation.engines._models import cards, served_model
from astraios.generation.engines._options import VLLMOptions
from astraios.generation.engines._vllm_process import Process
from astraios.generation.engines._vllm_routes import Route, adapter_name, max_rank, merged

__all__ = ["Target", "arguments", "interpreter", "target"]

log = logging.getLogger(__name__)

NAME = "base"
"""How a server that we start knows its model."""
FIND = "import importlib.util as u, sys; u.find_spec('vllm') or sys.exit('No module named vllm')"


@dataclass(frozen=True)
class Target:
    """A server, and the model in it that is meant."""

    server: Server
    name: str
    """As the server knows it."""
    route: Route
    version: str
    n_positions: int | None
    """Tokens of the context it was started with; None where it does not say."""
    process: Process | None = None
    """The server's, if we started it."""
    undo: Callable[[], None] = lambda: None

    def close(self) -> None:
        """End what was begun."""
        self.undo()
        if self.process is not None:
            self.process.close()


def target(model: Model, options: VLLMOptions, route: Route) -> Target:
    """Where `model` is served by `route`; see `VLLMEngine.open` for the errors."""
    if options.url is not None:
        return _found(model, options, options.url, route)
    if options.api_key_variable is not None or options.model is not None:
        raise ConfigError(
            "engine_options.model and api_key_variable are for a running server; give its url, or "
            "leave them out"
        )
    return _started(model, options, interpreter(options), route)


def interpreter(options: VLLMOptions) -> str:
    """The interpreter that is to start a server.

    Raises:
        MissingToolError: if none is named, or it has no vLLM.
    """
    python = options.python or vllm_python()
    if python is None:
        raise MissingToolError(
            "engine vllm needs vLLM, which lives in an environment of its own: give its "
            "interpreter (engine_options.python=PATH, or the ASTRAIOS_VLLM_PYTHON variable) or "
            "the address of a running server (engine_options.url=URL)"
        )
    try:
        asked = subprocess.run(
            [python, "-c", FIND], env=foreign_environment(), capture_output=True, text=True
        )
        said = asked.returncode and (asked.stderr.strip() or f"exit code {asked.returncode}")
    except OSError as error:
        said = str(error)
    if said:
        raise MissingToolError(
            f"{python!r} is no interpreter of an environment with vLLM in it ({said}); give "
            "engine_options.python=PATH, or set ASTRAIOS_VLLM_PYTHON"
        )
    return python


# --- a server that we start -------------------------------------------------------------------


def _started(model: Model, options: VLLMOptions, python: str, route: Route) -> Target:
    if route is Route.MERGED and model.folder is None:
        raise ConfigError("a merged checkpoint needs a folder to be written to: Model.folder")
    told = arguments(model, route)
    process = Process(
        python,
        [*told, *options.arguments],
        log=None if model.folder is None else model.folder / "vllm.log",
        timeout_s=options.start_timeout_s,
        silence_s=options.timeout_s,
        devices=_devices(model.device),
    )
    try:
        found = cards(process.server, options) or {}
        name = NAME
        if route is Route.ADAPTER:
            process.check_adapter()
            name = _adapter(model)
        if name not in found:
            raise EngineError(f"the server of vLLM serves {sorted(found)}, and not {name!r}")
        return Target(
            process.server, name, route, _version(process.server), _n_positions(found), process
        )
    except BaseException:
        process.close()
        raise


def arguments(model: Model, route: Route) -> list[str]:
    """The server's command line for `model`; writes the merged checkpoint if it needs one."""
    checkpoint, revision = model.base_model, model.revision
    more: list[str] = []
    if route is Route.MERGED:
        assert model.folder is not None
        checkpoint, revision = str(merged(model, model.folder)), None
    elif route is Route.ADAPTER:
        folder = _folder(model)
        more = ["--enable-lora", "--max-lora-rank", str(max_rank(folder))]
        more += ["--lora-modules", f"{_adapter(model)}={folder.resolve()}"]
    elif route is Route.EMBEDS:
        more = ["--enable-prompt-embeds"]
    if revision is not None:
        more += ["--revision", revision, "--tokenizer-revision", revision]
    n_devices = len((_devices(model.device) or "").split(","))
    if n_devices > 1:
        more += ["--data-parallel-size", str(n_devices)]
    # generation-config: sampling is the study's, not what the model's own files recommend
    return [
        *("--model", checkpoint, "--served-model-name", NAME, "--dtype", model.precision),
        *("--generation-config", "vllm", *more),
    ]


def _devices(device: str) -> str | None:
    """Numbers of the GPUs that are meant; None: whatever vLLM takes.

    Raises:
        ConfigError: if some are named by number and some not.
    """
    numbers = [one.strip().partition(":")[2] for one in device.split(",")]
    if not any(numbers):
        return None
    if not all(number.isdigit() for number in numbers):
        raise ConfigError(f"device {device!r} does not number every GPU; give cuda:0,cuda:1")
    return ",".join(numbers)


# --- a server that runs already ---------------------------------------------------------------


def _found(model: Model, options: VLLMOptions, url: str, route: Route) -> Target:
    server = options.server(url)
    found = cards(server, options) or {}
    make: Callable[..., Target] = partial(
        Target, server=server, route=route, n_positions=_n_positions(found)
    )
    if options.model is not None or route in (Route.BASE, Route.EMBEDS):
        name = served_model(server, options, model.base_model)
        return make(name=name, version=_version(server))
    if route is Route.MERGED:
        raise ConfigError(
            f"a running server has to serve what {model.method!r} tuned as a merged checkpoint: "
            "write it (astraios merge ADAPTER --base BASE --to FOLDER), serve it, and give its "
            "name: engine_options.model=NAME; or let a server be started by engine_options.python"
        )
    folder, name = _folder(model), _adapter(model)
    max_rank(folder)
    loaded = {"lora_name": name, "lora_path": str(folder.resolve())}
    if name not in found:
        _load(server, options, loaded)
    unload = partial(_unload, server, name) if name not in found else lambda: None
    return make(name=name, version=_version(server), undo=unload)


def _load(server: Server, options: VLLMOptions, body: Mapping[str, Any]) -> None:
    try:
        options.tries.run_now(partial(server.post, "/v1/load_lora_adapter", body))
    except Failed as failure:
        raise EngineError(f"the server did not load the adapter: {failure}") from None
    except Refused as refused:
        remedy = f"it must be able to read {body['lora_path']!r}, on its machine"
        if refused.status in (404, 405):
            remedy = (
                "start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, or with "
                "--lora-modules NAME=FOLDER, and give the name: engine_options.model=NAME"
            )
        raise EngineError(f"the server does not load adapters ({refused}); {remedy}") from None


def _unload(server: Server, name: str) -> None:
    with contextlib.suppress(Failed, Refused):  # it may have ended, and then there is nothing to do
        server.post("/v1/unload_lora_adapter", {"lora_name": name})


# --- both -------------------------------------------------------------------------------------


def _folder(model: Model) -> Path:
    if model.adapter is None:
        raise ConfigError(f"method {model.method!r} needs the folder of its adapter")
    return model.adapter


def _adapter(model: Model) -> str:
    return adapter_name(_folder(model))


def _version(server: Server) -> str:
    try:
        return str(server.get("/version")["version"])
    except (Failed, Refused, KeyError, TypeError):
        return "unknown"


def _n_positions(found: Mapping[str, Mapping[str, Any]]) -> int | None:
    """The context of the base; cards of adapters do not tell it."""
    told = [card.get("max_model_len") for card in found.values()]
    return next((n for n in told if isinstance(n, int)), None)
