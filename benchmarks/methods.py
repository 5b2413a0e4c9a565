"""What each tuning method costs in a step: time, operations and memory, against LoRA's of its size.

    python benchmarks/methods.py                                a small model on one CPU core
    python benchmarks/methods.py --device cuda                  StarCoderBase-1B's shape in bf16
    python benchmarks/methods.py --adapters-python PYTHON       beside AdapterHub's package too

All arms take turns, each on a copy of one GPTBigCode with random weights; medians are told. Beside
each bottleneck adapter stands a LoRA of as many trainable weights, and what is asked of an adapter
is that it costs no more time than its operations explain:

    (step of the method / step of its LoRA) / (operations of the method / those of its LoRA) <= 1.10

Operations are counted by PyTorch while a step runs, and by formula (see `by_formula`). `saved` are
bytes that the forward pass keeps for the backward pass, each storage once, parameters left out.
PYTHON is an interpreter with `adapters` installed; it needs an older transformers than Astraios.
The exit status is 1 where an adapter misses the bound.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM

from astraios import methods
from astraios.methods import Shape

BOUND = 1.10
SMALL = {"n_embd": 512, "n_layer": 4, "n_head": 8, "vocab_size": 4096, "n_positions": 1024}
ONE_B = {"n_embd": 2048, "n_layer": 24, "n_head": 16, "vocab_size": 49152, "n_positions": 8192}
SEVEN = ("fft", "lora", "ptuning", "ia3", "adapterh", "adapterp", "parallel")
BOTTLENECK = ("adapterh", "adapterp", "parallel")


@dataclass
class Arm:
    """A method with its options, and what was measured of it."""

    name: str
    method: str | None
    options: dict = field(default_factory=dict)
    rival: str | None = None
    """The arm of a LoRA of its size."""
    model: torch.nn.Module | None = None
    trainable: int = 0
    forward: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    counted: float = 0.0
    formula: float = 0.0
    saved: float = 0.0
    peak: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=None, help="A row's; one row.")
    parser.add_argument("--adapters-python", default=None)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    gpu = given.device.startswith("cuda")
    sizes, n_tokens = (ONE_B, 2048) if gpu else (SMALL, 512)
    n_tokens = given.tokens or n_tokens
    torch.set_num_threads(1)
    base = make(sizes, given.device, torch.bfloat16 if gpu else torch.float32)
    arms = arms_of(base)
    ids_1T = torch.randint(0, sizes["vocab_size"], (1, n_tokens), device=given.device)
    for arm in arms.values():
        prepare(arm, base, ids_1T)
    for _ in range(given.rounds):
        for arm in arms.values():
            measure(arm, ids_1T)
    missed = told(arms, gpu)
    if given.adapters_python:
        beside_adapterhub(given.adapters_python)
    return missed > 0


def make(sizes: dict, device: str, dtype: torch.dtype) -> torch.nn.Module:
    torch.manual_seed(0)
    drops = dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), 0.0)
    config = GPTBigCodeConfig(
        **sizes,
        n_inner=4 * sizes["n_embd"],
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
        **drops,
    )
    return GPTBigCodeForCausalLM(config).to(device, dtype)


def arms_of(base: torch.nn.Module) -> dict[str, Arm]:
    shape = Shape.from_model(base)
    found = [Arm("base", None)]
    lora = methods.method("lora")
    for name in SEVEN:
        options = {"lora": {"lora_dropout": 0.0}}.get(name, {})
        arm = Arm(name, name, options)
        found.append(arm)
        if name in BOTTLENECK:
            wanted = methods.method(name).n_trainable(shape)
            rank = round(wanted / lora.n_trainable(shape, {"r": 1}))
            settings = {"r": rank, "lora_alpha": rank, "lora_dropout": 0.0}
            arm.rival = f"lora r={rank}"
            found.append(Arm(arm.rival, "lora", settings))
    return {arm.name: arm for arm in found}


def prepare(arm: Arm, base: torch.nn.Module, ids_1T: torch.Tensor) -> None:
    model = copy.deepcopy(base).requires_grad_(False)
    arm.model = methods.method(arm.method).apply(model, arm.options) if arm.method else model
    arm.trainable = sum(w.numel() for w in arm.model.parameters() if w.requires_grad)
    arm.formula = by_formula(arm, Shape.from_model(base), base.config.vocab_size, ids_1T.shape[1])
    # Attention as plain products while they are counted: fused kernels of the CPU are not known.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step(arm, ids_1T)
    arm.counted = counter.get_total_flops()
    arm.saved = saved_bytes(arm, ids_1T)
    if ids_1T.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(arm, ids_1T)
        arm.peak = torch.cuda.max_memory_allocated() - before


def step(arm: Arm, ids_1T: torch.Tensor) -> None:
    """Forward and backward pass; through the inputs where nothing is trained."""
    loss_of(arm, ids_1T).backward()
    arm.model.zero_grad(set_to_none=True)


def loss_of(arm: Arm, ids_1T: torch.Tensor) -> torch.Tensor:
    model = arm.model.train()
    inputs = {"input_ids": ids_1T}
    if arm.method is None:
        embedded = model.get_input_embeddings()(ids_1T).detach().requires_grad_(True)
        inputs = {"inputs_embeds": embedded}
    return model(**inputs, labels=ids_1T).loss


def measure(arm: Arm, ids_1T: torch.Tensor) -> None:
    clock = time.perf_counter if ids_1T.is_cuda else time.process_time

    def taken(work) -> float:
        _wait(ids_1T)
        begun = clock()
        work()
        _wait(ids_1T)
        return clock() - begun

    def forward() -> None:
        with torch.no_grad():
            arm.model.eval()(input_ids=ids_1T)

    arm.forward.append(taken(forward))
    arm.step.append(taken(lambda: step(arm, ids_1T)))


def _wait(ids_1T: torch.Tensor) -> None:
    if ids_1T.is_cuda:
        torch.cuda.synchronize()


def saved_bytes(arm: Arm, ids_1T: torch.Tensor) -> float:
    own = {w.untyped_storage().data_ptr() for w in arm.model.parameters()}
    found: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss_of(arm, ids_1T)
    return float(sum(found.values()))


def by_formula(arm: Arm, shape: Shape, vocabulary: int, n_tokens: int) -> float:
    """Operations of a step on one row of `n_tokens`, from the sizes.

    A product of a token with a matrix of n weights is 2 n operations forward, 2 n backward for the
    input's gradient and 2 n for the weights' where they are trained. Attention is 4 T d a token and
    layer forward, twice that backward. The first layer's input needs no gradient unless something
    before it is trained; that of the first adapter itself is counted all the same, which is what
    the table's 1.004 is. (IA)^3's products by a vector are no matrix products and are not counted.
    """
    from astraios.methods._architectures import ARCHITECTURES

    block = ARCHITECTURES[shape.architecture]
    n_linear = shape.n_layers * sum(a * b for a, b in map(shape.widths, block.paths))
    head = vocabulary * shape.hidden
    n_seen = n_tokens + (30 if arm.method == "ptuning" else 0)
    attention = 4 * n_seen * shape.hidden * shape.n_layers
    forward = 2 * (n_linear + head) + attention
    backward = 2 * (n_linear + head) + 2 * attention
    if arm.method == "fft":
        backward += 2 * (n_linear + head)
    first_in, first_out = shape.widths(block.attention_in[0])
    if arm.method not in (None, "ptuning", "fft"):  # no gradient before the first adapted layer
        backward -= 2 * first_in * first_out
        if arm.method in ("adapterh", "adapterp"):
            backward -= 2 * shape.hidden * shape.hidden + 2 * 4 * n_seen * shape.hidden
        if arm.method == "adapterp":
            mlp = (*block.mlp_in, block.mlp_out)
            backward -= 2 * sum(a * b for a, b in map(shape.widths, mlp))
    once = 6 * arm.trainable * 30 if arm.method == "ptuning" else 0  # the encoder sees its tokens
    extra = 0 if arm.method in (None, "fft", "ptuning", "ia3") else 6 * arm.trainable
    return n_seen * (forward + backward + extra) + once


def told(arms: dict[str, Arm], gpu: bool) -> int:
    """Print the table; how many adapters miss the bound."""
    last = "peak MiB" if gpu else "saved MiB"
    print(
        f"| arm | trainable | forward / base | step / base | GFLOP | formula | {last} | quotient |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    base, missed = arms["base"], 0
    for arm in arms.values():
        verdict = ""
        if arm.rival:
            rival = arms[arm.rival]
            quotient = (_of(arm.step) / _of(rival.step)) / (arm.counted / rival.counted)
            missed += quotient > BOUND
            verdict = f"{quotient:.2f} of {arm.rival}"
        memory = (arm.peak if gpu else arm.saved) / 2**20
        print(
            f"| {arm.name} | {arm.trainable:,} | {_of(arm.forward) / _of(base.forward):.2f} "
            f"| {_of(arm.step) / _of(base.step):.2f} | {arm.counted / 1e9:.1f} "
            f"| {arm.formula / arm.counted:.3f} | {memory:.0f} | {verdict} |"
        )
    spread = max((max(a.step[1:]) - min(a.step[1:])) / _of(a.step) for a in arms.values())
    print(
        f"\nbase: forward {_of(base.forward):.3f} s, step {_of(base.step):.3f} s; spread of steps"
        f" at most {spread:.0%}; `formula` is its share of the counted operations"
    )
    return missed


def _of(taken: list[float]) -> float:
    return median(taken[1:] or taken)


def beside_adapterhub(python: str) -> None:
    script = str(Path(__file__).with_name("_llama_step.py"))
    turns: dict[str, list[dict]] = {"astraios": [], "adapters": []}
    for _ in range(3):
        for package, found in turns.items():
            interpreter = sys.executable if package == "astraios" else python
            out = subprocess.run(
                [interpreter, script, package], capture_output=True, text=True, check=True
            ).stdout
            found.append(json.loads(out.splitlines()[-1]))
    print("\nA Llama with adapters after the MLP (256 wide, bottleneck 64), step / frozen base's:")
    seconds = {}
    for package, found in turns.items():
        over = median(one["tuned"] / one["base"] for one in found)
        tuned = median(one["tuned"] for one in found)
        one, seconds[package] = found[0], tuned
        print(f"  {one['package']}: {over:.2f} ({tuned:.3f} s), {one['trainable']:,} trainable")
    print(f"  ours / theirs: {seconds['astraios'] / seconds['adapters']:.2f} of the time of a step")


if __name__ == "__main__":
    sys.exit(main())
