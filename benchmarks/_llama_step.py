"""One training step of a Llama with bottleneck adapters after the MLP, by one of two packages.

    python benchmarks/_llama_step.py astraios|adapters

Run by `methods.py` in the interpreter that has the package. It prints one JSON object. It imports
nothing of Astraios but in that arm: the other package needs an older transformers.
"""

from __future__ import annotations

import json
import sys
import time
from statistics import median

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

HIDDEN, BOTTLENECK, ROWS, TOKENS, ROUNDS = 256, 64, 4, 128, 15


def main() -> None:
    package = sys.argv[1]
    torch.set_num_threads(1)
    ids_BT = torch.randint(0, 1000, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    base, tuned = frozen(), tuned_by(package, frozen())
    steps = {"base": [], "tuned": []}
    for _ in range(ROUNDS):
        for name, model in (("base", base), ("tuned", tuned)):
            steps[name].append(step_s(model, ids_BT))
    trainable = sum(w.numel() for w in tuned.parameters() if w.requires_grad)
    result = {
        "package": f"{package} {version(package)}, transformers {transformers.__version__}",
        "trainable": trainable,
        **{name: median(taken[2:]) for name, taken in steps.items()},
    }
    print(json.dumps(result))


def frozen() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=4,
        num_attention_heads=4,
        use_cache=False,
    )
    return LlamaForCausalLM(config).requires_grad_(False)


def tuned_by(package: str, model: LlamaForCausalLM) -> torch.nn.Module:
    if package == "astraios":
        from peft import get_peft_model

        from astraios.peft import BottleneckConfig

        settings = {"bottleneck_size": BOTTLENECK, "task_type": "CAUSAL_LM"}
        return get_peft_model(model, BottleneckConfig(placement="pfeiffer", **settings))
    import adapters

    adapters.init(model)
    config = adapters.SeqBnConfig(reduction_factor=HIDDEN / BOTTLENECK, non_linearity="tanh")
    model.add_adapter("one", config=config)
    model.train_adapter("one")
    return model


def step_s(model: torch.nn.Module, ids_BT: torch.Tensor) -> float:
    """CPU seconds of a forward and a backward pass; through the inputs where nothing is trained."""
    model.train()
    embeds_BTD = model.get_input_embeddings()(ids_BT).detach().requires_grad_(True)
    begun = time.process_time()
    model(inputs_embeds=embeds_BTD, labels=ids_BT).loss.backward()
    taken = time.process_time() - begun
    model.zero_grad(set_to_none=True)
    return taken


def version(package: str) -> str:
    from importlib.metadata import version as of

    return of(package)


if __name__ == "__main__":
    main()
