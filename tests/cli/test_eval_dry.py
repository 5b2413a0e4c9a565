"""`astraios eval --dry-run`, and mistakes that are answered before anything is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from astraios import methods, registry, tasks
from astraios.config import fingerprint
from astraios.generation import engines
from astraios.records import RunKind, Sampling
from astraios.runs import Run
from astraios.training.config import EMBEDDED

ROWS = Path(__file__).parents[1] / "tasks" / "rows"
BASE, ADAPTER = "bigcode/starcoderbase-1b", "bigcode/astraios-1b-lora"
TASK, RUST = "humanevalsynthesize-python", "humanevalsynthesize-rust"


@pytest.fixture
def dry(astraios, tmp_path):
    """A dry run's JSON."""

    def evaluate(*arguments: str):
        said = astraios("eval", *arguments, "--out", str(tmp_path / "runs"), "--dry-run", "--json")
        assert said.status == 0, said.stderr
        assert not (tmp_path / "runs").exists()
        return json.loads(said.stdout)

    return evaluate


def one(told):
    (only,) = told["runs"]
    return only


WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "huggingface_hub"):
            raise ImportError(f"{name} is not installed", name=name)

sys.meta_path.insert(0, Blocked())
from astraios.cli import main
main()
"""


def test_a_dry_run_needs_no_torch(tmp_path):
    command = ["eval", BASE, "--adapter", ADAPTER, "--task", TASK, "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *command, "--data-dir", str(ROWS)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert ADAPTER in done.stdout
    assert "4 problems" in done.stdout
    assert not list(tmp_path.iterdir())


def test_base_adapter_method_protocol_and_folders_are_told(dry):
    told = one(dry(BASE, "--adapter", ADAPTER, "--task", TASK, "--data-dir", str(ROWS)))
    assert told["method"] == "lora"
    assert Sampling.model_validate(told["sampling"]) == tasks.task(TASK).sampling
    assert told["template"] == tasks.task(TASK).template
    assert (told["problems"], told["completions"], told["state"]) == (4, 80, "to do")
    assert Path(told["run"]).parts[-4:-1] == ("eval", "starcoderbase-1b", "lora")
    assert Path(told["judged"]).parent == Path(told["run"])


def test_a_task_of_two_questions_has_twice_the_completions(dry):
    task = "humanevalexplainsynthesize-python"
    told = one(dry(BASE, "--task", task, "--data-dir", str(ROWS)))
    assert (told["turns"], told["completions"]) == (2, 2 * told["problems"] * 20)


def test_a_short_name_means_its_base_with_its_adapter(dry):
    short = dry("astraios-1b-lora", "--task", TASK)
    long = dry(BASE, "--adapter", ADAPTER, "--task", TASK)
    assert short["runs"] == long["runs"]
    assert dry(BASE, "--adapter", "astraios-1b-lora", "--task", TASK)["runs"] == long["runs"]


def test_a_fully_tuned_model_is_its_own_base(dry):
    told = dry("astraios-1b-fft", "--task", TASK)
    assert told["base"].startswith("bigcode/astraios-1b-fft@refs/pr/3 ")
    assert (one(told)["method"], one(told)["adapter"]) == ("fft", None)


def test_options_change_what_they_name_and_nothing_else(dry):
    protocol = tasks.task(TASK).sampling
    told = one(dry(BASE, "--task", TASK, "--n-samples", "5"))
    assert Sampling.model_validate(told["sampling"]) == protocol.model_copy(update={"n_samples": 5})
    told = one(dry(BASE, "--task", TASK, "sampling.top_p=1.0", "template=instruct"))
    assert Sampling.model_validate(told["sampling"]) == protocol.model_copy(update={"top_p": 1.0})
    assert told["template"] == "instruct"


@pytest.mark.parametrize(
    "options",
    [
        ("--device", "cuda"),
        ("--batch-tokens", "4096"),
        ("--no-parity",),
        ("--jobs", "3"),
        ("engine_options.memory_mib=512",),
    ],
)
def test_what_changes_speed_only_keeps_the_run(dry, options):
    plain, other = dry(BASE, "--task", TASK), dry(BASE, "--task", TASK, *options)
    assert one(plain)["run"] == one(other)["run"]


@pytest.mark.parametrize(
    "options",
    [
        ("--precision", "bf16"),
        ("--seed", "1"),
        ("--temperature", "0.8"),
        ("--limit-problems", "2"),
        ("--long-prompts", "cut"),
        ("--revision", "main"),
        ("--adapter", ADAPTER),
        ("--adapter", f"{ADAPTER}@main"),
    ],
)
def test_what_can_change_a_number_is_another_run(dry, options):
    plain, other = dry(BASE, "--task", TASK), dry(BASE, "--task", TASK, *options)
    assert one(plain)["run"] != one(other)["run"]


def test_a_revision_is_written_either_way(dry):
    a, b = dry(f"{BASE}@v2", "--task", TASK), dry(BASE, "--revision", "v2", "--task", TASK)
    assert one(a)["run"] == one(b)["run"]
    assert a["base"] == b["base"]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("clone_detection", "bigclonebench"),
        ("defect_detection", "devign"),
        ("asleep_completion", "aatk"),
        ("humanevalexplaindescribe-java", "humanevalexplainsynthesize-java"),
        ("perturbed-humaneval-func_name-num_seeds_5", "recode-function"),
    ],
)
def test_tasks_are_known_by_the_harness_names(dry, theirs, ours):
    told = one(dry(BASE, "--task", theirs, "--generate-only"))
    assert told["task"] == ours


def test_tasks_are_named_one_by_one_or_with_commas(dry):
    names = ("minipack-validation", "minipack-synthesize")
    apart = dry(BASE, "--task", names[0], "--task", names[1])
    together = dry(BASE, "--task", ", ".join(names))
    assert [run["task"] for run in together["runs"]] == [run["task"] for run in apart["runs"]]
    assert len(apart["runs"]) >= 2


def test_every_adapter_is_asked_every_task(dry):
    names = ("astraios-1b-lora", "astraios-1b-parallel")
    told = dry(
        BASE,
        *(part for name in names for part in ("--adapter", name)),
        *(part for task in (TASK, "minipack-fix") for part in ("--task", task)),
    )
    assert [(run["adapter"], run["task"]) for run in told["runs"]] == [
        ("bigcode/astraios-1b-lora", TASK),
        ("bigcode/astraios-1b-lora", "minipack-fix"),
        ("bigcode/astraios-1b-parallel", TASK),
        ("bigcode/astraios-1b-parallel", "minipack-fix"),
    ]


def test_editions_are_told_apart_and_two_names_of_a_task_are_one(dry):
    names = ("devign", "defect_detection", "devign@clean")
    told = dry(BASE, *(part for name in names for part in ("--task", name)))
    assert [run["task"] for run in told["runs"]] == ["devign", "devign@clean"]
    assert told["runs"][0]["run"] != told["runs"][1]["run"]


def test_an_adapter_that_is_named_twice_is_asked_once(dry):
    told = dry("astraios-1b-lora", "--adapter", ADAPTER, "--adapter", ADAPTER, "--task", TASK)
    assert len(told["runs"]) == 1


def test_an_embedded_base_would_be_pretrained_first(dry, tmp_path):
    told = dry("minipack-0.7m", "--task", "minipack-fix")
    folder = f"base-minipack-0.7m-{fingerprint(EMBEDDED['minipack-0.7m'])}"
    assert told["base"] == f"{tmp_path / 'runs' / folder / 'model'} (pretrained first)"


def test_data_that_are_not_here_are_told(dry, tmp_path):
    told = one(dry(BASE, "--task", TASK, "--data-dir", str(tmp_path)))
    assert (told["data"], told["problems"]) == ("not in the data folder", None)
    told = one(dry(BASE, "--task", TASK))
    assert told["data"] == "from the hub"


def test_a_toolchain_that_is_missing_is_told(tmp_path):
    def run(*more: str) -> subprocess.CompletedProcess[str]:
        # in a process of its own: which tools there are is looked for once
        return subprocess.run(
            [sys.executable, "-m", "astraios", "eval", BASE, "--task", RUST, *more],
            cwd=tmp_path,
            env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    told = one(json.loads(run("--dry-run", "--json").stdout))
    assert told["judged"] is None
    assert "rust" in told["lacking"]
    said = run()
    assert said.returncode == 2
    assert "generate now and judge later: --generate-only" in said.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Things that may be given by mistake."""
    monkeypatch.chdir(tmp_path)
    for name, files in {
        "adapter": {"adapter_config.json": {"peft_type": "LORA"}},
        "for-3b": {
            "adapter_config.json": {
                "peft_type": "LORA",
                "base_model_name_or_path": "bigcode/starcoderbase-3b",
            }
        },
        "ours": {
            "adapter_config.json": {"peft_type": "IA3"},
            "astraios.json": {"format": 1, "method": "ia3", "base": {"hidden": 1}},
        },
        "whole": {"config.json": {}},
        "broken": {"adapter_config.json": []},
        "empty": {},
    }.items():
        (tmp_path / name).mkdir()
        for file, values in files.items():
            (tmp_path / name / file).write_text(json.dumps(values))
    with Run.open(tmp_path / "asked", kind=RunKind.GENERATE, config=Sampling()) as run:
        run.seal()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((BASE,), "no task was named; add --task"),
        ((BASE, "--task", "humanevalsynthesise-python"), f"Did you mean '{TASK}'"),
        ((BASE, "--task", TASK, "--engine", "hff"), "unknown engine 'hff'.*Did you mean 'hf'"),
        ((BASE, "--task", TASK, "--template", "octo"), "unknown template 'octo'"),
        ((BASE, "--task", TASK, "--precision", "int8"), "precision: .*'float32'.*found 'int8'"),
        ((BASE, "--task", TASK, "--url", "http://localhost:1"), "takes no --url; use --engine op"),
        ((BASE, "--task", TASK, "--temperature", "0"), "20 completions.*add --n-samples 1"),
        ((BASE, "--task", TASK, "task=devign"), "'task=devign': task follows from MODEL"),
        ((BASE, "--task", TASK, "devise=cpu"), "unknown field 'devise'.*Did you mean 'device'"),
        ((BASE, "--task", TASK, "--method", "lora"), "none was named; add --adapter"),
        ((BASE, "--task", TASK, "--engine", "replay", "engine_options.file=x.json"), "'x.json'"),
        ((BASE, "--task", TASK, "--engine", "replay", "engine_options.fil=x"), "no option 'fil'"),
        ((BASE, "--task", TASK, "--engine", "replay"), "needs the option 'file'"),
        (
            (BASE, "--task", TASK, "engine_options.memory=7"),
            "hf has no option 'memory'; known",
        ),
        ((BASE, "--task", TASK, "--device", "cuda:0,"), "names an empty device"),
        ((BASE, "--task", TASK, "--engine", "openai"), "needs the server's address"),
        (
            (BASE, "--task", TASK, "--engine", "openai", "--url", "http://a", "--long-prompts=cut"),
            "engine openai cannot cut prompts",
        ),
        (
            ("astraios-1b-lora", "--task", TASK, "--engine", "openai", "--url", "http://a"),
            "what 'lora' tuned: serve it.*engine_options.model=NAME",
        ),
        (
            (
                BASE,
                "--task",
                TASK,
                "--engine",
                "vllm",
                "--url",
                "http://a",
                "engine_options.n_try=1",
            ),
            "n_try.*Did you mean 'n_tries'",
        ),
        (
            (
                BASE,
                "--task",
                "humanevalfixtests-python",
                "--template",
                "continue",
                "--data-dir",
                str(ROWS),
            ),
            "template 'continue' asks no question",
        ),
        ((BASE, "--task", TASK, "sampling={temperature: 0}"), "sampling.*set n_samples to 1"),
        ((BASE, "--task", TASK, "sampling.n_samples=x", "--temperature", "0"), "n_samples.*'x'"),
        ((f"{BASE}@v1", "--task", TASK, "--revision", "v2"), "'v2' is another one"),
        (("whole", "--task", TASK, "--revision", "v2"), "a folder here and has no revision 'v2'"),
        (("astraios-1b-lora", "--method", "ia3", "--task", TASK), "tuned by 'lora', not 'ia3'"),
        (("astraios-1b-lroa", "--task", TASK), "Did you mean 'astraios-1b-lora'"),
        (("minipack-7m", "--task", TASK), "unknown embedded base model.*'minipack-0.7m'"),
        (("./nowhere", "--task", TASK), "'./nowhere' is not a folder here, and no hub id"),
        (("empty", "--task", TASK), "neither a model's folder .it has no config.json. nor a tr"),
        (("asked", "--task", TASK), "is a generate run, which holds no model"),
        (("adapter", "--task", TASK), "give its base model as MODEL and the folder by --adapter"),
        ((BASE, "--adapter", "empty", "--task", TASK), "is not an adapter's folder"),
        ((BASE, "--adapter", "whole", "--task", TASK), "is a whole model and no adapter"),
        ((BASE, "--adapter", "broken", "--task", TASK), "not a JSON object"),
        ((BASE, "--adapter", "./no", "--task", TASK), "adapter './no' is not a folder here"),
        ((BASE, "--adapter", "astraios-1b-fft", "--task", TASK), "is a whole model and no adapter"),
        (("astraios-1b-fft", "--adapter", ADAPTER, "--task", TASK), "takes no adapter.*-1b"),
        ((BASE, "--adapter", "ours", "--method", "lora", "--task", TASK), "made by method 'ia3'"),
        (
            (BASE, "--adapter", "astraios-3b-lora", "--task", TASK),
            "for the base model 'bigcode/starcoderbase-3b'.*astraios eval bigcode/starcoderbase-3b",
        ),
        ((BASE, "--adapter", "for-3b", "--task", TASK), "for the base model 'bigcode/starcoderb"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False], ids=["dry", "wet"])
