"""`astraios eval` on tiny models: what it asks, keeps, continues and refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="generation needs torch")
transformers = pytest.importorskip("transformers", reason="generation needs transformers")
pytest.importorskip("peft", reason="adapters need peft")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402

from astraios import methods  # noqa: E402
from astraios.generation.engines.hf import HFEngine  # noqa: E402
from astraios.records import Finish, RunKind, Sample  # noqa: E402
from astraios.runs import Run, find_runs  # noqa: E402
from astraios.training.config import Optimization, PretrainingConfig, TrainingConfig  # noqa: E402

pytestmark = pytest.mark.train

TASK = ("--task", "minipack-validation")
SHORT = ("--limit-problems", "2", "--n-samples", "2", "--temperature", "0.8")
FEW = (*TASK, *SHORT, "--max-new-tokens", "8", "--sandbox", "best", "--jobs", "1")


def _model(seed: int, hidden: int = 16):
    sizes = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = transformers.GPTBigCodeConfig(
        n_embd=hidden, n_layer=2, n_head=2, n_positions=1024, initializer_range=0.3, **sizes
    )
    torch.manual_seed(seed)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def _base(folder: Path, seed: int = 0, hidden: int = 16) -> Path:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(["def add(x, y):\n    return x + y\n"], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(folder)
    _model(seed, hidden).save_pretrained(folder)
    return folder


def _adapter(folder: Path, method: str, base_seed: int = 0, hidden: int = 16) -> Path:
    tuned = methods.method(method).apply(_model(base_seed, hidden))
    torch.manual_seed(1)
    for weight in tuned.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.3)
    methods.method(method).save(tuned, folder)
    return folder


def _trained(folder: Path, base_model: str) -> Path:
    """A training run with an adapter in it."""
    config = TrainingConfig(
        base_model=base_model,
        method="lora",
        corpus="minipack",
        seed=3,
        optimization=Optimization(n_steps=1, batch_size=1, learning_rate=1e-3),
    )
    with Run.open(folder, kind=RunKind.TRAIN, config=config) as run:
        _adapter(folder / "adapter", "lora")
        run.seal()
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a base and adapters for it, which no test changes."""
    folder = tmp_path_factory.mktemp("models")
    _base(folder / "tiny")
    for method in ("lora", "adapterp", "ptuning"):
        _adapter(folder / method, method)
    return folder


@pytest.fixture
def run(astraios, place, tmp_path):
    """`eval` of the tiny base, into a folder of its own."""

    def evaluate(*arguments: str):
        return astraios("eval", str(place / "tiny"), *FEW, "--out", str(tmp_path), *arguments)

    return evaluate


def _samples(folder: str | Path) -> dict[tuple[str, int], str]:
    lines = (Path(folder) / "samples.jsonl").read_text().splitlines()
    samples = [Sample.model_validate_json(line) for line in lines]
    return {(sample.problem_id, sample.index): sample.completion for sample in samples}


@pytest.mark.parametrize(
    ("file", "n_bytes"), [("model.safetensors", 200), ("tokenizer.json", 9), ("tokenizer.json", 0)]
)
def test_a_model_with_a_damaged_file_is_told(astraios, place, tmp_path, file, n_bytes):
    folder = tmp_path / "damaged"
    shutil.copytree(place / "tiny", folder)
    if n_bytes:
        os.truncate(folder / file, n_bytes)
    else:
        for path in folder.glob("tokenizer*"):
            path.unlink()
    said = astraios("eval", str(folder), *FEW, "--out", str(tmp_path))
    assert said.status == 2
    assert said.stdout == ""
    [line] = [line for line in said.stderr.splitlines() if line.startswith("error: ")]
    assert f"base model '{folder}' cannot be read" in line


