"""Config files: YAML into frozen models, `dotted.key=value` overrides, fingerprints.

A config is a pydantic model derived from `Config`. Unknown fields are refused with the nearest
known one, and every complaint names the file and the line. This is also the only module that
reads environment variables.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from astraios.errors import ConfigError, MissingDataError, did_you_mean

OPERATIONAL: dict[str, Any] = {"operational": True}
"""`Field(json_schema_extra=OPERATIONAL)` marks a field that changes speed and never a record."""

Places = dict[tuple[str, ...], str]
"""Path of a field -> where its value was given: `file:line` or the override."""

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """A frozen config; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


# --- fingerprints -----------------------------------------------------------------------------


def identity(config: BaseModel) -> dict[str, Any]:
    """The JSON form of `config` without its operational fields, at any depth."""
    kept: dict[str, Any] = _without_operational(config, config.model_dump(mode="json"))
    return kept


def _without_operational(value: Any, dumped: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            name: _without_operational(getattr(value, name), item)
            for name, item in dumped.items()
            if name not in fields or not _is_operational(fields[name].json_schema_extra)
        }
    if isinstance(value, Mapping):
        twins = zip(value.values(), dumped.items(), strict=True)
        return {key: _without_operational(item, twin) for item, (key, twin) in twins}
    if isinstance(value, set | frozenset):  # their order differs from process to process
        return sorted(dumped, key=digest)
    if isinstance(value, list | tuple):
        return [_without_operational(item, twin) for item, twin in zip(value, dumped, strict=True)]
    return dumped


def _is_operational(extra: Any) -> bool:
    return isinstance(extra, Mapping) and bool(extra.get("operational"))


def differing(stored: Mapping[str, Any], config: BaseModel) -> Iterator[tuple[str, Any, Any]]:
    """Where `config` is not the one that was dumped as `stored`: field by dotted name, both values.

    In the order of the config's fields; None where one of them has no such field. Operational
    fields are not compared.
    """
    before, after = dict(_leaves(stored)), dict(_leaves(identity(config)))
    operational = dict(_leaves(config.model_dump(mode="json"))).keys() - after.keys()
    for name in dict.fromkeys([*after, *before]):
        if name not in operational and before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)


def _leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Fields by dotted name; a list of plain values is one."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for place, item in enumerate(value):
            yield from _leaves(item, f"{at}.{place}")
    else:
        yield at, value


def digest(value: Any) -> str:
    """First 12 hex digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def fingerprint(config: BaseModel) -> str:
    """First 12 hex digits of the SHA-256 of all fields that could change a number."""
    return digest(identity(config))


# --- YAML -------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Gives a place to scalars that look like a date or a number and are none."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(
                problem=f"{node.value!r} cannot be read ({error}); quote it if it is text",
                problem_mark=node.start_mark,
            ) from None


def read_yaml(path: Path, model: type[C], overrides: Sequence[str] = ()) -> C:
    """Read `path` as a `model`, after applying `a.b=c` overrides.

    Raises:
        MissingDataError: if there is no such file.
        ConfigError: if the YAML is malformed or a field is wrong; names the line.
    """
    if not path.is_file():
        raise MissingDataError(f"config file {str(path)!r} does not exist")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start})"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_yaml(text, model, overrides, source=str(path))


def parse_yaml(
    text: str, model: type[C], overrides: Sequence[str] = (), *, source: str = "config"
) -> C:
    """Like `read_yaml`, from a string; `source` is the name used in messages."""
    places: Places = {}
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            _note_places(node, (), places, source)
        values = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise ConfigError(f"{where}: malformed YAML: {error.problem or error}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{source}:{line}: malformed YAML: character U+{ord(text[error.position]):04X} "
            "is not allowed"
        ) from None
    except RecursionError:
        raise ConfigError(
            f"{source}: malformed YAML: nested too deeply, or an alias that holds itself"
        ) from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{source}:1: expected `field: value` lines, found {_kind(values)}")
    for override in overrides:
        changed = apply_override(values, override)
        for at in [at for at in places if at[: len(changed)] == changed]:
            del places[at]
        places[changed] = f"override {override!r}"
    return validate(values, model, source=source, places=places)


def _note_places(node: yaml.Node, at: tuple[str, ...], places: Places, source: str) -> None:
    if at:
        places.setdefault(at, f"{source}:{node.start_mark.line + 1}")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, str(key.value))
            place = f"{source}:{key.start_mark.line + 1}"
            if here in places:
                raise ConfigError(
                    f"{place}: field {key.value!r} is given twice, "
                    f"first at {places[here]}; remove one"
                )
            places[here] = place
            _note_places(value, here, places, source)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_places(value, (*at, str(index)), places, source)


def apply_override(values: dict[str, Any], override: str) -> tuple[str, ...]:
    """Set `a.b=c` in nested `values`; `c` is read as YAML, so `3` is a number and `[a]` a list.

    Returns:
        The path of the field that was set.

    Raises:
        ConfigError: if the override has no such form or reaches into something without fields.
    """
    key, found, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not found or not all(path):
        raise ConfigError(f"override {override!r} is not of the form field.subfield=value")
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError):
        raise ConfigError(f"override {override!r}: {text!r} is not a YAML value") from None
    place = values
    for parent in path[:-1]:
        inner = place.get(parent)
        if inner is not None and not isinstance(inner, dict):
            raise ConfigError(f"override {override!r}: {parent!r} holds {_kind(inner)}, not fields")
        place[parent] = dict(inner or {})  # a copy: YAML aliases share one dict
        place = place[parent]
    place[path[-1]] = value
    return path


def validate(
    values: Mapping[str, Any],
    model: type[C],
    *,
    source: str = "config",
    places: Places | None = None,
) -> C:
    """Build a `model` from plain values.

    Raises:
        ConfigError: naming every wrong field with its place, the value seen and what was expected.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        complaints = [_complaint(item, model, source, places or {}) for item in error.errors()]
        raise ConfigError("\n".join(complaints)) from None


