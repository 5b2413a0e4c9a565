"""Engine hf in several processes: what one process says, and nothing is lost with a worker."""

from __future__ import annotations

import importlib
import logging
import operator
import os
import signal
import time

import pytest

from astraios.errors import ConfigError, DataError, EngineError, MissingDataError
from astraios.generation.engines._workers import WorkersEngine
from astraios.generation.engines.hf import HFEngine
from astraios.records import Prompt, Sampling
from astraios.testing import engines as contract

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.train

GREEDY = Sampling(n_samples=1, temperature=0, max_new_tokens=24)
SAMPLED = Sampling(n_samples=4, temperature=0.9, top_p=0.95, max_new_tokens=16, seed=3)
ANSWERS = (" YES", " no")


def by_key(samples):
    return {(s.problem_id, s.index, s.turn): s for s in samples}


def processes(engine):
    """The workers' processes that live."""
    return [worker.process for worker in engine._pool.workers]


@pytest.fixture(scope="module")
def one(described):
    return HFEngine.open(described())


@pytest.fixture(scope="module")
def two(described):
    """Two workers that keep to small batches, so that both have something to take."""
    with HFEngine.open(described(device="cpu,cpu", batch_tokens=400)) as engine:
        assert isinstance(engine, WorkersEngine)
        yield engine


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_they_say_what_one_process_says(sampling, one, two, make_prompts):
    prompts = make_prompts(12)
    told = []
    samples = list(two.complete(prompts, sampling, progress=told.append))
    assert by_key(samples) == by_key(one.complete(prompts, sampling))
    assert len(samples) == 12 * sampling.n_samples
    assert sum(told) == sum(sample.n_completion_tokens for sample in samples)


def test_they_keep_the_contract_of_engines(one, two, make_prompts):
    prompts = make_prompts(4)
    expected = contract.answers(one, prompts, contract.GREEDY)
    contract.greedy_equals(two, prompts, expected)
    contract.order_is_free(two, prompts, expected)
    contract.seeds_decide(two, prompts)
    contract.resumes(two, prompts, contract.SAMPLED)
    contract.tokens_equal(two, one, prompts)
    contract.likelihoods_equal(two, one, prompts)
    contract.refuses_empty(two, prompts)


def test_what_is_there_already_is_not_asked_again(one, two, make_prompts):
    whole = by_key(one.complete(make_prompts(6), SAMPLED))
    skip = frozenset(sorted(whole)[::3])
    rest = by_key(two.complete(make_prompts(6), SAMPLED, skip=skip))
    assert rest == {key: sample for key, sample in whole.items() if key not in skip}
    assert list(two.complete(make_prompts(6), SAMPLED, skip=frozenset(whole))) == []


def test_the_rule_that_ends_a_completion_goes_with_them(one, two, make_prompts):
    finished = operator.methodcaller("__contains__", "x")
    (prompts, how) = make_prompts(6), {"finished": finished}
    assert by_key(two.complete(prompts, GREEDY, **how)) == by_key(
        one.complete(prompts, GREEDY, **how)
    )
    with pytest.raises(ConfigError, match=r"cannot be sent .* one device"):
        next(two.complete(prompts, GREEDY, finished=lambda text: False))


def test_likelihoods_and_traces_are_those_of_one_process(one, two, make_prompts):
    prompts = [p.model_copy(update={"answers": ANSWERS}) for p in make_prompts(40)]
    for told, expected in zip(
        two.log_likelihoods(prompts), one.log_likelihoods(prompts), strict=True
    ):
        assert told == pytest.approx(expected, abs=1e-4)
    for told, expected in zip(two.trace(prompts[:3], 5), one.trace(prompts[:3], 5), strict=True):
        assert [drawn.id for drawn in told] == [drawn.id for drawn in expected]


def test_they_tell_of_themselves(one, two, make_prompts):
    list(two.complete(make_prompts(2), GREEDY))
    assert two.environment() == {"device": "cpu", "precision": "float32", "workers": "2"}
    assert two.n_parameters() == one.n_parameters()
    assert two.peak_mib() > 100  # of both processes, each with torch in it


def test_bad_prompts_are_refused_as_by_one_process(two, make_prompts):
    with pytest.raises(DataError, match=r"'nothing'.*empty"):
        list(two.complete([*make_prompts(2), Prompt(problem_id="nothing", text="")], GREEDY))
    assert len(list(two.complete(make_prompts(2), GREEDY))) == 2


def test_both_take_part(two, make_prompts):
    before = [cpu_s(process.pid) for process in processes(two)]
    list(two.complete(make_prompts(60), SAMPLED))
    spent = [cpu_s(p.pid) - b for p, b in zip(processes(two), before, strict=True)]
    assert min(spent) > 0


def cpu_s(pid: int) -> int:
    """Ticks of CPU time of a process."""
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize("after", [1, 30])
def test_what_a_dead_worker_had_begun_is_asked_again(after, described, one, make_prompts, caplog):
    prompts = make_prompts(30)
    with HFEngine.open(described(device="cpu,cpu", batch_tokens=400)) as engine:
        samples = []
        with caplog.at_level(logging.WARNING):
            for sample in engine.complete(prompts, SAMPLED):
                samples.append(sample)
                if len(samples) == after:
                    os.kill(processes(engine)[0].pid, signal.SIGKILL)
        assert len(samples) == 120
        assert by_key(samples) == by_key(one.complete(prompts, SAMPLED))
        assert "SIGKILL" in caplog.text
        assert len(processes(engine)) == 1
        assert by_key(engine.complete(prompts, GREEDY)) == by_key(one.complete(prompts, GREEDY))