def test_a_model_that_lacks_weights_is_told(astraios, place, tmp_path):
    torch = pytest.importorskip("safetensors.torch")
    folder = tmp_path / "lacking"
    shutil.copytree(place / "tiny", folder)
    weights = torch.load_file(folder / "model.safetensors")
    gone = next(name for name in sorted(weights) if "mlp" in name)
    del weights[gone]
    torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    said = astraios("eval", str(folder), *FEW, "--out", str(tmp_path))
    assert said.status == 2
    [line] = [line for line in said.stderr.splitlines() if line.startswith("error: ")]
    assert "lacks 1 of its weights" in line
    assert gone in line


# --- doing ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(astraios_module, place, tmp_path_factory):
    """Two adapters of one base, evaluated by one command: what it said, and where."""
    out = tmp_path_factory.mktemp("runs")
    arguments = ("eval", str(place / "tiny"), *FEW, "--out", str(out))
    both = ("--adapter", str(place / "lora"), "--adapter", str(place / "ptuning"))
    return (*arguments, *both), astraios_module(*arguments, *both, "--json"), out


def test_adapters_of_one_base_are_each_a_run_of_their_own(done):
    _, said, out = done
    assert said.status == 0, said.stderr
    runs = json.loads(said.stdout)["runs"]
    assert [(one["adapter"], one["method"]) for one in runs] == [
        ("lora", "lora"),
        ("ptuning", "ptuning"),
    ]
    for one in runs:
        assert Path(one["run"]).parent == out / "eval" / "tiny" / one["method"]
        assert Path(one["judged"]).parent == Path(one["run"])
        assert sum(one["outcomes"].values()) == 4
        assert {score["n_samples"] for score in one["scores"] if score["slice"] == "all"} == {4}
    assert _samples(runs[0]["run"]) != _samples(runs[1]["run"])


def test_an_adapter_beside_others_answers_as_it_does_alone(done, run, place):
    _, said, _ = done
    alone = run("--adapter", str(place / "ptuning"), "--generate-only", "--json")
    (one,) = json.loads(alone.stdout)["runs"]
    assert one["judged"] is None
    assert _samples(one["run"]) == _samples(json.loads(said.stdout)["runs"][1]["run"])


def test_the_same_command_again_has_nothing_to_do(done, astraios_module):
    command, first, _ = done
    again = astraios_module(*command, "--json")
    assert again.status == 0
    assert again.stdout == first.stdout
    assert again.stderr.count("done already") == 2


def test_scores_are_shown_for_people(done, astraios_module):
    command, _, out = done
    shown = astraios_module(*command).stdout
    assert "pass@1" in shown
    assert "tiny lora minipack-validation" in shown
    assert str(out) in shown


def test_manifests_tell_no_path_and_no_host(done, place):
    _, _, out = done
    runs = find_runs(out)
    assert len(runs) == 4
    for one in runs:
        text = (one.folder / "manifest.json").read_text()
        assert str(out) not in text
        assert str(place) not in text
        assert socket.gethostname() not in text
    asked = [one.manifest for one in runs if one.manifest.kind == RunKind.GENERATE]
    assert all(one.config["base_model"] == "tiny" for one in asked)
    assert all({"base-weights", "adapter"} <= set(one.inputs) for one in asked)


def test_a_run_that_was_stopped_is_completed_and_equals_one_that_was_not(
    done, run, place, tmp_path
):
    _, said, _ = done
    whole = json.loads(said.stdout)["runs"][0]["run"]
    stopped = run("--adapter", str(place / "lora"), "--generate-only", "--json")
    folder = Path(json.loads(stopped.stdout)["runs"][0]["run"])
    lines = (folder / "samples.jsonl").read_text().splitlines(keepends=True)
    (folder / "samples.jsonl").write_text(lines[0] + lines[1][:20])
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    begun = run("--adapter", str(place / "lora"), "--dry-run", "--json")
    assert json.loads(begun.stdout)["runs"][0]["state"] == "begun"
    assert run("--adapter", str(place / "lora")).status == 0
    assert _samples(folder) == _samples(whole)


