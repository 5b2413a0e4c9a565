"""The reference pages hold every part, and follow from the code without torch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from tests.docs.pages import REPOSITORY, tool

from astraios import methods, published, registry, tasks
from astraios.cli import app, parts
from astraios.records import Record
from astraios.studies.study import Study
from astraios.training.config import TrainingConfig


@pytest.fixture(scope="module")
def pages(reference: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in reference.iterdir()}


def section(page: str, name: str) -> str:
    """What stands under a heading."""
    found = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"no section {name}"
    return found[1]


def test_every_method_has_equation_paper_and_parameters(pages: dict[str, str]) -> None:
    for name in registry.builtin_names(methods):
        text = section(pages["methods.md"], name)
        assert methods.method(name).paper.partition(",")[0] in text
        assert re.search(r"\| trained parameters \| 1b [\d,]+, 3b .*16b [\d,]+ \|", text), name
        assert "```text\n" in text or "LoRA" in text, name


def test_trained_parameters_are_those_of_the_paper(pages: dict[str, str]) -> None:
    published_1b = {
        "lora": 3_588_096,
        "ia3": 251_904,
        "ptuning": 12_650_496,
        "adapterh": 50_331_648,
        "adapterp": 25_165_824,
        "parallel": 26_738_688,
        "fft": 1_137_207_296,
    }
    for name, n in published_1b.items():
        assert f"1b {n:,}," in section(pages["methods.md"], name)


@pytest.mark.train
def test_sizes_written_down_are_those_of_the_model() -> None:
    pytest.importorskip("torch")
    from astraios.methods import Shape
    from astraios.studies.shapes import shape_of

    config, _ = shape_of(published.SIZES[0].base_model) or pytest.fail("no config")
    assert tool("reference").base_shape(published.SIZES[0]) == Shape.from_config(config)


def test_every_task_has_protocol_prompt_and_metrics(pages: dict[str, str]) -> None:
    for name in tasks.names():
        assert f"| `{name}` | `{tasks.task(name).version}` |" in pages["tasks.md"]
    for part in registry.builtin_names(tasks):
        text = section(pages["tasks.md"], part)
        assert "\nMetrics: `" in text
        assert "The prompt of " in text
    assert "With chance: `accuracy`" in section(pages["tasks.md"], "devign")
    assert "None has a chance level" in section(pages["tasks.md"], "humanevalfix")


def test_every_command_has_its_options(pages: dict[str, str]) -> None:
    reference = tool("reference")
    for path, command in reference.commands(typer.main.get_command(app), ("astraios",)):
        text = section(pages["cli.md"], " ".join(path[1:]))
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert f"`{parameter.opts[0]}`" in text


def test_every_field_of_configs_and_records_is_told(pages: dict[str, str]) -> None:
    for model in (TrainingConfig, Study):
        text = section(pages["configs.md"], model.__name__)
        assert all(f"| `{name}` |" in text for name in model.model_fields)
    import astraios.records

    for name, model in vars(astraios.records).items():
        if isinstance(model, type) and issubclass(model, Record) and model is not Record:
            title = name if name != "Step" else "Step (records)"
            text = section(pages["records.md"], title)
            assert all(f"| `{field}` |" in text for field in model.model_fields)


def test_every_other_part_is_listed(pages: dict[str, str]) -> None:
    for kind in set(parts.kinds()) - {"methods", "tasks"}:
        text = section(pages["parts.md"], kind)
        assert all(f"| `{row['name']}` |" in text for row in parts.rows(kind))


def test_no_page_names_this_machine(pages: dict[str, str]) -> None:
    assert not [name for name, text in pages.items() if str(Path.home()) + "/" in text]
    assert not [name for name, text in pages.items() if str(REPOSITORY) in text]


def test_rows_of_tables_have_as_many_cells_as_their_heads(pages: dict[str, str]) -> None:
    """A bar in a default or a type would make one more."""

    def n_cells(line: str) -> int:
        return re.sub(r"`[^`]*`", "", line).replace("\\|", "").count("|")

    for name, text in pages.items():
        for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
            assert len({n_cells(line) for line in block.splitlines()}) == 1, (name, block)
