"""Training runs: losses fall, packed documents are isolated, an interrupted run ends the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

import torch

from astraios import methods, registry
from astraios.data import Row
from astraios.data.pack import load_tokenizer
from astraios.data.tokens import TokenizedRecord, row
from astraios.errors import (
    DataError,
    ForeignRunError,
    MethodError,
    MissingDataError,
    TrainingError,
)
from astraios.files import read_json, read_records
from astraios.records import Cost, RunKind, Step
from astraios.runs import Run, is_done
from astraios.training.base import load_base
from astraios.training.batches import mean_loss
from astraios.training.config import (
    Optimization,
    PretrainingConfig,
    TrainingConfig,
    pack_config,
)
from astraios.training.fit import fit
from astraios.training.optimizers import schedule
from astraios.training.pretrain import MODEL, make_model, pretrain
from astraios.training.rows import data_folder, ensure_packed, training_rows
from astraios.training.tune import ADAPTER, start, tune

OPTIMIZATION = Optimization(
    n_steps=12,
    batch_size=4,
    learning_rate=5e-3,
    n_warmup_steps=2,
    log_every=2,
    validate_every=6,
    save_every=4,
)
BASE = PretrainingConfig(
    name="tiny",
    hidden=16,
    n_layers=2,
    n_heads=2,
    vocabulary=400,
    n_tokenizer_documents=400,
    optimization=OPTIMIZATION.model_copy(update={"schedule": "flat_then_linear"}),
)


class KilledError(Exception):
    """Stands for a signal."""


def killer(at_step: int) -> Any:
    def progress(done: int, total: int, note: str) -> None:
        if done == at_step:
            raise KilledError

    return progress


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    pretrain(BASE, folder)
    return folder / MODEL


def config(method: str, **changes: Any) -> TrainingConfig:
    values = {
        "n_examples": 60,
        "n_validation": 8,
        "layout": "bucketed",
        "optimization": OPTIMIZATION,
        **changes,
    }
    return TrainingConfig(base_model="tiny", method=method, **values)


def rows_of(config: TrainingConfig, base: Path, root: Path) -> tuple[list[Row], list[Row]]:
    """Rows in the order they are seen, and the validation rows."""
    packing = pack_config(config)
    tokenizer = load_tokenizer(base)
    folder = data_folder(packing, root, tokenizer=tokenizer)
    ensure_packed(packing, folder, tokenizer=tokenizer)
    rows, validation = training_rows(config, folder)
    return list(rows), validation


def ids_of(rows: list[Row]) -> list[list[int]]:
    return [list(row.ids) for row in rows]


def steps(folder: Path) -> list[Step]:
    return list(read_records(folder / "metrics.jsonl", Step))


def test_pretraining_lowers_the_loss_and_leaves_a_model(base: Path) -> None:
    losses = [s.loss for s in steps(base.parent) if s.loss is not None]
    assert losses[-1] < losses[0]
    model, tokenizer = load_base(base)
    ids = tokenizer("def f(v):\n    return 42", return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0]) == "def f(v):\n    return 42"
    assert model(ids).logits.shape == (1, ids.shape[1], len(tokenizer))


def test_an_interrupted_pretraining_ends_with_the_same_weights(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    with pytest.raises(KilledError):
        pretrain(BASE, folder, progress=killer(7))
    assert not is_done(folder)
    pretrain(BASE, folder)
    expected, resumed = load_base(base)[0].state_dict(), load_base(folder / MODEL)[0].state_dict()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert [s.step for s in steps(folder) if s.loss] == [2, 4, 6, 8, 10, 12]


METHODS = tuple(name for name in registry.names(methods) if name != "qlora")  # needs four bits
SMALL = {
    "adalora": {"init_r": 6, "target_r": 2, "tinit": 1, "tfinal": 1},
    "oft": {"oft_block_size": 8},
}


def small(method: str) -> TrainingConfig:
    return config(method, method_options=SMALL.get(method, {}))


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_tuning_equals_an_undisturbed_one(
    method: str, base: Path, tmp_path: Path
) -> None:
    tune(small(method), tmp_path / "whole", base=base)
    with pytest.raises(KilledError):
        tune(small(method), tmp_path / "cut", base=base, progress=killer(9))
    tune(small(method), tmp_path / "cut", base=base)
    whole, cut = steps(tmp_path / "whole"), steps(tmp_path / "cut")
    assert [(s.step, s.loss, s.validation_loss) for s in whole] == [
        (s.step, s.loss, s.validation_loss) for s in cut
    ]
    files = sorted(p.name for p in (tmp_path / "whole" / ADAPTER).iterdir())
    assert files == sorted(p.name for p in (tmp_path / "cut" / ADAPTER).iterdir())
    for name in files:
        if name.endswith(".safetensors"):
            one, other = (tmp_path / which / ADAPTER / name for which in ("whole", "cut"))
            assert one.read_bytes() == other.read_bytes()
    assert not (tmp_path / "cut" / "checkpoints").exists()


@pytest.mark.parametrize("method", METHODS)
def test_validation_loss_is_that_of_the_saved_weights(
    method: str, base: Path, tmp_path: Path
) -> None:
    tune(small(method), tmp_path / "run", base=base)
    model, _ = load_base(base)
    loaded = registry.load(methods, "method", method).load(model, tmp_path / "run" / ADAPTER)
    _, validation = rows_of(config(method), base, tmp_path)
    last = [s.validation_loss for s in steps(tmp_path / "run") if s.validation_loss][-1]
    assert mean_loss(loaded, validation, pad_id=1) == pytest.approx(last, abs=1e-6)


def test_the_cost_counts_what_was_trained(base: Path, tmp_path: Path) -> None:
    tune(config("lora"), tmp_path / "run", base=base)
    cost = read_json(tmp_path / "run" / "cost.json", Cost)
    assert 0 < cost.trainable_parameters < cost.total_parameters
    assert cost.adapter_bytes > 4 * cost.trainable_parameters
    assert cost.n_tokens > 0 and cost.cpu_s > 0 and cost.peak_mib > 50


def test_a_finished_run_is_left_alone(base: Path, tmp_path: Path) -> None:
    tune(config("lora"), tmp_path / "run", base=base)
    before = (tmp_path / "run" / "manifest.json").stat().st_mtime_ns
    tune(config("lora"), tmp_path / "run", base=base, progress=killer(1))
    assert (tmp_path / "run" / "manifest.json").stat().st_mtime_ns == before


def test_all_methods_see_the_same_rows_in_the_same_order(base: Path, tmp_path: Path) -> None:
    one, other = (rows_of(config(method), base, tmp_path) for method in ("fft", "ia3"))
    assert ids_of(one[0]) == ids_of(other[0]) and ids_of(one[1]) == ids_of(other[1])


@pytest.mark.parametrize("layout", ["bucketed", "best_fit", "constant_length"])
def test_seeds_change_the_rows_but_not_the_validation_rows(
    layout: str, base: Path, tmp_path: Path
) -> None:
    one, other = (
        rows_of(config("fft", seed=seed, layout=layout, block_length=200), base, tmp_path)
        for seed in (0, 1)
    )
    assert ids_of(one[0]) != ids_of(other[0])
    assert sorted(ids_of(one[1])) == sorted(ids_of(other[1]))


def documents() -> list[TokenizedRecord]:
    return [
        TokenizedRecord([5, 9, 7, 3, 0], [True] * 5),
        TokenizedRecord([8, 2, 0], [True] * 3),
        TokenizedRecord([4, 4, 6, 9, 9, 1, 0], [True] * 7),
    ]


def test_the_mean_loss_weighs_tokens_not_rows() -> None:
    model = make_model(BASE, 300).eval()
    rows = [row(document) for document in documents()]
    each = [mean_loss(model, [r]) * (len(r.ids) - 1) for r in rows]
    expected = sum(each) / sum(len(r.ids) - 1 for r in rows)
    assert mean_loss(model, rows, batch=2) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("method", ["lora", "ptuning"])
@pytest.mark.parametrize("layout", ["best_fit", "constant_length"])
def test_packed_tuning_runs(method: str, layout: str, base: Path, tmp_path: Path) -> None:
    packed = config(method, layout=layout, n_examples=400, block_length=200)
    tune(packed, tmp_path / "run", base=base)
    losses = [s.validation_loss for s in steps(tmp_path / "run") if s.validation_loss]
    assert losses[-1] < losses[0]


def test_prompt_tuning_sees_its_virtual_tokens_in_every_document(
    base: Path, tmp_path: Path
) -> None:
    alone = config("ptuning", layout="bucketed")
    packed = config("ptuning", layout="best_fit", block_length=200)
    model = start(alone, base).eval()
    losses = [
        mean_loss(model, rows_of(one, base, tmp_path)[1], pad_id=1) for one in (alone, packed)
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_prefixes_refuse_packed_rows(base: Path, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="set layout to bucketed"):
        tune(config("prefix", layout="best_fit"), tmp_path / "run", base=base)


def test_documents_longer_than_the_positions_of_the_model_are_refused(
    base: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"30 virtual tokens, and the model has 256 positions"):
        tune(
            config("ptuning", layout="constant_length", block_length=240),
            tmp_path / "run",
            base=base,
        )


def test_changed_data_are_not_mixed_with_what_was_begun(base: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "mine.jsonl"
    line = '{"prompt": "add %d", "completion": "return v + %d"}\n'
    corpus.write_text("".join(line % (n, n) for n in range(90)))
    mine = config("lora", corpus=str(corpus), n_examples=None, n_validation=4)
    with pytest.raises(KilledError):
        tune(mine, tmp_path / "run", base=base, progress=killer(5))
    corpus.write_text("".join(line % (n, n) for n in range(80)))
    with pytest.raises(ForeignRunError, match="made from other inputs"):
        tune(mine, tmp_path / "run", base=base)


def reworded(base: Path, folder: Path) -> Path:
    """The base with another tokenizer: two tokens of one character have changed places."""
    shutil.copytree(base, folder)
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    vocabulary = values["model"]["vocab"]
    vocabulary["a"], vocabulary["e"] = vocabulary["e"], vocabulary["a"]
    path.write_text(json.dumps(values))
    return folder


def test_another_tokenizer_of_the_same_name_has_rows_of_its_own(base: Path, tmp_path: Path) -> None:
    other = reworded(base, tmp_path / "other")
    one, two = (rows_of(config("lora"), source, tmp_path / "runs") for source in (base, other))
    assert ids_of(one[0]) != ids_of(two[0])
    packing = pack_config(config("lora"))
    folder = data_folder(packing, tmp_path / "runs", tokenizer=load_tokenizer(base))
    with pytest.raises(ForeignRunError, match=r"^tokenizer 'tiny' changed since .* was packed"):
        ensure_packed(packing, folder, tokenizer=load_tokenizer(other))


def test_rows_packed_before_the_data_changed_are_not_trained_on(base: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "mine.jsonl"
    line = '{"prompt": "add %d", "completion": "return v + %d"}\n'
    corpus.write_text("".join(line % (n, n) for n in range(90)))
    mine = config("lora", corpus=str(corpus), n_examples=None, n_validation=4)
    packed = tmp_path / "packed"
    ensure_packed(pack_config(mine), packed, tokenizer=load_tokenizer(base))
    corpus.write_text("".join(line % (n, n) for n in range(80)))
    with pytest.raises(ForeignRunError, match=r"^corpus '.*mine\.jsonl' changed since .*packed'"):
        tune(mine, tmp_path / "run", base=base, data=packed)
    assert not (tmp_path / "run").exists()


def test_a_run_does_not_go_on_over_other_weights_of_the_same_name(
    base: Path, tmp_path: Path
) -> None:
    mine = shutil.copytree(base, tmp_path / "mine")
    with pytest.raises(KilledError):
        tune(config("lora"), tmp_path / "run", base=mine, progress=killer(5))
    weights = mine / "model.safetensors"
    kept = weights.read_bytes()
    model, _ = load_base(mine)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.weight.mul_(0.5)  # the embeddings stay as they are
    model.save_pretrained(mine)
    assert weights.stat().st_size == len(kept)
    with pytest.raises(ForeignRunError, match=r"other inputs \(base-weights\)"):
        tune(config("lora"), tmp_path / "run", base=mine)
    weights.write_bytes(kept)
    tune(config("lora"), tmp_path / "run", base=mine)
    assert is_done(tmp_path / "run")


@pytest.mark.parametrize("method", ["fft", "lora", "ptuning"])
def test_tokens_without_an_embedding_are_refused(method: str, base: Path, tmp_path: Path) -> None:
    larger = shutil.copytree(base, tmp_path / "larger")
    tokenizer = load_tokenizer(base)
    n_known = len(tokenizer)
    tokenizer.add_tokens(["return"])
    tokenizer.save_pretrained(larger)
    said = rf"has {n_known + 1} tokens, of which {n_known} is used.*embeddings for {n_known},"
    with pytest.raises(DataError, match=said):
        tune(config(method), tmp_path / "run", base=larger)


def test_a_token_that_never_occurs_needs_no_embedding(base: Path, tmp_path: Path) -> None:
    larger = shutil.copytree(base, tmp_path / "larger")
    tokenizer = load_tokenizer(base)
    tokenizer.add_tokens(["<|never|>"])
    tokenizer.save_pretrained(larger)
    tune(config("lora"), tmp_path / "run", base=larger)
    assert is_done(tmp_path / "run")


def test_trained_weights_are_fp32_over_any_base(base: Path) -> None:
    for method in ("fft", "lora"):
        tuned = start(config(method, base_precision="bf16"), base)
        assert {p.dtype for p in tuned.parameters() if p.requires_grad} == {torch.float32}


def test_a_record_longer_than_a_block_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"record 'minipack/train/\d+'.*block_length 8"):
        tune(config("lora", block_length=8), tmp_path / "run", base=base)


def test_a_missing_base_model_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingDataError, match="neither as a local folder nor on the Hugging"):
        load_base(tmp_path / "nowhere")


def test_divergence_stops_with_the_rate_to_lower(tmp_path: Path) -> None:
    model = make_model(BASE, 300)
    wild = OPTIMIZATION.model_copy(update={"learning_rate": 1e30, "n_warmup_steps": 0})
    rows: list[Row] = [row(documents()[0])] * (wild.n_steps * wild.batch_size)
    with (
        Run.open(tmp_path / "run", kind=RunKind.TRAIN, config=wild) as run,
        pytest.raises(TrainingError, match=r"lower optimization\.learning_rate"),
    ):
        fit(model, rows, wild, run)


@pytest.mark.parametrize(
    ("name", "first", "peak", "last"),
    [("cosine", 0, 1, 0.1), ("linear", 0, 1, 0), ("constant", 0, 1, 1)],
)
def test_schedules_warm_up_and_end_where_they_say(
    name: Any, first: float, peak: float, last: float
) -> None:
    plan = OPTIMIZATION.model_copy(update={"schedule": name, "floor": 0.1, "learning_rate": 1.0})
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made = schedule(optimizer, plan)
    rates = []
    for _ in range(plan.n_steps + 1):
        rates.append(made.get_last_lr()[0])
        optimizer.step()
        made.step()
    assert rates[0] == pytest.approx(first)
    assert max(rates) == pytest.approx(peak)
    assert rates[-1] == pytest.approx(last, abs=1e-6)


def test_a_torn_checkpoint_is_not_used(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    tune(config("fft"), tmp_path / "whole", base=base)
    with pytest.raises(KilledError):
        tune(config("fft"), folder, base=base, progress=killer(9))
    shutil.rmtree(folder / "checkpoints" / "checkpoint-4", ignore_errors=True)
    (folder / "checkpoints" / "checkpoint-8" / "complete.json").unlink()
    tune(config("fft"), folder, base=base)
    assert [s.loss for s in steps(folder)] == [s.loss for s in steps(tmp_path / "whole")]
