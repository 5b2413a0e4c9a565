"""What a sample is known by: its key, and the hash of the prompt it answers."""

from __future__ import annotations

from hashlib import sha256

from astraios.generation import Key
from astraios.records import Prompt, Sample, Sampling


def key(sample: Sample) -> Key:
    """`(problem_id, index, turn)`."""
    return sample.problem_id, sample.index, sample.turn


def wanted(prompt: Prompt, sampling: Sampling, skip: frozenset[Key]) -> tuple[int, ...]:
    """Indices of the samples that `prompt` still needs, ascending."""
    indices = range(sampling.n_samples) if prompt.index is None else (prompt.index,)
    return tuple(i for i in indices if (prompt.problem_id, i, prompt.turn) not in skip)


def prompt_sha(text: str) -> str:
    """First 16 hex digits of the SHA-256 of a prompt's text."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def stream(seed: int, problem_id: str, index: int, turn: int) -> int:
    """The random stream of one completion, a signed 64-bit number."""
    label = f"{seed}\0{index}\0{turn}\0{problem_id}"
    digest = sha256(label.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
