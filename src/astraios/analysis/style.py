"""How a method looks: its place, title, colour and marker are the same in every table and figure.

The hues are those of Okabe and Ito (2008), moved in lightness until any two stay apart under the
common colour blindnesses (tests/analysis/test_style.py simulates them) and have a contrast of 3:1
with the paper; since colour must never be the only sign, each method also has its own marker. On a
dark page the same hues are lighter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

BASE = "base"
"""The name under which the untuned model is evaluated."""

FULL = "fft"
"""The method that the others are compared with: all weights are tuned."""

INK = "#1c2128"
MUTED = "#68717d"
GRID = "#dfe3e8"
PAPER = "#ffffff"
BAD = "#b3261e"
GOOD = "#1a7f4b"


@dataclass(frozen=True)
class Look:
    """The looks of one method."""

    method: str
    title: str
    colour: str
    """On a light page."""
    dark: str
    """On a dark page."""
    marker: str
    """A matplotlib marker."""


KNOWN = MappingProxyType(
    {
        look.method: look
        for look in (
            Look(BASE, "Base (untuned)", "#8b9099", "#8e97a1", "X"),
            Look(FULL, "FFT", "#24292f", "#f2f5f8", "s"),
            Look("lora", "LoRA", "#0064a8", "#4598d8", "o"),
            Look("ptuning", "P-Tuning", "#9c3377", "#f09bd0", "v"),
            Look("ia3", "(IA)³", "#c58700", "#f2c14e", "P"),
            Look("adapterh", "AdapterH", "#00875f", "#2fbf8f", "D"),
            Look("adapterp", "AdapterP", "#3899d2", "#a5dcfa", "^"),
            Look("parallel", "Parallel", "#b53c00", "#ff7f3a", "h"),
        )
    }
)
"""The methods of the paper in its order, after the untuned base."""

SPARE = (
    ("#6a4fb3", "#b39ff0", "<"),
    ("#7d6b00", "#cdbb45", ">"),
    ("#5c7a29", "#a5cf63", "p"),
    ("#8c4a2f", "#d99a7c", "*"),
    ("#47627a", "#9db8d1", "d"),
    ("#a11d5b", "#f37cae", "8"),
)
"""Looks of methods that come from elsewhere, given out in the order of their names.

Where there are more methods than looks, the next round has the same hues in other shades and the
markers moved on by one, so that no two methods look the same.
"""
SHADES = (0.0, 0.3, -0.3, 0.5, -0.5)
"""Share of white (or, below zero, of black) that a round of spare looks mixes in."""


def order(methods: Iterable[str]) -> tuple[str, ...]:
    """Distinct `methods`: base, the paper's order, then others by name."""
    places = {name: place for place, name in enumerate(KNOWN)}
    return tuple(sorted(set(methods), key=lambda name: (places.get(name, len(places)), name)))


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """The look of each of `methods`, in order; unknown methods take spare ones."""
    found: dict[str, Look] = {}
    n_spare = 0
    for name in order(methods):
        if name in KNOWN:
            found[name] = KNOWN[name]
        else:
            found[name] = _spare(name, n_spare)
            n_spare += 1
    return found


def _spare(name: str, number: int) -> Look:
    turn, place = divmod(number, len(SPARE))
    colour, dark, _ = SPARE[place]
    shade = SHADES[turn % len(SHADES)]
    marker = SPARE[(place + turn) % len(SPARE)][2]
    return Look(name, title(name), _mixed(colour, shade), _mixed(dark, shade), marker)


def _mixed(colour: str, share: float) -> str:
    """`colour` with `share` of white, or of black where it is negative."""
    goal = 255 if share > 0 else 0
    parts = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(part + abs(share) * (goal - part)):02x}" for part in parts)


LONGEST = 40
"""Characters of a name in a figure."""


def title(method: str) -> str:
    """What a method is called in print; its own name, shortened, if it is not of the paper."""
    return KNOWN[method].title if method in KNOWN else shortened(method)


def shortened(name: str) -> str:
    """`name` without its middle if it is so long that it would leave no room for a figure."""
    half = LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[:half]}…{name[-half + 1 :]}"
