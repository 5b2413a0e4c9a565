"""Every block of code in the documentation is run, or read by what would run it."""

from __future__ import annotations

import ast
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from tests.docs.pages import REPOSITORY, Block, blocks, hand_written, tool
from typer.testing import CliRunner

from astraios.cli import app
from astraios.cli.parts import PACKAGES
from astraios.config import parse_yaml
from astraios.data.building.config import BuildConfig
from astraios.data.config import PackConfig
from astraios.studies.checks import check
from astraios.studies.presets import names as studies
from astraios.studies.presets import read_study
from astraios.studies.study import Study
from astraios.training.config import TrainingConfig
from astraios.training.recipes import RECIPES, read_recipe

LANGUAGES = {"python", "bash", "console", "yaml", "toml", "text"}
OTHERS = {"export", "git", "apt-get", "sh", "vllm", "/opt/vllm/bin/pip"}
"""Programs of others, of which no test knows what they take."""
ELSEWHERE = re.compile(
    r"cuda|torchrun|accelerate|git clone|apt-get|--engine vllm|--launcher (ray|slurm)"
    r"|\bvllm |pip install .*(train|data|vllm)|--devices"
)
"""What a machine without GPU and network cannot do."""
EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
TARGETS = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
SPAN = re.compile(r"`(astraios [^`]+)`")


def command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that `words`, behind `astraios`, call, and what is left for it."""
    found: Any = typer.main.get_command(app)
    while getattr(found, "commands", None) and words and words[0] in found.commands:
        found, words = found.commands[words[0]], words[1:]
    return found, words


def parse(words: list[str]) -> None:
    """Give `words` to the command line as far as it reads them; nothing is run."""
    found, rest = command(words)
    assert not getattr(found, "commands", None), f"no such verb: {' '.join(words)}"
    found.make_context(found.name, rest)


def lines(block: Block) -> Iterator[str]:
    """The commands of a block of shell, or those of a session with what it printed."""
    text = re.sub(r"\\\n", " ", block.text)
    for line in text.splitlines():
        if block.language == "console":
            if line.startswith("$ "):
                yield line[2:]
        elif line.strip() and not line.startswith("#"):
            yield line


def words_of(line: str) -> list[str]:
    """A command's words, without variables in front of it and comments behind."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return words


def read_command(line: str) -> None:
    """Refuse a command that does not exist, or does not take what it is given."""
    name, *rest = words_of(line)
    if name in ("torchrun", "accelerate"):
        name, rest = "python", rest[rest.index("-m") :]
    if name == "pytest":
        name, rest = "python", ["-m", "pytest", *rest]
    if name == "python" and rest[:2] == ["-m", "astraios"]:
        parse(rest[2:])
    elif name == "python":
        assert rest[0] != "-m" or rest[1] in ("pytest", "venv"), line
        files = [word.split("::")[0] for word in rest if word.endswith(".py")]
        assert all((REPOSITORY / file).exists() for file in files), line
    elif name == "astraios":
        parse(rest)
    elif name == "make":
        assert {word for word in rest if "=" not in word} <= TARGETS, line
    elif name == "pip":
        assert set(re.findall(r"\w+", ",".join(re.findall(r"\[(.*)\]", line)))) <= set(EXTRAS)
    elif name.startswith(".ci/"):
        assert (REPOSITORY / name).exists(), line
    else:
        assert name in OTHERS, line


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_a_block_says_its_language(block: Block) -> None:
    assert block.language in LANGUAGES


@pytest.mark.parametrize("block", blocks("bash", "console"), ids=str)
def test_commands_exist_and_take_what_they_are_given(block: Block) -> None:
    found = list(lines(block))
    assert found
    for line in found:
        read_command(line)


NAMED = [
    words
    for block in blocks("bash", "console")
    if block.page != "docs/migration.md"  # tests/test_migration.py does more with these
    for line in lines(block)
    if (words := words_of(line))[:1] == ["astraios"] or "astraios" in words[:9]
]
"""Commands of ours, as lists of words, whatever starts them."""


def named(*verb: str) -> list[list[str]]:
    """What is given to a verb, wherever it is called."""
    tails = [words[words.index("astraios") + 1 :] for words in NAMED]
    return [tail[len(verb) :] for tail in tails if tail[: len(verb)] == list(verb)]


@pytest.mark.parametrize(
    "words",
    [w for w in named("study", "plan") + named("study", "run") if w[0] in studies()],
    ids=str,
)
def test_shipped_studies_take_the_changes_that_pages_make(words: list[str]) -> None:
    read = read_study(words[0], [word for word in words[1:] if re.match(r"[a-z_.]+=", word)])
    check(read)


@pytest.mark.parametrize("words", [w for w in named("train") if w[0] in RECIPES], ids=str)
def test_recipes_take_the_changes_that_pages_make(words: list[str]) -> None:
    config = read_recipe(words[0], [word for word in words[1:] if re.match(r"[a-z_.]+=", word)])
    assert f"method={config.method}" in words


OF_THE_READER = re.compile(r"'runs/|'constant'")
"""Runs, and an engine, that only a reader of the page has."""