def test_a_mistake_gets_one_message_and_status_2(astraios, folders, arguments, told, dry_run):
    import re

    said = astraios("eval", *arguments, *(["--dry-run"] if dry_run else []))
    assert said.status == 2
    assert said.stdout == ""
    assert said.stderr.startswith("error: ")
    assert re.search(told, said.stderr, re.DOTALL), said.stderr
    assert not Path("runs").exists()


@pytest.mark.skipif("vllm" not in registry.names(engines), reason="this version has no engine vllm")
@pytest.mark.parametrize("method", ["adapterh", "adapterp", "parallel"])
def test_vllm_refuses_bottleneck_adapters(astraios, method, tmp_path):
    said = astraios(
        "eval", f"astraios-1b-{method}", "--task", TASK, "--engine", "vllm", "--dry-run"
    )
    assert said.status == 2
    assert f"engine vllm cannot host method {method!r}" in said.stderr
    assert "use --engine hf" in said.stderr


def test_a_missing_vllm_is_told_before_any_base_is_made(astraios, tmp_path, monkeypatch):
    monkeypatch.delenv("ASTRAIOS_VLLM_PYTHON", raising=False)
    for more, told in (
        ((), "engine_options.python=PATH"),
        ((f"engine_options.python={sys.executable}",), "No module named vllm"),
    ):
        out = tmp_path / "runs"
        asked = ("--task", "minipack-validation", "--engine", "vllm", "--sandbox", "best")
        dry = astraios("eval", "minipack-0.7m", *more, *asked, "--out", str(out), "--dry-run")
        assert dry.status == 0
        assert told in dry.stdout
        said = astraios("eval", "minipack-0.7m", *more, *asked, "--out", str(out))
        assert said.status == 2
        assert told in said.stderr
        assert not out.exists()


