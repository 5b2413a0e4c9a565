"""What PEFT asks of every config, asked of the bottleneck config."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from peft import PeftConfig, TaskType

from astraios.peft import BottleneckConfig

pytestmark = pytest.mark.train

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "names": {"target_modules": ["c_fc", "c_proj"], "positions": {"c_fc": "after"}},
    "expression": {"target_modules": r".*\.c_fc"},
    "learned": {"placement": "houlsby", "scaling": "learned", "bottleneck_pattern": {"c_fc": 3}},
    "limited": {"layers_to_transform": [0], "layers_pattern": "h", "exclude_modules": ["lm_head"]},
}


@pytest.fixture(params=SETTINGS)
def config(request: pytest.FixtureRequest) -> BottleneckConfig:
    return BottleneckConfig(**SETTINGS[request.param])


@pytest.mark.parametrize("task", [None, *(each.value for each in TaskType)])
def test_takes_every_task_type(task: str | None) -> None:
    assert BottleneckConfig(task_type=task).task_type == task


def test_refuses_other_task_types() -> None:
    with pytest.raises(ValueError, match="Invalid task type: 'CODE'"):
        BottleneckConfig(task_type="CODE")


def test_comes_from_its_type() -> None:
    assert type(PeftConfig.from_peft_type(peft_type="BOTTLENECK")) is BottleneckConfig


def test_saved_is_loaded_by_both_classes(config: BottleneckConfig, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    for cls in (BottleneckConfig, PeftConfig):
        loaded = cls.from_pretrained(tmp_path)
        assert type(loaded) is BottleneckConfig
        assert loaded == config
    raw = BottleneckConfig.from_json_file(str(tmp_path / "adapter_config.json"))
    assert raw == {**config.to_dict(), "peft_version": raw["peft_version"]}


def test_equal_configs_are_saved_as_equal_bytes(config: BottleneckConfig, tmp_path: Path) -> None:
    for name in ("one", "two"):
        copy.deepcopy(config).save_pretrained(tmp_path / name)
    one, two = (tmp_path / name / "adapter_config.json" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_copies_are_equal(config: BottleneckConfig) -> None:
    for again in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):  # noqa: S301
        assert again == config
        assert again.to_dict() == config.to_dict()


def test_listed_targets_become_a_set() -> None:
    assert BottleneckConfig(target_modules=["b", "a"]).target_modules == {"a", "b"}


def test_unknown_keys_of_a_later_version_are_named_and_ignored(
    config: BottleneckConfig, tmp_path: Path
) -> None:
    config.save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "later": 1}))
    with pytest.warns(UserWarning, match="later"):
        assert PeftConfig.from_pretrained(tmp_path) == config


@pytest.mark.parametrize(
    "field",
    ["target_parameters", "layer_replication", "trainable_token_indices", "ensure_weight_tying"],
)
def test_fields_of_lora_alone_are_refused(field: str) -> None:
    with pytest.raises(TypeError, match=field):
        BottleneckConfig(**{field: ["x"]})
