"""How much of its score each method keeps when the prompt is perturbed."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as Canvas

from astraios.analysis import style
from astraios.analysis.captions import basis
from astraios.analysis.columns import rows_of
from astraios.analysis.comparison import ALL
from astraios.analysis.figures import Figure, Tips, legend, point
from astraios.analysis.frames import Frames
from astraios.analysis.style import MUTED
from astraios.analysis.views import Need, View


def render(frames: Frames) -> Figure:
    """A row of points per transformation: change of pass@1 in points, with paired intervals."""
    found = frames.robustness[frames.robustness["drop"].notna()]
    model = next(m for m in reversed(frames.models) if m in set(found["model"]))
    data = found[found["model"] == model].reset_index(drop=True)
    looks = {m: look for m, look in style.looks(frames.methods).items() if m in set(data["method"])}
    slices = [*sorted(set(data["slice"]) - {ALL}), ALL]

    def draw(canvas: Canvas) -> Tips:
        axes = canvas.subplots()
        tips: dict[str, str] = {}
        offsets = np.linspace(-0.34, 0.34, max(len(looks), 2))
        for offset, (method, look) in zip(offsets, looks.items(), strict=False):
            own = rows_of(data[data["method"] == method])
            for row in own:
                y = slices.index(row["slice"]) + offset
                ends = [-100 * row["drop_high"], -100 * row["drop_low"]]
                gid = f"tip-{len(tips)}"
                axes.plot(ends, [y, y], color=look.colour, lw=1.4, alpha=0.55)
                label = look.title if row is own[0] else ""
                point(axes, -100 * row["drop"], y, look, gid, size=6.5, label=label)
                tips[gid] = (
                    f"{look.title}, {_name(row['slice'])}: {100 * row['clean']:.1f} % clean, "
                    f"{100 * row['value']:.1f} % perturbed"
                )
        axes.axvline(0, color=MUTED, lw=1)
        for edge in np.arange(len(slices) - 1) + 0.5:
            axes.axhline(edge, color=MUTED, lw=0.4, alpha=0.5)
        axes.set_yticks(range(len(slices)), [_name(name) for name in slices])
        axes.set_ylim(len(slices) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("change of pass@1 against the unperturbed prompt, points")
        legend(canvas, [axes])
        return tips

    return Figure(
        draw,
        data,
        f"Change of pass@1 on {model} when the prompt is perturbed, paired over the same problems "
        "and seeds. "
        f"A problem counts with its worst variant; '{_name(ALL)}' needs every variant solved. "
        f"Left of zero is a loss. {basis(frames, data)}",
        f"Change of pass@1 under {len(slices) - 1} perturbations of the prompt, per method.",
        width=8.2,
        height=1.4 + 0.82 * len(slices),
    )


def _name(name: str) -> str:
    return "all together" if name == ALL else name or "perturbed"


CLEAN = Need(
    "the problems of perturbed prompts judged unperturbed too",
    lambda frames: frames.robustness.empty or bool(frames.robustness["drop"].notna().any()),
)

view = View(
    "Robustness to perturbed prompts", 40, ("robustness", CLEAN), render, section="robustness"
)
