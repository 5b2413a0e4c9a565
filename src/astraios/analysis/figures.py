"""A figure: a function that draws it, the data it shows, and how it becomes SVG, PNG and PDF.

Drawn with matplotlib into SVG whose text stays text. The file version is complete by itself. The
version inside the report takes colours and fonts from the page, so that it follows the dark and
the light theme, has no ids in common with other figures, and says of every mark which method it
belongs to (`data-m`), so that the page can point at one method in all figures.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

from astraios.analysis.style import BAD, GOOD, GRID, INK, MUTED, PAPER, Look

SETTINGS = MappingProxyType(
    {
        "svg.fonttype": "none",
        "pdf.fonttype": 42,  # text that can be searched and edited
        "text.parse_math": False,  # a name may hold a dollar sign
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9.5,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": MUTED,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.unicode_minus": True,
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "legend.columnspacing": 1.3,
        "legend.handletextpad": 0.45,
        "legend.handlelength": 1.5,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
    }
)

FORMATS = ("svg", "png", "pdf")
"""Files that a figure can be written as."""
DPI = 160
"""Of the PNG; the others have no pixels."""
METADATA: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "svg": {"Date": None, "Creator": None},
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
)
"""Nothing that differs from run to run, or from one version of matplotlib to the next."""

THEME = MappingProxyType(
    {INK: "ink", MUTED: "muted", GRID: "rule", PAPER: "paper", BAD: "bad", GOOD: "good"}
)
"""Colours that a page replaces by its own variables."""

MARKED = re.compile(r"<(path|use|text)\b([^>]*?var\(--m(\d+),)")
"""An element in the colour of a method: its tag, what follows, the method's number."""
PLACES = re.compile(r' (?:d|x|y|transform)="[^"]*"')
"""Attributes whose numbers are places on the drawing."""

THIN = frozenset("PX*")
"""Markers with little ink for their size."""

Tips = Mapping[str, str]
"""Group id of a mark -> what it says when pointed at, and to a screen reader."""


@dataclass(frozen=True)
class Figure:
    """What is drawn, and the numbers behind it."""

    draw: Callable[[Canvas], Tips]
    """Draws on an empty canvas; marks whose `gid` it returns get that text as their tooltip."""
    data: pd.DataFrame
    caption: str
    summary: str
    """What the figure shows, in a sentence, for those who cannot see it."""
    width: float = 7.4
    """Inches."""
    height: float = 4.2
    """Inches."""


def point(
    axes: Axes, x: float, y: float, look: Look, gid: str, *, size: float = 7, label: str = ""
) -> None:
    """One method's mark, ringed in the colour of the paper so that marks part where they meet."""
    axes.plot(
        [x],
        [y],
        marker=look.marker,
        ms=size * (1.3 if look.marker in THIN else 1),
        color=look.colour,
        mec=PAPER,
        mew=0.9,
        ls="none",
        clip_on=False,  # a score of zero lies on the edge
        zorder=3,
        gid=gid,
        label=label or None,
    )


