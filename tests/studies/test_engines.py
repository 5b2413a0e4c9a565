"""Engines in studies: what a study may set, what is refused early, and jobs that have faults."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from astraios.cli import app
from astraios.config import fingerprint, parse_yaml
from astraios.errors import (
    ConfigError,
    MissingDataError,
    MissingToolError,
    UnknownNameError,
    WorkError,
)
from astraios.evaluation.config import EvaluationConfig
from astraios.generation import Engine
from astraios.generation.keys import prompt_sha, wanted
from astraios.progress import silent
from astraios.records import Finish, Parity, Prompt, RunKind, Sample, Sampling, Verdict
from astraios.runs import read_run
from astraios.studies import run as running
from astraios.studies.checks import check
from astraios.studies.launchers import Event, Launcher, Phase, Setting
from astraios.studies.outlook import outlook
from astraios.studies.plan import Job, plan
from astraios.studies.presets import read_study
from astraios.studies.run import run_study
from astraios.studies.study import BASE, Arm, Study, evaluation_config
from astraios.studies.work import is_finished, work
from astraios.tasks import task

YAML = """
name: small
base_models: [a/one, a/two]
methods: [fft, ia3, adapterh]
tasks: [minipack-synthesize]
limit_problems: 3
training:
  optimization: {n_steps: 10, batch_size: 4, learning_rate: 0.001}
