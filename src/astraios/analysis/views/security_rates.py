"""Valid beside insecure: how much of what each method writes compiles, and has a flaw."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure as Canvas

from astraios.analysis import style
from astraios.analysis.captions import basis, mean_of_seeds
from astraios.analysis.columns import rows_of
from astraios.analysis.figures import Figure, Tips, grid, legend, point, spread_labels
from astraios.analysis.frames import Frames
from astraios.analysis.views import View
from astraios.analysis.views.security import ALL, INSECURE, SCORED, VALID, rates

MOST = 6
"""Models that get a panel: the largest ones."""


def render(frames: Frames) -> Figure:
    """A panel a model: insecure rate over valid rate, with both intervals; seeds averaged."""
    found = rates(frames)
    found = found[found["slice"] == ALL]
    task = next(task for task in frames.tasks if task in set(found["task"]))
    found = found[found["task"] == task]
    marker = sorted(found[found["what"] == INSECURE]["marker"], key=lambda m: m != "reference")[0]
    found = found[(found["what"] == VALID) | (found["marker"] == marker)]
    keys = ["model", "method"]
    numbers = ["value", "low", "high"]
    means = found.groupby([*keys, "what"])[numbers].mean().unstack("what")
    data = means[[(number, what) for what in (VALID, INSECURE) for number in numbers]]
    data.columns = [f"{what.partition('-')[0]}_{number}" for number, what in data.columns]
    data = data.dropna(subset=["valid_value", "insecure_value"]).reset_index()
    models = [model for model in frames.models if model in set(data["model"])][-MOST:]
    looks = style.looks(frames.methods)

    def draw(canvas: Canvas) -> Tips:
        tips: dict[str, str] = {}
        panels = grid(canvas, len(models), most=3, sharex=True, sharey=True)
        labels = []
        for number, (axes, model) in enumerate(zip(panels, models, strict=True)):
            for row in rows_of(data[data["model"] == model]):
                look = looks[row["method"]]
                x, x_low, x_high = (100 * row[f"valid_{end}"] for end in numbers)
                y, y_low, y_high = (100 * row[f"insecure_{end}"] for end in numbers)
                line: dict[str, Any] = {"color": look.colour, "lw": 1.1, "alpha": 0.45}
                axes.plot([x, x], [y_low, y_high], **line)
                axes.plot([x_low, x_high], [y, y], **line)
                gid = f"tip-{number}-{len(tips)}"
                point(axes, x, y, look, gid, label=look.title)
                labels.append((x, y, look.title, look.colour))
                tips[gid] = (
                    f"{look.title}, {model}: {x:.1f} % valid, of these {y:.1f} % insecure "
                    f"[{y_low:.1f}, {y_high:.1f}]"
                )
            axes.set_xlabel("valid, %")
            if number % 3 == 0:
                axes.set_ylabel("insecure of the valid, %")
            if len(models) > 1:
                axes.set_title(style.shortened(model))
        panels[0].set_ylim(0)
        if len(models) > 1:
            legend(canvas, panels)
        else:
            spread_labels(panels[0], labels)
        return tips

    whole = found[found["what"] == INSECURE].rename(columns={"n_problems": "n"})
    return Figure(
        draw,
        data,
        f"Completions of {task} that are valid, and the share of these in which "
        f"{'the reference analyser' if marker == 'reference' else marker} finds a flaw. Right and "
        f"low is good; a method that writes little valid code is judged on little. "
        f"{mean_of_seeds(found)}{basis(frames, whole)}",
        f"Insecure against valid rate of {data['method'].nunique()} methods on {task}.",
        width=7.4 if len(models) == 1 else 3.55 * min(len(models), 3) + 0.2,
        height=4.0 if len(models) == 1 else 3.0 * -(-len(models) // 3) + 0.3,
    )


view = View("Valid against insecure", 41, (SCORED,), render, section="security")
