"""`astraios import-outputs` as a user meets it: trees in several styles, and their faults."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from astraios import tasks
from astraios.analysis.frames import read_frames
from astraios.records import ArmFacts, Finish, RunKind, Sample, Verdict
from astraios.runs import find_runs, read_run

ROWS = Path(__file__).parents[1] / "tasks" / "rows"
SYNTHESIZE = "humanevalsynthesize-python"
PATHS = {
    "synthesize": "humanevalsynthesize-python/generations-humanevalsynthesizepython-starcoderbase-"
    "1b-lora.json",
    "fix": "generations_humanevalfixpython_astraios-1b-lora.json",
    "explain": "humanevalexplainsynthesize-python/15b-fft.json.gz",
    "defect": "defect_detection/generations-defectdetection-starcoderbase-7b-ia3.json",
    "clone": "clone_detection_oneshot/3b-ptuning.json",
    "recode": "recode-format/generations-humaneval-format-num_seeds_1-starcoderbase-1b-lora.json",
}


def pack() -> list[dict[str, Any]]:
    lines = (ROWS / "humanevalpack" / "python.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def answers(kind: str) -> list[Any]:
    """Two answers of each problem where samples are drawn, the first right; one elsewhere."""
    bodies = ("canonical_solution", "buggy_solution")
    match kind:
        case "synthesize":
            return [[row["prompt"] + row[body] for body in bodies] for row in pack()]
        case "fix":
            return [[row["declaration"] + row[body] for body in bodies] for row in pack()]
        case "explain":  # a list for every sample
            return [[row["prompt"] + row[body]] for row in pack() for body in bodies]
        case "recode":
            problems = tasks.task("recode-format@seeds-1").problems(ROWS)
            return [[problem.prompt.strip() + "\n    return None"] for problem in problems]
        case "defect" | "clone":
            task = tasks.task({"defect": "devign", "clone": "bigclonebench-oneshot"}[kind])
            return [
                [task.saved(problem, task.final_text(problem, (" Yes, of course",)), place)]
                for place, problem in enumerate(task.problems(ROWS))
            ]
    raise ValueError(kind)


@dataclass(frozen=True)
class Outputs:
    """A tree of outputs and the command on it."""

    root: Path
    out: Path
    command: Callable[..., Any]

    def write(self, path: str, content: Any) -> Path:
        """Write `content` as JSON, or as it is."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        data = (content if isinstance(content, str) else json.dumps(content)).encode()
        file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)
        return file

    def run(self, *options: str, data: Path = ROWS) -> Any:
        """The command, with two programs at a time."""
        return self.command(
            "import-outputs", str(self.root), "--out", str(self.out),
            "--data-dir", str(data), "--jobs", "2", *options,
        )  # fmt: skip

    def told(self, *options: str, status: int = 0, data: Path = ROWS) -> dict[str, Any]:
        """What `--json` prints."""
        done = self.run("--json", *options, data=data)
        assert done.status == status, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def outputs(tmp_path: Path, astraios: Callable[..., Any]) -> Outputs:
    root = tmp_path / "outputs"
    root.mkdir()
    return Outputs(root, tmp_path / "published", astraios)


def states(told: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(cell["model"], cell["task"]): cell["state"] for cell in told["cells"]}


def score(cell: dict[str, Any], metric: str, slice_: str) -> float:
    return next(s["value"] for s in cell["scores"] if (s["metric"], s["slice"]) == (metric, slice_))


# --- a tree of several styles -----------------------------------------------------------------


