"""From the config of an evaluation to the engine that answers it: the one place that knows both.

The base model is read when an engine asks for it, so engines that speak to a server never load any.
An engine other than `hf` answers for a model once it was compared with `hf` (see
`evaluation.parity`). That is done once a model, engine and server, whatever the number of tasks:

    <root>/parity/<hash>.json   what the comparison found
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from astraios import methods, registry
from astraios.config import digest
from astraios.errors import ConfigError, DataError, EngineError, MissingDataError
from astraios.evaluation.config import EvaluationConfig
from astraios.evaluation.parity import N_TOKENS, REMEDY, compare, parity_prompts
from astraios.files import make_folder, read_json, storage, write_json
from astraios.generation import Drawn, Engine, Model, check_supports, engines
from astraios.methods import Method
from astraios.provenance import code, packages
from astraios.records import Parity, Prompt
from astraios.studies.study import BASE
from astraios.tasks import Problem, Task

__all__ = ["engine_class", "load_tuned", "model_of", "open_engine", "trusted_engine"]

PARITY = "parity"
"""Folder of what comparisons found."""


def engine_class(name: str) -> type[Engine]:
    """The engine called `name`.

    Raises:
        UnknownNameError: if there is none.
    """
    found: type[Engine] = registry.load(engines, "engine", name, type[Engine])
    return found


def load_tuned(
    source: str | Path,
    revision: str | None,
    method: str | None,
    adapter: Path | None,
    precision: str,
) -> tuple[Any, Any, Method | None]:
    """Model, tokenizer and what tuned it: a base, with the adapter on it if there is one.

    Raises:
        MissingDataError: if one of them is not there.
        DataError: if the base cannot be read.
        MethodError: if the adapter is for another base.
    """
    from astraios.training.base import load_base

    in_memory: Any = "bf16" if precision == "bfloat16" else "fp32"
    model, tokenizer = load_base(source, revision, precision=in_memory)
    if method is None:
        return model, tokenizer, None
    tuned_by = methods.method(method)
    if adapter is not None:
        model = tuned_by.load(model, adapter)
    return model, tokenizer, tuned_by


def model_of(
    config: EvaluationConfig,
    *,
    base: Path | None = None,
    adapter: Path | None = None,
    folder: Path | None = None,
) -> Model:
    """What the engine of `config` is to speak for.

    Args:
        config: names base model, method, engine and settings.
        base: where the base model lies, if not where the config says.
        adapter: folder of the tuned weights.
        folder: where an engine may keep what it has to prepare.
    """
    method = None if config.method in (None, BASE) else config.method
    source = base or config.base_model
    return Model(
        load=partial(load_tuned, source, config.revision, method, adapter, config.precision),
        base_model=str(source),
        revision=config.revision,
        method=method,
        adapter=adapter,
        precision=config.precision,
        device=config.device,
        batch_tokens=config.batch_tokens,
        long_prompts=config.long_prompts,
        folder=folder,
        options=config.engine_options,
    )


def open_engine(config: EvaluationConfig, model: Model) -> Engine:
    """The engine of `config`, which the caller closes.

    Raises:
        UnknownNameError: if there is no such engine.
        ConfigError: if it cannot host the method, or an option is unknown.
    """
    found = engine_class(config.engine)
    check_supports(found, model.method)
    return found.open(model)


@contextmanager
def trusted_engine(
    config: EvaluationConfig, model: Model, task: Task[Any], problems: Sequence[Problem], root: Path
) -> Iterator[tuple[Engine, Parity | None]]:
    """The engine of `config`, after it was compared with `hf` on some of the task's prompts.

    `hf` itself and engines that run no model need no comparison. What one found is kept in `root`
    and holds as long as the model's files, the versions and what the engine says of itself do. A
    server that runs elsewhere is looked for first; of what is started here, `hf` has given its
    memory back before the other engine is opened.

    Args:
        config: names the engine, and whether to compare (`parity`).
        model: what it is to speak for; see `model_of`.
        task: whose prompts both engines are asked.
        problems: of the task.
        root: the folder of the study, or of the evaluations, that comparisons are kept in.

    Yields:
        The engine, closed at the end, and what `generate` records of the comparison; None where
        none is needed.

    Raises:
        UnknownNameError: if there is no such engine.
        ConfigError: if it cannot host the method, an option is unknown, or `hf` cannot be run here.
        EngineError: if the engine chooses other tokens than `hf`.
    """
    found = engine_class(config.engine)
    check_supports(found, model.method)
    found.check(model)
    if found is engine_class("hf") or not found.runs_model:
        with found.open(model) as engine:
            yield engine, None
    elif config.parity == "skip":
        with found.open(model) as engine:
            yield engine, Parity(engine=config.engine, outcome="skipped")
    else:
        prompts = parity_prompts(task, problems[: config.limit_problems], config.template)
        with _compared(found, config, model, prompts, root) as (engine, parity):
            yield engine, parity


@contextmanager
def _compared(
    found: type[Engine],
    config: EvaluationConfig,
    model: Model,
    prompts: Sequence[Prompt],
    root: Path,
) -> Iterator[tuple[Engine, Parity]]:
    path = make_folder(root / PARITY) / f"{_key(found, model)}.json"
    with ExitStack() as stack:
        with _one_at_a_time(path):
            parity = _known(path)
            runs_elsewhere = "url" in model.options
            engine = stack.enter_context(found.open(model)) if parity or runs_elsewhere else None
            if engine is None or parity is None or parity.environment != engine.environment():
                if not runs_elsewhere:
                    stack.close()
                    engine = None
                asked, reference = _reference(found, model, prompts)
                _give_memory_back()
                if engine is None:
                    engine = stack.enter_context(found.open(model))
                chosen = _chosen(engine, _spelled(engine, prompts, asked))
                parity = compare(
                    asked, reference, chosen, engine=found.name, precision=config.precision
                ).model_copy(
                    update={
                        "task": config.task,
                        "versions": _versions(),
                        "environment": engine.environment(),
                    }
                )
                write_json(path, parity)
        yield engine, parity


def _key(found: type[Engine], model: Model) -> str:
    """Names a model, an engine and its server; a file of the model that changed names another."""
    folders = [Path(model.base_model), *([model.adapter] if model.adapter else [])]
    files = [
        (path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    said = (model.base_model, model.revision, model.method, model.adapter, model.precision)
    options = sorted(model.options.items())
    return digest([found.name, *map(str, said), repr(options), files])


def _versions() -> dict[str, str]:
    return {**packages(), "astraios": code().version}


def _known(path: Path) -> Parity | None:
    """What was found earlier, with the versions that are here now."""
    if not path.exists():
        return None
    try:
        parity = read_json(path, Parity)
    except DataError:  # of another version, or changed by hand
        return None
    return parity if parity.versions == _versions() else None


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Workers that want the same comparison wait for the first of them."""
    lock = path.with_suffix(".lock")
    with storage(lock):
        file = lock.open("a")
    with file:
        with contextlib.suppress(OSError):  # a file system without locks: it is done twice then
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _reference(
    found: type[Engine], model: Model, prompts: Sequence[Prompt]
) -> tuple[list[Prompt], list[list[Drawn]]]:
    """The prompts as `hf` spells them, and what it goes on with."""
    cannot = f"engine {found.name} cannot be compared with hf here"
    hf = engine_class("hf")
    if model.method is not None and not hf.supports(model.method):
        raise ConfigError(f"{cannot}, which does not host {model.method!r}; {REMEDY}")
    device = model.device.partition(",")[0].strip()
    try:
        engine = hf.open(replace(model, device=device, options={}, folder=None))
    except (MissingDataError, ModuleNotFoundError) as error:
        raise ConfigError(f"{cannot}: {error}; {REMEDY}") from error
    with engine:
        asked = [engine.spelled(prompt) for prompt in prompts]
        return asked, engine.trace(asked, N_TOKENS)


def _give_memory_back() -> None:
    """Free what `hf` held on an accelerator, for the engine that comes after it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _spelled(engine: Engine, prompts: Sequence[Prompt], ours: Sequence[Prompt]) -> list[Prompt]:
    """The prompts as `engine` reads them, which must not differ from how `hf` does.

    An engine that leaves a conversation as it is has a server that spells it: its tokens will tell.
    """
    theirs = [engine.spelled(prompt) for prompt in prompts]
    for prompt, one, other in zip(prompts, theirs, ours, strict=True):
        if one.text not in (prompt.text, other.text):
            raise EngineError(
                f"engine {engine.name!r} spells the conversation of problem "
                f"{prompt.problem_id!r} as {one.text!r}, hf as {other.text!r}; give both the "
                f"same chat template; {REMEDY}"
            )
    return theirs


def _chosen(engine: Engine, asked: Sequence[Prompt]) -> list[list[Drawn]]:
    try:
        return engine.trace(asked, N_TOKENS)
    except EngineError as error:
        raise EngineError(
            f"engine {engine.name!r} cannot be compared with hf: {error}; {REMEDY}"
        ) from error
