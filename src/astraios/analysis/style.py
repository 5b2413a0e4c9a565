"""How a method looks: its place, title, colour and marker are the same in every table and figure.

The hues are those of Okabe and Ito (2008), which people with any common colour blindness can tell
apart, darkened where white paper asks for it; since colour must never be the only sign, each
method also has its own marker. On a dark page the same hues are lighter.
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
            Look(BASE, "Base (untuned)", "#7a7f87", "#9aa3ad", "X"),
            Look(FULL, "FFT", "#24292f", "#e6edf3", "s"),
            Look("lora", "LoRA", "#0072b2", "#4ba3e3", "o"),
            Look("ptuning", "P-Tuning", "#b9538f", "#e08fc0", "v"),
            Look("ia3", "(IA)³", "#c98600", "#e8b13a", "P"),
            Look("adapterh", "AdapterH", "#008f68", "#35c495", "D"),
            Look("adapterp", "AdapterP", "#3d9ed6", "#9bd7f7", "^"),
            Look("parallel", "Parallel", "#cc5200", "#ff8b4a", "h"),
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
"""Looks of methods that come from elsewhere, given out in the order of their names."""


def order(methods: Iterable[str]) -> tuple[str, ...]:
    """Distinct `methods`: base, the paper's order, then others by name."""
    places = {name: place for place, name in enumerate(KNOWN)}
    return tuple(sorted(set(methods), key=lambda name: (places.get(name, len(places)), name)))


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """The look of each of `methods`, in order; methods we do not know share the spare ones."""
    found: dict[str, Look] = {}
    n_spare = 0
    for name in order(methods):
        if name in KNOWN:
            found[name] = KNOWN[name]
        else:
            colour, dark, marker = SPARE[n_spare % len(SPARE)]
            found[name] = Look(name, name, colour, dark, marker)
            n_spare += 1
    return found


def title(method: str) -> str:
    """What a method is called in print; its own name if it is not one of the paper's."""
    return KNOWN[method].title if method in KNOWN else method