def test_tree_in_several_styles_becomes_a_study(outputs: Outputs) -> None:
    for kind, path in PATHS.items():
        outputs.write(path, answers(kind))
    outputs.write("README.md", "words")
    told = outputs.told()
    assert states(told) == {
        ("astraios-1b-lora", "humanevalsynthesize-python@original"): "judged",
        ("astraios-1b-lora", "humanevalfixtests-python@original"): "judged",
        ("astraios-16b-fft", "humanevalexplainsynthesize-python@original"): "judged",
        ("astraios-7b-ia3", "devign"): "judged",
        ("astraios-3b-ptuning", "bigclonebench-oneshot"): "judged",
        ("astraios-1b-lora", "recode-format@seeds-1"): "judged",
    }
    by_task = {cell["task"].partition("@")[0]: cell for cell in told["cells"]}
    assert score(by_task[SYNTHESIZE], "pass@1", "all") == 0.5
    assert score(by_task["humanevalexplainsynthesize-python"], "pass@1", "all") == 0.5
    assert score(by_task["devign"], "accuracy", "paper-all") == 0.5
    assert [row["file"] for row in told["set_aside"]] == [str(outputs.root / "README.md")]
    assert told["unrecognised"] == []

    run = read_run(Path(by_task[SYNTHESIZE]["run"]))
    assert run.folder.parts[-5:-1] == ("eval", "starcoderbase-1b", "lora", "seed0")
    assert run.manifest.kind is RunKind.GENERATE
    assert run.manifest.config["adapter"] == "bigcode/astraios-1b-lora"
    assert {sample.finish for sample in run.read("samples", Sample)} == {Finish.GIVEN}
    judged = read_run(Path(by_task[SYNTHESIZE]["judged"]))
    assert judged.folder.parent == run.folder
    assert len(list(judged.read("verdicts", Verdict))) == 8

    frames = read_frames(outputs.out)
    assert {one.arm.task for one in frames.evaluations} == set(by_task)
    assert len(frames.study.models) == 4
    assert len(frames.study.methods) == 7
    assert len(frames.study.tasks) == 15
    assert any("cells have no result" in note for note in frames.notes)  # holes stay holes
    facts = [
        ArmFacts.model_validate_json(line)
        for line in (outputs.out / "arms.jsonl").read_text().splitlines()
    ]
    assert len(facts) == 28
    assert {(f.trainable_parameters, f.total_parameters) for f in facts if f.method == "ia3"} == {
        (251_904, 1_137_207_296),
        (516_096, 3_043_311_104),
        (870_912, 7_327_263_232),
        (1_239_040, 15_517_456_384),
    }


def test_same_command_again_does_nothing(outputs: Outputs) -> None:
    outputs.write(PATHS["synthesize"], answers("synthesize"))
    outputs.write(PATHS["defect"], answers("defect"))
    first = outputs.run()
    before = {path: path.stat().st_mtime_ns for path in outputs.out.rglob("eval/**/*.json*")}
    again = outputs.run()
    assert (first.status, again.status) == (0, 0)
    assert again.stderr.count("(done before)") == 2
    assert {p: p.stat().st_mtime_ns for p in outputs.out.rglob("eval/**/*.json*")} == before


def test_grid_grows_with_what_is_asked_for(outputs: Outputs) -> None:
    outputs.write(PATHS["synthesize"], answers("synthesize"))
    outputs.write(PATHS["defect"], answers("defect"))
    assert outputs.told("--no-judge", "--task", SYNTHESIZE, "--model", "1b")["n_left_out"] == 1

    def grid() -> Any:
        return yaml.safe_load((outputs.out / "study.yaml").read_text())

    assert grid()["tasks"] == [SYNTHESIZE]
    assert grid()["base_models"] == ["bigcode/starcoderbase-1b"]
    outputs.told("--no-judge", "--task", "devign", "--model", "astraios-7b-ia3,15b")
    assert grid()["tasks"] == ["devign", SYNTHESIZE]
    assert grid()["base_models"] == [
        "bigcode/starcoderbase-1b",
        "bigcode/starcoderbase-7b",
        "bigcode/starcoderbase",
    ]


def test_limits_are_those_of_the_study(outputs: Outputs) -> None:
    outputs.write(PATHS["synthesize"], answers("synthesize"))
    told = outputs.told("--limit-problems", "2", "--limit-samples", "1")
    assert told["cells"][0]["outcomes"] == {"passed": 2}
    refused = outputs.run("--limit-problems", "3")
    assert refused.status == 2
    assert "limit_problems: 2 -> 3" in refused.stderr


def test_answers_can_be_judged_later(outputs: Outputs) -> None:
    outputs.write(PATHS["synthesize"], answers("synthesize"))
    told = outputs.told("--no-judge")
    assert told["cells"][0]["state"] == "imported"
    assert not list(outputs.out.rglob("verdicts.jsonl"))
    assert outputs.told()["cells"][0]["state"] == "judged"


