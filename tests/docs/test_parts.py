"""The parts of the how-to pages work as an installed project would bring them."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.analysis.examples import install_example
from tests.docs.pages import DOCS, blocks
from typer.testing import CliRunner

from astraios import languages, registry, tasks
from astraios.checkers.unittests import checker
from astraios.cli import app
from astraios.errors import ConfigError, DataError, MissingDataError
from astraios.generation import Engine, Model, engines
from astraios.records import Finish, Outcome, Program, Prompt, Sampling
from astraios.sandbox import open_sandbox

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs the example of a page, as a module of a project of its own."""

    def installed(page: str, module: str) -> None:
        install_example(DOCS / "how-to" / page, module, tmp_path / "site", monkeypatch)

    return installed


# --- a language -------------------------------------------------------------------------------

TESTS = 'twice(21) == 42 or die "twice";\n'


@pytest.mark.skipif(shutil.which("perl") is None, reason="needs perl: apt install perl")
def test_programs_of_the_language_are_judged(install: Install) -> None:
    install("add-a-language.md", "perl")
    perl = registry.load(languages, "language", "perl")
    bodies = {
        Outcome.PASSED: "my ($n) = @_; return 2 * $n; }",
        Outcome.FAILED: "my ($n) = @_; return $n; }",
        Outcome.TIMED_OUT: "while (1) {} }",
        Outcome.COMPILE_ERROR: "my ($n = ; }",
        Outcome.CRASHED: "exit 0; }",
    }
    programs = [
        Program(language="perl", code=perl.candidate("sub twice { " + body), tests=TESTS)
        for body in bodies.values()
    ]
    limits = replace(perl.limits, cpu_s=0.5)
    with open_sandbox("best", jobs=1) as sandbox:
        found = dict(checker.check(programs, sandbox, limits=limits))
    assert [found[i].outcome for i in range(len(bodies))] == list(bodies)
    assert perl.toolchain()["perl"].startswith("v5")


def test_nothing_that_follows_changes_the_cut_of_a_finished_completion(install: Install) -> None:
    install("add-a-language.md", "perl")
    perl = registry.load(languages, "language", "perl")
    text = "\n    if ($x) { return 1; }\n    return 2;\n}\n\nsub main { print 1; }\n"
    cut = perl.truncate(text)
    assert cut.endswith("return 2;\n}")
    ends = [i for i in range(len(text) + 1) if perl.finished(text[:i])]
    assert ends[0] == len(cut)
    assert {perl.truncate(text[:i]) for i in ends} == {cut}


# --- a task -----------------------------------------------------------------------------------

ROWS = [
    {"id": "a", "question": "Add.", "declaration": "def f(x, y):\n", "test": "assert f(1, 2) == 3"},
    {"id": "b", "question": "Negate.", "declaration": "def f(x):\n", "test": "assert f(1) == -1"},
]


