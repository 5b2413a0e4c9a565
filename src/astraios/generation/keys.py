"""What a sample is known by: its key, and the hash of the prompt it answers."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from astraios.errors import DataError
from astraios.generation import Key
from astraios.records import Prompt, Sample, Sampling


def key(sample: Sample) -> Key:
    """`(problem_id, index, turn)`."""
    return sample.problem_id, sample.index, sample.turn


def wanted(prompt: Prompt, sampling: Sampling, skip: frozenset[Key]) -> tuple[int, ...]:
    """Indices of the samples that `prompt` still needs, ascending."""
    indices = range(sampling.n_samples) if prompt.index is None else (prompt.index,)
    return tuple(i for i in indices if (prompt.problem_id, i, prompt.turn) not in skip)


def check_distinct(prompts: Iterable[Prompt]) -> None:
    """Refuse two prompts that ask for one sample: they would overwrite each other.

    Raises:
        DataError: naming the problem, the turn and, where prompts have one, the index.
    """
    seen: dict[tuple[str, int], set[int | None]] = {}
    for prompt in prompts:
        indices = seen.setdefault((prompt.problem_id, prompt.turn), set())
        shared = prompt.index in indices or (indices and None in (prompt.index, *indices))
        if shared:
            which = "" if prompt.index is None else f", sample {prompt.index}"
            raise DataError(
                f"problem {prompt.problem_id!r}, turn {prompt.turn}{which} is asked twice; give "
                "each prompt a problem_id of its own"
            )
        indices.add(prompt.index)


def prompt_sha(text: str) -> str:
    """First 16 hex digits of the SHA-256 of a prompt's text."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def stream(seed: int, problem_id: str, index: int, turn: int) -> int:
    """The random stream of one completion, a signed 64-bit number."""
    label = f"{seed}\0{index}\0{turn}\0{problem_id}"
    digest = sha256(label.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
