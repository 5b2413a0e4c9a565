"""Engine vllm: what it serves and how, servers that are started and ended, faults."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest

from astraios import methods, registry
from astraios.config import vllm_python
from astraios.errors import ConfigError, EngineError, MethodError, MissingToolError
from astraios.generation import Model
from astraios.generation.engines import _vllm_served as served
from astraios.generation.engines._vllm_process import Process
from astraios.generation.engines._vllm_routes import Route, max_rank, merged, route_of, unseen
from astraios.generation.engines.hf import HFEngine
from astraios.generation.engines.vllm import VLLMEngine
from astraios.records import Finish, Prompt
from astraios.studies.serving import load_tuned
from astraios.testing import engines as contract

from .server.running import APP

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

pytestmark = pytest.mark.train


@pytest.fixture(scope="session")
def base(stored):
    return stored


@pytest.fixture
def server(served):
    return served.server


@pytest.fixture
def adapter(base, tmp_path):
    """Makes the folder of an adapter that is not the identity."""

    def make(name, **options):
        method = methods.method(name)
        model, _, _ = load_tuned(base, None, None, None, "float32")
        tuned = method.apply(model, options)
        with torch.no_grad():
            for weight in tuned.parameters():
                if weight.requires_grad:
                    weight.add_(0.2)
        folder = tmp_path / f"adapter-{name}"
        method.save(tuned, folder)
        return folder

    return make


def model_of(base, method=None, folder=None, **options):
    return Model(
        load=partial(load_tuned, base, None, method, folder, "float32"),
        base_model=str(base),
        method=method,
        adapter=folder,
        options=options,
    )


def wait_for(condition, n=1000):
    for _ in range(n):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("waited in vain")


# --- what is served, and how ------------------------------------------------------------------


def test_routes():
    routes = {name: route_of(name) for name in registry.names(methods)}
    assert routes["fft"] is routes["ia3"] is routes["dora"] is routes["pissa"] is Route.MERGED
    assert routes["lora"] is routes["rslora"] is Route.ADAPTER
    assert routes["ptuning"] is routes["prompt"] is Route.EMBEDS
    assert {name for name, route in routes.items() if route is None} == {
        "adapterh",
        "adapterp",
        "parallel",
        "prefix",
    }
    assert route_of(None) is Route.BASE
    assert route_of("lora~wide", merge=True) is Route.MERGED


def test_ranks_and_what_vllm_would_not_compute(tmp_path):
    def config(**values):
        told = {"r": 8, "bias": "none", "init_lora_weights": True} | values
        (tmp_path / "adapter_config.json").write_text(json.dumps(told))
        return max_rank(tmp_path)

    assert [config(r=r) for r in (1, 8, 9, 200)] == [1, 8, 16, 256]
    assert config(rank_pattern={"c_attn": 33}) == 64
    assert config(init_lora_weights="gaussian") == 8
    wrong = ({"use_dora": True}, {"bias": "all"}, {"modules_to_save": ["lm_head"]}, {"r": 1024})
    for values in (*wrong, {"init_lora_weights": "pissa_niter_4"}, {"lora_bias": True}):
        with pytest.raises(MethodError, match=r"engine_options.merge=true\), or use --engine hf"):
            config(**values)


def test_command_lines(base, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"r": 12}')
    plain = model_of(base)
    start = ["--model", str(base), "--served-model-name", "base", "--dtype", "float32"]
    start += ["--generation-config", "vllm"]
    assert served.arguments(plain, Route.BASE) == start
    pinned = dataclasses.replace(plain, revision="abc", device="cuda:2,cuda:3")
    more = ["--revision", "abc", "--tokenizer-revision", "abc", "--data-parallel-size", "2"]
    assert served.arguments(pinned, Route.BASE) == start + more
    lora = dataclasses.replace(plain, method="lora", adapter=tmp_path)
    [*told, last] = served.arguments(lora, Route.ADAPTER)
    assert told == [*start, "--enable-lora", "--max-lora-rank", "16", "--lora-modules"]
    assert last.endswith(f"={tmp_path}")
    assert served.arguments(plain, Route.EMBEDS) == [*start, "--enable-prompt-embeds"]
    with pytest.raises(ConfigError, match="does not number every GPU"):
        served.arguments(dataclasses.replace(plain, device="cuda:0,cuda"), Route.BASE)


def test_a_merged_checkpoint_is_written_once(base, adapter, tmp_path, make_prompts):
    folder = adapter("ia3")
    model = model_of(base, "ia3", folder)
    first = merged(model, tmp_path / "kept")
    assert not list((tmp_path / "kept").glob(".*"))
    again = dataclasses.replace(model, load=lambda: pytest.fail("it is there"))
    assert merged(again, tmp_path / "kept") == first
    other = dataclasses.replace(model, precision="bfloat16")
    assert merged(other, tmp_path / "kept") != first
    with (
        HFEngine.open(model) as tuned,
        HFEngine(*load_tuned(first, None, None, None, "float32")) as whole,
    ):
        prompts = make_prompts(4)
        contract.greedy_equals(whole, prompts, contract.answers(tuned, prompts, contract.GREEDY))


def test_a_merge_that_dies_leaves_nothing(base, adapter, tmp_path, monkeypatch):
    folder = adapter("ia3")

    def no_space(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedTokenizerFast.save_pretrained", no_space)
    with pytest.raises(OSError, match="disk is full"):
        merged(model_of(base, "ia3", folder), tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_lora_that_vllm_does_not_see_is_not_served_beside_the_base(base, adapter, server, caplog):
    folder = adapter("lora")
    assert unseen(folder, "gpt_bigcode") == "c_attn"
    assert unseen(folder, "llama") is None
    with pytest.raises(ConfigError, match="serve what 'lora' tuned as a merged checkpoint"):
        VLLMEngine.open(model_of(base, "lora", folder, url=server.url))
    assert "served merged into its base" in caplog.text


# --- a running server -------------------------------------------------------------------------


def test_long_prompts_are_cut_as_by_hf(served, server):
    prompts = [
        Prompt(problem_id="long", text="def f(x):" + " x + 1" * 40),
        Prompt(problem_id="short", text="def g(x):"),
        Prompt(problem_id="limited", text="def h(x):" + " x + 1" * 6, max_length=12),
    ]
    model = dataclasses.replace(served.model("base"), long_prompts="cut")
    with HFEngine.open(model) as hf:
        expected = contract.answers(hf, prompts, contract.GREEDY)
    assert expected["long", 0, 0].n_cut_tokens > 0
    cutting = dataclasses.replace(model, options={"url": server.url, "model": "tiny"})
    with VLLMEngine.open(cutting) as engine:
        assert contract.answers(engine, prompts, contract.GREEDY) == expected


@pytest.mark.parametrize("mode", ["500", "half", "garbage", "drop"])
def test_failures_pass_or_become_faults(served, server, make_prompts, mode):
    prompts = make_prompts(4)
    with served.open("vllm", "base", n_tries=2) as engine:
        whole = contract.answers(engine, prompts, contract.GREEDY)
        server.control(bad={"f1(": [mode], "f2(": [f"*{mode}"]})
        found = contract.answers(engine, prompts, contract.GREEDY)
    fault = found.pop(("t/2", 0, 0))
    assert fault.finish is Finish.FAULT
    assert "(2 tries)" in fault.fault
    assert found == {name: whole[name] for name in found}


def test_requests_end_with_their_completions(served, server, make_prompts):
    server.control(pause_at=20)
    long = contract.GREEDY.model_copy(update={"max_new_tokens": 60})

    def finished(text):
        return len(text) >= 5

    with served.open("vllm", "base") as engine:
        found = contract.answers(engine, make_prompts(3), long, finished=finished)
    assert {sample.finish for sample in found.values()} == {Finish.STOP}
    wait_for(lambda: all(request["left"] for request in server.seen()))
    assert all(request["n_sent"] <= 20 for request in server.seen())


def test_a_server_that_tells_no_tokens(served, server, make_prompts):
    server.control(strict=True)
    with (
        served.open("vllm", "base") as engine,
        pytest.raises(EngineError, match=r"return_token_ids.*newer vLLM, or engine openai"),
    ):
        contract.answers(engine, make_prompts(2), contract.GREEDY)


def test_a_server_that_loads_no_adapters(base, adapter, server):
    folder = adapter("lora", target_modules=["mlp.c_fc"])
    server.control(strict=True)
    with pytest.raises(EngineError, match=r"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"):
        VLLMEngine.open(model_of(base, "lora", folder, url=server.url))


def test_what_it_cannot_do_names_the_remedy(base, tmp_path, monkeypatch):
    monkeypatch.delenv("ASTRAIOS_VLLM_PYTHON", raising=False)
    with pytest.raises(MissingToolError, match=r"engine_options.python=PATH.*engine_options.url"):
        VLLMEngine.open(model_of(base))
    with pytest.raises(ConfigError, match=r"unknown field 'pyton'.*Did you mean 'python'"):
        VLLMEngine.open(model_of(base, pyton="x"))
    with pytest.raises(ConfigError, match="url is for a running server"):
        VLLMEngine.open(model_of(base, python="x", url="http://127.0.0.1:1"))
    with pytest.raises(ConfigError, match=r"cannot host method 'adapterp' .*use --engine hf"):
        VLLMEngine.open(model_of(base, "adapterp", tmp_path, python="x"))
    with pytest.raises(MissingToolError, match="is no interpreter of an environment with vLLM"):
        VLLMEngine.open(model_of(base, python="/no/such/python"))
    with pytest.raises(MissingToolError, match="No module named vllm"):
        VLLMEngine.open(model_of(base, python=sys.executable))


# --- a server that is started -----------------------------------------------------------------

FAKE = """
import argparse, importlib.util, json, os, subprocess, sys
parser = argparse.ArgumentParser()
for name in ("host", "port", "model", "served-model-name", "dtype", "generation-config", "mode"):
    parser.add_argument("--" + name)