def test_dry_run_checks_contents_and_writes_nothing(outputs: Outputs) -> None:
    outputs.write(PATHS["synthesize"], answers("synthesize"))
    outputs.write(PATHS["defect"], answers("defect")[:1])
    told = outputs.told("--dry-run", status=1)
    assert sorted(states(told).values()) == ["checked", "failed"]
    assert not outputs.out.exists()


def test_references_run_once_a_task(outputs: Outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    from astraios.evaluation import judge

    asked = []
    check = judge.check_references

    def counted(task: Any, *rest: Any) -> Any:
        asked.append(task.name)
        return check(task, *rest)

    monkeypatch.setattr(judge, "check_references", counted)
    for method in ("lora", "fft", "ia3"):
        outputs.write(f"{SYNTHESIZE}/1b-{method}.json", answers("synthesize"))
    told = outputs.told()
    assert asked == [SYNTHESIZE]
    reports = {(Path(c["judged"]) / "references.json").read_text() for c in told["cells"]}
    assert len(reports) == 1


# --- links ------------------------------------------------------------------------------------


def test_links_to_files_and_folders_are_followed(outputs: Outputs, tmp_path: Path) -> None:
    elsewhere = Outputs(tmp_path / "elsewhere", outputs.out, outputs.command)
    file = elsewhere.write("lora.json", answers("synthesize"))
    folder = elsewhere.write("more/1b-fft.json", answers("synthesize")).parent
    (outputs.root / SYNTHESIZE).symlink_to(folder)
    (outputs.root / PATHS["fix"]).symlink_to(elsewhere.write("fix.json", answers("fix")))
    (folder / "1b-lora.json").symlink_to(file)
    (folder / "again").symlink_to(outputs.root)  # not in the folder but by the first link
    told = outputs.told("--no-judge")
    assert sorted((cell["method"], cell["task"].partition("@")[0]) for cell in told["cells"]) == [
        ("fft", SYNTHESIZE),
        ("lora", "humanevalfixtests-python"),
        ("lora", SYNTHESIZE),
    ]
    assert [row["file"] for row in told["unrecognised"]] == [
        str(outputs.root / SYNTHESIZE / "again")
    ]


def test_what_cannot_be_read_as_a_file_is_listed(outputs: Outputs) -> None:
    outputs.write(PATHS["synthesize"], answers("synthesize"))
    folder = outputs.root / "humanevalfixtests-python"
    folder.mkdir()
    (folder / "1b-fft.json").symlink_to("/nowhere/1b-fft.json")
    (folder / "1b-ia3.json").mkdir()
    (folder / "3b-ia3.json").symlink_to("3b-ia3.json")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe.json")
    told = outputs.told("--no-judge")
    reasons = {Path(row["file"]).name: row["reason"] for row in told["unrecognised"]}
    assert "'/nowhere/1b-fft.json', which is not there" in reasons["1b-fft.json"]
    assert "an empty folder, not a file" in reasons["1b-ia3.json"]
    assert "'3b-ia3.json', which is not there" in reasons["3b-ia3.json"]
    assert "a folder that it is in" in reasons["loop"]
    assert "neither a file nor a folder" in reasons["pipe.json"]
    refused = outputs.run("--strict")
    assert refused.status == 2
    assert all(str(folder / name) in refused.stderr for name in reasons)
    assert outputs.told("--no-judge", "--exclude", "humanevalfixtests-python/*")["n_left_out"] == 5


# --- what may be wrong ------------------------------------------------------------------------


def test_unknown_names_are_listed_and_strict_refuses_them(outputs: Outputs) -> None:
    outputs.write(PATHS["synthesize"], answers("synthesize"))
    stray = outputs.write(f"{SYNTHESIZE}/codellama-7b-lora.json", answers("synthesize"))
    told = outputs.told("--no-judge")
    assert [row["file"] for row in told["unrecognised"]] == [str(stray)]
    assert "codellama" in told["unrecognised"][0]["reason"]
    refused = outputs.run("--strict")
    assert refused.status == 2
    assert str(stray) in refused.stderr


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('[["def f', "ends in the middle"),
        ([["x", "y"]] * 3, "3 lists"),
        ([["x"]] * 4, "does not start with its prompt"),
        ("not JSON", "not JSON"),
        ("", "is empty"),
    ],
)
def test_a_broken_file_fails_its_cell_and_no_other(
    outputs: Outputs, content: Any, why: str
) -> None:
    broken = outputs.write(f"{SYNTHESIZE}/1b-fft.json", content)
    outputs.write(PATHS["synthesize"], answers("synthesize"))
    told = outputs.told("--no-judge", status=1)
    cells = {cell["method"]: cell for cell in told["cells"]}
    assert cells["lora"]["state"] == "imported"
    assert cells["fft"]["state"] == "failed"
    assert why in cells["fft"]["error"]
    assert str(broken) in cells["fft"]["error"]