def test_an_adapter_that_names_no_base_is_taken_with_a_warning(dry, folders, tmp_path, caplog):
    for base in ("/data/models/mine", None):
        config = {"peft_type": "LORA", "base_model_name_or_path": base}
        (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
        assert one(dry(BASE, "--adapter", "adapter", "--task", TASK))["method"] == "lora"
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "checked by shapes alone" in caplog.text
    caplog.clear()
    dry(BASE, "--adapter", "ours", "--task", TASK)
    assert not caplog.records


@pytest.mark.parametrize(
    ("config", "method"),
    [
        ({"peft_type": "IA3"}, "ia3"),
        ({"peft_type": "BOTTLENECK"}, "adapterh"),
        ({"peft_type": "BOTTLENECK", "use_adapterp": True}, "adapterp"),
        ({"peft_type": "BOTTLENECK", "use_parallel_adapter": True}, "parallel"),
        ({"peft_type": "BOTTLENECK", "placement": "parallel"}, "parallel"),
    ],
)
def test_a_folder_tells_its_method(dry, folders, tmp_path, config, method):
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    told = dry(BASE, "--adapter", "adapter", "--task", TASK)
    assert one(told)["method"] == method


def test_a_method_that_is_peft_s_alone_is_told_by_its_type(folders, tmp_path):
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "LOHA"}')
    assert methods.told(tmp_path / "adapter").method == "peft-loha"
