"""Scores of the paper's models here, against what others found in the same outputs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from astraios.analysis import style
from astraios.analysis.arms import Evaluation
from astraios.analysis.columns import rows_of
from astraios.analysis.figures import Figure, Tips, point
from astraios.analysis.frames import Frames
from astraios.analysis.published_numbers import KEYS, published_numbers
from astraios.analysis.views import Need, View

ORIGINS = {"regraded": "Graded by others", "figure": "Read off the notebook's plots"}
OUTPUTS = "published"
"""The engine of runs that hold the published outputs."""


def both(frames: Frames) -> pd.DataFrame:
    """The numbers that are on both sides: `published`, `ours`, `difference`, in percent."""
    arms = {
        (one.arm.model, one.arm.method, one.arm.task)
        for one in frames.evaluations
        if one.generate is not None
        and one.generate.manifest.config.get("engine") == OUTPUTS
        and _is_whole(one)
    }
    scores = frames.scores[[*KEYS, "value", "n_problems"]]
    of_outputs = [
        (row["model"], row["method"], row["task"]) in arms and not pd.isna(row["value"])
        for row in rows_of(scores)
    ]
    joined = published_numbers().merge(scores[np.array(of_outputs, dtype=bool)], on=KEYS)
    joined["ours"] = (100 * joined["value"].astype(float)).round(4)
    joined = joined.rename(columns={"percent": "published"})
    joined["difference"] = (joined["ours"] - joined["published"]).round(4)
    return joined[[*KEYS, "origin", "published", "ours", "difference", "n_problems", "note"]]


def _is_whole(one: Evaluation) -> bool:
    """Whether all problems and samples were judged; published numbers are of all."""
    given = one.generate.manifest.config if one.generate is not None else {}
    limits = one.judge.manifest.config
    n_samples = given.get("sampling", {}).get("n_samples", 1)
    return (
        given.get("limit_problems") is None
        and limits.get("limit_problems") is None
        and (limits.get("limit_samples") or n_samples) >= n_samples
    )


def render(frames: Frames) -> Figure:
    """A panel an origin: published against ours, on the diagonal where they agree."""
    data = both(frames)
    origins = [origin for origin in ORIGINS if origin in set(data["origin"])]
    looks = style.looks(set(data["method"]))

    def draw(canvas: Canvas) -> Tips:
        panels = canvas.subplots(1, len(origins), squeeze=False)[0]
        tips: dict[str, str] = {}
        seen: dict[str, str] = {}
        for axes, origin in zip(panels, origins, strict=True):
            axes.axline((0, 0), slope=1, color=style.MUTED, lw=0.9, zorder=1)
            for row in rows_of(data[data["origin"] == origin]):
                look = looks[row["method"]]
                gid = f"tip-{len(tips)}"
                label = "" if look.title in seen else look.title
                seen[look.title] = gid
                point(axes, row["published"], row["ours"], look, gid, size=4.5, label=label)
                tips[gid] = f"{look.title}, {row['model']}: {_said(row)}"
            axes.set_title(ORIGINS[origin])
            axes.set_xlabel("published, %")
            axes.set_aspect("equal", adjustable="datalim")
        panels[0].set_ylabel("here, %")
        canvas.legend(loc="outside right center")
        return tips

    return Figure(
        draw,
        data,
        f"What is known of the published outputs, against what was found here. {_agreement(data)} "
        "None of these is from the paper's tables. The numbers behind the figure list every cell.",
        f"{len(data)} numbers of the paper's models, published against found here.",
        width=2.4 + 3.4 * len(origins),
        height=4.2,
    )


def _said(row: dict[str, object]) -> str:
    return (
        f"{row['metric']} ({row['slice']}) on {row['task']}: published {row['published']:.2f} %, "
        f"here {row['ours']:.2f} %"
    )


def _agreement(data: pd.DataFrame) -> str:
    said = []
    for origin, title in ORIGINS.items():
        own = data[data["origin"] == origin]
        if not len(own):
            continue
        off = own["difference"].abs()
        largest = own.iloc[int(off.to_numpy().argmax())]
        said.append(
            f"{title}: {len(own)} numbers, {int((off <= 0.3).sum())} within 0.3 points, "
            f"{int((off <= 1).sum())} within one; the largest difference is "
            f"{largest['difference']:+.2f} ({largest['metric']} of {style.title(largest['method'])}"
            f" on {largest['task']}, {largest['model']})."
        )
    return " ".join(said)


COMPARED = Need(
    "published outputs, all problems and samples judged, of which numbers are known",
    lambda frames: len(both(frames)) > 0,
)

view = View("Published numbers beside ours", 90, (COMPARED,), render, section="quality")