def test_other_weights_are_another_run(run, place, tmp_path):
    changed = tmp_path / "changed" / "lora"
    shutil.copytree(place / "lora", changed)
    before = json.loads(run("--adapter", str(changed), "--dry-run", "--json").stdout)["runs"][0]
    shutil.rmtree(changed)
    tuned = methods.method("lora").apply(_model(0))
    torch.nn.init.constant_(next(w for w in tuned.parameters() if w.requires_grad), 0.1)
    methods.method("lora").save(tuned, changed)
    after = json.loads(run("--adapter", str(changed), "--dry-run", "--json").stdout)["runs"][0]
    assert before["adapter"] == after["adapter"] == "lora"
    assert before["run"] != after["run"]


def test_completions_an_engine_does_not_give_are_faults_and_asked_again(run, monkeypatch):
    answer = HFEngine.complete

    def failing(self, *arguments, **options):
        for sample in answer(self, *arguments, **options):
            fault = {"completion": "", "finish": Finish.FAULT, "fault": "the server is gone"}
            yield sample.model_copy(update=fault if sample.index else {})

    with monkeypatch.context() as patch:
        patch.setattr(HFEngine, "complete", failing)
        first = run("--json")
    assert first.status == 1
    assert "2 completions could not be had and 0 programs could not be judged" in first.stderr
    (before,) = json.loads(first.stdout)["runs"]
    assert before["outcomes"]["fault"] == 2
    again = run("--json")
    assert again.status == 0, again.stderr
    (after,) = json.loads(again.stdout)["runs"]
    assert after["run"] == before["run"]
    assert "fault" not in after["outcomes"]


def test_a_training_run_is_evaluated_by_its_folder(astraios, place, tmp_path):
    trained = _trained(tmp_path / "train-lora-1", str(place / "tiny"))
    options = (*FEW, "--out", str(tmp_path / "runs"), "--generate-only", "--json")
    as_model = astraios("eval", str(trained), *options)
    assert as_model.status == 0, as_model.stderr
    (one,) = json.loads(as_model.stdout)["runs"]
    assert (one["adapter"], one["method"]) == ("train-lora-1", "lora")
    as_adapter = astraios("eval", str(place / "tiny"), "--adapter", str(trained), *options)
    assert json.loads(as_adapter.stdout)["runs"] == [one]
    assert "done already" in as_adapter.stderr
    manifest = json.loads((Path(one["run"]) / "manifest.json").read_text())
    assert manifest["config"]["seed"] == 3


def test_an_adapter_of_another_base_is_refused_when_it_is_loaded(astraios, place, tmp_path):
    other = _adapter(tmp_path / "other", "lora", base_seed=5)
    said = astraios(
        "eval", str(place / "tiny"), *FEW, "--adapter", str(other), "--out", str(tmp_path / "runs")
    )
    assert said.status == 2
    assert "for a base model of this shape with other weights" in said.stderr


def test_an_embedded_base_is_pretrained_once(astraios, tmp_path, monkeypatch):
    small = _base_config("minipack-0.1m")
    for module in ("astraios.training.config", "astraios.studies.subjects"):
        monkeypatch.setattr(f"{module}.EMBEDDED", {small.name: small})
    options = ("--out", str(tmp_path), *FEW, "--generate-only", "--json")
    said = astraios("eval", "minipack-0.1m", *options)
    assert said.status == 0, said.stderr
    (base,) = tmp_path.glob("base-minipack-0.1m-*")
    before = (base / "manifest.json").read_bytes()
    (one,) = json.loads(said.stdout)["runs"]
    manifest = json.loads((Path(one["run"]) / "manifest.json").read_text())
    assert manifest["inputs"] == {"base": base.name}
    by_folder = astraios("eval", str(base), *options)
    assert json.loads(by_folder.stdout)["runs"] == [one]
    assert (base / "manifest.json").read_bytes() == before


