"""Useful tokens per CPU-second of four ways to generate, same model and prompts, in one run.

    one at a time    transformers' generate, greedy, one prompt after the other, with a stopping
                     criterion that decodes all new tokens at each step, as the BigCode harness does
    20 of a prompt   transformers' generate, sampling at 0.2, the 20 samples of a prompt as one
                     batch, likewise
    ours, greedy     the hf engine, all prompts at once
    ours, 20 each    the hf engine, all prompts at once, sampling at 0.2

One process, one torch thread, CPU time of the process, best of some rounds. Useful tokens are those
up to the end of a completion: its end token, or the token that completes a stop word. What is
computed beyond it, because a row waits for the others of its batch, is a cost and not a use.

By default the model has the shape of the embedded study's `minipack-0.7m` and random weights, with
ends by lot: from position `FIRST_END` on, a fixed table says after which token at which position
the text ends, one in `ENDS_ONE_IN`. So answers are about as long and as varied as the trained
model's (about 28 tokens, most between 15 and 45), greedy ones are the same whoever generates them
(checked), and sampled ones follow one distribution. Weights are spread so that the next token is
about as certain as a trained model's. `--model DIR` takes a trained model instead.

    python benchmarks/generation.py
    python benchmarks/generation.py --model runs/.../model --prompts 240
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPTBigCodeConfig,
    GPTBigCodeForCausalLM,
    PreTrainedTokenizerFast,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils.logging import disable_progress_bar

from astraios.generation.engines.hf import HFEngine
from astraios.minipack.documents import pretraining_documents
from astraios.minipack.problems import Part, benchmark
from astraios.records import Prompt, Sample, Sampling
from astraios.templates import template

STOPS = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```", "<file_sep>")
"""Stop words of the harness's Python tasks."""
FIRST_END, ENDS_ONE_IN = 58, 8
"""Prompts have about 36 tokens."""
MAX_NEW_TOKENS = 96
GREEDY = Sampling(n_samples=1, temperature=0, max_new_tokens=MAX_NEW_TOKENS)
SAMPLED = Sampling(n_samples=20, temperature=0.2, top_p=0.95, max_new_tokens=MAX_NEW_TOKENS)


class EndingModel(GPTBigCodeForCausalLM):
    """Random weights that end texts by lot."""

    def __init__(self, config: GPTBigCodeConfig) -> None:
        super().__init__(config)
        generator = torch.Generator().manual_seed(1)
        lots = torch.rand(config.vocab_size, config.n_positions, generator=generator)
        lots[:, :FIRST_END] = 1
        self.register_buffer("ends", lots < 1 / ENDS_ONE_IN, persistent=False)

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        logits_to_keep: int = 0,
        **rest: Any,
    ) -> Any:
        output = super().forward(
            input_ids=input_ids, position_ids=position_ids, logits_to_keep=logits_to_keep, **rest
        )
        ends = self.ends[input_ids[:, -1], position_ids[:, -1]]
        output.logits[:, -1, 0] = torch.where(ends, 1e4, -1e4)
        return output


def random_model() -> Any:
    """The embedded model's shape."""
    torch.manual_seed(0)
    config = GPTBigCodeConfig(
        vocab_size=768,
        n_positions=256,
        n_embd=128,
        n_layer=3,
        n_head=4,
        multi_query=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
        initializer_range=0.15,
    )
    return EndingModel(config)


def trained_tokenizer() -> Any:
    """Byte-level, 768 entries, as the embedded study's."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=768,
        special_tokens=["<|endoftext|>", "<pad>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(islice(pretraining_documents(0), 4_000), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|endoftext|>", pad_token="<pad>"
    )


def prompts_of(n: int) -> list[Prompt]:
    """Questions of the embedded benchmark."""
    octocoder = template("octocoder")
    return [
        Prompt(
            problem_id=problem.task_id,
            text=octocoder.prompt(problem.instruction, problem.declaration),
            stops=STOPS,
        )
        for problem in benchmark(Part.TEST)[:n]
    ]


class AllStopped(StoppingCriteria):
    """Whether every row has said a stop word; decodes all new tokens of all rows each time."""

    def __init__(self, tokenizer: Any, start: int) -> None:
        self.tokenizer = tokenizer
        self.start = start

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> bool:
        texts = self.tokenizer.batch_decode(input_ids[:, self.start :])
        return all(any(stop in text for stop in STOPS) for text in texts)


def useful(ids: Sequence[int], tokenizer: Any) -> int:
    """Tokens up to the completion's end."""
    end = ids.index(0) + 1 if 0 in ids else len(ids)
    text = tokenizer.decode(ids[:end], skip_special_tokens=True)
    if any(stop in text for stop in STOPS):
        for n in range(1, end):
            if any(stop in tokenizer.decode(ids[:n]) for stop in STOPS):
                return n
    return end


