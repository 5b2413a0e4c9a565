"""`astraios grade` as a user meets it: bad input, full disks, interruptions, memory."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from astraios.cli.display import Lines

ROWS = Path(__file__).parents[1] / "tasks" / "rows"
TASK = "humanevalsynthesize-python"
MIB = 2**20


@pytest.fixture(scope="module")
def pack():
    lines = (ROWS / "humanevalpack" / "python.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def texts(pack):
    """Two samples for each of four problems: a right one and a wrong one."""
    heads = ("canonical_solution", "buggy_solution")
    return [[row["prompt"] + row[head] for head in heads] for row in pack]


@pytest.fixture
def grade(tmp_path):
    """Grade `content` in a process of its own, without a cache unless asked."""

    def run(content, *options, name="mine.json", out="run", data=ROWS, start=subprocess.run):
        path = tmp_path / name
        if content is not None:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        command = [sys.executable, "-m", "astraios", "grade", str(path), "--task", TASK]
        command += ["--data-dir", str(data), "--out", str(tmp_path / out), "--jobs", "1", *options]
        if start is not subprocess.run:
            return start(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                # what started the tests may ignore it, and children inherit that
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        return start(command, capture_output=True, text=True, timeout=300)

    return run


def refused(done, complaint, status=2):
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert re.search(complaint, done.stderr, re.DOTALL), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def outcomes(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["outcomes"]


def verdicts(folder):
    return (folder / "verdicts.jsonl").read_text().splitlines()


# --- what does not fit ---


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t[:3], "3 lists, but .* expects 4, one for every problem"),
        (lambda t: t * 2, "8 lists, but .* expects 4"),
        (lambda t: [t[0][:1], *t[1:]], "Python/0 has 1 sample, others have 2.*incomplete"),
        (lambda t: [[t[0][0], None], *t[1:]], "Python/0, sample 1: expected text, found null"),
        (lambda t: [[t[0][0], {"a": 1}], *t[1:]], "sample 1: expected text, found an object"),
        (lambda t: [["class Solution {}"]] * 4, "completion does not start with its prompt"),
        (lambda t: json.dumps(t)[:-50], "the file ends in the middle of the list"),
        (lambda t: "", "the file is empty"),
    ],
    ids=["fewer", "more", "uneven", "null", "object", "language", "torn", "empty"],
)
def test_a_file_that_does_not_fit_is_refused(grade, texts, tmp_path, change, complaint):
    told = refused(grade(change(texts)), complaint)
    assert "did you mean" not in told
    assert not (tmp_path / "run").exists()


def test_an_id_that_is_there_twice_is_refused(grade):
    line = json.dumps({"problem_id": "Python/0", "index": 0, "prompt_sha": "", "completion": "x",
                       "finish": "eos"})  # fmt: skip
    told = refused(grade(f"{line}\n{line}\n", name="mine.jsonl"), "line 2: .* is there twice")
    assert "first on line 1" in told


HUGE = "x" * 100_000_000
PEAK = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print("peak", usage.ru_maxrss // 1024, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def with_peak(command, **options):
    """Run `command`; its largest resident memory goes to the end of its standard error, in MiB."""
    return subprocess.run([sys.executable, "-c", PEAK, *command], **options)


def peak_mib(done):
    return int(done.stderr.split()[-1])


@pytest.fixture
def measured(grade):
    """`grade` that tells its peak memory too."""

    def run(*arguments, **options):
        def start(command, **_):
            return with_peak(command, capture_output=True, text=True, timeout=300)

        return grade(*arguments, **options, start=start)

    return run


@pytest.mark.parametrize("shape", ["lists", "lines"])
def test_a_text_of_100_mb_is_refused_before_it_fills_the_memory(measured, texts, shape):
    if shape == "lists":
        done = measured([*texts[:3], [texts[3][0], HUGE]])
    else:
        done = measured(json.dumps({"task_id": "HumanEval/0", "solution": HUGE}), name="m.jsonl")
    refused(done, r"holds a text of more than 4,194,304 characters")
    assert peak_mib(done) < 300


def test_the_longest_text_that_is_read_is_judged(measured, texts):
    texts[3][1] = texts[3][0] + "\n#" + "x" * 4_000_000
    done = measured(texts, "--json", "--no-references")
    assert outcomes(done) == {"passed": 5, "failed": 3}
    assert peak_mib(done) < 300


# --- what is asked for ---


def test_failing_references_stop_with_the_list(grade, texts, pack, tmp_path):
    data = tmp_path / "data" / "humanevalpack"
    data.mkdir(parents=True)
    pack = [dict(row) for row in pack]
    pack[1]["canonical_solution"] = pack[1]["buggy_solution"]
    pack[2]["canonical_solution"] = "    return 1 +\n"
    (data / "python.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pack))
    told = refused(grade(texts, data=data.parent), "2 of 8 reference programs", status=1)
    assert "Python/1: the right solution: failed" in told
    assert "Python/2: the right solution: compile_error" in told
    done = grade(texts, "--no-references", "--json", data=data.parent)
    assert outcomes(done) == {"passed": 4, "failed": 4}
    assert json.loads((tmp_path / "run/manifest.json").read_text())["counts"]["n_references"] == 0


def test_the_cache_serves_another_folder_unless_refused(grade, texts, tmp_path):
    for out, option in (("one", "--cache"), ("two", "--cache"), ("three", "--no-cache")):
        assert outcomes(grade(texts, "--json", option, out=out)) == {"passed": 4, "failed": 4}
    counts = [
        json.loads((tmp_path / out / "manifest.json").read_text())["counts"]["n_from_cache"]
        for out in ("two", "three")
    ]
    assert counts == [8, 0]
    assert verdicts(tmp_path / "one") == verdicts(tmp_path / "two")  # with the times of then


def test_a_cache_that_cannot_be_used_is_told_once(grade, texts, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ASTRAIOS_CACHE", str(tmp_path / "file"))
    done = grade(texts, "--json")
    assert outcomes(done) == {"passed": 4, "failed": 4}
    assert done.stderr.count("cannot be used") == 1


def test_graded_texts_are_shown_beside_their_verdicts(grade, texts, tmp_path):
    outcomes(grade(texts, "--json"))
    command = [sys.executable, "-m", "astraios", "show", str(tmp_path / "run")]
    shown = subprocess.run(
        [*command, "--problem", "Python/0"], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"=== completion 0, turn 0, given: (passed|failed)", shown), shown
    assert texts[0][0].strip() in shown


def test_extra_tests_decide_too(grade, texts, tmp_path):
    extra = tmp_path / "extra.jsonl"
    extra.write_text(json.dumps({"task_id": "Python/0", "test": "assert False"}) + "\n")
    done = grade(texts, "--json", "--no-references", "--extra-tests", str(extra))
    assert outcomes(done) == {"passed": 3, "failed": 5}
    assert "tests" in json.loads(done.stdout)["task_version"]


def test_a_missing_file_of_extra_tests_is_told(grade, texts):
    refused(grade(texts, "--extra-tests", "nowhere.jsonl"), "nowhere.jsonl")


# --- where it goes ---


def test_an_output_folder_that_is_a_file_is_told(grade, texts, tmp_path):
    (tmp_path / "run").write_text("mine")
    refused(grade(texts), r"cannot write '.*run': a file of that name is in the way", status=1)
    assert (tmp_path / "run").read_text() == "mine"


def test_an_output_folder_with_other_files_is_left_alone(grade, texts, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    refused(grade(texts), "is not a run folder but holds 'mine.txt'")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_without_permission_is_told(grade, texts, tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    refused(grade(texts), "cannot write .*no permission", status=1)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False
        ).returncode
    )
    if not mounted:
        pytest.skip("needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    "free_kib", [24, *(pytest.param(n, marks=pytest.mark.slow) for n in (1000, 80, 0))]
)
def test_a_full_disk_is_told_and_nothing_is_lost(grade, texts, small_disk, free_kib):
    filler = small_disk / "filler"
    n_used = 1000 - free_kib
    filler.write_bytes(b"x" * 1024 * n_used)
    many = [[*pair, *(f"{pair[0]}\n# {n % 10}" for n in range(600))] for pair in texts]
    done = grade(many, "--no-cache", "--no-references", "--json", out="disk/run")
    refused(done, "cannot write .*the disk is full; free some space and run the", status=1)
    run = small_disk / "run"
    before = verdicts(run) if (run / "verdicts.jsonl").exists() else []
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    done = grade(None, "--no-cache", "--no-references", "--json", out="disk/run")
    assert outcomes(done) == {"passed": 2404, "failed": 4}
    assert verdicts(run)[: len(before)] == before


def test_a_cache_on_a_full_disk_costs_time_only(grade, texts, small_disk, monkeypatch):
    (small_disk / "filler").write_bytes(b"x" * 1024 * 1024)
    monkeypatch.setenv("ASTRAIOS_CACHE", str(small_disk / "cache"))
    done = grade(texts, "--json")
    assert outcomes(done) == {"passed": 4, "failed": 4}
    assert done.stderr.count("cannot be used") == 1


# --- interruptions ---

SLOW = "\nsum(range(1_500_000))  # {}\n"


KILLED = [(signal.SIGKILL, 5), (signal.SIGTERM, 12)]
OTHERS = [
    *((signal.SIGINT, n_lines) for n_lines in (0, 5, 12)),
    *((signal.SIGTERM, n_lines) for n_lines in (0, 5)),
    *((signal.SIGKILL, n_lines) for n_lines in (0, 12)),
]


@pytest.mark.parametrize(
    ("number", "n_lines"),
    [*KILLED, *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS)],
)
def test_an_interrupted_run_is_completed_by_the_same_command(
    grade, texts, tmp_path, number, n_lines
):
    slow = [[text + SLOW.format(n) for n in range(3) for text in pair] for pair in texts]
    options = ("--no-references", "--json", "--no-cache")
    run = tmp_path / "run"
    with grade(slow, *options, start=subprocess.Popen) as process:
        while not (run / "verdicts.jsonl").exists() or len(verdicts(run)) < n_lines:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    if number is signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 130
        assert told == "\ninterrupted; run the same command again to continue\n"
    before = (run / "verdicts.jsonl").read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    assert n_lines <= whole.count(b"\n") < 24
    assert outcomes(grade(None, *options)) == {"passed": 12, "failed": 12}
    after = (run / "verdicts.jsonl").read_bytes()
    assert after.startswith(whole)  # times included: what was there was not judged again
    keys = [(v["problem_id"], v["index"]) for v in map(json.loads, after.splitlines())]
    assert keys == [(f"Python/{p}", n) for p in range(4) for n in range(6)]


# --- memory, progress ---


def test_memory_does_not_grow_with_the_number_of_samples(measured, texts):
    peaks = []
    for times in (50, 500):
        many = [[f"{text}\n# {n}" for n in range(times) for text in pair] for pair in texts]
        for row in many:  # one of them runs, the others are known after it
            row[:] = [re.sub(r"# \d+$", "#", text) + " " * 200 for text in row]
        done = measured(many, "--json", "--no-references", out=f"run{times}")
        assert sum(outcomes(done).values()) == 8 * times
        peaks.append(peak_mib(done))
    assert peaks[1] < peaks[0] + 8
    assert peaks[1] < 300


def test_progress_is_a_line_now_and_then_where_nobody_watches(capsys):
    now = 0.0
    tell = Lines("grade x", "samples", clock=lambda: now)
    for done in range(0, 3001, 10):  # ten a second, of 36,000
        now = done / 10
        tell(done + 6000, 42_000, "10 samples/s")
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 10
    assert told[0] == "grade x: 6,300 of 42,000 samples, 10 samples/s, 59:30 left"