def _base_config(name: str) -> PretrainingConfig:
    return PretrainingConfig(
        name=name,
        hidden=16,
        n_layers=2,
        n_heads=2,
        n_positions=1024,
        vocabulary=400,
        n_tokenizer_documents=400,
        optimization=Optimization(n_steps=2, batch_size=2, learning_rate=5e-3),
    )


@pytest.mark.slow
def test_a_killed_evaluation_ends_as_one_that_was_left_alone(place, tmp_path):
    options = (*TASK, "--limit-problems", "8", "--n-samples", "4", "--temperature", "0.8")
    command = [sys.executable, "-m", "astraios", "eval", str(place / "tiny"), *options]
    command += ["--max-new-tokens", "64", "--batch-tokens", "512", "--sandbox", "best", "--json"]
    command += ["--adapter", str(place / "lora"), "--adapter", str(place / "adapterp")]

    def run(out: str, kill_after: int | None = None) -> list[dict[str, str]]:
        environment = {**os.environ, "ASTRAIOS_CACHE": ""}
        started = subprocess.Popen(
            [*command, "--out", str(tmp_path / out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        while kill_after is not None and started.poll() is None:
            lines = sum(p.read_bytes().count(b"\n") for p in _records(tmp_path / out))
            if lines >= kill_after:
                started.send_signal(signal.SIGKILL)
                break
            time.sleep(0.02)
        told, _ = started.communicate(timeout=300)
        return json.loads(told)["runs"] if kill_after is None else []

    whole = run("whole")
    for lines in (3, 36, 90):
        run("killed", kill_after=lines)
    for one, other in zip(run("killed"), whole, strict=True):
        assert one["scores"] == other["scores"]
        assert one["outcomes"] == other["outcomes"]
        assert _samples(one["run"]) == _samples(other["run"])


def _records(out: Path) -> list[Path]:
    return [*out.rglob("samples.jsonl"), *out.rglob("verdicts.jsonl")]


# --- from the hub -----------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Stands for the hub: folders by id; notes what was asked for."""
    import huggingface_hub

    class Hub:
        def __init__(self) -> None:
            self.folders: dict[str, Path] = {}
            self.asked: list[tuple[str, str | None, tuple[str, ...]]] = []
            self.cached: set[str] = set()

        def snapshot_download(self, repo_id, *, revision, allow_patterns, local_files_only):
            if local_files_only:
                if repo_id not in self.cached:
                    raise FileNotFoundError(repo_id)
            else:
                self.asked.append((repo_id, revision, tuple(allow_patterns)))
                self.cached.add(repo_id)
            snapshot = tmp_path / "cache" / repo_id
            shutil.rmtree(snapshot, ignore_errors=True)
            snapshot.mkdir(parents=True)
            for name in allow_patterns:
                if (self.folders[repo_id] / name).is_file():
                    shutil.copy(self.folders[repo_id] / name, snapshot)
            return str(snapshot)

    made = Hub()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    return made


def _pickled(folder: Path, safe: Path) -> Path:
    """The adapter in `safe` as PEFT wrote it once."""
    from safetensors.torch import load_file

    folder.mkdir(parents=True)
    shutil.copy(safe / "adapter_config.json", folder)
    torch.save(load_file(safe / "adapter_model.safetensors"), folder / "adapter_model.bin")
    return folder


def test_an_adapter_comes_from_the_hub_as_tensors(run, hub, place):
    hub.folders["me/mine"] = place / "lora"
    said = run("--adapter", "me/mine@v2", "--generate-only", "--json")
    assert said.status == 0, said.stderr
    (one,) = json.loads(said.stdout)["runs"]
    assert (one["adapter"], one["method"]) == ("me/mine@v2", "lora")
    assert {(name, revision) for name, revision, _ in hub.asked} == {("me/mine", "v2")}
    assert not any("adapter_model.bin" in names for _, _, names in hub.asked)


def test_an_old_adapter_without_safetensors_is_read_all_the_same(run, hub, place, tmp_path):
    hub.folders["me/old"] = _pickled(tmp_path / "old", place / "lora")
    hub.folders["me/new"] = place / "lora"
    old = json.loads(run("--adapter", "me/old", "--generate-only", "--json").stdout)["runs"][0]
    new = json.loads(run("--adapter", "me/new", "--generate-only", "--json").stdout)["runs"][0]
    assert _samples(old["run"]) == _samples(new["run"])
    assert "adapter_model.bin" in hub.asked[1][2]


def test_a_run_does_not_go_on_over_other_files_of_the_same_name(run, hub, place):
    hub.folders["me/mine"] = place / "lora"
    options = ("--adapter", "me/mine", "--method", "lora", "--generate-only")
    folder = Path(json.loads(run(*options, "--json").stdout)["runs"][0]["run"])
    manifest = json.loads((folder / "manifest.json").read_text())
    mark = manifest["inputs"]["adapter"]
    manifest |= {"status": "running", "inputs": manifest["inputs"] | {"adapter": mark[::-1]}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    said = run(*options)
    assert said.status == 2
    assert "was made from other inputs (adapter)" in said.stderr


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "is no adapter: it has no adapter_config.json"),
        ({"adapter_config.json": {"peft_type": "LORA"}}, "has no weights"),
    ],
)
def test_what_is_no_adapter_on_the_hub_is_told(run, hub, tmp_path, files, told):
    (tmp_path / "repo").mkdir()
    for name, values in files.items():
        (tmp_path / "repo" / name).write_text(json.dumps(values))
    hub.folders["me/mine"] = tmp_path / "repo"
    said = run("--adapter", "me/mine")
    assert said.status == 2
    assert told in said.stderr


def test_a_hub_that_is_not_reached_is_told(run, hub):
    said = run("--adapter", "me/nothing")
    assert said.status == 2
    assert "'me/nothing' is not a folder here and could not be loaded" in said.stderr


def _cached(home: Path, name: str, commit: str, folder: Path) -> None:
    """Puts a repository into a hub cache, as a download of its main branch would."""
    where = home / "hub" / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, where / "snapshots" / commit)
    (where / "refs").mkdir()
    (where / "refs" / "main").write_text(commit)


