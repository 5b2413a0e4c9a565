"""What goes wrong is told in one clear error, and nothing is lost by it."""

from __future__ import annotations

import contextlib
import math
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

from transformers import AutoTokenizer, OlmoConfig, OlmoForCausalLM

from astraios.errors import (
    DataError,
    ForeignRunError,
    MethodError,
    MissingDataError,
    StorageError,
    TrainingError,
)
from astraios.files import read_records
from astraios.records import Step
from astraios.runs import is_done
from astraios.training import _recorder
from astraios.training.base import load_base
from astraios.training.checkpoints import read_best
from astraios.training.config import Optimization, TrainingConfig
from astraios.training.tune import ADAPTER, tune

OPTIMIZATION = Optimization(
    n_steps=6, batch_size=4, learning_rate=5e-3, log_every=1, validate_every=3, save_every=2
)

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def base(make_base: Callable[..., Path]) -> Path:
    return make_base(hidden=32)


def config(method: str = "lora", **changes: Any) -> TrainingConfig:
    mine = set(Optimization.model_fields) & set(changes)
    plan = OPTIMIZATION.model_copy(update={name: changes.pop(name) for name in mine})
    return TrainingConfig(
        base_model="tiny",
        method=method,
        layout="bucketed",
        n_examples=40,
        n_validation=8,
        optimization=plan,
        **changes,
    )


def losses(folder: Path) -> list[float]:
    records = read_records(folder / "metrics.jsonl", Step)
    return [s.loss if s.loss is not None else s.validation_loss or 0.0 for s in records]


def cut(folder: Path, base: Path, at_step: int, wanted: TrainingConfig) -> None:
    """A run that ended after a step."""

    class Cut(BaseException):
        pass

    def progress(done: int, total: int, note: str) -> None:
        if done == at_step:
            raise Cut

    with pytest.raises(Cut):
        tune(wanted, folder, base=base, progress=progress)


def test_a_tokenizer_without_an_end_of_text_is_told(base: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.eos_token = None
    endless = tmp_path / "endless"
    endless.mkdir()
    for path in base.iterdir():
        (endless / path.name).write_bytes(path.read_bytes())
    tokenizer.save_pretrained(endless)
    with pytest.raises(DataError, match=r"endless.*has no end-of-text token; set its eos_token"):
        tune(config(), tmp_path / "run", base=endless)


def test_a_folder_above_the_base_is_told_where_it_is(base: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model").symlink_to(base)
    with pytest.raises(MissingDataError, match=r"holds no config.json; .*mean '.*mine/model'\?"):
        load_base(tmp_path / "mine")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match=r"empty' holds no config.json$"):
        load_base(tmp_path / "empty")


def test_a_base_without_the_targets_of_a_method_is_told(base: Path, tmp_path: Path) -> None:
    strange = tmp_path / "strange"
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.save_pretrained(strange)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    shape = OlmoConfig(**sizes, num_attention_heads=2, vocab_size=len(tokenizer))
    OlmoForCausalLM(shape).save_pretrained(strange)
    with pytest.raises(
        MethodError,
        match=r"'adapterh' knows no targets for architecture 'olmo'.*linear layers are: .*o_proj.*"
        r"target_modules=",
    ):
        tune(config("adapterh"), tmp_path / "run", base=strange)


def test_another_recipe_is_refused_by_the_fields_that_differ(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    cut(folder, base, 5, config())
    before = {path: path.read_bytes() for path in folder.rglob("*.safetensors")}
    assert before
    with pytest.raises(
        ForeignRunError,
        match=r"method_options.r: None -> 4; optimization.learning_rate: 0.005 -> 0.1",
    ):
        tune(config(learning_rate=0.1, method_options={"r": 4}), folder, base=base)
    assert {path: path.read_bytes() for path in folder.rglob("*.safetensors")} == before
    tune(config(), folder, base=base)  # and goes on
    assert is_done(folder)


def test_checkpoints_of_another_model_are_refused_by_name(base: Path, tmp_path: Path) -> None:
    cut(tmp_path / "run", base, 5, config("lora"))
    cut(tmp_path / "other", base, 5, config("ia3"))
    mine = tmp_path / "run" / "checkpoints" / "checkpoint-4"
    its = tmp_path / "other" / "checkpoints" / "checkpoint-4"
    for path in mine.iterdir():
        path.write_bytes((its / path.name).read_bytes())
    with pytest.raises(
        TrainingError, match=r"does not fit the model.*remove the run's checkpoints"
    ):
        tune(config("lora"), tmp_path / "run", base=base)


@contextlib.contextmanager
def no_file_beyond(n_bytes: int) -> Iterator[None]:
    """No file grows beyond `n_bytes`: the kernel takes a part of a write, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("share", [0.5, 1.5])  # of the weights: they do not fit, or the optimizer
def test_a_full_disk_is_told_and_nothing_is_lost(share: float, base: Path, tmp_path: Path) -> None:
    wanted = config("fft", validate_every=6)
    tune(wanted, tmp_path / "whole", base=base)
    size = (tmp_path / "whole" / ADAPTER / "model.safetensors").stat().st_size
    folder = tmp_path / "run"
    cut(folder, base, 3, wanted)
    with no_file_beyond(int(share * size)), pytest.raises(StorageError, match=r"cannot"):
        tune(wanted, folder, base=base)
    seen: list[int] = []
    tune(wanted, folder, base=base, progress=lambda done, total, note: seen.append(done))
    assert seen[0] == 3  # after the whole checkpoint of step 2
    assert losses(folder) == pytest.approx(losses(tmp_path / "whole"), abs=1e-6)


def test_a_validation_loss_that_is_no_number_ends_the_run_and_leaves_the_best_weights(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _recorder.mean_loss
    found: list[float] = []

    def fails(*arguments: Any, **named: Any) -> float:
        found.append(real(*arguments, **named))
        return math.nan if len(found) == 3 else found[-1]

    monkeypatch.setattr(_recorder, "mean_loss", fails)
    with pytest.raises(
        TrainingError, match=r"validation loss is nan at step 6; lower optimization.learning_rate"
    ):
        tune(config(), tmp_path / "run", base=base)
    best = read_best(tmp_path / "run")
    assert best is not None and (best.step, best.validation_loss) == (3, found[1])
    tune(config(), tmp_path / "run", base=base)
    assert is_done(tmp_path / "run")


def test_a_base_without_a_finite_loss_is_told_before_the_first_step(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_recorder, "mean_loss", lambda *_, **__: math.inf)
    with pytest.raises(TrainingError, match=r"validation loss is inf at step 0; take a base model"):
        tune(config(), tmp_path / "run", base=base)


def test_memory_that_runs_out_says_what_to_lower_and_the_run_goes_on(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from astraios.training import _trainer

    real = _trainer.OurTrainer.training_step
    steps: list[int] = []

    def fails(self: Any, *arguments: Any, **named: Any) -> Any:
        steps.append(self.state.global_step)
        if len(steps) == 5:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate"
            )
        return real(self, *arguments, **named)

    monkeypatch.setattr(_trainer.OurTrainer, "training_step", fails)
    with pytest.raises(
        TrainingError,
        match=r"at step 4 with [\d,]+ MiB in use; lower rows_per_device \(now 4\), set "
        r"gradient_checkpointing: true, or take base_precision bf16, int8 or nf4",
    ):
        tune(config(), tmp_path / "run", base=base)
    tune(config(rows_per_device=4), tmp_path / "whole", base=base)
    tune(config(), tmp_path / "run", base=base)
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), abs=1e-6)
