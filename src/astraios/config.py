"""Config files: YAML into frozen models, `dotted.key=value` overrides, fingerprints.

A config is a pydantic model derived from `Config`. Unknown fields are refused with the nearest
known one, and every complaint names the file and the line. This is also the only module that
reads environment variables.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from astraios.errors import ConfigError, MissingDataError, did_you_mean

OPERATIONAL: dict[str, Any] = {"operational": True}
"""`Field(json_schema_extra=OPERATIONAL)` marks a field that changes speed and never a record."""

Path_ = tuple[str | int, ...]
C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """A frozen config; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


# --- fingerprints -----------------------------------------------------------------------------


def identity(config: BaseModel) -> dict[str, Any]:
    """The JSON form of `config` without its operational fields, at any depth."""
    dumped = config.model_dump(mode="json")
    return _without_operational(config, dumped)


def _without_operational(value: Any, dumped: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            name: _without_operational(getattr(value, name), item)
            for name, item in dumped.items()
            if name not in fields or not _is_operational(fields[name].json_schema_extra)
        }
    if isinstance(value, Mapping):
        return {key: _without_operational(item, dumped[str(key)]) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_operational(item, twin) for item, twin in zip(value, dumped, strict=True)]
    return dumped


def _is_operational(extra: Any) -> bool:
    return isinstance(extra, Mapping) and bool(extra.get("operational"))


def digest(value: Any) -> str:
    """First 12 hex digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def fingerprint(config: BaseModel) -> str:
    """First 12 hex digits of the SHA-256 of all fields that could change a number."""
    return digest(identity(config))


# --- YAML -------------------------------------------------------------------------------------


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
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    return parse_yaml(text, model, overrides, source=str(path))


def parse_yaml(
    text: str, model: type[C], overrides: Sequence[str] = (), *, source: str = "config"
) -> C:
    """Like `read_yaml`, from a string; `source` is the name used in messages."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[Path_, int] = {}
        if node is not None:
            _note_lines(node, (), lines, source)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise ConfigError(f"{where}: malformed YAML: {error.problem or error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: malformed YAML: {error}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{source}:1: expected `field: value` lines, found {_kind(values)}")
    for override in overrides:
        apply_override(values, override)
    return validate(values, model, source=source, lines=lines)


def _note_lines(node: yaml.Node, at: Path_, lines: dict[Path_, int], source: str) -> None:
    lines[at] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, str(key.value))
            if here in lines:
                raise ConfigError(
                    f"{source}:{key.start_mark.line + 1}: field {key.value!r} is given twice, "
                    f"first on line {lines[here]}; remove one"
                )
            _note_lines(value, here, lines, source)
            lines[here] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, (*at, index), lines, source)


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set `a.b=c` in nested `values`; `c` is read as YAML, so `3` is a number and `[a]` a list."""
    key, found, text = override.partition("=")
    if not found or not key.strip():
        raise ConfigError(f"override {override!r} is not of the form field.subfield=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"override {override!r}: {text!r} is not a YAML value") from None
    *parents, last = key.strip().split(".")
    place: Any = values
    for parent in parents:
        if place.get(parent) is None:
            place[parent] = {}
        place = place[parent]
        if not isinstance(place, dict):
            raise ConfigError(f"override {override!r}: {parent!r} holds {_kind(place)}, not fields")
    place[last] = value


def validate(
    values: Mapping[str, Any],
    model: type[C],
    *,
    source: str = "config",
    lines: Mapping[Path_, int] | None = None,
) -> C:
    """Build a `model` from plain values.

    Raises:
        ConfigError: naming every wrong field with its line, the value seen and what was expected.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        complaints = [_complaint(item, model, source, lines or {}) for item in error.errors()]
        raise ConfigError("\n".join(complaints)) from None


def _complaint(item: Any, model: type[BaseModel], source: str, lines: Mapping[Path_, int]) -> str:
    at: Path_ = tuple(item["loc"])
    line = next((lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in lines), None)
    where = f"{source}:{line}" if line else source
    field = ".".join(map(str, at)) or "the config"
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


def _fields_at(model: type[BaseModel], at: Path_) -> tuple[str, ...]:
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


def tool_environment(keep: Iterable[str] = ("PATH", "LANG", "LC_ALL", "TMPDIR")) -> dict[str, str]:
    """The part of our environment that a trusted tool (a compiler's `--version`) may see."""
    return {name: os.environ[name] for name in keep if name in os.environ}