def test_file_of_another_task_than_its_name_says(outputs: Outputs) -> None:
    outputs.write("humanevalfixtests-python/1b-lora.json", answers("defect"))
    told = outputs.told("--no-judge", status=1)
    assert told["cells"][0]["state"] == "failed"


def test_two_files_of_one_cell(outputs: Outputs) -> None:
    one = outputs.write(f"{SYNTHESIZE}/1b-lora.json", answers("synthesize"))
    same = outputs.write(f"{SYNTHESIZE}/astraios-1b-lora.json.gz", answers("synthesize"))
    told = outputs.told("--no-judge")
    assert told["cells"][0]["files"] == [str(one)]
    assert told["copies"] == [{"file": str(same), "reason": f"the same as {one}"}]
    other = answers("synthesize")
    other[0].reverse()
    third = outputs.write(f"{SYNTHESIZE}/syn-python_generations_1b-lora.json", other)
    told = outputs.told("--no-judge", status=1)
    assert told["cells"][0]["state"] == "failed"
    assert str(one) in told["cells"][0]["error"]
    assert str(third) in told["cells"][0]["error"]
    assert outputs.told("--no-judge", "--exclude", "syn-*")["cells"][0]["state"] == "imported"


def test_missing_data_fail_the_cells_that_need_them(outputs: Outputs, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "humanevalpack").symlink_to(ROWS / "humanevalpack")
    outputs.write(PATHS["synthesize"], answers("synthesize"))
    outputs.write(PATHS["clone"], answers("clone"))
    told = outputs.told("--no-judge", status=1, data=data)
    cells = {cell["method"]: cell for cell in told["cells"]}
    assert cells["lora"]["state"] == "imported"
    assert "bigclonebench" in cells["ptuning"]["error"]


def test_one_reason_of_several_cells_is_said_once_and_in_the_end(
    outputs: Outputs, tmp_path: Path
) -> None:
    for method in ("lora", "fft", "ia3"):
        outputs.write(f"{SYNTHESIZE}/1b-{method}.json", answers("synthesize"))
    outputs.write(PATHS["defect"], answers("defect")[:1])
    done = outputs.run(data=tmp_path)
    assert done.status == 1
    during, _, end = done.stderr.partition("error: 4 of 4 cells failed:")
    assert during.count("humanevalpack: no rows for 'python'") == 1
    assert during.count("the same as above") == 2
    assert end.count("\n  ") == 2
    assert "astraios-1b-lora humanevalsynthesize-python and 2 more: humanevalpack: no rows" in end
    assert "next:" not in done.stdout


def test_empty_and_foreign_trees_are_refused(outputs: Outputs, tmp_path: Path) -> None:
    empty = outputs.run()
    assert empty.status == 2
    assert "holds no outputs" in empty.stderr
    outputs.write("notes/1b-lora.json", [])
    foreign = outputs.run()
    assert foreign.status == 2
    assert "which task" in foreign.stderr
    missing = Outputs(tmp_path / "nowhere", outputs.out, outputs.command).run()
    assert missing.status == 2
    assert "is not a folder" in missing.stderr
    assert not outputs.out.exists()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--task", "humanevalsynthesise-python"), "Did you mean"),
        (("--model", "2b"), "unknown published model '2b'"),
        (("--task", "humanevalsynthesize-python@original"), "which edition"),
        (("--task", "devign"), "none of them of the tasks"),
        (("--task", ""), "--task '' has an empty name"),
        (("--model", ","), "--model ',' has an empty name"),
        (("--sandbox", "foo"), "unknown sandbox level 'foo'"),
    ],
)
def test_unknown_choices_are_refused(outputs: Outputs, options: tuple[str, ...], why: str) -> None:
    outputs.write(PATHS["synthesize"], answers("synthesize"))
    refused = outputs.run(*options)
    assert refused.status == 2
    assert why in refused.stderr
    assert not outputs.out.exists()