def generate_each(
    model: Any, tokenizer: Any, prompts: Sequence[Prompt], sampling: Sampling
) -> dict[str, list[list[int]]]:
    """New ids of every completion: transformers' generate, prompt after prompt."""
    how: dict[str, Any] = {"do_sample": False}
    if sampling.temperature:
        how = {
            "do_sample": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": 0,
            "num_return_sequences": sampling.n_samples,
        }
    answers = {}
    for prompt in prompts:
        ids = tokenizer(prompt.text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=sampling.max_new_tokens,
                pad_token_id=1,
                stopping_criteria=StoppingCriteriaList([AllStopped(tokenizer, ids.shape[1])]),
                **how,
            )
        answers[prompt.problem_id] = out[:, ids.shape[1] :].tolist()
    return answers


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU time of the process while `work` ran, and what it returned."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def main() -> None:
    """Run the four ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="folder of a trained model with its tokenizer")
    parser.add_argument("--prompts", type=int, default=240, help="for the greedy rows")
    parser.add_argument("--sampled-prompts", type=int, default=48, help="for the sampling rows")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=None)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()

    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    if given.model:
        disable_progress_bar()
        model = AutoModelForCausalLM.from_pretrained(given.model).eval()
        tokenizer = AutoTokenizer.from_pretrained(given.model)
    else:
        model, tokenizer = random_model().eval(), trained_tokenizer()
    budget = {"batch_tokens": given.batch_tokens} if given.batch_tokens else {}
    engine = HFEngine(model, tokenizer, **budget)
    prompts = prompts_of(given.prompts)
    few = prompts[: given.sampled_prompts]

    def theirs(asked: Sequence[Prompt], sampling: Sampling) -> tuple[float, dict[str, list[int]]]:
        spent, answers = cpu_seconds(lambda: generate_each(model, tokenizer, asked, sampling))
        return spent, {
            name: [useful(ids, tokenizer) for ids in rows] for name, rows in answers.items()
        }

    def ours(asked: Sequence[Prompt], sampling: Sampling) -> tuple[float, dict[str, list[int]]]:
        spent, samples = cpu_seconds(lambda: list(engine.complete(asked, sampling)))
        counts: dict[str, list[int]] = {}
        sample: Sample
        for sample in samples:
            counts.setdefault(sample.problem_id, []).append(sample.n_completion_tokens)
        return spent, counts

    ways = {
        "one at a time": (theirs, prompts, GREEDY),
        "20 of a prompt": (theirs, few, SAMPLED),
        "ours, greedy": (ours, prompts, GREEDY),
        "ours, 20 each": (ours, few, SAMPLED),
    }
    for way, asked, sampling in ways.values():
        way(asked[:4], sampling)  # libraries load and buffers grow outside the measurement
    rates: dict[str, float] = {}
    counts: dict[str, dict[str, list[int]]] = {}
    for _ in range(given.rounds):
        for name, (way, asked, sampling) in ways.items():
            spent, counts[name] = way(asked, sampling)
            n_tokens = sum(map(sum, counts[name].values()))
            rates[name] = max(rates.get(name, 0.0), n_tokens / spent)

    differing = [
        name
        for name in counts["ours, greedy"]
        if counts["ours, greedy"][name] != counts["one at a time"][name]
    ]
    baseline = {"ours, greedy": "one at a time", "ours, 20 each": "20 of a prompt"}
    rows = [
        {
            "way": name,
            "prompts": len(counts[name]),
            "completions": sum(map(len, counts[name].values())),
            "useful_tokens": sum(map(sum, counts[name].values())),
            "tokens_per_cpu_s": round(rates[name], 1),
            "ratio": round(rates[name] / rates[baseline.get(name, name)], 2),
        }
        for name in ways
    ]
    if given.json:
        print(json.dumps({"rows": rows, "greedy_lengths_that_differ": differing}))
        return
    heads = ("prompts", "completions", "useful tokens", "per CPU s", "ratio")
    print(f"{'':16}{heads[0]:>9}{heads[1]:>13}{heads[2]:>15}{heads[3]:>11}{heads[4]:>8}")
    for row in rows:
        print(
            f"{row['way']:16}{row['prompts']:9}{row['completions']:13}{row['useful_tokens']:15,}"
            f"{row['tokens_per_cpu_s']:11,.0f}{row['ratio']:8.1f}"
        )
    print(f"greedy completions of another length than one at a time: {len(differing)}")


if __name__ == "__main__":
    main()
