"""What paths of published outputs say: styles in use, and names that say too little."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios import published
from astraios.errors import GenerationsError
from astraios.studies.outputs.names import NotScoredError, named

PACK = "humanevalsynthesize-python@original"
FORMAT = "recode-format@seeds-5"
READ = {
    # as in the repository of the paper
    "humanevalfixtests-java/generations-humanevalfixtests-java-starcoderbase-1b-lora.json": (
        "1b-lora",
        "humanevalfixtests-java@original",
    ),
    "humanevalsynthesize-python/generations-humanevalsynthesizepython-starcoderbase-15b-ia3.json": (
        "16b-ia3",
        PACK,
    ),
    "humanevalsynthesize-python/syn-python_generations_1b-fft.json": ("1b-fft", PACK),
    "humanevalfixtests-java/fixtest-java_generations_3b-ptuning.json": (
        "3b-ptuning",
        "humanevalfixtests-java@original",
    ),
    "recode-format/generations-humaneval-format-num_seeds_5-starcoderbase-7b-adapterh.json": (
        "7b-adapterh",
        FORMAT,
    ),
    "aatk-dow/generations-asleep_completion-starcoderbase-15b-parallel.json": (
        "16b-parallel",
        "aatk",
    ),
    "defect_detection/generations-defectdetection-starcoderbase-7b-adapterp.json": (
        "7b-adapterp",
        "devign",
    ),
    "defect_detection_ablation/defect_generations_15b-fft_os.json": ("16b-fft", "devign-oneshot"),
    # as its README says
    "generations_clone_detection_astraios-1b-lora.json": ("1b-lora", "bigclonebench"),
    "generations_humanevalexplainsynthesize-python_astraios-1b-lora.json": (
        "1b-lora",
        "humanevalexplainsynthesize-python@original",
    ),
    "generations_perturbed-humaneval-format-num_seeds_5_astraios-1b-lora.json": (
        "1b-lora",
        FORMAT,
    ),
    # short names in folders
    "aatk_dow/15b-lora.json.gz": ("16b-lora", "aatk"),
    "defect_detection_oneshot/7b-lora.json.gz": ("7b-lora", "devign-oneshot"),
    "clone_detection/16B-Adapter_P.json": ("16b-adapterp", "bigclonebench"),
    "clone_detection_oneshot/3b-(IA)^3.jsonl": ("3b-ia3", "bigclonebench-oneshot"),
    "recode_func_name/7b-lora.json.gz": ("7b-lora", "recode-function"),
    "recode_nlaugmenter/1b-parallel-adapter.json": ("1b-parallel", "recode-docstring"),
    "outputs/humanevalsynthesize/python/1b/p-tuning.json": ("1b-ptuning", PACK),
    "humanevalsynthesize-c++/full-finetuning.json/starcoderbase-1b-full.json": (
        "1b-fft",
        "humanevalsynthesize-cpp@original",
    ),
    "humanevalfix-js/astraios-lora.json": ("16b-lora", "humanevalfixtests-js@original"),
}


@pytest.mark.parametrize("path", READ)
def test_path_says_model_and_task(path: str) -> None:
    model, task = READ[path]
    said = named(PurePosixPath(path))
    assert said.model is published.MODELS[f"astraios-{model}"]
    assert said.tasks[0] == task


def test_fix_without_its_kind_may_be_either() -> None:
    said = named(PurePosixPath("generations_humanevalfixpython_astraios-1b-lora.json"))
    assert said.tasks == (
        "humanevalfixtests-python@original",
        "humanevalfixdocs-python@original",
    )
    inside = named(PurePosixPath("humanevalfixdocs-python/generations_fix-python_1b-lora.json"))
    assert inside.tasks == ("humanevalfixdocs-python@original",)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("humanevalsynthesize-python/generations-codellama-7b-lora.json", "codellama"),
        ("humanevalsynthesize-python/starcoderbase-2b-lora.json", "no model of size '2b'"),
        ("humanevalsynthesize-python/starcoderbase-1b-lorra.json", "does not end in a model"),
        ("humanevalsynthesize-python/lora.json", "does not end in a model"),
        ("stuff/1b-lora.json", "which task"),
        ("humanevalsynthesize-python/generations-devign-starcoderbase-1b-lora.json", "rename it"),
        ("humanevalsynthesize-python/1b-lora_os.json", "one example"),
        ("format/1b-lora.json", "which task"),
    ],
)
def test_names_that_say_too_little_are_refused(path: str, why: str) -> None:
    with pytest.raises(GenerationsError, match=why) as refused:
        named(PurePosixPath(path))
    assert not isinstance(refused.value, NotScoredError)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("generations_humanevalexplaindescribe-python_astraios-1b-lora.json", "descriptions"),
        ("evaluation_humanevalsynthesizepython_astraios-1b-lora.json", "scores"),
        ("humanevalsynthesize-python/metrics.json", "scores"),
    ],
)
def test_files_that_hold_nothing_to_score_are_told_apart(path: str, why: str) -> None:
    with pytest.raises(NotScoredError, match=why):
        named(PurePosixPath(path))


KINDS = ("humanevalsynthesize", "humanevalfixtests", "humanevalexplainsynthesize")
JOINTS = st.sampled_from(("-", "_", "."))


@given(
    size=st.sampled_from(("1b", "3b", "7b", "15b", "16b")),
    method=st.sampled_from(published.METHODS),
    kind=st.sampled_from(KINDS),
    language=st.sampled_from(("python", "java", "js", "go")),
    joint=JOINTS,
    dash=st.sampled_from(("", "-", "_")),
    family=st.sampled_from(("", "starcoderbase", "astraios", "bigcode_astraios")),
    upper=st.booleans(),
    suffix=st.sampled_from((".json", ".json.gz", ".jsonl")),
)
def test_signs_and_case_change_nothing(
    size: str,
    method: str,
    kind: str,
    language: str,
    joint: str,
    dash: str,
    family: str,
    upper: bool,
    suffix: str,
) -> None:
    parts = ["generations", f"{kind}{dash}{language}", *filter(None, [family]), size, method]
    name = joint.join(parts)
    said = named(PurePosixPath((name.upper() if upper else name) + suffix))
    size = "16b" if size == "15b" else size
    assert said.model.name == f"astraios-{size}-{method}"
    assert said.tasks == (f"{kind}-{language}@original",)


@given(st.lists(st.text(min_size=1, max_size=20).filter(lambda t: "/" not in t), min_size=1))
def test_any_path_is_read_or_refused(parts: list[str]) -> None:
    path = PurePosixPath(*parts)
    if not path.name:
        return
    try:
        said = named(path)
    except GenerationsError as error:
        assert str(error)
    else:
        assert said.model in published.MODELS.values()