def test_generations_of_the_task_are_graded(install: Install, tmp_path: Path) -> None:
    install("add-a-task.md", "oneliner")
    data = tmp_path / "data" / "oneliner"
    data.mkdir(parents=True)
    (data / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    texts = [["def f(x, y):\n    return x + y\n"], ["def f(x):\n    return x\n"]]
    (tmp_path / "generations.json").write_text(json.dumps(texts))
    words = ["grade", str(tmp_path / "generations.json"), "--task", "oneliner", "--json"]
    words += ["--data-dir", str(data.parent), "--sandbox", "best", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (done.output, done.exception)
    told = json.loads(done.stdout)
    assert told["outcomes"] == {"passed": 1, "failed": 1}
    assert [(s["metric"], s["value"]) for s in told["scores"]] == [("pass@1", 0.5)]


def test_missing_and_wrong_data_of_the_task_are_named(install: Install, tmp_path: Path) -> None:
    install("add-a-task.md", "oneliner")
    task = tasks.task("oneliner")
    with pytest.raises(MissingDataError, match=r"test\.jsonl"):
        task.problems(tmp_path)
    (tmp_path / "oneliner").mkdir()
    (tmp_path / "oneliner" / "test.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(DataError, match="question"):
        task.problems(tmp_path)


def test_the_task_asks_once_and_in_any_template(install: Install, tmp_path: Path) -> None:
    install("add-a-task.md", "oneliner")
    (tmp_path / "oneliner").mkdir()
    (tmp_path / "oneliner" / "test.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    task = tasks.task("oneliner")
    (problem,) = task.problems(tmp_path)
    prompt = task.prompt(problem, (), "octocoder")
    assert prompt is not None
    assert prompt.text == "Question: Add.\n\nAnswer:\ndef f(x, y):"
    assert task.prompt(problem, ("    return 1\n",), "octocoder") is None


# --- an engine --------------------------------------------------------------------------------


def model(**options: object) -> Model:
    def load() -> tuple[object, object, None]:
        raise AssertionError("nothing is to be loaded")

    return Model(load=load, base_model="none", options=options)


def test_the_engine_answers_what_is_asked_and_no_more(install: Install) -> None:
    install("add-an-engine.md", "constant")
    engine: type[Engine] = registry.load(engines, "engine", "constant")
    prompts = [Prompt(problem_id=name, text="def f():\n") for name in "ab"]
    sampling = Sampling(n_samples=2, temperature=1.0)
    with engine.open(model(text="    pass\n")) as opened:
        samples = list(opened.complete(prompts, sampling, skip=frozenset({("a", 1, 0)})))
    assert [(s.problem_id, s.index) for s in samples] == [("a", 0), ("b", 0), ("b", 1)]
    assert {(s.completion, s.finish) for s in samples} == {("    pass\n", Finish.EOS)}
    with pytest.raises(ConfigError, match="no option 'txt'; it has: text"):
        engine.open(model(txt="x"))


# --- a method ---------------------------------------------------------------------------------


@pytest.mark.train
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_method_trains_as_many_weights_as_its_formula_says(
    install: Install, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM, LlamaConfig

    from astraios import methods
    from astraios.methods import Shape

    install("add-a-method.md", "mlplora")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = LlamaConfig(vocab_size=96, num_attention_heads=4, num_key_value_heads=2, **sizes)

    def base() -> torch.nn.Module:
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).eval()

    method = methods.method("mlplora")
    shape = Shape.from_model(base())
    tuned = method.apply(base(), {"lora_dropout": 0.0})
    trained = {n: w for n, w in tuned.named_parameters() if w.requires_grad}
    assert sum(w.numel() for w in trained.values()) == method.n_trainable(shape) == 2 * 2 * 8 * 80
    assert all("gate_proj" in name or "up_proj" in name for name in trained)
    with torch.no_grad():
        for weight in trained.values():
            weight.add_(0.1)
    ids = torch.arange(6)[None]
    expected = tuned(input_ids=ids).logits
    method.save(tuned, tmp_path / "adapter")
    loaded = method.load(base(), tmp_path / "adapter")
    assert torch.equal(loaded(input_ids=ids).logits, expected)
    assert torch.allclose(method.merge(loaded)(input_ids=ids).logits, expected, atol=1e-5)


# --- the tutorial -----------------------------------------------------------------------------


def test_the_tutorial_on_grading_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = [b for b in blocks("python", "bash") if b.page.endswith("grade-generations.md")]
    exec(compile(page[0].text, "tutorial", "exec"), {})
    lines = [line for block in page[1:] for line in block.text.splitlines()]
    own = next(line for line in lines if "my-generations" in line)
    for line in lines:
        if line == own or line == "astraios list tasks":  # a file of the reader's; tested elsewhere
            continue
        done = CliRunner().invoke(app, shlex.split(line)[1:])
        assert done.exit_code == 0, (line, done.output, done.exception)
        if " grade " in line:
            assert "pass@1" in done.output
            assert "50.00" in done.output
        if "--problem" in line:
            assert "completion 0" in done.output
    assert (tmp_path / "graded" / "scores.json").exists()
