"""What `astraios list` shows: the parts of each kind and what is missing to use them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

from astraios import registry
from astraios.errors import AstraiosError, UnknownNameError

Row = dict[str, str]

PACKAGES = {
    "methods": "astraios.methods",
    "languages": "astraios.languages",
    "engines": "astraios.generation.engines",
    "checkers": "astraios.checkers",
    "markers": "astraios.markers",
    "corpora": "astraios.data.corpora",
    "launchers": "astraios.studies.launchers",
    "views": "astraios.analysis.views",
    "metrics": "astraios.analysis.metrics",
}
NEEDS_TRAIN = ("methods", "engines")


def kinds() -> tuple[str, ...]:
    """Names that `astraios list` takes."""
    return (*PACKAGES, "tasks", "templates", "base-models", "models", "recipes", "studies")


def rows(kind: str) -> list[Row]:
    """Name, what it is, and what is missing, for every part of `kind`.

    Raises:
        UnknownNameError: if there is no such kind.
    """
    special: dict[str, Callable[[], list[Row]]] = {
        "tasks": _tasks,
        "templates": _templates,
        "base-models": _base_models,
        "models": _models,
        "recipes": _recipes,
        "studies": _studies,
        "languages": _languages,
    }
    if kind in special:
        return special[kind]()
    if kind not in PACKAGES:
        raise UnknownNameError("kind of part", kind, kinds())
    package = import_module(PACKAGES[kind])
    missing = ""
    if kind in NEEDS_TRAIN and not (find_spec("torch") and find_spec("peft")):
        missing = "pip install 'astraios[train]'"
    return [
        _row(name, registry.summary(package, name), missing) for name in registry.names(package)
    ]


def _row(name: str, what: str, missing: str = "") -> Row:
    return {"name": name, "what": what, "missing": missing}


def _tasks() -> list[Row]:
    from astraios import tasks

    lacking: dict[str, str] = {}
    found = []
    for name in tasks.names():
        task = tasks.task(name)
        for language in task.languages:
            if language not in lacking:
                lacking[language] = _missing_toolchain(language)
        needed = [lacking[language] for language in task.languages]
        missing = "; ".join(filter(None, (*needed, _said(task.tools))))
        needs = [f"data {task.data_name}" if task.data_name else "", *task.languages]
        found.append(
            {
                "name": name,
                "what": task.title,
                "needs": ", ".join(filter(None, needs)),
                "missing": missing,
            }
        )
    return found


def _said(ask: Callable[[], object]) -> str:
    """What an error says that `ask` raises; empty if it raises none."""
    try:
        ask()
    except AstraiosError as error:
        return str(error)
    return ""


def _languages() -> list[Row]:
    from astraios import languages

    return [
        _row(name, registry.summary(languages, name), _missing_toolchain(name))
        for name in registry.names(languages)
    ]


def _missing_toolchain(name: str) -> str:
    from astraios import languages

    return _said(registry.load(languages, "language", name, languages.Language).toolchain)


def _templates() -> list[Row]:
    from astraios.templates import CHAT, TEMPLATES

    chat = _row(CHAT, "the tokenizer's own chat template; an opening begins the model's turn")
    return [*(_row(name, repr(t.before_opening)) for name, t in TEMPLATES.items()), chat]


def _base_models() -> list[Row]:
    from astraios.training.config import EMBEDDED

    missing = "" if find_spec("torch") else "pip install 'astraios[train]'"
    return [
        _row(name, f"pretrained here: GPTBigCode, width {c.hidden}, {c.n_layers} layers", missing)
        for name, c in EMBEDDED.items()
    ]


def _models() -> list[Row]:
    from astraios.published import MODELS

    return [
        {
            "name": model.name,
            "base": model.base_model,
            "hub id": model.hub_id
            if model.revision is None
            else f"{model.hub_id}@{model.revision}",
            "method": model.method,
            "size": model.size,
        }
        for model in MODELS.values()
    ]


def _recipes() -> list[Row]:
    from astraios.training import recipes

    missing = "" if find_spec("torch") else "pip install 'astraios[train]'"
    return [_row(name, recipes.summary(name), missing) for name in recipes.names()]


def _studies() -> list[Row]:
    from astraios.studies.presets import names, read_study

    found = []
    for name in names():
        study = read_study(name)
        cells = len(study.base_models) * len(study.methods) * len(study.seeds)
        found.append(
            _row(name, f"{cells} tuned models, {len(study.tasks)} tasks: {', '.join(study.tasks)}")
        )
    return found
