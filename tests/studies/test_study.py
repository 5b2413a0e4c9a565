"""Studies on paper: expansion, overrides, mistakes told before anything runs."""

from pathlib import Path
from typing import Any

import pytest

from astraios.config import fingerprint, parse_yaml
from astraios.errors import ConfigError, MissingDataError, MissingToolError, UnknownNameError
from astraios.evaluation.config import EvaluationConfig
from astraios.progress import silent
from astraios.records import RunKind
from astraios.studies.checks import check
from astraios.studies.needs import needs
from astraios.studies.plan import plan
from astraios.studies.presets import names, read_study
from astraios.studies.run import run_study
from astraios.studies.study import BASE, Study, arms, training_config
from astraios.studies.work import work
from astraios.training.config import TrainingConfig

YAML = """
name: small
base_models: [minipack-0.4m]
methods: [fft, lora]
tasks: [minipack-synthesize, minipack-fix]
seeds: [0, 1]
training:
  optimization: {n_steps: 10, batch_size: 4, learning_rate: 0.001}
"""


def study(*overrides: str, text: str = YAML) -> Study:
    return parse_yaml(text, Study, overrides, source="study.yaml")


def test_every_arm_is_trained_generated_and_judged_and_the_base_too() -> None:
    kinds = [job.kind for job in plan(study())]
    assert kinds.count(RunKind.PRETRAIN) == 1
    assert kinds.count(RunKind.TRAIN) == 2 * 2
    assert kinds.count(RunKind.GENERATE) == kinds.count(RunKind.JUDGE) == (1 + 2 * 2) * 2


def test_every_job_comes_after_those_it_builds_on() -> None:
    seen: set[str] = set()
    for job in plan(study()):
        assert seen.issuperset(job.after)
        seen.add(job.id)
    assert len(seen) == len(plan(study()))


def test_an_override_changes_the_arms_it_names_and_no_others() -> None:
    plain = study()
    changed = study(
        "overrides=[{where: {method: lora, seed: 1}, set: {training.optimization.n_steps: 20}}]"
    )
    for arm in arms(plain):
        before, after = training_config(plain, arm), training_config(changed, arm)
        if (arm.method, arm.seed) == ("lora", 1):
            assert after.optimization.n_steps == 20
            assert after.model_copy(update={"optimization": before.optimization}) == before
        else:
            assert after == before


def test_arms_differ_only_in_swept_and_overridden_fields() -> None:
    shipped = read_study("embedded-quick")
    overridden = {name.split(".")[1] for o in shipped.overrides for name in o.set}
    swept = {"base_model", "method", "seed", *overridden}
    first, *others = (training_config(shipped, arm).model_dump() for arm in arms(shipped))
    for other in others:
        assert {name for name in first if first[name] != other[name]} <= swept


def test_a_changed_recipe_moves_the_folders_of_what_builds_on_it() -> None:
    before = {job.label: job.id for job in plan(study())}
    longer = study("training.optimization.n_steps=11")
    for job in plan(longer):
        same = job.kind in (RunKind.PRETRAIN, RunKind.PACK) or " base " in job.label
        assert (before[job.label] == job.id) == same


def test_operational_fields_move_no_folder() -> None:
    before = [job.id for job in plan(study())]
    assert [job.id for job in plan(study("training.optimization.save_every=3"))] == before
    assert [job.id for job in plan(study("sandbox=limits"))] == before


def test_what_is_evaluated_is_the_revision_that_was_trained() -> None:
    pinned = study(
        "base_models=[a/one, a/two]",
        "training.revision=abc",
        "overrides=[{where: {base_model: a/two}, set: {training.revision: def}}, "
        "{where: {base_model: a/two, method: lora}, set: {training.revision: ghi}}]",
    )
    asked = [job.config for job in plan(pinned) if isinstance(job.config, EvaluationConfig)]
    found = {(c.base_model, c.method): c.revision for c in asked}
    assert found == {
        **{("a/one", method): "abc" for method in (BASE, "fft", "lora")},
        **{("a/two", method): "def" for method in (BASE, "fft")},
        ("a/two", "lora"): "ghi",
    }
    read_back = [EvaluationConfig.model_validate(c.model_dump(mode="json")) for c in asked]
    assert read_back == asked
    assert len({fingerprint(c) for c in asked}) == len(asked)


def test_the_revision_is_what_a_worker_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

    def load_base(source: str, revision: str | None = None, **_: Any) -> Any:
        raise MissingDataError(f"{source} at {revision}")

    monkeypatch.setattr("astraios.training.base.load_base", load_base)
    jobs = plan(study("base_models=[a/one]", "training.revision=abc"))
    job = next(job for job in jobs if job.kind is RunKind.GENERATE)
    with pytest.raises(MissingDataError, match="a/one at abc"):
        work(job, tmp_path, sandbox="best", data_dir=None, progress=silent)


def test_an_evaluation_of_no_revision_says_nothing_of_it() -> None:
    asked = [job.config for job in plan(study()) if job.kind is RunKind.GENERATE]
    assert all("revision" not in config.model_dump(mode="json") for config in asked)


