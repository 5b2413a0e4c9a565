"""Studies that come with the package, by name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from astraios.config import parse_yaml, read_yaml
from astraios.errors import MissingDataError, UnknownNameError
from astraios.studies.study import Study

_SHIPPED = files("astraios.studies") / "shipped"


def names() -> tuple[str, ...]:
    """Names of the shipped studies."""
    found = (entry.name for entry in _SHIPPED.iterdir())
    return tuple(sorted(n.removesuffix(".yaml") for n in found if n.endswith(".yaml")))


def read_study(study: str, overrides: Sequence[str] = ()) -> Study:
    """A shipped study by its name, or one from a YAML file.

    Raises:
        UnknownNameError: if it is neither.
        MissingDataError: if it is a folder, or a file that is not there.
        ConfigError: if the file or an override is wrong.
    """
    if study in names():
        text = (_SHIPPED / f"{study}.yaml").read_text(encoding="utf-8")
        return parse_yaml(text, Study, overrides, source=f"{study}.yaml")
    path = Path(study)
    if not path.exists() and path.suffix not in (".yaml", ".yml"):
        raise UnknownNameError("study (nor file)", study, names())
    if path.is_dir():
        raise MissingDataError(
            f"{study!r} is a folder, and a study is begun from a YAML file or a name; where it is "
            f"a study's folder, `astraios study resume {study}` goes on with it"
        )
    return read_yaml(path, Study, overrides)