def grid(canvas: Canvas, n: int, *, most: int = 3, **options: Any) -> list[Axes]:
    """`n` panels in rows of at most `most`; no empty frame is left in the last row."""
    columns = min(n, most) or 1
    axes = canvas.subplots(-(-n // columns) or 1, columns, squeeze=False, **options).flat
    panels = list(axes)
    for unused in panels[n:]:
        unused.remove()
    for axes in panels[max(0, n - columns) : n]:  # nothing stands below them
        axes.tick_params(labelbottom=True)
    return panels[:n]


def legend(canvas: Canvas, panels: Iterable[Axes]) -> None:
    """One legend for all panels: every label once, in the order of its first panel."""
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    columns = min(len(found), 8) or 1
    canvas.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns)


def short_count(value: float) -> str:
    """`1.14 B`, `652 k`: a count as it fits under an axis, three significant digits."""
    for limit, sign in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{sign}"
    return f"{value:g}"


def thinned(frame: pd.DataFrame, most: int = 200) -> pd.DataFrame:
    """At most about `most` rows of `frame`, evenly taken, the last one among them."""
    step = max(1, -(-len(frame) // most))
    return frame.iloc[sorted({*range(0, len(frame), step), len(frame) - 1})] if step > 1 else frame


def drawn(figure: Figure, name: str, formats: Iterable[str] = ("svg",)) -> dict[str, bytes]:
    """The figure in `formats`, drawn once; equal data give equal bytes.

    Args:
        figure: what to draw.
        name: seeds the ids inside the SVG.
        formats: out of `FORMATS`; the SVG is made in any case.
    """
    settings: dict[Any, Any] = {**SETTINGS, "svg.hashsalt": name}
    made = {}
    with mpl.rc_context(settings):
        canvas = Canvas(figsize=(figure.width, figure.height), layout="constrained")
        FigureCanvasSVG(canvas)
        tips = figure.draw(canvas)
        settle(canvas)
        for kind in dict.fromkeys(("svg", *formats)):
            out = io.BytesIO()
            # A bitmap is pasted where the ground may be dark, and its ink is not.
            ground = PAPER if kind == "png" else "none"
            canvas.savefig(out, format=kind, dpi=DPI, facecolor=ground, metadata=METADATA[kind])
            made[kind] = out.getvalue()
    text = made["svg"].decode()
    for gid, tip in tips.items():
        text = text.replace(f'<g id="{gid}">', f'<g id="{gid}"><title>{escape(tip)}</title>', 1)
    return {**made, "svg": text.encode()}


def inline(document: str, figure: Figure, name: str, looks: Mapping[str, Look]) -> str:
    """An SVG document as an element of a page: themed, without ids or names of its own."""
    body = document[document.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", body)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
    for number, look in enumerate(looks.values()):
        body = body.replace(look.colour, f"var(--m{number}, {look.colour})")
    for colour, variable in THEME.items():
        body = body.replace(colour, f"var(--{variable}, {colour})")
    body = MARKED.sub(r'<\1 data-m="\3"\2', body)
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", body)
    body = PLACES.sub(lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), body)
    body = re.sub(r"\n\s*", "\n", body)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', body)
    width = float(size.group(1)) if size else 72 * figure.width
    opening = (
        f'<svg role="img" aria-label="{escape(figure.summary)}" '
        f'style="max-width: {1.34 * width:.0f}px" '
    )
    body = re.sub(r'(<svg[^>]*?)\s(width|height)="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?)\s(width|height)="[^"]*"', r"\1", body, count=1)
    return body.replace("<svg ", opening, 1)


def settle(canvas: Canvas) -> None:
    """Find the layout, once: finding it takes longer than drawing."""
    engine = canvas.get_layout_engine()
    if engine is not None:
        engine.execute(canvas)
        canvas.set_layout_engine(None)  # "none" would leave a placeholder, and draw all twice


def spread_labels(
    axes: Axes, labels: list[tuple[float, float, str, str]], *, gap: float = 1.25, lift: float = 0
) -> None:
    """Write a label beside each point so that no two overlap.

    Labels go to the right of their points and are pushed apart up and down; one that had to move
    far is tied to its point by a thin line. To be called when all else is drawn: the layout is
    final from here on.

    Args:
        axes: where the points are; its limits and scales are as they will be printed.
        labels: `(x, y, text, colour)` in data coordinates.
        gap: distance of two labels, in heights of a line of text.
        lift: how far above its point a label stands if there is room, in the same unit.
    """
    canvas = axes.get_figure(root=True)
    if not isinstance(canvas, Canvas):
        raise ValueError("the axes belong to no figure")
    settle(canvas)
    line = gap * mpl.rcParams["font.size"] * canvas.dpi / 72
    raised = lift * line / gap
    points = [axes.transData.transform((x, y)) for x, y, _, _ in labels]
    right = axes.transAxes.transform((1, 1))[0]
    placed: list[tuple[float, float, float]] = []  # left, right, y of labels that are set
    for place in sorted(range(len(labels)), key=lambda i: -points[i][1]):
        x, y, text, colour = labels[place]
        at_x, at_y = points[place]
        width = 0.62 * mpl.rcParams["font.size"] * canvas.dpi / 72 * len(text)
        leftward = at_x + 9 + width > right
        start = at_x - 9 - width if leftward else at_x + 9
        offsets = sorted(
            (step * line * 0.25 for step in range(-24, 25)), key=lambda y: abs(y - raised)
        )
        shift = next(
            (
                offset
                for offset in offsets
                if all(
                    abs(at_y + offset - other) >= line or start > end or start + width < begin
                    for begin, end, other in placed
                )
            ),
            raised,
        )
        placed.append((start, start + width, at_y + shift))
        note = axes.annotate(
            text,
            (x, y),
            xytext=((-8 if leftward else 8), shift * 72 / canvas.dpi),
            textcoords="offset points",
            ha="right" if leftward else "left",
            va="center",
            color=colour,
            fontweight="bold",
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.6, "alpha": 0.75},
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkB": 4}
            if abs(shift) > 1.5 * line
            else None,
        )
        note.set_in_layout(False)  # positions above would no longer hold
