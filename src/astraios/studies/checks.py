"""Whether a study can be run as it is written, told before anything runs."""

from __future__ import annotations

from astraios import tasks, templates
from astraios.errors import ConfigError, did_you_mean
from astraios.generation import Engine, check_supports
from astraios.studies.serving import engine_class, model_of
from astraios.studies.study import BASE, Arm, Study, arms, evaluation_config, training_config

__all__ = ["check"]


def check(study: Study) -> None:
    """Build every config once, so that a mistake is told before anything runs.

    Raises:
        ConfigError: the first mistake, such as an option that an engine does not have.
        UnknownNameError: if there is no such engine or template.
    """
    for arm in arms(study):
        training_config(study, arm)
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
    for name in study.sampling:
        if name not in study.tasks:
            raise ConfigError(
                f"study {study.name!r}: sampling is given for {name!r}, which is not one of its "
                f"tasks.{did_you_mean(name, study.tasks)}"
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