told = parser.parse_args()
if told.mode == "ends":
    sys.exit("ValueError: no such architecture")
child = subprocess.Popen(["sleep", "600"])
with open({pids!r}, "w") as out:
    out.write(f"{{os.getpid()}} {{child.pid}}")
if told.mode == "never":
    child.wait()
if told.mode == "ignores":
    print("c_attn could not be wrapped by any LoRA layer implementation. It will be ignored.")
spec = importlib.util.spec_from_file_location("app", {app!r})
app = importlib.util.module_from_spec(spec)
spec.loader.exec_module(app)
served = {{"models": {{told.served_model_name: {{}}}}, "key": os.environ["VLLM_API_KEY"]}}
app.serve(served, int(told.port))
"""
LETTERS = ["--model", "letters", "--served-model-name", "base"]


@pytest.fixture
def fake(tmp_path):
    """An interpreter in whose environment `vllm` is our server, and the file of its processes."""
    package = tmp_path / "site" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    pids = tmp_path / "pids"
    (package / "api_server.py").write_text(FAKE.format(pids=str(pids), app=str(APP)))
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path}/site exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return str(python), pids


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def start(python, tmp_path, *more, timeout_s=60):
    log = tmp_path / "logs" / "vllm.log"
    return Process(python, [*LETTERS, *more], log=log, timeout_s=timeout_s, silence_s=10)


needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")


@needs_proc
def test_a_started_server_ends_with_its_children(fake, tmp_path):
    python, pids = fake
    with start(python, tmp_path) as process:
        process.check()
        process.check_adapter()
        assert [card["id"] for card in process.server.get("/v1/models")["data"]] == ["base"]
        assert len(process.server.key) == 32  # so nobody else on the machine can ask
        numbers = pids.read_text().split()
        assert all(is_alive(pid) for pid in numbers)
    assert not any(is_alive(pid) for pid in numbers)


@needs_proc
def test_a_started_server_ends_when_we_are_killed(fake, tmp_path):
    python, pids = fake
    script = textwrap.dedent(
        f"""
        import time
        from pathlib import Path
        from astraios.generation.engines._vllm_process import Process
        Process({python!r}, {LETTERS!r}, log=Path({str(tmp_path)!r}) / "log", timeout_s=60,
                silence_s=10)
        print("ready", flush=True)
        time.sleep(600)
        """
    )
    ours = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with ours:
        assert ours.stdout.readline() == "ready\n"
        numbers = pids.read_text().split()
        assert all(is_alive(pid) for pid in numbers)
        os.kill(ours.pid, signal.SIGKILL)
    wait_for(lambda: not any(is_alive(pid) for pid in numbers))


@needs_proc
def test_a_server_that_does_not_come_up(fake, tmp_path):
    python, pids = fake
    with pytest.raises(EngineError, match=r"has ended \(status 1\).*ValueError: no such arch"):
        start(python, tmp_path, "--mode", "ends")
    with pytest.raises(EngineError, match=r"does not answer after 1 s.*start_timeout_s"):
        start(python, tmp_path, "--mode", "never", timeout_s=1)
    assert not any(is_alive(pid) for pid in pids.read_text().split())


@needs_proc
def test_a_server_that_dies_is_told_by_its_log(fake, tmp_path):
    python, pids = fake
    with start(python, tmp_path) as process:
        os.kill(int(pids.read_text().split()[0]), signal.SIGKILL)

        def has_ended():
            try:
                process.check()
            except EngineError as error:
                return "has ended" in str(error)
            return False

        wait_for(has_ended)


def test_an_adapter_that_is_served_in_part_is_refused(fake, tmp_path):
    python, _ = fake
    with (
        start(python, tmp_path, "--mode", "ignores") as process,
        pytest.raises(EngineError, match=r"c_attn could not.*engine_options.merge=true"),
    ):
        process.check_adapter()


def test_a_merged_model_from_start_to_end(fake, base, adapter, tmp_path, make_prompts):
    python, _ = fake
    prompts = make_prompts(3)
    model = dataclasses.replace(model_of(base, "ia3", adapter("ia3")), folder=tmp_path / "kept")
    with VLLMEngine.open(dataclasses.replace(model, options={"python": python})) as engine:
        assert len(contract.answers(engine, prompts, contract.GREEDY)) == 3
        assert engine.environment() == {
            "vllm": "0.0.test",
            "route": "merged",
            "precision": "float32",
        }
    assert sorted(path.name[:11] for path in (tmp_path / "kept").iterdir()) == [
        "checkpoint-",
        "vllm.log",
    ]


# --- the real one -----------------------------------------------------------------------------


def wide(family):
    """A tiny model whose heads have 32 numbers: vLLM's attention on a CPU knows none below."""
    named = {"vocab_size": 320, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.3}
    if family == "llama":
        named |= {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
        named |= {"num_attention_heads": 2, "num_key_value_heads": 1}
        config = transformers.LlamaConfig(max_position_embeddings=256, **named)
    else:
        named |= {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 256}
        config = transformers.GPTBigCodeConfig(**named)
    return transformers.AutoModelForCausalLM.from_config(config)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base", "lora", "ia3", "ptuning"])
@pytest.mark.parametrize("family", ["gpt_bigcode", "llama"])
def test_real_vllm_keeps_the_contract(family, name, tokenizer, make_prompts, tmp_path, monkeypatch):
    python = vllm_python()
    if python is None:
        pytest.skip("ASTRAIOS_VLLM_PYTHON names no interpreter of an environment with vLLM")
    base = tmp_path / "base"
    torch.manual_seed(7)
    wide(family).save_pretrained(str(base))
    tokenizer.save_pretrained(str(base))
    folder = None
    if name != "base":
        method = methods.method(name)
        loaded, _, _ = load_tuned(base, None, None, None, "float32")
        tuned = method.apply(loaded)
        torch.manual_seed(5)
        with torch.no_grad():
            for weight in tuned.parameters():
                if weight.requires_grad:
                    weight.add_(0.1 * torch.randn_like(weight))
        folder = tmp_path / "adapter"
        method.save(tuned, folder)
    method_name = None if name == "base" else name
    model = dataclasses.replace(model_of(base, method_name, folder), folder=tmp_path / "kept")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    prompts = make_prompts(4)
    options = {"python": python, "arguments": ("--enforce-eager", "--max-num-seqs", "16")}
    with (
        HFEngine.open(model) as reference,
        VLLMEngine.open(dataclasses.replace(model, options=options)) as engine,
    ):
        expected = contract.answers(reference, prompts, contract.GREEDY)
        contract.greedy_equals(engine, prompts, expected)
        contract.order_is_free(engine, prompts, expected)
        contract.stops_end(engine, reference, prompts)
        contract.seeds_decide(engine, prompts)
        contract.resumes(engine, prompts, contract.SAMPLED)
        contract.tokens_equal(engine, reference, prompts)
        contract.likelihoods_equal(engine, reference, prompts)
