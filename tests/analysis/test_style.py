"""Looks of methods: distinct for everybody, legible on both papers."""

from __future__ import annotations

from itertools import combinations
from types import MappingProxyType

import numpy as np
import pytest
from numpy.typing import NDArray

from astraios.analysis import style

Floats = NDArray[np.float64]

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
SEEN = MappingProxyType(
    {
        "all colours": np.eye(3),
        "no red": np.array(
            [
                [0.152286, 1.052583, -0.204868],
                [0.114503, 0.786281, 0.099216],
                [-0.003882, -0.048116, 1.051998],
            ]
        ),
        "no green": np.array(
            [
                [0.367322, 0.860646, -0.227968],
                [0.280085, 0.672501, 0.047413],
                [-0.011820, 0.042940, 0.968881],
            ]
        ),
        "no blue": np.array(
            [
                [1.255528, -0.076749, -0.178779],
                [-0.078411, 0.930809, 0.147602],
                [0.004733, 0.691367, 0.303900],
            ]
        ),
    }
)
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])
PAPERS = MappingProxyType({"colour": "#ffffff", "dark": "#14171b"})
APART = 10.0
"""CIE 1976 colour difference; about 2.3 is just noticeable."""


def linear(colour: str) -> Floats:
    parts = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb: Floats) -> Floats:
    parts = XYZ @ np.clip(rgb, 0, 1) / WHITE
    f = np.where(parts > 0.008856, np.cbrt(parts), 7.787 * parts + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("eye", SEEN)
def test_colours_of_the_paper_s_methods_stay_apart(eye: str, paper: str) -> None:
    colours = {look.title: getattr(look, paper) for look in style.KNOWN.values()}
    seen = {name: lab(SEEN[eye] @ linear(colour)) for name, colour in colours.items()}
    for a, b in combinations(seen, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > APART, (a, b)


@pytest.mark.parametrize("paper", PAPERS)
def test_colours_have_a_contrast_of_three_with_the_paper(paper: str) -> None:
    page = float(XYZ[1] @ linear(PAPERS[paper]))
    for look in style.KNOWN.values():
        own = float(XYZ[1] @ linear(getattr(look, paper)))
        assert (max(own, page) + 0.05) / (min(own, page) + 0.05) >= 3, look.title


def test_twenty_foreign_methods_have_twenty_looks() -> None:
    found = style.looks([*style.KNOWN, *(f"mine-{number:02}" for number in range(20))]).values()
    for part in ("colour", "dark"):
        assert len({getattr(look, part) for look in found}) == 28
    assert len({(look.colour, look.marker) for look in found}) == 28
    assert len({look.marker for look in style.KNOWN.values()}) == len(style.KNOWN)
