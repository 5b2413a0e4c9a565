"""The command line as a user meets it: exit statuses, messages, what goes where."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from astraios import __version__
from astraios.records import (
    Finish,
    Outcome,
    ProblemCard,
    Prompt,
    RunKind,
    Sample,
    Sampling,
    Verdict,
)
from astraios.runs import Run


def astraios(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "ASTRAIOS_DATA"}
    return subprocess.run(
        [sys.executable, "-m", "astraios", *arguments],
        cwd=cwd,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A judged generation run with one problem."""
    config = Sampling(n_samples=1, temperature=0)
    folder = tmp_path / "asked"
    with Run.open(folder, kind=RunKind.GENERATE, config=config) as made:
        made.append("prompts", Prompt(problem_id="P/1", text="Question: add"))
        made.append(
            "samples",
            Sample(
                problem_id="P/1",
                index=0,
                prompt_sha="0" * 16,
                completion="\n    return 1",
                finish=Finish.EOS,
            ),
        )
        made.seal()
    with Run.open(folder / "judged-1", kind=RunKind.JUDGE, config=config) as made:
        made.append("problems", ProblemCard(id="P/1", group="P/1", tests="assert f() == 2"))
        made.append(
            "verdicts",
            Verdict(
                problem_id="P/1", index=0, group="P/1", outcome=Outcome.FAILED, detail="wrong one"
            ),
        )
        made.seal()
    return folder


def test_the_version_is_told() -> None:
    assert astraios("--version").stdout == f"astraios {__version__}\n"


def test_a_warning_of_the_hub_is_said_once() -> None:
    code = (
        "import sys, astraios.cli as cli; sys.argv = ['astraios', 'list', 'templates']\n"
        "import logging, huggingface_hub.utils\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "logging.getLogger('huggingface_hub.file_download').warning('a slow hub')\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert told.stderr.count("a slow hub") == 1


def test_an_unknown_verb_is_bad_usage() -> None:
    assert astraios("dance").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("demo", "--preset", "quik"), "unknown preset 'quik'.*Did you mean 'quick'"),
        (("list", "metods"), "unknown kind of part 'metods'.*Did you mean 'methods'"),
        (("study", "run", "nowhere.yaml"), "config file 'nowhere.yaml' does not exist"),
        (("study", "plan", "embedded-quick", "methods=[lorra]"), "Did you mean 'lora'"),
        (("study", "plan", "embedded-quick", "nonsense"), "field.subfield=value"),
        (("show", "."), "is not a run folder"),
        (("report", "nowhere"), "nowhere"),
        (("grade", "nowhere.json", "--task", "humanevalsynthesize-python"), "nowhere.json"),
        (("grade", "x.json", "--task", "humanevalsynthesise-python"), "unknown task"),
    ],
)
def test_a_mistake_gets_one_message_and_status_2(
    arguments: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    (tmp_path / "x.json").write_text("[]")
    done = astraios(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    import re

    assert re.search(told, done.stderr, re.DOTALL), done.stderr


@pytest.mark.parametrize(
    "kind", ["methods", "tasks", "languages", "engines", "views", "studies", "templates"]
)
def test_every_kind_is_listed_with_names_and_words(kind: str) -> None:
    done = astraios("list", kind, "--json")
    assert done.returncode == 0
    rows = json.loads(done.stdout)[kind]
    assert rows
    assert all(row["name"] and row["what"] for row in rows)


def test_words_that_begin_with_a_number_stand_below_their_heading() -> None:
    head, rule, *rows = astraios("list", "studies").stdout.splitlines()
    assert len(rows) >= 4
    starts = {row[head.index("what") :][:2] for row in rows}
    assert all(start[:1].isdigit() for start in starts)
    assert rule.index("-", rule.index(" ")) == head.index("what")


def test_tasks_are_listed_with_what_they_need() -> None:
    rows = json.loads(astraios("list", "tasks", "--json").stdout)["tasks"]
    needs = {row["name"]: row["needs"] for row in rows}
    assert needs["humanevalfixtests-java"] == "data humanevalpack, java"
    assert needs["recode-format"] == "data recode, python"
    assert needs["devign"] == "data devign"
    assert needs["minipack-fix"] == "python"


def test_the_seven_methods_are_listed() -> None:
    names = {
        row["name"] for row in json.loads(astraios("list", "methods", "--json").stdout)["methods"]
    }
    assert names >= {"fft", "lora", "ptuning", "ia3", "adapterh", "adapterp", "parallel"}


def test_doctor_tells_of_toolchains_and_the_sandbox() -> None:
    rows = json.loads(astraios("doctor", "--json").stdout)
    facts = {row["what"]: row for row in rows}
    assert facts["language python"]["state"] == "yes"
    levels = [row for what, row in facts.items() if what.startswith("sandbox ")]
    assert {row["state"] for row in levels} <= {"yes", "no"}
    assert all(row["remark"] for row in levels)


def test_show_tells_the_manifest(run: Path) -> None:
    told = json.loads(astraios("show", str(run), "--json").stdout)
    assert told["kind"] == "generate" and told["status"] == "done"


@pytest.mark.parametrize("which", ["", "judged-1"])
def test_show_tells_one_problem_from_either_folder(run: Path, which: str) -> None:
    text = astraios("show", str(run / which), "--problem", "P/1").stdout
    for part in ("Question: add", "return 1", "failed wrong one", "assert f() == 2"):
        assert part in text


def test_show_suggests_the_nearest_problem(run: Path) -> None:
    done = astraios("show", str(run), "--problem", "P/l")
    assert done.returncode == 2
    assert "Did you mean 'P/1'?" in done.stderr


def test_a_missing_data_folder_is_told_with_its_origin(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    done = astraios(
        "grade", "x.json", "--task", "humanevalsynthesize-python", cwd=tmp_path,
        ASTRAIOS_DATA="nowhere",
    )  # fmt: skip
    assert done.returncode == 2
    assert "ASTRAIOS_DATA" in done.stderr and "nowhere" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become an ordinary user")
def test_a_folder_without_write_permission_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "astraios", "demo", "--out", "/proc/astraios"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write '/proc/astraios")


def test_the_command_line_starts_without_heavy_imports() -> None:
    program = (
        "import sys, astraios.cli\n"
        "names = 'torch', 'peft', 'transformers', 'pandas', 'matplotlib', 'numpy'\n"
        "heavy = set(names) & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
