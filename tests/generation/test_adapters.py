"""Adapters on one loaded base: each as if it had a base to itself, and the base as it was."""

from __future__ import annotations

import weakref
from functools import partial

import pytest

from astraios import methods, registry
from astraios.errors import ConfigError, EngineError, MethodError, MissingDataError
from astraios.generation import Model
from astraios.generation.engines.hf import HFEngine
from astraios.generation.shared_base import SharedBase
from astraios.records import Sampling
from astraios.studies.serving import load_tuned

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

pytestmark = pytest.mark.train

GREEDY = Sampling(n_samples=1, temperature=0, max_new_tokens=6)
SAMPLED = Sampling(n_samples=2, temperature=0.9, max_new_tokens=6, seed=1)
NAMES = tuple(
    name
    for name in registry.names(methods)
    if HFEngine.supports(name) and name != "qlora"  # LoRA, and needs a base in four bits
)
OTHERS = ("peft-loha", "peft-trainable_tokens", "peft-hra")
"""Of PEFT, without a file here."""
ALIKE = ("adalora", "dora", "oft", "pissa", "rslora", "vera", *OTHERS)
"""Put on by PEFT as lora is."""
FEW = [name for name in NAMES if name not in ALIKE]
REST = [name for name in (*NAMES, *OTHERS) if name in ALIKE]


def by_key(samples):
    return {(s.problem_id, s.index, s.turn): s for s in samples}


def bits(model):
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


@pytest.fixture(scope="module")
def trained(stored, tmp_path_factory):
    """Makes the folder of an adapter that changes what the model says."""
    made = {}

    def make(name):
        if name not in made:
            base = transformers.AutoModelForCausalLM.from_pretrained(stored)
            method = methods.method(name)
            options = {"total_step": 10} if name == "adalora" else {}
            if name == "peft-trainable_tokens":
                options = {"token_indices": list(range(20, 120))}
            tuned = method.apply(base, options)
            torch.manual_seed(5)
            with torch.no_grad():
                for weight in tuned.parameters():
                    if weight.requires_grad:
                        weight.add_(0.3 * torch.randn_like(weight))
            made[name] = tmp_path_factory.mktemp("adapters") / name
            method.save(tuned, made[name])
        return made[name]

    return make


@pytest.fixture(scope="module")
def base(stored):
    with SharedBase(model_of(stored)) as shared:
        yield shared


def model_of(stored, method=None, adapter=None, **fields):
    load = partial(load_tuned, stored, None, method, adapter, "float32")
    return Model(load=load, base_model=str(stored), method=method, adapter=adapter, **fields)


