"""Engines x methods: what is supported keeps the contract, against a real server process."""

from __future__ import annotations

import json
from functools import partial

import pytest

from astraios import methods, registry
from astraios.errors import ConfigError
from astraios.generation import Model, check_supports
from astraios.generation.engines.hf import HFEngine
from astraios.generation.engines.openai import OpenAIEngine
from astraios.generation.engines.replay import ReplayEngine
from astraios.generation.engines.vllm import VLLMEngine
from astraios.records import Prompt
from astraios.studies.serving import load_tuned

from . import contract
from .server.running import Running

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

pytestmark = pytest.mark.train

ENGINES = {e.name: e for e in (HFEngine, OpenAIEngine, VLLMEngine, ReplayEngine)}
SERVED = ("openai", "vllm")
LEFT_OUT = ("qlora", "bitfit")
"""The one needs a base in four bits, the other one with biases."""
NAMES = ("base", *(name for name in registry.names(methods) if name not in LEFT_OUT))
QUICK = {
    "hf": ("base", "adapterh"),
    "openai": ("base",),
    "vllm": ("lora", "ia3", "ptuning"),
    "replay": ("base",),
}
"""What is run each time; all the others are marked slow."""
TEMPLATE = (
    "{% for m in messages %}{% if not loop.first %}\n{% endif %}"
    "{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}\nassistant: {% endif %}"
)


def cases():
    for name in NAMES:
        for engine, kind in ENGINES.items():
            if name == "base" or (kind.supports(name) and HFEngine.supports(name)):
                marks = () if name in QUICK[engine] else pytest.mark.slow
                yield pytest.param(engine, name, marks=marks)


class Stored:
    """A base and what tuned it, in folders; a server of all that a server can serve."""

    def __init__(self, folder, make_model, tokenizer):
        self.base = folder / "base"
        self.folder = folder
        model = make_model("llama")
        broken = [n for n in range(320) if not tokenizer.decode([n]).isascii()]
        with torch.no_grad():  # servers that send text hold back pieces of characters
            model.lm_head.weight[broken] = 0
        model.save_pretrained(str(self.base))
        tokenizer.save_pretrained(str(self.base))
        told = json.loads((self.base / "tokenizer_config.json").read_text())
        (self.base / "tokenizer_config.json").write_text(
            json.dumps(told | {"chat_template": TEMPLATE})
        )
        spec = {"models": {"tiny": {"folder": str(self.base)}}}
        self.server = Running(folder, spec)
        self._references = {}

    def adapter(self, name):
        """The folder of an adapter that is not the identity."""
        folder = self.folder / "adapters" / name
        if not folder.exists():
            method = methods.method(name)
            base, _, _ = load_tuned(self.base, None, None, None, "float32")
            tuned = method.apply(base, {"total_step": 10} if name == "adalora" else {})
            torch.manual_seed(5)
            with torch.no_grad():
                for part, weight in tuned.named_parameters():
                    if weight.requires_grad and "lm_head" not in part:
                        weight.add_(0.2 * torch.randn_like(weight))
            method.save(tuned, folder)
        return folder

    def model(self, name, **options):
        method = None if name == "base" else name
        adapter = None if name == "base" else self.adapter(name)
        return Model(
            load=partial(load_tuned, self.base, None, method, adapter, "float32"),
            base_model=str(self.base),
            method=method,
            adapter=adapter,
            folder=self.folder,
            options=options,
        )

    def reference(self, name):
        """The hf engine, whose answers are expected."""
        if name not in self._references:
            self._references[name] = HFEngine.open(self.model(name))
        return self._references[name]

    def served(self, name):
        """The name under which the server has what `name` tuned, merged if it is no adapter."""
        if name in ("base", "ptuning", "prompt"):
            return "tiny"
        path = self.folder / "merged" / name
        if not path.exists():
            tuned, tokenizer, method = self.model(name).load()
            method.merge(tuned).save_pretrained(str(path))
            tokenizer.save_pretrained(str(path))
            self.server.control(adding={name: {"folder": str(path)}})
        return name

    def open(self, engine, name, **options):
        if engine == "hf":
            return HFEngine.open(self.model(name))
        options = {"url": self.server.url, "first_pause_s": 0, **options}
        is_loaded = engine == "vllm" and name in ("lora", "rslora")
        if not is_loaded:  # by the engine itself
            options["model"] = self.served(name)
        return ENGINES[engine].open(self.model(name, **options))