def test_base_and_adapter_come_from_the_cache_of_the_hub(astraios, place, tmp_path, monkeypatch):
    from huggingface_hub import constants

    _cached(tmp_path / "hf", "me/tiny", "a" * 40, place / "tiny")
    _cached(tmp_path / "hf", "me/mine", "b" * 40, place / "lora")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    options = (*FEW, "--out", str(tmp_path / "runs"), "--generate-only", "--json")
    said = astraios("eval", "me/tiny", "--adapter", "me/mine", *options)
    assert said.status == 0, said.stderr
    (one,) = json.loads(said.stdout)["runs"]
    manifest = json.loads((Path(one["run"]) / "manifest.json").read_text())
    assert manifest["config"]["base_model"] == "me/tiny"
    assert manifest["inputs"]["base-weights"] == "a" * 40
    assert (one["adapter"], one["method"]) == ("me/mine", "lora")


def test_a_dry_run_downloads_nothing_and_says_what_it_cannot_know(run, hub, place):
    hub.folders["me/mine"] = place / "lora"
    said = run("--adapter", "me/mine", "--dry-run")
    assert said.status == 0
    assert "its method is told by its files, which are not here yet" in said.stdout
    assert not hub.asked
    named = run("--adapter", "me/mine", "--method", "lora", "--dry-run", "--json")
    hub.cached.add("me/mine")
    cached = run("--adapter", "me/mine", "--dry-run", "--json")
    runs = [json.loads(one.stdout)["runs"][0]["run"] for one in (named, cached)]
    assert runs[0] == runs[1]
