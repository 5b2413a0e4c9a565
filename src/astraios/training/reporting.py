"""Who is told of losses besides the run folder: TensorBoard, Weights & Biases, trackio.

By the callbacks of `transformers.Trainer`, on the first process only. `metrics.jsonl` stays the
record; what is sent is a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers.integrations import INTEGRATION_TO_CALLBACK, TensorBoardCallback

from astraios.errors import TrainingError
from astraios.runs import Run

FOLDER = "tensorboard"
"""In the run folder: TensorBoard's event files."""


def reporters(names: Sequence[str], run: Run) -> list[Any]:
    """Callbacks for the Trainer, one a name.

    Raises:
        TrainingError: if a package is not installed.
    """
    for name in names:
        if find_spec(name) is None:
            raise TrainingError(
                f"report_to {name!r} needs a package; install it with: pip install {name}, or take "
                "it out of report_to"
            )
    return [
        _Board(run.folder / FOLDER) if name == "tensorboard" else INTEGRATION_TO_CALLBACK[name]()
        for name in names
    ]


class _Board(TensorBoardCallback):  # type: ignore[misc]
    """The Trainer's, in the run folder, without the arguments: they hold paths of the machine."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.tb_writer: Any = None
        self.logging_dir = str(folder)

    def on_train_begin(self, args: Any, state: Any, control: Any, **k: Any) -> None:
        if state.is_world_process_zero and self.tb_writer is None:
            # What a resumed run writes again is dropped from what was there.
            self.tb_writer = self._SummaryWriter(
                log_dir=self.logging_dir, purge_step=state.global_step + 1
            )

    def on_train_end(self, args: Any, state: Any, control: Any, **k: Any) -> None:
        super().on_train_end(args, state, control, **k)
        if not state.is_world_process_zero:
            return
        for path in Path(self.logging_dir).glob("events.out.tfevents.*"):
            parts = path.name.split(".")  # events.out.tfevents.TIME.HOST.PROCESS.COUNT
            if len(parts) > _PARTS:
                path.replace(path.with_name(".".join([*parts[:4], *parts[-2:]])))


_PARTS = 6
"""Of a file's name without that of the host, which is nobody's business."""