@pytest.fixture(scope="module")
def stored(tmp_path_factory, make_model, tokenizer):
    made = Stored(tmp_path_factory.mktemp("stored"), make_model, tokenizer)
    with made.server:
        yield made


@pytest.fixture(scope="module")
def prompts(make_prompts):
    return make_prompts(3)


@pytest.mark.parametrize(("engine", "name"), tuple(cases()))
def test_engine_keeps_the_contract(engine, name, stored, prompts, tmp_path):
    reference = stored.reference(name)
    expected = contract.answers(reference, prompts, contract.GREEDY)
    if engine == "replay":
        path = tmp_path / "samples.jsonl"
        path.write_text("".join(s.model_dump_json() + "\n" for s in expected.values()))
        replay = ReplayEngine(path)
        contract.order_is_free(replay, prompts, expected)
        contract.resumes(replay, prompts, contract.GREEDY)
        return
    with stored.open(engine, name) as opened:
        contract.greedy_equals(opened, prompts, expected)
        contract.order_is_free(opened, prompts, expected)
        contract.stops_end(opened, reference, prompts)
        contract.seeds_decide(opened, prompts)
        contract.resumes(opened, prompts, contract.SAMPLED)
        contract.empty_is_refused(opened, prompts)
        contract.tokens_equal(opened, reference, prompts)
        if engine != "openai":
            contract.likelihoods_equal(opened, reference, prompts)


@pytest.mark.parametrize("engine", SERVED)
@pytest.mark.parametrize("per_event", [1, 3])
def test_events_and_requests_at_once_change_nothing(engine, per_event, stored, make_prompts):
    prompts = make_prompts(6)
    greedy, sampled = contract.GREEDY, contract.SAMPLED
    with stored.open(engine, "base") as opened:
        whole = contract.answers(opened, prompts, greedy)
        drawn = contract.answers(opened, prompts, sampled)
    stored.server.control(per_event=per_event)
    try:
        with stored.open(engine, "base", n_at_once=1 + 4 * (per_event == 3)) as opened:
            contract.same(contract.answers(opened, prompts, greedy), whole)
            contract.same(contract.answers(opened, prompts, sampled), drawn)
    finally:
        stored.server.control()


def test_batch_sizes_change_nothing(stored, make_prompts):
    prompts = make_prompts(6)
    reference = contract.answers(stored.reference("base"), prompts, contract.SAMPLED)
    for batch_tokens in (90, 400):
        loaded = load_tuned(stored.base, None, None, None, "float32")
        with HFEngine(*loaded, batch_tokens=batch_tokens) as engine:
            contract.same(contract.answers(engine, prompts, contract.SAMPLED), reference)


def test_conversations_read_the_same(stored):
    messages = [
        {"role": "user", "content": "write f"},
        {"role": "assistant", "content": "def f(x):\n  "},
    ]
    for told in (messages, messages[:1]):
        prompt = Prompt(problem_id="c", kind="chat", text=json.dumps(told))
        found = []
        for engine in ("hf", "openai", "vllm"):
            with stored.open(engine, "base") as opened:
                [sample] = opened.complete([opened.spelled(prompt)], contract.GREEDY)
                found.append((sample.completion, sample.finish, sample.n_completion_tokens))
        assert found[0] == found[1] == found[2]


def test_adapters_are_refused_by_servers():
    for name in ("adapterh", "adapterp", "parallel"):
        for engine in (OpenAIEngine, VLLMEngine):
            with pytest.raises(ConfigError, match=r"cannot host method .* use --engine hf"):
                check_supports(engine, name)
    assert not VLLMEngine.supports("prefix")
    with pytest.raises(ConfigError, match=r"\(only fft, lora, merged ia3 .*ptuning by embeddings"):
        check_supports(VLLMEngine, "adapterh")
