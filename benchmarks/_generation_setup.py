"""What `generation.py` measures with: models of a known shape, their tokenizer, prompts, clocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPTBigCodeConfig,
    GPTBigCodeForCausalLM,
    PreTrainedTokenizerFast,
    StoppingCriteria,
    StoppingCriteriaList,
)

from astraios.minipack.documents import pretraining_documents
from astraios.minipack.problems import Part, benchmark
from astraios.records import Prompt, Sampling
from astraios.templates import template

STOPS = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```", "<file_sep>")
"""Stop words of the harness's Python tasks."""
FIRST_END, ENDS_ONE_IN = 58, 8
"""Prompts have about 36 tokens."""
SHAPES = {
    "minipack-0.7m": {
        "vocab_size": 768,
        "n_positions": 256,
        "n_embd": 128,
        "n_layer": 3,
        "n_head": 4,
        "initializer_range": 0.15,
    },
    "starcoderbase-1b": {
        "vocab_size": 49152,
        "n_positions": 8192,
        "n_embd": 2048,
        "n_inner": 8192,
        "n_layer": 24,
        "n_head": 16,
        "initializer_range": 0.05,
    },
}
"""Of the embedded study's model, and of the smallest model of the paper."""


class EndingModel(GPTBigCodeForCausalLM):
    """Random weights that end texts by lot: after which token, at which position."""

    first_end, ends_one_in = FIRST_END, ENDS_ONE_IN

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor | None = None,
        logits_to_keep: int = 0,
        **rest: Any,
    ) -> Any:
        output = super().forward(
            input_ids=input_ids, position_ids=position_ids, logits_to_keep=logits_to_keep, **rest
        )
        if position_ids is None:  # a probe of an adapter, and no generation
            return output
        tokens, places = input_ids[:, -1], position_ids[:, -1]
        lots = ((tokens * 2654435761 + places * 40503 * 65537) >> 9) % self.ends_one_in
        ends = (lots == 0) & (places >= self.first_end)
        output.logits[:, -1, 0] = torch.where(ends, 1e4, -1e4).to(output.logits.dtype)
        return output


def random_model(shape: str) -> Any:
    """A model of that shape."""
    torch.manual_seed(0)
    config = GPTBigCodeConfig(
        multi_query=True, bos_token_id=0, eos_token_id=0, pad_token_id=1, **SHAPES[shape]
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
        ids = tokenizer(prompt.text, return_tensors="pt")["input_ids"].to(model.device)
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


class Clock:
    """Seconds of work: CPU seconds of this process on a CPU, else wall seconds of the device."""

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda")
        self.unit = "s" if self._cuda else "CPU s"

    def __call__(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """How long `work` took, and what it returned."""
        start = self._now()
        result = work()
        return self._now() - start, result

    def _now(self) -> float:
        if not self._cuda:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


def copy_bandwidth(device: str, clock: Clock) -> float:
    """Bytes read and written a second, copying 256 MiB; best of some."""
    source = torch.ones(2**26, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    best = min(clock(lambda: target.copy_(source))[0] for _ in range(5))
    return 2 * source.nbytes / best
