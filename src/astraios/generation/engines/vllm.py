"""vLLM, in an environment of its own and spoken to over HTTP, so that versions never conflict.

Tokens go in and tokens come out: prompts are read by our tokenizer and completions are spelled by
it, so text, counts and ends are those of the hf engine, up to the tokens that vLLM chooses.

    engine_options.python=/opt/vllm/bin/python      a server is started, and ended with the engine
    engine_options.url=http://host:8000             a server that runs already

*What is held.* One request a sample, with a seed that is a function of (seed, problem, index,
turn); requests end as soon as their completions do. *What is not held.* Equality of long
completions in half precision: vLLM batches as it likes and rounds accordingly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

from astraios.config import validate
from astraios.errors import AstraiosError, ConfigError, EngineError
from astraios.generation import Drawn, Engine, Finished, Key, Model, check_supports
from astraios.generation.engines import _protocol as protocol
from astraios.generation.engines import _refusals as refusals
from astraios.generation.engines import _vllm_served as served
from astraios.generation.engines._asking import Asker
from astraios.generation.engines._http import Client, Failed, Refused, library
from astraios.generation.engines._options import VLLMOptions
from astraios.generation.engines._vllm_routes import Route, route_of, unseen
from astraios.records import Prompt, Sample, Sampling

if TYPE_CHECKING:
    from astraios.generation.engines._rows import Question, Row
    from astraios.generation.engines._vllm_reading import Reading

log = logging.getLogger(__name__)

N_OTHERS = 5
PLAIN = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Said with every request: a server may have taken other values from the model's own files."""


