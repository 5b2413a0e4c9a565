"""What the kit says where it cannot begin, and to a project that never asked for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from astraios.errors import ContractError, UnknownNameError
from astraios.testing import NotApplicable, Property, check_engine, check_method, check_task
from astraios.testing._contract import checked
from astraios.testing.tasks import CONTRACT as TASK


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name what to hold to its contract: --method NAME, --task NAME, --language NAME"),
        (("--task", "humanevalfix-pithon"), "Did you mean 'humanevalfix"),
        (("--language", "python", "--set", "x"), "override 'x' is not of the form"),
    ],
)
def test_a_command_that_says_too_little_is_told_once(
    words: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    done = run("--pyargs", "astraios.testing", *words, cwd=tmp_path)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert says in done.stderr
    assert len(done.stderr.splitlines()) < 4


def test_a_part_is_held_to_one_test_a_property(tmp_path: Path) -> None:
    done = run("--pyargs", "astraios.testing", "--task", "minipack-fix", "-vv", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(TASK) - 1} passed, 1 skipped" in done.stdout
    assert "[minipack-fix-reference-programs-fare-as-they-must] PASSED" in done.stdout


def test_another_project_may_have_options_of_these_names(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--task')\n"
    )
    (tmp_path / "test_one.py").write_text(
        "def test_one(request):\n    assert request.config.getoption('task') == 'theirs'\n"
    )
    done = run("--task", "theirs", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_torch_it_says_what_to_install() -> None:
    program = """
import sys
sys.modules.update(torch=None)
from astraios.errors import MissingToolError
from astraios.testing import check_engine, check_method, check_task
check_task("minipack-synthesize")
for check, name in ((check_method, "lora"), (check_engine, "hf")):
    try:
        check(name)
    except MissingToolError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines() == [
        f"{what} tried with torch, which is not installed: pip install 'astraios[train]'"
        for what in ("methods are", "engines that run a model are")
    ]


def test_names_that_nobody_has_are_refused_with_the_nearest() -> None:
    for check, name, near in (
        (check_method, "lorra", "lora"),
        (check_task, "devin", "devign"),
        (check_engine, "replai", "replay"),
    ):
        with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'"):
            check(name)


def test_all_that_does_not_hold_is_told_and_the_rest_is_counted() -> None:
    def broken(of: str) -> None:
        raise ContractError(f"{of} is wrong")

    def crashes(of: str) -> None:
        raise KeyError("x")

    def none_of_it(of: str) -> None:
        raise NotApplicable("because")

    promises = [Property(c.__name__, c) for c in (broken, crashes, none_of_it)]
    fine = Property[str]("fine", lambda of: None)
    with pytest.raises(ContractError) as told:
        checked("thing", [*promises, fine], "this")
    assert str(told.value) == (
        "thing keeps 1 of the 3 properties of its kind, and not\n"
        "  broken: this is wrong\n  crashes: KeyError: 'x'"
    )
    kept = checked("thing", [promises[2], fine], "this")
    assert (kept.held, dict(kept.left_out)) == (("fine",), {"none_of_it": "because"})