@pytest.mark.parametrize(
    "name", FEW + [pytest.param(name, marks=pytest.mark.slow) for name in REST]
)
def test_an_adapter_on_it_is_the_adapter_on_a_base_of_its_own(
    name, stored, trained, base, make_prompts
):
    prompts = make_prompts(4)
    before, plain = bits(base._engine._model), by_key(base.engine().complete(prompts, GREEDY))
    alone = HFEngine.open(model_of(stored, name, trained(name)))
    with base.engine(name, trained(name)) as engine:
        assert engine.n_parameters() == alone.n_parameters()
        for sampling in (GREEDY, SAMPLED):
            told = by_key(engine.complete(prompts, sampling))
            assert told == by_key(alone.complete(prompts, sampling))
        # the base answers as it did, beside an adapter that is open
        assert by_key(base.engine().complete(prompts, GREEDY)) == plain
    after = bits(base._engine._model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", ["bitfit", "ia3", "lora", "lntuning", "parallel", "ptuning"])
def test_in_half_precision_too(name, stored, trained, make_prompts):
    half = partial(load_tuned, stored, None, name, trained(name), "bfloat16")
    alone = HFEngine.open(Model(load=half, base_model="tiny", method=name, precision="bfloat16"))
    plain = partial(load_tuned, stored, None, None, None, "bfloat16")
    described = Model(load=plain, base_model="tiny", precision="bfloat16")
    with SharedBase(described) as shared, shared.engine(name, trained(name)) as engine:
        assert {w.dtype for w in engine._model.parameters()} == {torch.bfloat16}
        told = [by_key(each.complete(make_prompts(4), SAMPLED)) for each in (engine, alone)]
        assert told[0] == told[1]
        if name == "lora":
            mixed = shared.mixed({"a": (name, trained(name)), "b": (name, trained(name))})
            assert len(list(mixed.complete({"b": make_prompts(4)}, SAMPLED))) == 8


def test_several_are_open_at_once(stored, trained, base, make_prompts):
    prompts = make_prompts(3)
    names = ("fft", "lora", "ptuning", "adapterh")
    engines = {name: base.engine(name, trained(name)) for name in names}
    told = {name: by_key(engine.complete(prompts, GREEDY)) for name, engine in engines.items()}
    for name in names:
        alone = HFEngine.open(model_of(stored, name, trained(name)))
        assert told[name] == by_key(alone.complete(prompts, GREEDY))


def test_a_base_that_is_closed_serves_no_more(stored, trained, make_prompts):
    with SharedBase(model_of(stored)) as shared:
        engine = shared.engine("lora", trained("lora"))
    assert len(list(engine.complete(make_prompts(2), GREEDY))) == 2  # holds what it needs
    for ask in (shared.engine, lambda: shared.engine("lora", trained("lora"))):
        with pytest.raises(EngineError, match="closed"):
            ask()


def test_weights_are_in_memory_once(trained, base):
    own = {weight.data_ptr() for weight in base._engine._model.parameters()}

    def copied(name):
        decoder = base.engine(name, trained(name))._decoder
        plain = [w for key, w in decoder.named_parameters() if "lora_" not in key]
        return sum(weight.data_ptr() not in own for weight in plain), len(plain)

    assert copied("lora")[0] == 0
    some, every = copied("bitfit")
    assert 0 < some < every
    assert copied("fft") == (every, every)


def test_closing_an_engine_frees_its_weights_and_not_the_base(trained, base, make_prompts):
    with base.engine("fft", trained("fft")) as engine:
        kept = [weakref.ref(weight) for weight in engine._model.parameters()]
    assert not any(weight() is not None for weight in kept)
    with pytest.raises(EngineError, match="closed"):
        next(engine.complete(make_prompts(1), GREEDY))
    with base.engine() as plain:
        assert len(list(plain.complete(make_prompts(1), GREEDY))) == 1
    assert len(list(base.engine().complete(make_prompts(1), GREEDY))) == 1


@pytest.mark.slow
def test_workers_hold_the_base_and_each_adapter_in_turn(stored, trained, base, make_prompts):
    prompts = make_prompts(6)
    with SharedBase(model_of(stored, device="cpu,cpu")) as shared:
        for name in ("lora", "fft", "ptuning"):
            with shared.engine(name, trained(name)) as engine:
                assert by_key(engine.complete(prompts, SAMPLED)) == by_key(
                    base.engine(name, trained(name)).complete(prompts, SAMPLED)
                )
        engine = shared.engine("lora", trained("lora"))
        answers = engine.complete(prompts, GREEDY)
        next(answers)
        answers.close()  # ends the processes; the adapter is put on again in the next ones
        assert by_key(engine.complete(prompts, GREEDY)) == by_key(
            base.engine("lora", trained("lora")).complete(prompts, GREEDY)
        )
        with pytest.raises(MethodError, match="lora"):
            shared.engine("ia3", trained("lora"))


def wider(name, folder):
    """Folder of an adapter for another base."""
    if not (folder / name).exists():
        config = transformers.GPTBigCodeConfig(
            vocab_size=320, n_embd=48, n_layer=3, n_head=4, n_positions=96, eos_token_id=0,
            bos_token_id=0,
        )  # fmt: skip
        method = methods.method(name)
        made = transformers.AutoModelForCausalLM.from_config(config)
        method.save(method.apply(made, {}), folder / name)
    return folder / name


def test_what_cannot_be_put_on_leaves_the_base_as_it_was(trained, base, tmp_path, make_prompts):
    plain = by_key(base.engine().complete(make_prompts(2), GREEDY))
    before = bits(base._engine._model)
    for name in ("bitfit", "fft", "lora", "ptuning"):
        with pytest.raises(MethodError, match=str(wider(name, tmp_path))):
            base.engine(name, wider(name, tmp_path))
    after = bits(base._engine._model)
    assert all(torch.equal(before[key], after[key]) for key in before)
    with pytest.raises(MethodError, match="lora"):
        base.engine("ia3", trained("lora"))
    with pytest.raises(MissingDataError, match="none"):
        base.engine("lora", tmp_path / "none")
    with pytest.raises(ConfigError, match="prefix"):
        base.engine("prefix", trained("lora"))
    with pytest.raises(ConfigError, match="neither"):
        base.engine("lora")
    assert by_key(base.engine().complete(make_prompts(2), GREEDY)) == plain


def test_a_method_that_writes_into_the_base_is_found_out(stored, trained, monkeypatch):
    monkeypatch.setattr(type(methods.method("bitfit")), "overwrites", lambda self, name: False)
    with (
        SharedBase(model_of(stored)) as shared,
        pytest.raises(MethodError, match=r"'bitfit' wrote into the weights of the shared base"),
    ):
        shared.engine("bitfit", trained("bitfit"))


def test_loras_in_one_batch_say_what_each_says_alone(trained, base, make_prompts):
    adapters = {name: (name, trained(name)) for name in ("lora", "rslora")}
    mixed = base.mixed(adapters)
    asked = {
        "lora": [p.model_copy(update={"answers": (" yes", " no x")}) for p in make_prompts(7)],
        "rslora": make_prompts(5),
    }
    for sampling in (GREEDY, SAMPLED):
        told = {"lora": [], "rslora": []}
        for name, sample in mixed.complete(asked, sampling):
            told[name].append(sample)
        for name, samples in told.items():
            alone = by_key(base.engine(*adapters[name]).complete(asked[name], sampling))
            likely = {k: s.likelihoods for k, s in by_key(samples).items() if s.likelihoods}
            for key, values in likely.items():
                assert values == pytest.approx(alone[key].likelihoods, abs=1e-4)
            plain = {"likelihoods": None}
            assert {k: s.model_copy(update=plain) for k, s in by_key(samples).items()} == {
                k: s.model_copy(update=plain) for k, s in alone.items()
            }
            assert bool(likely) is (name == "lora")
    skip = {"lora": frozenset(by_key(told["lora"]))}
    assert {name for name, _ in mixed.complete(asked, SAMPLED, skip=skip)} == {"rslora"}


def test_what_is_no_lora_shares_no_batch(stored, trained, base):
    with pytest.raises(MethodError, match=r"'ia3' is no plain LoRA"):
        base.mixed({"a": ("lora", trained("lora")), "b": ("ia3", trained("ia3"))})
    with pytest.raises(ConfigError, match="no adapter"):
        base.mixed({})
    mixed = base.mixed({"a": ("lora", trained("lora")), "b": ("rslora", trained("rslora"))})
    with pytest.raises(ConfigError, match=r"'c'; there are: a, b"):
        next(mixed.complete({"c": []}, GREEDY))


def test_a_tuned_model_is_no_base(stored, trained):
    with pytest.raises(ConfigError, match="'lora'"):
        SharedBase(model_of(stored, "lora", trained("lora")))