"""


def study(*overrides: str) -> Study:
    return parse_yaml(YAML, Study, overrides, source="study.yaml")


def asked(read: Study) -> dict[tuple[str, str], EvaluationConfig]:
    configs = [job.config for job in plan(read) if isinstance(job.config, EvaluationConfig)]
    return {(config.base_model, str(config.method)): config for config in configs}


# --- settings ---------------------------------------------------------------------------------


def test_folders_of_studies_that_set_nothing_are_where_they_were() -> None:
    golden = json.loads(Path(__file__).with_name("embedded_quick.json").read_text())
    # as the study was when its folders were noted down: of one size
    read = read_study("embedded-quick", ["base_models=[minipack-0.7m]"])
    assert fingerprint(read) == golden["study"]
    # a judging is named after the toolchain of its machine too
    ids = [job.id for job in plan(read)]
    assert len(ids) == 57
    assert [name for name in ids if "/judged-" not in name] == golden["jobs"]


def test_a_study_sets_how_its_models_are_asked() -> None:
    found = asked(
        study(
            "evaluation={template: instruct, precision: bfloat16, device: cuda, batch_tokens: 99}",
            "evaluation.parity=skip",
        )
    )
    assert len(found) == 2 * 4
    for config in found.values():
        assert (config.template, config.precision) == ("instruct", "bfloat16")
        assert (config.device, config.batch_tokens, config.parity) == ("cuda", 99, "skip")


def test_an_override_sets_it_for_a_part_of_the_grid_and_the_base_models_in_it() -> None:
    found = asked(
        study(
            "overrides=[{where: {base_model: a/two}, set: {evaluation.precision: float16, "
            "evaluation.engine_options.url: 'http://two'}}, "
            "{where: {method: base}, set: {evaluation.template: continue}}]",
            "evaluation.engine_options.url=http://one",
        )
    )
    for (base_model, method), config in found.items():
        is_two = base_model == "a/two"
        assert config.precision == ("float16" if is_two else "float32")
        assert config.engine_options == {"url": "http://two" if is_two else "http://one"}
        assert config.template == ("continue" if method == BASE else "octocoder")


def test_what_changes_a_record_moves_its_folder_and_no_training() -> None:
    before = {job.label: job.id for job in plan(study())}
    for job in plan(study("evaluation.precision=bfloat16")):
        moved = job.kind in (RunKind.GENERATE, RunKind.JUDGE)
        assert (before[job.label] != job.id) == moved


OPERATIONAL = (
    "evaluation={device: 'cuda:1', batch_tokens: 7, parity: skip, "
    "engine_options: {url: 'http://secret.example'}}",
    "overrides=[{where: {base_model: a/two}, set: {evaluation.device: cpu, "
    "evaluation.engine_options.url: 'http://other.example'}}]",
)


def test_device_and_server_move_no_folder_and_make_no_other_study() -> None:
    plain, elsewhere = (study("overrides=[{where: {base_model: a/two}, set: {}}]", *more)
                        for more in ((), OPERATIONAL))  # fmt: skip
    assert [job.id for job in plan(plain)] == [job.id for job in plan(elsewhere)]
    assert fingerprint(plain) == fingerprint(elsewhere)
    assert asked(elsewhere)["a/one", "fft"].device == "cuda:1"
    assert asked(elsewhere)["a/two", "fft"].device == "cpu"


def test_no_dump_names_a_server() -> None:
    read = study(*OPERATIONAL)
    dumped = json.dumps([read.model_dump(mode="json"), *(
        job.config.model_dump(mode="json") for job in plan(read)
    )])  # fmt: skip
    assert "http" not in dumped
    assert Study.model_validate(study().model_dump(mode="json")) == study()


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["evaluation.engin=hf"], ConfigError, "unknown field 'engin'.*Did you mean 'engine'"),
        (["evaluation.sampling={}"], ConfigError, "unknown field 'sampling'"),
        (["evaluation.precision=int3"], ConfigError, "'small', a/one base seed 0.*precision"),
        (["evaluation.batch_tokens=0"], ConfigError, "batch_tokens"),
        (["evaluation.parity=perhaps"], ConfigError, "parity"),
        (["evaluation.engine=hff"], UnknownNameError, "unknown engine 'hff'.*Did you mean 'hf'"),
        (["evaluation.template=octocode"], UnknownNameError, "Did you mean 'octocoder'"),
        (
            ["overrides=[{where: {method: ia3}, set: {evaluation.presicion: float16}}]"],
            ConfigError,
            "a/one ia3 seed 0, evaluation: unknown field 'presicion'",
        ),
    ],
)
def test_a_mistake_is_told_before_anything_runs(
    overrides: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check(study(*overrides))


SERVED = "evaluation={engine: openai, engine_options: {url: 'http://a.example', model: {name}}}"
LORA = ("methods=[lora]", "base_models=[a/one]")


def served(name: str, *more: str) -> Study:
    return study(*LORA, SERVED.replace("{name}", name), *more)


def test_another_served_model_is_another_run_and_another_study() -> None:
    first, second = served("one"), served("two")
    assert fingerprint(first) != fingerprint(second)
    for one, other in zip(plan(first), plan(second), strict=True):
        is_asked = one.kind in (RunKind.GENERATE, RunKind.JUDGE)
        assert (one.id != other.id) == is_asked
        assert one.inputs.get("served-model") == ("one" if one.kind is RunKind.GENERATE else None)
    moved = served("one", "evaluation.engine_options.url=http://b.example")
    assert [job.id for job in plan(moved)] == [job.id for job in plan(first)]
    assert asked(moved)["a/one", "lora"].engine_options == {
        "url": "http://b.example",
        "model": "one",
    }
    known = {job.id for job in plan(first)}
    assert all(after in known for job in plan(first) for after in job.after)


def test_another_endpoint_is_another_run() -> None:
    first, second = served("one"), served("one", "evaluation.engine_options.endpoint=chat")
    assert fingerprint(first) != fingerprint(second)
    ids = [{job.id for job in plan(one) if job.kind is RunKind.GENERATE} for one in (first, second)]
    assert ids[0].isdisjoint(ids[1])


@pytest.mark.parametrize(
    "options",
    [
        "evaluation.engine_options: {url: 'http://c.example', model: mine}",
        "evaluation.engine_options.model: mine, evaluation.engine_options.url: 'http://c.example'",
    ],
)
def test_an_override_names_a_served_model_and_no_dump_its_server(options: str) -> None:
    read = served("one", f"overrides=[{{where: {{method: base}}, set: {{{options}}}}}]")
    found = asked(read)
    assert found["a/one", BASE].engine_options == {"url": "http://c.example", "model": "mine"}
    assert found["a/one", "lora"].engine_options["model"] == "one"
    dumped = json.dumps(read.model_dump(mode="json"))
    assert "example" not in dumped and "mine" in dumped
    assert fingerprint(Study.model_validate(json.loads(dumped))) == fingerprint(read)


def test_another_file_of_completions_is_another_run(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    replay = f"evaluation={{engine: replay, engine_options: {{file: {file}}}}}"
    with pytest.raises(MissingDataError, match=r"samples\.jsonl' does not exist"):
        plan(study(*LORA, replay))
    ids = set()
    for content in ("", "\n"):
        file.write_text(content)
        job = next(job for job in plan(study(*LORA, replay)) if job.kind is RunKind.GENERATE)
        ids.add(job.id)
    assert len(ids) == 2


def test_another_engine_of_an_override_starts_without_options() -> None:
    found = asked(
        served("one", "overrides=[{where: {method: base}, set: {evaluation.engine: hf}}]")
    )
    assert found["a/one", BASE].engine_options == {}
    assert found["a/one", "lora"].engine_options["model"] == "one"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("engine: hf, engine_options: {url: x}", "a/one base seed 0.*engine hf has no option"),
        ("engine: openai", "needs the server's address"),
        ("engine: openai, engine_options: {url: 'http://a', n_trys: 2}", "n_trys"),
        ("engine: openai, engine_options: {url: 'http://a'}", "a/one lora .*engine_options.model"),
        (
            "engine: openai, engine_options: {url: 'http://a', model: m}, long_prompts: cut",
            "cannot cut prompts",
        ),
        ("engine: vllm, engine_options: {url: 'http://a', python: p}", "running server"),
        ("engine: replay, engine_options: {path: x}", "engine replay has no option 'path'"),
        ("device: 'cuda:0,,cuda:1'", "empty device"),
    ],
)
def test_wrong_options_of_an_engine_are_told_before_anything_runs(
    tmp_path: Path, options: str, message: str
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(YAML)
    arguments = ["study", "plan", str(path), *LORA, f"evaluation={{{options}}}"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "runs")])
    assert isinstance(done.exception, ConfigError)
    assert re.search(f"(?s){message}", str(done.exception))


@pytest.mark.parametrize("values", ["here={device: cpu}", "overrides=[{where: {}, here: {a: 1}}]"])
def test_settings_are_written_where_they_belong(values: str) -> None:
    with pytest.raises(ConfigError, match="'here' is no field"):
        study(values)


class Narrow(Engine):
    """Hosts full fine-tuning only."""

    name = "narrow"
    hosts = "fft"

    @classmethod
    def supports(cls, method: str) -> bool:
        return method == "fft"

    def complete(self, *_: Any, **__: Any) -> Iterator[Sample]:
        raise AssertionError("not asked")


def test_a_method_that_its_engine_cannot_host_is_refused_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from astraios import registry
    from astraios.generation import engines

    load = registry.load
    monkeypatch.setattr(
        registry,
        "load",
        lambda package, kind, name, *expected: (
            Narrow
            if (package, name) == (engines, "narrow")
            else load(package, kind, name, *expected)
        ),
    )
    with pytest.raises(ConfigError, match=r"(?s)engine narrow cannot host method 'ia3' \(only fft"):
        check(study("evaluation.engine=narrow"))
    check(
        study(
            "evaluation.engine=narrow",
            "overrides=[{where: {method: ia3}, set: {evaluation.engine: hf}}, "
            "{where: {method: adapterh}, set: {evaluation.engine: hf}}]",
        )
    )


def test_an_engine_that_is_not_installed_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASTRAIOS_VLLM_PYTHON", raising=False)
    read = study("methods=[fft]", "evaluation.engine=vllm", "sandbox=best")
    *_, told = outlook(read, tmp_path).warnings
    assert "engine_options.python=PATH" in told
    with pytest.raises(MissingToolError, match=r"engine_options.python=PATH.*Nothing was run"):
        run_study(read, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {
        "manifest.json", "study.yaml", "plan.jsonl", ".lock"
    }  # fmt: skip


def test_the_study_of_the_page_is_sound() -> None:
    page = (Path(__file__).parents[2] / "docs" / "parity.md").read_text()
    settings = page.partition("```yaml\n")[2].partition("```")[0]
    models = "base_models: [bigcode/starcoderbase-1b, bigcode/starcoderbase-7b]"
    read = parse_yaml(YAML.replace("base_models: [a/one, a/two]", models) + settings, Study)
    check(read)
    found = asked(read)
    first, second = read.base_models
    assert (found[first, "fft"].engine, found[first, "adapterh"].engine) == ("vllm", "hf")
    assert found[second, "ia3"].engine_options == {"url": "http://127.0.0.1:8001"}
    assert found[first, "ia3"].engine_options == {"url": "http://127.0.0.1:8000"}


def test_an_arm_alone_has_the_config_of_the_plan() -> None:
    read = study("evaluation.precision=bfloat16")
    config = evaluation_config(read, Arm("a/one", BASE, 0), task("minipack-synthesize"))
    assert config == asked(read)["a/one", BASE]


# --- faults -----------------------------------------------------------------------------------


class Flaky(Engine):
    """Fails on every other sample, as long as it is broken."""

    name = "flaky"

    def __init__(self, *, broken: bool) -> None:
        self.broken = broken
        self.n_asked = 0

    @classmethod
    def supports(cls, method: str) -> bool:
        return True

    def complete(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        skip: frozenset[Any] = frozenset(),
        **_: Any,
    ) -> Iterator[Sample]:
        for place, prompt in enumerate(prompts):
            for index in wanted(prompt, sampling, skip):
                self.n_asked += 1
                failed = self.broken and place % 2 == 0
                yield Sample(
                    problem_id=prompt.problem_id,
                    index=index,
                    prompt_sha=prompt_sha(prompt.text),
                    completion="" if failed else "    pass\n",
                    finish=Finish.FAULT if failed else Finish.EOS,
                    fault="out of luck" if failed else None,
                )


class Inline(Launcher):
    """Does one job after the other in this process."""

    def launch(self, jobs: Sequence[Job], setting: Setting, watch: Callable[[Event], None]) -> None:
        for job in jobs:
            work(job, setting.root, sandbox=setting.sandbox, data_dir=None, progress=silent)
            watch(Event(job, Phase.DONE))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Flaky:
    """Answers in studies, of which only the untuned model is left."""
    flaky = Flaky(broken=True)

    @contextmanager
    def trusted(*_: Any) -> Iterator[tuple[Engine, None]]:
        yield flaky, None

    def untuned(read: Study) -> list[Job]:
        return [job for job in plan(read) if "/base/" in job.id]

    monkeypatch.setattr("astraios.studies.serving.trusted_engine", trusted)
    monkeypatch.setattr(running, "plan", untuned)
    monkeypatch.setattr(running, "registry", SimpleNamespace(load=lambda *_: Inline()))
    monkeypatch.setattr(running, "_check_libraries", lambda todo: None)
    return flaky


ONE = "base_models=[a/one]"


def test_faults_of_a_study_are_said_stop_nothing_and_are_tried_again(
    tmp_path: Path, engine: Flaky
) -> None:
    root = tmp_path / "small"
    summary = run_study(study(ONE), root)
    generation, judging = untouched = [job for job, _ in summary.faults]
    assert [job.kind for job in untouched] == [RunKind.GENERATE, RunKind.JUDGE]
    assert [n for _, n in summary.faults] == [2, 2]
    assert not summary.complete and not summary.nothing_to_do
    assert "2 jobs have samples that are faults, such as 2 of 'generate one base" in summary.left
    outcomes = [str(v.outcome) for v in read_run(root / judging.id).read("verdicts", Verdict)]
    assert outcomes == ["fault", "failed", "fault"]
    assert not is_finished(generation, root)

    engine.broken = False
    engine.n_asked = 0
    summary = run_study(study(ONE), root)
    assert engine.n_asked == 2
    assert summary.complete and summary.left == "" and summary.n_before == 0
    outcomes = [str(v.outcome) for v in read_run(root / judging.id).read("verdicts", Verdict)]
    assert sorted(outcomes) == ["failed"] * 3
    assert read_run(root).done

    again = run_study(study(ONE), root)
    assert again.nothing_to_do and again.complete
    assert engine.n_asked == 2


def test_a_job_that_was_not_compared_is_done_again_without_asking(
    tmp_path: Path, engine: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.broken = False
    found = Parity(engine="flaky", outcome="skipped")

    @contextmanager
    def trusted(*_: Any) -> Iterator[tuple[Engine, Parity]]:
        yield engine, found

    monkeypatch.setattr("astraios.studies.serving.trusted_engine", trusted)
    root, skip = tmp_path / "small", "evaluation.parity=skip"
    assert run_study(study(ONE, skip), root).complete
    assert run_study(study(ONE, skip), root).nothing_to_do
    n_asked = engine.n_asked
    found = Parity(engine="flaky", outcome="equal", n_prompts=3, n_tokens=9)
    summary = run_study(study(ONE), root)
    assert summary.complete and summary.n_jobs - summary.n_before == 1
    assert engine.n_asked == n_asked
    assert run_study(study(ONE), root).nothing_to_do
    assert run_study(study(ONE, skip), root).nothing_to_do


def test_the_command_fails_while_there_are_faults(tmp_path: Path, engine: Flaky) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(YAML)
    arguments = ["study", "run", str(path), ONE, "--out", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert isinstance(done.exception, WorkError)
    assert "2 jobs have samples that are faults" in str(done.exception)
    assert "the same command tries them again" in str(done.exception)
    told = json.loads(done.stdout)
    assert sorted(told["faults"].values()) == [2, 2]
    assert "2 faults" in Path(told["report"]).read_text()
    engine.broken = False
    assert CliRunner().invoke(app, arguments).exit_code == 0
