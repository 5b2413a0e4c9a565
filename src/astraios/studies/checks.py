"""Whether a study can be run as it is written, told before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path

from astraios import tasks, templates
from astraios.errors import (
    ConfigError,
    MissingDataError,
    MissingToolError,
    UnknownNameError,
    did_you_mean,
)
from astraios.evaluation.config import EvaluationConfig
from astraios.files import check_holds
from astraios.generation import Engine, check_supports
from astraios.studies.overrides import SEARCH, TRAIN, Override
from astraios.studies.serving import engine_class, model_of
from astraios.studies.study import (
    BASE,
    Arm,
    Study,
    arms,
    evaluation_config,
    search_of,
    training_config,
)
from astraios.studies.subjects import check_base_name

__all__ = ["check", "lacking_engines", "warnings"]


def check(study: Study, *, elsewhere: bool = False) -> None:
    """Build every config once, so that a mistake is told before anything runs.

    Args:
        study: the grid.
        elsewhere: it runs on other machines, where folders may lie that are not here.

    Raises:
        ConfigError: the first mistake, such as an option that an engine does not have, or an
            override that changes nothing.
        MissingDataError: if a base model is a path that leads nowhere, or to no model.
        UnknownNameError: if there is no such engine or template.
    """
    for base_model in study.base_models:
        try:
            check_holds(base_model, "config.json")
            check_base_name(base_model)
        except MissingDataError as error:
            if elsewhere and not Path(base_model).is_dir():
                continue
            raise MissingDataError(f"study {study.name!r}, base_models: {error}") from None
    _check_overrides(study)
    _check_sampling(study)
    for arm in arms(study):
        training_config(study, arm)
        search = search_of(study, arm.base_model, arm.method)
        if search is not None and search.seed in study.seeds:
            raise ConfigError(
                f"study {study.name!r}: search.seed {search.seed} is one of the study's seeds; "
                "trials have a seed of their own, or they would be run twice and count once"
            )
    asked = [tasks.task(name) for name in study.tasks]
    untuned = [Arm(base_model, BASE, 0) for base_model in study.base_models]
    for arm in (*untuned, *arms(study)):
        for task in asked:
            config = evaluation_config(study, arm, task)
            templates.template(config.template)
        engine = engine_class(config.engine)
        _check_hosted(study, arm, engine)
        try:
            engine.check(model_of(config))
        except ConfigError as error:
            where = f"{arm.base_model} {arm.method} seed {arm.seed}, evaluation"
            raise ConfigError(f"study {study.name!r}, {where}: {error}") from None


def lacking_engines(configs: Iterable[EvaluationConfig]) -> Iterator[str]:
    """What the engines of `configs` need and this machine lacks, each said once."""
    distinct = {(config.engine, repr(config.engine_options)): config for config in configs}
    for config in distinct.values():
        try:
            engine_class(config.engine).check_tools(model_of(config))
        except MissingToolError as error:
            yield str(error)


def _check_overrides(study: Study) -> None:
    """Refuse an override that no arm takes, and two that set one field of the same arms."""
    axes: Mapping[str, tuple[str | int, ...]] = {
        "base_model": study.base_models,
        "method": (*study.method_names, BASE),
        "seed": study.seeds,
    }
    for place, override in enumerate(study.overrides):
        source = f"study {study.name!r}, overrides.{place}"
        for axis, value in override.where.items():
            if value not in axes[axis]:
                known = ", ".join(map(str, axes[axis]))
                hint = did_you_mean(str(value), map(str, axes[axis]))
                raise ConfigError(
                    f"{source}: where names {axis} {value!r}, which is not in the study, so that "
                    f"it would change nothing; known: {known}.{hint}"
                )
        _check_base(override, source)
    for (at, first), (other, second) in combinations(enumerate(study.overrides), 2):
        twice = sorted(set(first.set) & set(second.set))
        if first.where == second.where and twice:
            raise ConfigError(
                f"study {study.name!r}, overrides.{other}: sets {twice[0]!r} for the same arms as "
                f"overrides.{at}; remove one"
            )


def _check_base(override: Override, source: str) -> None:
    """The untuned model has no training."""
    if override.where.get("method") != BASE:
        return
    for name in override.set:
        if name.startswith((TRAIN, SEARCH)):
            raise ConfigError(
                f"{source}: {name!r} is set for method {BASE!r}, which is not trained; it takes "
                "evaluation.<field> alone"
            )


def _check_sampling(study: Study) -> None:
    asked = {(t.name, t.version) for t in map(tasks.task, study.tasks)}
    for name in study.sampling:
        try:
            found = tasks.task(name)
            known = (found.name, found.version) in asked
        except UnknownNameError:
            known = False
        if not known:
            raise ConfigError(
                f"study {study.name!r}: sampling is given for {name!r}, which is not one of its "
                f"tasks.{did_you_mean(name, study.tasks)}"
            )


def warnings(study: Study) -> Iterator[str]:
    """What is allowed, and hides something: a rate that is set and searched too."""
    for base_model in study.base_models:
        for method in study.method_names:
            if search_of(study, base_model, method) is None:
                continue
            for place, override in enumerate(study.overrides):
                where = {k: v for k, v in override.where.items() if k != "seed"}
                same = {"base_model": base_model, "method": method}.items() >= where.items()
                if same and f"{TRAIN}optimization.learning_rate" in override.set:
                    yield (
                        f"{base_model} {method}: its learning rate is searched, so the one of "
                        f"overrides.{place} is not used"
                    )


def _check_hosted(study: Study, arm: Arm, engine: type[Engine]) -> None:
    """Whether `engine` can answer for a model that was tuned so."""
    if arm.method == BASE or engine.supports(arm.method):
        return
    if engine.name == "hf":
        raise ConfigError(
            f"study {study.name!r}: completions of method {arm.method!r} cannot be generated here "
            f"(see `astraios.methods`); take another method"
        )
    try:
        check_supports(engine, arm.method)
    except ConfigError as error:
        where = f"overrides: - {{where: {{method: {arm.method}}}, set: {{evaluation.engine: hf}}}}"
        raise ConfigError(f"study {study.name!r}: {error} for it ({where})") from None
