"""The page beside tuned weights: what hubs read of it, what people do, and what it must not say."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

from huggingface_hub import ModelCard

from astraios import methods
from astraios.files import read_json
from astraios.runs import is_done
from astraios.training.base import load_base
from astraios.training.card import base_name
from astraios.training.checkpoints import Best
from astraios.training.config import Optimization, TrainingConfig
from astraios.training.tune import ADAPTER, BEST, tune

OPTIMIZATION = Optimization(
    n_steps=4, batch_size=4, learning_rate=1e-2, log_every=1, validate_every=2, save_every=2
)

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def base(make_base: Callable[..., Path]) -> Path:
    folder = make_base(folder="home-of-somebody")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n\n# A base\n")
    return folder


def tuned(base: Path, folder: Path, method: str, **changes: Any) -> ModelCard:
    plan = {name: changes.pop(name) for name in set(Optimization.model_fields) & set(changes)}
    config = TrainingConfig(
        base_model=str(base),
        method=method,
        layout="bucketed",
        n_examples=40,
        n_validation=8,
        optimization=OPTIMIZATION.model_copy(update=plan),
        **changes,
    )
    tune(config, folder)
    return ModelCard.load(folder / ADAPTER / "README.md")


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    tuned(base, folder, "parallel")
    return folder


def test_hubs_find_in_front_what_they_look_for(run: Path) -> None:
    found = ModelCard.load(run / ADAPTER / "README.md").data.to_dict()
    assert found["base_model"] == "model"
    assert (found["library_name"], found["pipeline_tag"]) == ("peft", "text-generation")
    assert {"astraios", "parallel"} <= set(found["tags"])
    assert found["license"] == "apache-2.0"  # the base's page says so


def test_people_find_what_made_the_weights(run: Path) -> None:
    text = ModelCard.load(run / ADAPTER / "README.md").text
    manifest = json.loads((run / "manifest.json").read_text())
    for said in (
        manifest["fingerprint"],
        *manifest["inputs"].values(),
        "| learning rate | 0.01, cosine, 0 steps of warm-up |",
        "validation, step 0 (the start)",
        "validation, step 4 (these weights)",
        "stays under that model's licence",
        "import astraios.peft",
    ):
        assert said in text


def test_no_path_user_or_host_is_in_what_would_be_pushed(run: Path, base: Path) -> None:
    for path in (run / ADAPTER).iterdir():
        if path.suffix in (".json", ".md"):
            text = path.read_text(encoding="utf-8")
            assert str(base) not in text and str(run) not in text
            assert "home-of-somebody" not in text and socket.gethostname() not in text
            assert f"/{getpass.getuser()}" not in text


def test_weights_load_where_the_base_is_named_anew(run: Path, base: Path) -> None:
    assert is_done(run)
    methods.method("parallel").load(load_base(base)[0], run / ADAPTER)


def test_full_tuning_is_a_model_of_transformers(base: Path, tmp_path: Path) -> None:
    # The rate rises from nothing to far too much, so the best weights are not the last.
    rising = {"learning_rate": 1.0, "n_warmup_steps": 4, "validate_every": 1, "divergence": 1e6}
    card = tuned(base, tmp_path / "run", "fft", **rising)
    assert card.data.library_name == "transformers"
    assert "import astraios" not in card.text
    for kind in ("AutoModelForCausalLM", "AutoTokenizer"):  # both lie beside the page
        assert f'{kind}.from_pretrained("THIS-FOLDER-OR-REPOSITORY")' in card.text
    best = read_json(tmp_path / "run" / "best.json", Best)
    assert best.step < 4
    page = ModelCard.load(tmp_path / "run" / BEST / "README.md").text
    assert f"validation, step {best.step} (these weights)" in page


@pytest.mark.parametrize(
    ("given", "name", "on_hub"),
    [
        ("bigcode/starcoderbase-1b", "bigcode/starcoderbase-1b", True),
        ("/home/somebody/models/starcoder", "starcoder", False),
        ("models/of/mine", "mine", False),
        ("minipack-0.7m", "minipack-0.7m", False),
    ],
)
def test_a_base_is_called_as_others_can_find_it(given: str, name: str, on_hub: bool) -> None:
    assert base_name(given) == (name, on_hub)