def test_pattern_that_excludes_nothing_is_told(outputs: Outputs) -> None:
    outputs.write(PATHS["defect"], answers("defect"))
    done = outputs.run("--no-judge", "--exclude", "syn-*", "--exclude", "*.txt")
    assert "--exclude 'syn-*' matches no file" in done.stderr
    outputs.write("notes.txt", "words")
    done = outputs.run("--no-judge", "--exclude", "*.txt")
    assert "matches no file" not in done.stderr


def test_folder_of_something_else_is_left_alone(outputs: Outputs) -> None:
    outputs.write(PATHS["synthesize"], answers("synthesize"))
    outputs.out.mkdir()
    (outputs.out / "mine.txt").write_text("mine")
    refused = outputs.run()
    assert refused.status == 2
    assert "mine.txt" in refused.stderr
    assert [path.name for path in outputs.out.iterdir()] == ["mine.txt"]


def test_verbs_of_studies_say_that_there_is_no_plan(outputs: Outputs) -> None:
    outputs.write(PATHS["defect"], answers("defect"))
    outputs.told("--no-judge")
    refused = outputs.command("study", "status", str(outputs.out))
    assert refused.status == 2
    assert "import-outputs" in refused.stderr


def test_results_inside_the_tree_are_no_outputs(outputs: Outputs) -> None:
    inside = Outputs(outputs.root, outputs.root / "published", outputs.command)
    inside.write(PATHS["synthesize"], answers("synthesize"))
    inside.told("--no-judge")
    again = inside.told("--no-judge")
    assert (again["unrecognised"], again["set_aside"]) == ([], [])


def test_results_of_an_earlier_out_are_left_out_with_one_line(outputs: Outputs) -> None:
    inside = Outputs(outputs.root, outputs.root / "published", outputs.command)
    inside.write(PATHS["synthesize"], answers("synthesize"))
    inside.told("--no-judge")
    again = outputs.run("--no-judge")
    assert f"Folder of results, left out: {inside.out}\n" in again.stderr
    told = outputs.told("--no-judge")
    assert told["results"] == [str(inside.out)]
    assert (told["unrecognised"], told["set_aside"]) == ([], [])


def test_an_empty_path_is_refused(outputs: Outputs) -> None:
    refused = outputs.command("import-outputs", "")
    assert refused.status == 2
    assert "OUTPUTS is empty" in refused.stderr


def test_missing_toolchain_fails_the_cells_that_need_it(
    outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from astraios.errors import MissingToolError
    from astraios.languages.python import language

    def lacks() -> dict[str, str]:
        raise MissingToolError("python needs numpy; pip install numpy")

    monkeypatch.setattr(language, "toolchain", lacks, raising=False)
    outputs.write(PATHS["synthesize"], answers("synthesize"))
    outputs.write(PATHS["defect"], answers("defect"))
    done = outputs.run()
    assert done.status == 1
    assert "FAILED astraios-1b-lora humanevalsynthesize-python: python needs numpy" in done.stderr
    assert "astraios-7b-ia3 devign: judged" in done.stderr


def test_replaced_file_makes_a_new_cell(outputs: Outputs) -> None:
    outputs.write(PATHS["synthesize"], answers("synthesize"))
    outputs.told()
    outputs.write(PATHS["synthesize"], [[texts[0]] * 2 for texts in answers("synthesize")])
    told = outputs.told()
    assert score(told["cells"][0], "pass@1", "all") == 1.0
    judged = [run for run in find_runs(outputs.out) if run.manifest.kind is RunKind.JUDGE]
    assert len(judged) == 2  # the latest counts in a report, which says so
