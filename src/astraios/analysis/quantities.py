"""Numbers of parameters and amounts of memory as people write and read them."""

from __future__ import annotations

import math
import re
from types import MappingProxyType

from astraios.errors import ConfigError

COUNTS = MappingProxyType({"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12})
MEMORY = MappingProxyType(
    {
        "mib": 1.0,
        "gib": 1024.0,
        "tib": 1024.0**2,
        "mb": 1e6 / 2**20,
        "gb": 1e9 / 2**20,
        "tb": 1e12 / 2**20,
    }
)
"""Unit -> MiB."""

NUMBER = r"(\d+(?:\.\d*)?|\.\d+)(?:e([+-]?\d+))?"


def parse_count(text: str, name: str = "the size") -> int:
    """`14B`, `350M`, `0.65m`, `1.3e9` and `1,300,000` as a number of parameters.

    Raises:
        ConfigError: if it is none of these, or not above zero.
    """
    value, unit = _split(text)
    if unit not in COUNTS or not value > 0:
        raise ConfigError(
            f"{name}: {text!r} is no number of parameters; write one like 14B, 350M, 0.65M or 1.3e9"
        )
    return round(value * COUNTS[unit])


def parse_memory(text: str, name: str = "the memory") -> float:
    """`24GiB`, `800 MiB`, `80GB` in MiB; GiB is 1024 MiB, GB is a thousand million bytes.

    Raises:
        ConfigError: if there is no such unit, or the amount is not above zero.
    """
    value, unit = _split(text)
    if unit not in MEMORY or not value > 0:
        raise ConfigError(
            f"{name}: {text!r} is no amount of memory; write one like 24GiB or 800MiB"
        )
    return value * MEMORY[unit]


def parse_share(text: str, name: str) -> float | None:
    """`0.5%` as 0.005; None if there is no percent sign.

    Raises:
        ConfigError: if what stands before the sign is no number above zero.
    """
    if not text.strip().endswith("%"):
        return None
    value, unit = _split(text.strip()[:-1])
    if unit or not value > 0:
        raise ConfigError(f"{name}: {text!r} is no percentage; write one like 0.5%")
    return value / 100


def show_count(n: float) -> str:
    """`14B`, `1.3B`, `652k`: three significant digits."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{_three(n / size)}{unit}"
    return f"{n:.0f}"


def show_ratio(ratio: float) -> str:
    """`1.99`, `2,150`: three significant digits, whole from a hundred on."""
    return _three(ratio)


def show_memory(mib: float) -> str:
    """`24 GiB`, `870 MiB`."""
    return f"{_three(mib / 1024)} GiB" if mib >= 1024 else f"{_three(mib)} MiB"


def show_hours(hours: float) -> str:
    """`3.2 h`, `18 min`, `62 s`."""
    if hours >= 1:
        return f"{_three(hours)} h"
    return f"{60 * hours:.0f} min" if hours >= 1 / 30 else f"{_three(3600 * hours)} s"


def _three(value: float) -> str:
    """Three significant digits, trailing zeros of the fraction left out."""
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _split(text: str) -> tuple[float, str]:
    """Number and unit in lower case; a number that is none is NaN."""
    plain = text.strip().replace(",", "").replace("_", "").lower()
    found = re.fullmatch(rf"{NUMBER}\s*([a-z]*)", plain)
    if not found:
        return math.nan, "?"
    value = float(f"{found[1]}e{found[2] or 0}")
    return (value if math.isfinite(value) else math.nan), found[3]
