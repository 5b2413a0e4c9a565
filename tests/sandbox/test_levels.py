"""Opening a sandbox: the strongest level that works, or the one that was asked for, or an error."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from astraios.errors import MissingToolError, SandboxError, UnknownNameError
from astraios.records import Outcome
from astraios.sandbox import LEVELS, Job, Limits, Sandbox, levels, open_sandbox, probe

JOB = Job("assert f(1) == 2\n", Limits(cpu_s=1.0, wall_s=10.0, memory_mib=512))


def test_probe_tells_of_every_level_strongest_first() -> None:
    reports = probe()
    assert [report.level for report in reports] == list(LEVELS)
    for report in reports:
        assert report.works == (not report.reason)


def test_best_takes_the_strongest_level_that_works(working_levels: dict[str, str]) -> None:
    strongest = next(level for level in levels.BY_BEST if not working_levels[level])
    with open_sandbox("best") as opened:
        assert opened.level == strongest


def test_description_names_the_level(sandbox: Sandbox) -> None:
    assert sandbox.describe()["sandbox"] == sandbox.level
    assert all(isinstance(value, str) for value in sandbox.describe().values())


def test_unknown_level_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="'namespaces'"):
        open_sandbox("namespace")


def test_no_jobs_are_refused() -> None:
    with pytest.raises(SandboxError, match="at least one"):
        open_sandbox("limits", jobs=0)


def test_level_that_does_not_work_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(levels, "unavailable_by_platform", lambda level: "no such kernel")
    with pytest.raises(MissingToolError, match=r"no such kernel; allow unprivileged .* --sandbox"):
        open_sandbox("namespaces")


def test_auto_refuses_what_is_weaker_and_best_takes_it_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        levels, "unavailable_by_platform", lambda level: "" if level == "limits" else "switched off"
    )
    with pytest.raises(SandboxError, match=r"switched off.*--sandbox best"):
        open_sandbox()
    assert not caplog.records

    with open_sandbox("best") as opened:
        assert opened.level == "limits"
    assert "'landlock' does not work here: switched off" in caplog.text


def test_nothing_that_works_is_an_error_with_every_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "unavailable_by_platform", lambda level: f"no {level}")
    with pytest.raises(SandboxError, match=r"no namespaces.*no landlock.*no limits"):
        open_sandbox("best")


def test_one_sandbox_runs_one_source_at_a_time(sandbox: Sandbox) -> None:
    first = sandbox.run((n, JOB, "def f(x): return x + 1") for n in range(3))
    assert next(first)[1].outcome is Outcome.PASSED
    with pytest.raises(SandboxError, match="already"):
        next(sandbox.run([(0, JOB, "")]))
    first.close()  # type: ignore[attr-defined]


def test_numpy_can_be_imported_at_every_level(sandbox: Sandbox) -> None:
    job = Job("assert f(1) == 2\n", Limits(cpu_s=5.0, wall_s=20.0, memory_mib=1024), ("numpy",))
    ((_, execution),) = sandbox.run([(0, job, "import numpy as np\nf = lambda x: np.sum([x, 1])")])
    assert execution.outcome is Outcome.PASSED, execution


def test_importing_the_sandbox_loads_neither_torch_nor_ctypes() -> None:
    code = "import astraios.sandbox, sys; print('ctypes' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc")
def test_closing_leaves_no_process_and_no_folder(
    working_levels: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # the programs' user has to come through
    before = children()
    for level in (level for level in LEVELS if not working_levels[level]):
        with open_sandbox(level, jobs=2) as opened:
            list(opened.run((n, JOB, "def f(x): return x + 1") for n in range(30)))
        assert list(tmp_path.iterdir()) == []
    assert children() == before


def children() -> set[str]:
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(listing.read_text().split())


ABANDON = """
import sys
from astraios.sandbox import Job, Limits, open_sandbox
opened = open_sandbox(sys.argv[1], jobs=1)
job = Job("assert f(1) == 2\\n", Limits(cpu_s=60.0, wall_s=60.0, memory_mib=512))
results = opened.run([(0, job, "f = lambda x: x + 1"), (1, job, "while True: pass")])
next(results)
print("started", flush=True)
next(results)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.parametrize("level", LEVELS)
def test_servers_end_when_the_grading_process_is_killed(
    level: str, working_levels: dict[str, str], tmp_path: Path
) -> None:
    if working_levels[level]:
        pytest.skip(working_levels[level])
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    grading = subprocess.Popen(
        [sys.executable, "-c", ABANDON, level],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert grading.stdout is not None
    assert grading.stdout.readline() == b"started\n"
    family = descendants(grading.pid)
    assert family
    grading.kill()
    grading.wait()
    grading.stdout.close()
    deadline = time.monotonic() + 20
    while (alive := [pid for pid in family if is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert alive == []


def descendants(top: int) -> list[int]:
    found, todo = [], [top]
    while todo:
        pid = todo.pop()
        listing = Path(f"/proc/{pid}/task/{pid}/children")
        children = [int(child) for child in listing.read_text().split()]
        found += children
        todo += children
    return found


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
