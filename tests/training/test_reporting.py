"""Who is told of losses besides the run folder, and what meters of GPUs say."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

from astraios import measure
from astraios.config import fingerprint
from astraios.errors import TrainingError
from astraios.files import read_records
from astraios.records import Step
from astraios.training.config import Optimization, TrainingConfig
from astraios.training.tune import tune

OPTIMIZATION = Optimization(
    n_steps=6, batch_size=4, learning_rate=1e-2, log_every=2, validate_every=3, save_every=2
)

pytestmark = pytest.mark.train


def config(*report_to: str) -> TrainingConfig:
    return TrainingConfig(
        base_model="tiny",
        method="lora",
        layout="bucketed",
        n_examples=40,
        n_validation=8,
        optimization=OPTIMIZATION,
        report_to=report_to,
    )


def told(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value, of TensorBoard's event files."""
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="needs TensorBoard: pip install tensorboard",
    )
    found = events.EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: {event.step: event.value for event in found.Scalars(tag)}
        for tag in found.Tags()["scalars"]
    }


def check_told(folder: Path) -> None:
    steps = list(read_records(folder / "metrics.jsonl", Step))
    sent = told(folder / "tensorboard")
    losses = {s.step: s.loss for s in steps if s.loss is not None}
    held_out = {s.step: s.validation_loss for s in steps if s.validation_loss is not None}
    assert sent["train/loss"] == pytest.approx(losses, abs=1e-6)
    assert sent["eval/loss"] == pytest.approx(held_out, abs=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorBoard's own dependencies
def test_tensorboard_is_told_our_losses(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs TensorBoard: pip install tensorboard")
    tune(config("tensorboard"), tmp_path / "run", base=base)
    check_told(tmp_path / "run")
    names = [path.name for path in (tmp_path / "run" / "tensorboard").iterdir()]
    assert len(names) == 1 and socket.gethostname() not in names[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_interrupted_run_tells_every_loss_once(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs TensorBoard: pip install tensorboard")

    class Cut(BaseException):
        pass

    def progress(done: int, total: int, note: str) -> None:
        if done == 5:
            raise Cut

    with pytest.raises(Cut):
        tune(config("tensorboard"), tmp_path / "run", base=base, progress=progress)
    tune(config("tensorboard"), tmp_path / "run", base=base)
    check_told(tmp_path / "run")


def test_nobody_is_told_by_default(base: Path, tmp_path: Path) -> None:
    tune(config(), tmp_path / "run", base=base)
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_who_is_told_is_in_no_fingerprint_and_changes_no_loss(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs TensorBoard: pip install tensorboard")
    assert fingerprint(config()) == fingerprint(config("tensorboard"))
    found = []
    for name, wanted in (("quiet", config()), ("loud", config("tensorboard"))):
        tune(wanted, tmp_path / name, base=base)
        found.append([s.loss for s in read_records(tmp_path / name / "metrics.jsonl", Step)])
    assert found[0] == found[1]


def test_a_missing_package_is_named(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astraios.training.reporting.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"'trackio' needs a package.*pip install trackio"):
        tune(config("trackio"), tmp_path / "run", base=base)


# --- energy -----------------------------------------------------------------------------------


class Nvml(SimpleNamespace):
    """As the package nvidia-ml-py has it."""

    NVMLError = RuntimeError
    counted = (5_000, 7_000)

    def __init__(self, works: bool = True) -> None:
        super().__init__(nvmlDeviceGetCount=lambda: 2, nvmlDeviceGetHandleByIndex=lambda at: at)
        self.works = works

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.works:
            raise self.NVMLError("no driver")

    def nvmlDeviceGetTotalEnergyConsumption(self, at: int) -> int:  # noqa: N802
        return self.counted[at]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    fake = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(measure, "find_spec", lambda name: object())
    monkeypatch.setattr(measure, "_RAPL", tmp_path)
    return fake


def test_energy_of_gpus_is_the_growth_of_their_counters(nvml: Any) -> None:
    meter = measure.Meter(energy_j=2.0)
    nvml.counted = (6_000, 7_500)
    assert meter.energy_j == pytest.approx(2.0 + 1.0 + 0.5)


def test_without_a_driver_no_energy_is_told(nvml: Any) -> None:
    nvml.works = False
    assert measure.Meter().energy_j is None