@final
class VLLMEngine(Engine):
    """Completions from a server of vLLM; `open` makes one.

    Args:
        options: how the server is spoken to.
        target: the server, and what it serves.
        reading: makes requests of prompts.
        model: what is served.
    """

    name = "vllm"
    hosts = "fft, lora, merged ia3 and others that merge, ptuning by embeddings"

    def __init__(
        self, options: VLLMOptions, target: served.Target, reading: Reading, model: Model
    ) -> None:
        from astraios.generation.engines._making import Maker
        from astraios.generation.engines._placing import end_tokens, n_positions, special_tokens
        from astraios.generation.engines._questions import Reader
        from astraios.generation.engines._text import Detokenizer

        self._target = target
        self._reading = reading
        self._options = options
        self._precision = model.precision if target.process is not None else None
        n_places = target.n_positions or n_positions(reading.config)
        self._n_free = n_places - reading.n_virtual
        self._reader = Reader(reading.tokenizer, n_places, reading.n_virtual, model.long_prompts)
        self._detokenizer = Detokenizer(reading.tokenizer)
        self._eos = end_tokens(reading, reading.tokenizer)
        special = special_tokens(reading.tokenizer)
        self._maker = Maker(self._reader, self._detokenizer, self._eos, special)
        check = (lambda: None) if target.process is None else target.process.check
        self._asker = Asker(target.server, options.n_at_once, options.tries, self._explained, check)

    @classmethod
    def supports(cls, method: str) -> bool:
        """LoRA, what merges, and virtual tokens; adapters between layers are not among them."""
        return route_of(method) is not None

    @classmethod
    def check(cls, model: Model) -> None:
        """See `Engine.check`."""
        options = validate(dict(model.options), VLLMOptions, source="engine_options")
        if route_of(model.method, merge=options.merge) is None:
            check_supports(cls, model.method)
            raise ConfigError(f"method {model.method!r} cannot be merged; leave out merge=true")

    @classmethod
    def check_tools(cls, model: Model) -> None:
        """See `Engine.check_tools`."""
        options = validate(dict(model.options), VLLMOptions, source="engine_options")
        library()
        if options.url is None:
            served.interpreter(options)

    @classmethod
    def open(cls, model: Model) -> VLLMEngine:
        """Start a server, or find the one that runs.

        A server that is started reads what it serves from `Model.folder` where that has to be
        prepared, and logs to `vllm.log` there.

        Raises:
            ConfigError: if an option is wrong or the method cannot be hosted.
            MissingToolError: if there is no vLLM.
            MethodError: if vLLM cannot serve this adapter as it is.
            EngineError: if the server does not start, is not there or serves another model.
        """
        cls.check(model)
        cls.check_tools(model)
        options = validate(dict(model.options), VLLMOptions, source="engine_options")
        route = route_of(model.method, merge=options.merge)
        assert route is not None
        from astraios.generation.engines._vllm_reading import Embeddings, Ids

        reading: Reading = Embeddings(model) if route is Route.EMBEDS else Ids(model)
        if route is Route.ADAPTER and options.model is None and model.adapter is not None:
            left_out = unseen(model.adapter, reading.config.model_type)
            if left_out is not None:
                log.warning(
                    "vllm leaves out LoRA of %r in this architecture, so the adapter is served "
                    "merged into its base",
                    left_out,
                )
                route = Route.MERGED
        target = served.target(model, options, route)
        try:
            return cls(options, target, reading, model)
        except BaseException:
            target.close()
            raise

    # --- completions --------------------------------------------------------------------------

    def complete(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        finished: Finished | None = None,
        skip: frozenset[Key] = frozenset(),
        progress: Callable[[int], Any] | None = None,
    ) -> Iterator[Sample]:
        """See `Engine.complete`. All prompts are checked before the first is sent.

        Raises:
            DataError: if a prompt cannot be asked.
            EngineError: if the server refuses requests, or a long row of them had no answer.
        """
        from astraios.generation.engines._making import sample_of

        async def work(client: Client, asked: Row) -> Sample:
            row = await self._row(client, asked, sampling)
            told = None
            if row.index == 0 and row.question.answers:
                told = await self._told(client, row.question)
            return sample_of(row, told)

        rows = self._maker.rows(prompts, sampling, finished, skip, adapter=0)
        for row, result in self._asker.each(rows, work, progress):
            if isinstance(result, Failed):
                question = row.question
                yield protocol.fault(
                    question.problem_id, row.index, question.turn, question.sha, str(result)
                )
            else:
                yield result

    async def _row(self, client: Client, asked: Row, sampling: Sampling) -> Row:
        """The completion, token by token until it has ended; `asked` stays as it is."""
        question = asked.question
        row = replace(asked, ids=[])
        body = self._body(question.ids) | {
            "max_tokens": min(sampling.max_new_tokens, question.room),
            "stream": True,
            "return_token_ids": True,
            **protocol.drawing(sampling, row.random),
        }
        reply = protocol.Reply()
        async with aclosing(client.events(protocol.COMPLETIONS, body)) as events:
            async for event in events:
                piece = reply.read(event)
                if piece.ids is None and piece.text:
                    raise EngineError(
                        "the server does not tell its tokens (return_token_ids); use a newer vLLM, "
                        "or engine openai, which asks for text"
                    )
                ids = piece.ids or ()
                self._asker.count(len(ids))
                if any(row.push(token) for token in ids):  # up to the token that ends it
                    return row
        row.finish = reply.finish()
        return row

    def _body(self, ids: Sequence[int]) -> dict[str, Any]:
        body = {"model": self._target.name, "stop_token_ids": sorted(self._eos), **PLAIN}
        return body | self._reading.body(ids)

    def spelled(self, prompt: Prompt) -> Prompt:
        """`prompt` as the model reads it: a conversation by the tokenizer's chat template."""
        from astraios.generation.engines._chat import spelled

        return spelled(prompt, self._reading.tokenizer) if prompt.kind == "chat" else prompt

    # --- tokens and likelihoods ---------------------------------------------------------------

    def trace(self, prompts: Sequence[Prompt], n_tokens: int) -> list[list[Drawn]]:
        """See `Engine.trace`; tokens with their numbers."""
        plain = [p.model_copy(update={"stops": (), "answers": ()}) for p in prompts]
        questions = self._reader.read(plain, n_tokens)

        async def work(client: Client, question: Question) -> list[Drawn]:
            body = self._body(question.ids) | {
                "max_tokens": min(n_tokens, question.room),
                "temperature": 0,
                "logprobs": N_OTHERS,
                "return_tokens_as_token_ids": True,
            }
            found = protocol.drawn(await client.answer(protocol.COMPLETIONS, body))
            return [self._spelled_out(token) for token in found]

        return self._asker.map(questions, work, "tracing greedy tokens")

    def _spelled_out(self, token: Drawn) -> Drawn:
        number = _number(token.text)
        others: dict[str, float] = {}
        for name, value in token.others.items():
            others.setdefault(self._detokenizer.spelling(_number(name)), value)
        text = self._detokenizer.spelling(number)
        return Drawn(text, token.log_probability, others, number)

    def log_likelihoods(self, prompts: Sequence[Prompt]) -> Iterator[dict[str, float] | None]:
        """See `Engine.log_likelihoods`."""
        questions = self._reader.read(prompts, 0, may_fill=True)
        yield from self._asker.map(questions, self._told, "asking for likelihoods")

    async def _told(self, client: Client, question: Question) -> dict[str, float] | None:
        """Each answer with its log-likelihood; None if one does not fit the context."""
        longest = max((len(ids) for _, ids in question.answers), default=0)
        if len(question.ids) + longest >= self._n_free:  # vLLM always draws one token more
            return None
        # vLLM tells nothing of embeddings, and 0.32 dies of such a request for an adapter on a CPU
        is_plain = self._target.route in (Route.BASE, Route.MERGED)
        one = self._of_prompt if is_plain else self._one_by_one
        return {
            answer: protocol.likelihood(await one(client, question.ids, ids))
            for answer, ids in question.answers
        }

    async def _of_prompt(
        self, client: Client, ids: tuple[int, ...], answer: tuple[int, ...]
    ) -> list[float]:
        """Prompt and answer as one prompt, whose log-probabilities vLLM tells."""
        body = self._body((*ids, *answer)) | {"max_tokens": 1, "prompt_logprobs": 0}
        reply = await client.answer(protocol.COMPLETIONS, body)
        try:
            told = reply["choices"][0]["prompt_logprobs"][len(ids) :]
            return [
                float(place[str(token)]["logprob"])
                for place, token in zip(told, answer, strict=True)
            ]
        except (TypeError, KeyError, IndexError, ValueError):
            raise EngineError(
                "the server does not tell log-probabilities of prompts; use engine hf"
            ) from None

    async def _one_by_one(
        self, client: Client, ids: tuple[int, ...], answer: tuple[int, ...]
    ) -> list[float]:
        """One request a token, where vLLM tells nothing of prompts.

        Only the answer's token may be drawn, which leaves its log-probability as it is.
        """
        values = []
        for place, token in enumerate(answer):
            body = self._body((*ids, *answer[:place])) | {
                "max_tokens": 1,
                "temperature": 0,
                "logprobs": 1,
                "allowed_token_ids": [token],
                "return_tokens_as_token_ids": True,
            }
            found = protocol.drawn(await client.answer(protocol.COMPLETIONS, body))
            if not found or _number(found[0].text) != token:
                raise EngineError("the server drew a token that was not allowed; use engine hf")
            values.append(found[0].log_probability)
        return values

    # --- the rest -----------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """Version of vLLM, and how the model is served."""
        told = {"vllm": self._target.version, "route": self._target.route.value}
        return told if self._precision is None else told | {"precision": self._precision}

    def close(self) -> None:
        """End the server that was started, or unload the adapter from the one that was there."""
        self._target.close()

    def _explained(self, refused: Refused, job: Any) -> AstraiosError:
        # a row, or a question with its number
        question = job[1] if isinstance(job, tuple) else job.question
        where = f"problem {question.problem_id!r}, turn {question.turn}"
        return refusals.explained(
            refused, where, self._target.server, self._options, self._target.name
        )


engine = VLLMEngine


def _number(name: str) -> int:
    """Of a token that is written as `token_id:17`."""
    head, _, number = name.partition(":")
    if head != "token_id" or not number.isdigit():
        raise Failed(f"the server wrote a token as {name!r} where its number was asked")
    return int(number)