def _complaint(item: Any, model: type[BaseModel], source: str, places: Places) -> str:
    at = tuple(item["loc"])
    named = tuple(map(str, at))
    where = next((places[named[:n]] for n in range(len(at), 0, -1) if named[:n] in places), source)
    field = ".".join(named) or "the config"
    if item["type"] == "extra_forbidden":
        known = _fields_at(model, at[:-1])
        listed = f" known: {', '.join(known)}." if known else ""
        return f"{where}: unknown field {field!r};{listed}{did_you_mean(str(at[-1]), known)}"
    if item["type"] == "missing":
        return f"{where}: field {field!r} is missing"
    message = item["msg"].removeprefix("Value error, ")
    seen = repr(item["input"])
    seen = seen if len(seen) <= 80 else seen[:77] + "..."
    return f"{where}: {field}: {message[:1].lower() + message[1:]} (found {seen})"


def _fields_at(model: type[BaseModel], at: tuple[str | int, ...]) -> tuple[str, ...]:
    current: Any = model
    for step in at:
        if isinstance(step, int):
            continue
        field = getattr(current, "model_fields", {}).get(step)
        if field is None:
            return ()
        current = _inner_model(field.annotation)
    return tuple(getattr(current, "model_fields", {}))


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_inner_model(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in inner if model is not None), None)


def _kind(value: Any) -> str:
    return {list: "a list", str: "text", dict: "fields", bool: "a truth value"}.get(
        type(value), type(value).__name__
    )


# --- environment ------------------------------------------------------------------------------


def data_dir(given: Path | None = None) -> Path | None:
    """The folder of benchmark files: `given`, else the `ASTRAIOS_DATA` variable, else None."""
    named = str(given) if given is not None else os.environ.get("ASTRAIOS_DATA", "")
    if not named:
        return None
    path = Path(named)
    if not path.is_dir():
        origin = "--data-dir" if given is not None else "the ASTRAIOS_DATA variable"
        raise MissingDataError(f"{origin} names {named!r}, which is not a folder")
    return path


def sandbox_level(given: str) -> str:
    """The level of isolation asked for: `given`, or instead of `auto` the `ASTRAIOS_SANDBOX`."""
    return os.environ.get("ASTRAIOS_SANDBOX", given) if given == "auto" else given


def cache_dir() -> Path | None:
    """The folder of what may be made again: `ASTRAIOS_CACHE`, else the user's cache folder.

    None where the user has no home.
    """
    if named := os.environ.get("ASTRAIOS_CACHE"):
        return Path(named)
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "astraios"
    try:
        return Path.home() / ".cache" / "astraios"
    except RuntimeError:
        return None


def toolchains_dir() -> Path | None:
    """The folder of what compilers make once: in `cache_dir`, or where everybody can read it.

    The sandbox may run programs of root as another user, who could not enter root's home.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "ASTRAIOS_CACHE" not in os.environ:
        return Path("/var/cache/astraios")
    cache = cache_dir()
    return cache / "toolchains" if cache else None


def codeql_setting(name: str) -> str:
    """`ASTRAIOS_CODEQL`, or `ASTRAIOS_CODEQL_<name>`; empty if it is not set."""
    return os.environ.get("_".join(filter(None, ("ASTRAIOS_CODEQL", name))), "")


def secret(variable: str) -> str:
    """The value of a variable that holds a key; it is sent to its server and told to nobody else.

    Raises:
        ConfigError: if the variable is not set.
    """
    if value := os.environ.get(variable, "").strip():
        return value
    raise ConfigError(f"the environment variable {variable!r} is to hold a key and is not set")


DEVICES = "CUDA_VISIBLE_DEVICES"
"""Which accelerators a process sees; read once, when the first of them is used."""


def visible_devices() -> tuple[str, ...] | None:
    """The accelerators that `CUDA_VISIBLE_DEVICES` leaves visible; None where it is not set."""
    named = os.environ.get(DEVICES)
    if named is None:
        return None
    return tuple(filter(None, (name.strip() for name in named.split(","))))


def vllm_python() -> str | None:
    """`ASTRAIOS_VLLM_PYTHON`: the interpreter of an environment that has vLLM in it."""
    return os.environ.get("ASTRAIOS_VLLM_PYTHON") or None


def foreign_environment(**changes: str) -> dict[str, str]:
    """Our environment with `changes`, for a program that runs in another Python installation."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in ours} | changes


def tool_environment(keep: Iterable[str] = ("PATH", "LANG", "LC_ALL", "TMPDIR")) -> dict[str, str]:
    """The part of our environment that a trusted tool (a compiler's `--version`) may see."""
    return {name: os.environ[name] for name in keep if name in os.environ}


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for a library that reads it, and put back what was there."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
