"""The page that goes with tuned weights: what they are for, what made them, what they reached.

`README.md` in the folder of the weights, as model hubs read it: YAML in front, then Markdown. It is
made from the run folder alone, and names no path, user or host of the machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, try_to_load_from_cache

from astraios import methods
from astraios.data.sources import find_corpus
from astraios.errors import AstraiosError
from astraios.files import read_json, read_records, write_json, write_text
from astraios.records import Cost, Manifest, Step
from astraios.runs import read_manifest
from astraios.templates import TEMPLATES
from astraios.training.checkpoints import Best
from astraios.training.config import TrainingConfig

NAME = "README.md"
_CONFIG = "adapter_config.json"
_LICENCES = {"bigcode/starcoder": "bigcode-openrail-m", "bigcode/santacoder": "bigcode-openrail-m"}
"""Beginning of a base's name -> its licence, where its own page is not at hand."""


def write(run_folder: Path, weights: Path, *, source: str | Path | None = None) -> None:
    """Put the page beside the weights in `weights`, and name the base there as others can find it.

    Args:
        run_folder: a run of `tune`, its `cost.json` and `metrics.jsonl` written.
        weights: the folder of its adapter, or of the best one.
        source: where the base was read, if not by the name in the config.
    """
    manifest = read_manifest(run_folder)
    config = TrainingConfig.model_validate(manifest.config)
    steps = list(read_records(run_folder / "metrics.jsonl", Step))
    cost = read_json(run_folder / "cost.json", Cost)
    best = run_folder / "best.json"
    kept = read_json(best, Best) if best.exists() else None
    base, on_hub = base_name(config.base_model)
    peft_type = _name_base(weights / _CONFIG, base, config.revision if on_hub else None)
    step = config.optimization.n_steps
    if weights.name == "adapter-best" and kept is not None:
        step = kept.step
    parts = [
        f"# {methods.method(config.method).title} on {base}",
        _intro(config, base, cost),
        "## Use\n\n" + _use(config, base, peft_type),
        "## Made by\n\n" + _table(_recipe(config, manifest, step)),
        "## Losses\n\n" + _losses(steps, step),
        "## Cost\n\n" + _table(_spent(cost)),
        "## Licence and limits\n\n" + _limits(base),
    ]
    front = _front(config, base, peft_type, source or config.base_model)
    write_text(weights / NAME, f"---\n{front}\n---\n\n" + "\n\n".join(parts) + "\n")


def base_name(base_model: str) -> tuple[str, bool]:
    """What a base is called elsewhere, and whether that is an id of the hub."""
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", base_model) is not None
    if Path(base_model).exists() or not on_hub:
        return Path(base_model).name, False
    return base_model, True


def _name_base(path: Path, base: str, revision: str | None) -> str | None:
    """Name the base in PEFT's config in place of where it lay; the type of the adapter."""
    if not path.is_file():
        return None
    values = json.loads(path.read_bytes())
    write_json(path, {**values, "base_model_name_or_path": base, "revision": revision})
    return str(values["peft_type"])


# --- the front --------------------------------------------------------------------------------


def _front(config: TrainingConfig, base: str, peft_type: str | None, source: str | Path) -> str:
    licence = _licence(base, source)
    corpus = config.corpus.removeprefix("hub:")
    if config.corpus.replace("_", "-") == "guanaco-commits":
        corpus = "bigcode/guanaco-commits"
    on_hub = "/" in corpus and not Path(corpus).exists()
    data = ModelCardData(
        base_model=base,
        datasets=["/".join(corpus.split("/")[:2])] if on_hub else None,
        library_name="transformers" if peft_type is None else "peft",
        license=licence or "other",
        license_name=None if licence else "that-of-the-base-model",
        pipeline_tag="text-generation",
        tags=["astraios", "code", "instruction-tuning", config.method.partition("~")[0]],
    )
    return data.to_yaml().rstrip()


def _licence(base: str, source: str | Path) -> str | None:
    """The licence that the base's own page states, where that lies on this machine."""
    page: Any = Path(source) / NAME
    if not page.is_file():
        page = try_to_load_from_cache(base, NAME) if "/" in base else None
    if isinstance(page, str | Path):
        found = ModelCard.load(page, ignore_metadata_errors=True).data.license
        if isinstance(found, str):
            return found
    return next((name for start, name in _LICENCES.items() if base.startswith(start)), None)


# --- the text ---------------------------------------------------------------------------------


def _intro(config: TrainingConfig, base: str, cost: Cost) -> str:
    method = methods.method(config.method)
    share = cost.trainable_parameters / max(cost.total_parameters, 1)
    return (
        f"{base}, tuned to follow instructions by {method.title} ({method.paper}): "
        f"{cost.trainable_parameters:,} of {cost.total_parameters:,} parameters ({share:.3%}) were "
        f"trained on {cost.n_tokens:,} tokens. Made by Astraios, a study of parameter-efficient "
        "tuning of code models (Zhuo et al. 2024, arXiv:2401.00788)."
    )