@pytest.mark.parametrize("name", names())
def test_shipped_studies_are_sound(name: str) -> None:
    shipped = read_study(name)
    check(shipped)
    assert shipped.name == name
    assert len(shipped.methods) == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("methods=[fft, lorra]", "unknown method 'lorra'.*Did you mean 'lora'"),
        ("tasks=[minipack-synthesise]", "unknown task.*Did you mean 'minipack-synthesize'"),
        ("methods=[]", "at least 1 item"),
        ("seeds=[1, 1]", "1 is named twice"),
        ("name=../x", "should match pattern"),
        ("bse_models=[x]", "unknown field 'bse_models'.*Did you mean 'base_models'"),
        ("overrides=[{where: {metod: fft}, set: {}}]", "unknown axis 'metod'"),
        ("overrides=[{where: {}, set: {tasks: []}}]", "cannot be overridden"),
    ],
)
def test_a_mistake_in_a_study_is_told_with_its_place(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        study(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.optimisation={}", "unknown field 'optimisation'"),
        ("training.optimization.n_step=3", "unknown field 'optimization.n_step'"),
        ("training.loss_on=everything", "loss_on"),
        ("sampling={minipack-fixx: {n_samples: 2}}", "'minipack-fixx'.*minipack-fix"),
    ],
)
def test_a_mistake_in_the_training_is_told_before_anything_runs(
    override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(study(override))


def test_a_study_file_that_is_not_there_is_told_with_the_shipped_names(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'embedded-quick'"):
        read_study("embeded-quick")


def test_a_folder_in_the_place_of_a_study_is_told_with_what_goes_on(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"is a folder.*`astraios study resume .*` goes on"):
        read_study(str(tmp_path))


def test_malformed_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("name: x\nmethods: [fft\ntasks: [a]\n")
    with pytest.raises(ConfigError, match=r"study.yaml:\d+"):
        read_study(str(path))


def test_plans_are_equal_in_every_process() -> None:
    def ids(**k: Any) -> list[str]:
        return [job.id for job in plan(study(**k))]

    assert ids() == ids()


def test_a_study_without_its_libraries_is_refused_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astraios.studies.run.find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match=r"pip install 'astraios\[train\]'"):
        run_study(study(), tmp_path / "small")
    assert not list(tmp_path.rglob("base"))


ENTRIES = YAML.replace(
    "methods: [fft, lora]",
    """methods:
  - lora
  - {method: lora, options: {r: 64}, name: wide}
  - {peft: LOHA, options: {r: 4}}""",
)


def test_a_method_is_entered_twice_and_any_of_peft_by_its_type() -> None:
    read = study(text=ENTRIES)
    found = {arm.method: training_config(read, arm) for arm in arms(read)}
    assert {key: dict(config.method_options) for key, config in found.items()} == {
        "lora": {},
        "lora~wide": {"r": 64},
        "peft-loha": {"r": 4},
    }
    assert all(config.method == key for key, config in found.items())
    folders = {job.id.split("/")[2] for job in plan(read) if job.kind is RunKind.TRAIN}
    assert folders == set(found)


def test_full_tuning_under_another_name_takes_as_much_memory() -> None:
    text = YAML.replace("methods: [fft, lora]", "methods: [fft, {method: fft, name: again}]")
    told = {
        job.config.method: needs(job)
        for job in plan(study("base_models=[some/model-1b]", text=text))
        if isinstance(job.config, TrainingConfig)
    }
    assert told["fft"] == told["fft~again"]
    assert told["fft"].host_mib > 15_000


def test_an_override_finds_an_entry_by_what_it_is_called() -> None:
    text = ENTRIES + (
        "overrides:\n"
        "  - {where: {method: lora~wide}, set: {training.optimization.learning_rate: 0.5}}\n"
    )
    read = study(text=text)
    rates = {a.method: training_config(read, a).optimization.learning_rate for a in arms(read)}
    assert rates == {"lora": 0.001, "lora~wide": 0.5, "peft-loha": 0.001}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("[lora, {method: lora}]", "'lora' is named twice"),
        ("[{peft: LOHA}, {peft: loha}]", "'peft-loha' is named twice"),
        ("[{peft: LOHA, method: lora}]", "either method: <name> or peft: <type>"),
        ("[{method: loar}]", "unknown method 'loar'.*lora"),
        ("[{method: lora, opions: {}}]", "opions"),
    ],
)
def test_a_mistake_in_an_entry_is_told(entries: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        study(text=YAML.replace("[fft, lora]", entries))


def test_a_type_that_peft_has_not_is_told_before_anything_runs() -> None:
    pytest.importorskip("peft")
    with pytest.raises(UnknownNameError, match=r"lohaa.*loha"):
        check(study(text=YAML.replace("[fft, lora]", "[{peft: LOHAA}]")))


def test_a_method_that_cannot_generate_here_is_told_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="'prefix' cannot be generated here"):
        check(study(text=YAML.replace("[fft, lora]", "[prefix]")))