@pytest.mark.parametrize(
    "words", [w for w in named("eval") if not OF_THE_READER.search(str(w))], ids=str
)
def test_evaluations_can_be_told(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASTRAIOS_VLLM_PYTHON", sys.executable)
    told = CliRunner().invoke(app, ["eval", *words, "--dry-run", "--json"])
    assert told.exit_code == 0, (told.output, told.exception)
    assert json.loads(told.stdout)["model"]


@pytest.mark.parametrize("block", blocks("bash"), ids=str)
def test_what_needs_another_machine_says_so(block: Block) -> None:
    if block.page in ("README.md", "CONTRIBUTING.md"):  # read on a page that shows no marks
        return
    assert block.needs or not ELSEWHERE.search(block.text)


@pytest.mark.parametrize(
    "line", ["astraios trian x.yaml", "astraios grade", "make dcos", "frobnicate", "pip a[nope]"]
)
def test_a_wrong_command_is_refused(line: str) -> None:
    with pytest.raises((AssertionError, typer.BadParameter)):
        read_command(line)


@pytest.mark.parametrize("page", hand_written(), ids=lambda page: page.stem)
def test_commands_in_lines_of_text_exist(page: Any) -> None:
    """A mention may leave out what it is about; verbs and options it names have to be there."""
    for span in SPAN.findall(re.sub(r"\s+", " ", tool("links").FENCE.sub("", page.read_text()))):
        for part in re.split(r" / |, ", span):
            words = part.replace("...", "").split()
            found, _ = command(words[1:] if words[0] == "astraios" else words)
            known = {o for p in found.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
            named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", part))
            assert named <= known, f"{span}: {named - known}"


# --- YAML and TOML ----------------------------------------------------------------------------

REST = """
name: rest
base_models: [bigcode/starcoderbase-1b, bigcode/starcoderbase-7b]
methods: [fft, lora, ia3, adapterh]
tasks: [minipack-synthesize]
training: {optimization: {n_steps: 90, batch_size: 4, learning_rate: 1.0e-4}}
"""
"""What a piece of a study is a piece of."""


def read_yaml(block: Block) -> None:
    """Refuse what is no study, training, packing, build or piece of a study."""
    values = yaml.safe_load(block.text)
    if "sources" in values:
        parse_yaml(block.text, BuildConfig, source=str(block))
    elif "base_model" in values:
        parse_yaml(block.text, TrainingConfig, source=str(block))
    elif "tokenizer" in values:
        parse_yaml(block.text, PackConfig, source=str(block))
    else:
        whole = values if "base_models" in values else {**yaml.safe_load(REST), **values}
        study = parse_yaml(yaml.safe_dump(whole), Study, source=str(block))
        if not any("peft" in entry for entry in whole["methods"] if isinstance(entry, dict)):
            check(
                study
            )  # those with methods of PEFT take PEFT to check: tests/studies/test_page.py


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_what_a_command_would_read(block: Block) -> None:
    read_yaml(block)


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_entry_points_are_of_a_kind_of_part(block: Block) -> None:
    groups = tomllib.loads(block.text)["project"]["entry-points"]
    assert set(groups) <= {*PACKAGES.values(), "astraios.tasks"}


# --- Python -----------------------------------------------------------------------------------


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                yield node.module, name.name


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles_and_what_it_imports_is_there(block: Block) -> None:
    tree = ast.parse(block.text, filename=str(block))
    for module, name in imported(tree):
        try:
            there = hasattr(import_module(module), name) or find_spec(f"{module}.{name}")
        except ModuleNotFoundError as error:
            if str(error.name).startswith("astraios"):
                raise
            pytest.skip(f"needs {error.name}")
        assert there, f"{module} has no {name}"


def run(page: str, **given: Any) -> dict[str, Any]:
    """What the one block of Python on a page leaves behind."""
    (block,) = (b for b in blocks("python") if b.page == page)
    exec(compile(block.text, str(block), "exec"), given)
    return given


def test_perturbing_a_problem() -> None:
    left = run("docs/perturbations.md")
    made = left["made"]
    assert made.changed
    assert made.told.shown != "def f(xs):\n"


def test_comparing_two_judgings(tmp_path: Any) -> None:
    left = run("docs/how-to/regrade.md")
    for name, outcomes in (("old", "passed failed"), ("new", "passed passed")):
        (tmp_path / name).mkdir()
        rows = [
            {"problem_id": f"p{i}", "index": 0, "outcome": outcome}
            for i, outcome in enumerate(outcomes.split())
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name / "verdicts.jsonl").write_text(text)
    found = left["changed"](tmp_path / "old", tmp_path / "new")
    assert found == {("p1", 0): ("failed", "passed")}


@pytest.mark.train
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_bottleneck_adapters_with_plain_peft(tmp_path: Any, monkeypatch: Any) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("peft")
    config = transformers.GPTBigCodeConfig(
        vocab_size=96,
        n_embd=32,
        n_layer=1,
        n_head=4,
        n_positions=64,
        bos_token_id=1,
        eos_token_id=2,
    )
    monkeypatch.chdir(tmp_path)
    (text,) = (b.text for b in blocks("python") if b.page == "docs/bottleneck.md")
    readme = [b.text for b in blocks("python") if b.page == "README.md"]
    for code in (text, *readme):
        names = ("base", "fresh_base", "model")
        given = {name: transformers.AutoModelForCausalLM.from_config(config) for name in names}
        exec(compile(code, "page", "exec"), given)
        weights = [name for name, _ in given["model"].named_parameters()]
        assert any("adapter_up" in name for name in weights)
    assert (tmp_path / "adapter" / "adapter_config.json").exists()