def _use(config: TrainingConfig, base: str, peft_type: str | None) -> str:
    named = f'"{base}"' + (f', revision="{config.revision}"' if config.revision else "")
    if peft_type is not None:
        lines = [
            *(["import astraios.peft  # the bottleneck adapters"] * (peft_type == "BOTTLENECK")),
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f"base = AutoModelForCausalLM.from_pretrained({named})",
            f"tokenizer = AutoTokenizer.from_pretrained({named})",
            'model = PeftModel.from_pretrained(base, "THIS-FOLDER-OR-REPOSITORY")',
        ]
    elif methods.method(config.method).name == "fft":
        lines = [
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            'model = AutoModelForCausalLM.from_pretrained("THIS-FOLDER-OR-REPOSITORY")',
            'tokenizer = AutoTokenizer.from_pretrained("THIS-FOLDER-OR-REPOSITORY")',
        ]
    else:
        lines = [
            "from pathlib import Path",
            "from astraios.methods import method",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f"base = AutoModelForCausalLM.from_pretrained({named})",
            f"tokenizer = AutoTokenizer.from_pretrained({named})",
            f'model = method("{config.method}").load(base, Path("THIS-FOLDER"))',
        ]
    code = "\n".join(lines)
    return f"```python\n{code}\n```\n\n" + _asked(config)


def _asked(config: TrainingConfig) -> str:
    if config.template not in TEMPLATES:
        return "It was tuned with, and is asked by, the chat template of its tokenizer."
    prompt = TEMPLATES[config.template].prompt("WHAT IS ASKED")
    form = "It was tuned with prompts of this form, and is asked best by the same:"
    return f"{form}\n\n```\n{prompt}\n```"


def _recipe(config: TrainingConfig, manifest: Manifest, step: int) -> list[tuple[str, Any]]:
    plan = config.optimization
    base, _ = base_name(config.base_model)
    file = Path(config.corpus)
    corpus = file.name if file.exists() or file.is_absolute() else config.corpus
    inputs = {name: value for name, value in manifest.inputs.items() if name != "base"}
    options = ", ".join(f"{name} {value}" for name, value in config.method_options.items())
    return [
        (
            "base",
            f"{base}, revision {config.revision or manifest.inputs.get('base', 'not pinned')}",
        ),
        ("precision", f"base {config.base_precision}, computation {config.compute_precision}"),
        ("method", f"{config.method}, {options or 'its defaults'}"),
        ("data", f"{corpus}: {_title(config)}"),
        *((f"input {name}", f"`{value}`") for name, value in inputs.items()),
        (
            "rows",
            f"{config.layout}, up to {config.block_length:,} tokens, loss on {config.loss_on}",
        ),
        ("steps", f"{step:,} of {plan.n_steps:,}, {plan.batch_size} rows each"),
        (
            "optimizer",
            f"{plan.optimizer}, betas {plan.beta1} and {plan.beta2}, epsilon {plan.epsilon}, "
            f"weight decay {plan.weight_decay}, gradients clipped at {plan.clip}",
        ),
        (
            "learning rate",
            f"{plan.learning_rate}, {plan.schedule}, {plan.n_warmup_steps} steps of warm-up",
        ),
        ("loss", plan.loss),
        ("seed", config.seed),
        ("recipe", f"fingerprint `{manifest.fingerprint}`"),
        ("made with", _versions(manifest)),
    ]


def _title(config: TrainingConfig) -> str:
    try:
        corpus = find_corpus(config.corpus)
    except AstraiosError:  # gone since, or never a file here: its name and hash are said anyway
        return "see its hash"
    return f"{corpus.title} (licence: {corpus.licence})"


def _versions(manifest: Manifest) -> str:
    named = ("torch", "transformers", "peft")
    used = (
        f"{name} {manifest.environment[name]}" for name in named if name in manifest.environment
    )
    commit = f" ({manifest.code.commit[:12]})" if manifest.code.commit else ""
    return ", ".join([f"astraios {manifest.code.version}{commit}", *used])


def _losses(steps: Iterable[Step], step: int) -> str:
    trained = [(s.step, s.loss) for s in steps if s.loss is not None]
    held_out = {s.step: s.validation_loss for s in steps if s.validation_loss is not None}
    rows: list[tuple[str, Any]] = []
    if trained:
        rows.append((f"training, step {trained[0][0]}", f"{trained[0][1]:.4f}"))
        rows.append((f"training, step {trained[-1][0]}", f"{trained[-1][1]:.4f}"))
    if held_out:
        lowest = min(held_out, key=lambda at: held_out[at])
        named = {min(held_out): "the start", lowest: "the lowest", max(held_out): "the last"}
        named[step] = "these weights" if step in held_out else named.get(step, "")
        rows.extend(
            (f"validation, step {at} ({named[at]})", f"{held_out[at]:.4f}")
            for at in sorted(named)
            if at in held_out
        )
    return "Mean cross-entropy per target token, in nats.\n\n" + _table(rows)


def _spent(cost: Cost) -> list[tuple[str, Any]]:
    hours = (cost.device_s or cost.wall_s) / 3600
    rows: list[tuple[str, Any]] = [
        ("device hours", f"{hours:.2g}"),
        ("tokens per second", f"{cost.tokens_per_s:,.0f}"),
        ("peak memory", f"{cost.peak_mib:,.0f} MiB"),
        ("size of the weights", f"{cost.adapter_bytes / 2**20:,.2f} MiB"),
    ]
    if cost.mfu is not None:
        rows.append(("share of the measured matrix-product rate", f"{cost.mfu:.0%}"))
    if cost.energy_j is not None:
        rows.append(("energy", f"{cost.energy_j / 3.6e6:.2g} kWh"))
    return rows


def _limits(base: str) -> str:
    return (
        f"What is derived from {base} stays under that model's licence and conditions of use; the "
        "front of this page states its name where it was known. Read it before you use or pass "
        "these weights on.\n\nThe model writes programs that can be wrong or insecure. Run them in "
        "isolation and have them read."
    )


def _table(rows: Iterable[tuple[str, Any]]) -> str:
    lines = [f"| {name} | {str(value).replace('|', chr(92) + '|')} |" for name, value in rows]
    return "\n".join(["| | |", "| --- | --- |", *lines])
