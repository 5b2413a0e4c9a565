"""The reference engine: any causal language model of transformers, tuned by any method.

Text and counts of a greedy completion are the same for every batch size, and those of a sampled one
depend on (seed, problem, index, turn) only. What is held: equality in float32 up to ties nearer
than rounding, as a batch of another shape adds numbers in another order. What is not held: equality
of long completions across batch sizes in bfloat16 and float16, whose rounding is coarse enough to
meet such ties often.

The module imports torch inside functions, so asking what the engine supports costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, final

from astraios import methods
from astraios.errors import ConfigError, DataError
from astraios.generation import Engine, Finished, Key, Model
from astraios.generation.keys import prompt_sha, wanted
from astraios.methods import Method
from astraios.records import Prompt, Sample, Sampling

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from astraios.generation.engines._rows import Ending, Question, Row

BATCH_TOKENS = 24576
"""Default budget: tokens whose keys and values a batch may hold, padding counted."""


@final
class HFEngine(Engine):
    """Batched decoding with a key-value cache, every method supported.

    Args:
        model: a loaded causal language model, or one that `method` has tuned. It is switched to
            evaluation mode.
        tokenizer: its tokenizer.
        method: what tuned the model; None for a plain model and for full fine-tuning.
        batch_tokens: budget of a batch: tokens whose keys and values it may hold, padding counted.
            Changes speed and memory, never a completion. `BATCH_TOKENS` by default.
        device: moves the model there; None leaves it.
        dtype: converts the model to it (`bfloat16`, ...); None leaves it.

    Raises:
        ConfigError: if there is no such device or precision here.
        EngineError: if the model remembers more than keys and values (recurrent layers).
    """

    name = "hf"
    hosts = "every method whose prompt can be given row by row"

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        method: Method | None = None,
        *,
        batch_tokens: int | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> None:
        from astraios.generation.engines._cache import check_model
        from astraios.generation.engines._text import Detokenizer

        self._model = _placed(model, device, dtype).eval()
        self._decoder = self._model if method is None else method.decoder(self._model)
        self._config: Any = self._decoder.config
        check_model(self._config)
        # ALiBi models name no limit
        self._n_positions = getattr(self._config, "max_position_embeddings", None) or _UNLIMITED
        self._tokenizer = tokenizer
        self._method = method
        self._batch_tokens = batch_tokens or BATCH_TOKENS
        self._detokenizer = Detokenizer(tokenizer)
        self._eos = _end_tokens(self._decoder, tokenizer)

    @classmethod
    def supports(cls, method: str) -> bool:
        """Every method whose input can be given row by row: the adapter runs as it was trained."""
        return methods.method(method).batched

    @classmethod
    def open(cls, model: Model) -> HFEngine:
        """Load the model here; takes no options."""
        if model.options:
            raise ConfigError(f"engine hf has no option {next(iter(model.options))!r}; remove it")
        loaded, tokenizer, method = model.load()
        return cls(
            loaded,
            tokenizer,
            method,
            batch_tokens=model.batch_tokens,
            device=model.device,
            dtype=model.precision,
        )

    def complete(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        finished: Finished | None = None,
        skip: frozenset[Key] = frozenset(),
        progress: Callable[[int], Any] | None = None,
    ) -> Iterator[Sample]:
        """See `Engine.complete`. All prompts are checked before the first token is drawn."""
        from astraios.generation.engines._likelihoods import Likelihoods
        from astraios.generation.engines._loop import Loop, prefill_tokens
        from astraios.generation.engines._rows import Ending
        from astraios.generation.engines._sampling import Drawing

        asked = [(prompt, wanted(prompt, sampling, skip)) for prompt in prompts]
        asked = [(prompt, indices) for prompt, indices in asked if indices]
        if not asked:
            return
        n_virtual = self._n_virtual()
        ending = Ending(self._eos, sampling.max_new_tokens, finished, self._detokenizer)
        rows = self._rows(asked, sampling, ending, n_virtual)
        loop = Loop(
            self._decoder,
            self._inputs,
            n_virtual,
            self._n_positions,
            Drawing(sampling.temperature, sampling.top_p),
            self._batch_tokens,
        )
        likelihoods = Likelihoods(
            self._decoder,
            self._inputs,
            n_virtual,
            self._n_positions,
            prefill_tokens(next(self._decoder.parameters()).device),
        )
        for row, told in likelihoods.of(loop.run(rows, progress)):
            yield _sample(row, told)

    def environment(self) -> dict[str, str]:
        """Device and precision of the model."""
        weight = next(self._decoder.parameters())
        precision = str(weight.dtype).removeprefix("torch.")
        return {"device": weight.device.type, "precision": precision}

    def n_parameters(self) -> int:
        """All weights of the tuned model, tied ones counted once."""
        return sum(weight.numel() for weight in self._model.parameters())

    def peak_mib(self) -> float | None:
        """Memory reserved on the accelerator; None on a CPU."""
        import torch

        device = next(self._decoder.parameters()).device
        if device.type == "cuda":
            return torch.cuda.max_memory_reserved(device) / 2**20
        return None

    def _inputs(self, ids_PT: Tensor, mask_PT: Tensor) -> dict[str, Any]:
        if self._method is not None:
            return self._method.inputs(self._model, ids_PT, mask_PT)
        return {
            "input_ids": ids_PT,
            "attention_mask": mask_PT,
            "position_ids": (mask_PT.cumsum(-1) - 1).clamp(min=0),
        }

    def _n_virtual(self) -> int:
        """Tokens that the method puts in front of a prompt."""
        import torch

        if self._method is None:
            return 0
        with torch.inference_mode():
            one_11 = torch.ones(
                1, 1, dtype=torch.long, device=next(self._decoder.parameters()).device
            )
            width: int = self._method.inputs(self._model, one_11, one_11)["attention_mask"].shape[1]
        return width - 1

    def _rows(
        self,
        asked: Sequence[tuple[Prompt, tuple[int, ...]]],
        sampling: Sampling,
        ending: Ending,
        n_virtual: int,
    ) -> list[Row]:
        """One row a completion; every prompt is checked."""
        from astraios.generation.engines._rows import Row
        from astraios.generation.engines._sampling import stream

        rows = []
        encoded = self._tokenizer([prompt.text for prompt, _ in asked])["input_ids"]
        for (prompt, indices), ids in zip(asked, encoded, strict=True):
            question = self._question(prompt, ids, n_virtual)
            for index in indices:
                random = stream(sampling.seed, prompt.problem_id, index, prompt.turn)
                rows.append(Row(question, index, random, ending))
        return rows

    def _question(self, prompt: Prompt, ids: list[int], n_virtual: int) -> Question:
        from astraios.generation.engines._rows import Question

        end, end_id = self._tokenizer.eos_token, self._tokenizer.eos_token_id
        if len(ids) > 1 and ids[-1] == end_id and not prompt.text.endswith(end):
            ids = ids[:-1]  # some tokenizers end every text; a prompt goes on
        answers = tuple(
            (answer, self._answer(prompt.text, ids, answer)) for answer in prompt.answers
        )
        if prompt.max_length is not None:
            ids = ids[-prompt.max_length :]
        if not ids:
            raise DataError(
                f"problem {prompt.problem_id!r}, turn {prompt.turn}: the prompt is empty, "
                "a model needs at least one token to go on from"
            )
        room = self._n_positions - n_virtual - len(ids)
        if room <= 0:
            virtual = f" and {n_virtual} virtual tokens" if n_virtual else ""
            raise DataError(
                f"problem {prompt.problem_id!r}, turn {prompt.turn}: the prompt has {len(ids)} "
                f"tokens{virtual}, which leaves no room for an answer within the model's "
                f"{self._n_positions} positions; shorten the prompt or use a model with a longer "
                "context"
            )
        if prompt.max_length is not None:
            room = min(room, max(1, prompt.max_length - len(ids)))
        return Question(
            problem_id=prompt.problem_id,
            turn=prompt.turn,
            sha=prompt_sha(prompt.text),
            ids=tuple(ids),
            stops=tuple(filter(None, prompt.stops)),
            room=room,
            answers=answers,
        )

    def _answer(self, prompt: str, prompt_ids: list[int], answer: str) -> tuple[int, ...]:
        """Tokens of `answer` behind the prompt's.

        They are what the tokenizer makes of the whole text, unless a token spans the boundary:
        then the answer's alone, since the prompt is asked in its own tokens.
        """
        end, end_id = self._tokenizer.eos_token, self._tokenizer.eos_token_id
        whole = self._tokenizer(prompt + answer)["input_ids"]
        ids = whole[len(prompt_ids) :]
        if whole[: len(prompt_ids)] != prompt_ids or not ids:
            ids = self._tokenizer(answer, add_special_tokens=False)["input_ids"]
        if len(ids) > 1 and ids[-1] == end_id and not answer.endswith(end):
            ids = ids[:-1]
        if not ids:
            raise DataError(f"answer {answer!r} has no tokens, so it has no likelihood")
        return tuple(ids)


engine = HFEngine

_UNLIMITED = 2**62


def _placed(
    model: nn.Module, device: str | torch.device | None, dtype: str | torch.dtype | None
) -> nn.Module:
    import torch

    if isinstance(dtype, str):
        named = getattr(torch, dtype, None)
        if not isinstance(named, torch.dtype):
            raise ConfigError(f"unknown precision {dtype!r}; known: float32, bfloat16, float16")
        dtype = named
    if device is not None:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:  # torch raises both for what is not there
            first = str(error).split("\n")[0]
            raise ConfigError(
                f"device {str(device)!r} cannot be used: {first}; try 'cpu'"
            ) from None
    return model if device is None and dtype is None else model.to(device=device, dtype=dtype)


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every id that ends a text, by the tokenizer, the config or the generation config."""
    named = [
        tokenizer.eos_token_id,
        getattr(model.config, "eos_token_id", None),
        getattr(getattr(model, "generation_config", None), "eos_token_id", None),
    ]
    ids: set[int] = set()
    for value in named:
        ids.update(value if isinstance(value, list | tuple) else () if value is None else (value,))
    return frozenset(ids)


def _sample(row: Row, likelihoods: dict[str, float] | None) -> Sample:
    assert row.finish is not None
    question = row.question
    return Sample(
        problem_id=question.problem_id,
        index=row.index,
        turn=question.turn,
        prompt_sha=question.sha,
        completion=row.text(),
        finish=row.finish,
        n_prompt_tokens=len(question.ids),
        n_completion_tokens=len(row.ids),
        likelihoods=likelihoods,
    )