def test_when_all_have_died_that_is_an_error_and_the_next_call_begins_them_anew(
    described, make_prompts
):
    with HFEngine.open(described(device="cpu,cpu")) as engine:
        answers = engine.complete(make_prompts(30), SAMPLED)
        next(answers)
        for process in processes(engine):
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EngineError, match=r"all worker processes have died.*SIGKILL"):
            list(answers)
        assert len(list(engine.complete(make_prompts(3), GREEDY))) == 3


def test_one_request_at_a_time(two, make_prompts):
    answers = two.complete(make_prompts(20), SAMPLED)
    first = next(answers)
    for other in (
        lambda: next(two.complete(make_prompts(1), GREEDY)),
        lambda: next(two.log_likelihoods(make_prompts(1))),
        lambda: two.trace(make_prompts(1), 1),
    ):
        with pytest.raises(EngineError, match="busy with another request"):
            other()
    assert len({(s.problem_id, s.index) for s in [first, *answers]}) == 80
    assert len(list(two.complete(make_prompts(1), GREEDY))) == 1


def test_their_cpu_time_is_told(two, make_prompts):
    before = two.helpers_cpu_s()
    assert before > 0  # each has loaded the model
    ticks = [cpu_s(process.pid) for process in processes(two)]
    list(two.complete(make_prompts(30), SAMPLED))
    spent = sum(cpu_s(p.pid) - b for p, b in zip(processes(two), ticks, strict=True))
    told_s = two.helpers_cpu_s() - before
    assert told_s == pytest.approx(spent / os.sysconf("SC_CLK_TCK"), abs=0.15, rel=0.2)


class NotHere:
    """Can be pickled, and not be read anywhere else; as what a notebook defines."""

    def __reduce__(self):
        return importlib.import_module, ("a_module_that_nobody_has",)

    def __call__(self, text):
        return False


def test_a_rule_that_a_worker_cannot_read_is_said(two, make_prompts):
    with pytest.raises(ConfigError, match=r"cannot read what it was sent.* module"):
        next(two.complete(make_prompts(2), GREEDY, finished=NotHere()))


def test_an_engine_may_be_closed_while_it_answers(described, make_prompts, caplog):
    with HFEngine.open(described(device="cpu,cpu")) as engine:
        answers = engine.complete(make_prompts(30), SAMPLED)
        next(answers)
        begun = processes(engine)
    assert not any(process.is_alive() for process in begun)
    with pytest.raises(EngineError, match="ended while they answered"):
        list(answers)
    assert "died" not in caplog.text


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_what_it_lacks(stored, tmp_path):
    import subprocess
    import sys

    script = tmp_path / "parent.py"
    script.write_text(
        "from functools import partial\n"
        "from astraios.generation import Model\n"
        "from astraios.generation.engines.hf import HFEngine\n"
        "from astraios.studies.serving import load_tuned\n"
        f"load = partial(load_tuned, {str(stored)!r}, None, None, None, 'float32')\n"
        "HFEngine.open(Model(load=load, base_model='tiny', device='cpu,cpu'))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "ended before it began" in done.stderr.splitlines()[-1]
    assert "if __name__ == '__main__':" in done.stderr.splitlines()[-1]


def test_closing_the_iterator_or_the_engine_ends_them(described, make_prompts):
    with HFEngine.open(described(device="cpu,cpu")) as engine:
        answers = engine.complete(make_prompts(30), SAMPLED)
        next(answers)
        begun = processes(engine)
        answers.close()
        assert not any(process.is_alive() for process in begun)
        assert len(list(engine.complete(make_prompts(3), GREEDY))) == 3
        begun = processes(engine)
    assert len(begun) == 2 and not any(process.is_alive() for process in begun)


def test_a_model_that_is_not_there_is_an_error_of_the_opening(described, tmp_path):
    from functools import partial

    from astraios.studies.serving import load_tuned

    load = partial(load_tuned, tmp_path / "none", None, None, None, "float32")
    with pytest.raises(MissingDataError, match="none"):
        HFEngine.open(described(device="cpu,cpu", load=load))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"device": "cpu,,cpu"}, "empty device"),
        ({"device": "cpu,nowhere"}, "nowhere"),
        ({"device": "cpu,cpu", "load": lambda: None}, "cannot be sent"),
        ({"device": "cpu,cpu", "options": {"treads": 1}}, "treads.*known: memory_mib, threads"),
        ({"device": "cpu,cpu", "options": {"threads": 0}}, "threads"),
    ],
)
def test_what_cannot_be_begun_is_refused(fields, said, described):
    with pytest.raises(ConfigError, match=said):
        HFEngine.open(described(**fields))


@pytest.mark.slow
def test_workers_end_with_the_process_that_began_them(stored, tmp_path):
    import subprocess
    import sys

    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\n"
        "from functools import partial\n"
        "from astraios.generation import Model\n"
        "from astraios.generation.engines.hf import HFEngine\n"
        "from astraios.studies.serving import load_tuned\n"
        "if __name__ == '__main__':\n"
        f"    load = partial(load_tuned, {str(stored)!r}, None, None, None, 'float32')\n"
        "    engine = HFEngine.open(Model(load=load, base_model='tiny', device='cpu,cpu'))\n"
        "    print(*(worker.process.pid for worker in engine._pool.workers), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
    for _ in range(200):
        if not any(alive(pid) for pid in pids):
            return
        time.sleep(0.05)
    pytest.fail("a worker outlived its parent")


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
