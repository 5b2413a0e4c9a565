"""Any server that speaks OpenAI's protocol: vLLM, TGI, llama.cpp, hosted models.

*What is held.* One request a sample, with a seed that is a function of (seed, problem, index,
turn); completions end by the rule of the hf engine, looked for here while they stream in; a request
ends as soon as its completion does.

*What is not held.* Which weights answer: such a server cannot be told to load any, so the served
model is named by the user (a tuned one has to be), and compared with hf by the parity gate. Equal
samples of equal seeds: that is the server's to keep. Cutting of long prompts: the tokenizer is the
server's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, final

from astraios import methods
from astraios.config import validate
from astraios.errors import AstraiosError, ConfigError, DataError, EngineError
from astraios.generation import Drawn, Engine, Finished, Key, Model
from astraios.generation.engines import _protocol as protocol
from astraios.generation.engines import _refusals as refusals
from astraios.generation.engines._asking import Asker
from astraios.generation.engines._http import Client, Failed, Refused, library
from astraios.generation.engines._models import served_model
from astraios.generation.engines._options import OpenAIOptions
from astraios.generation.engines._text_answer import TextAnswer
from astraios.generation.keys import check_distinct, prompt_sha, stream, wanted
from astraios.records import Finish, Prompt, Sample, Sampling

log = logging.getLogger(__name__)

N_OTHERS = 5
"""Most probable tokens told by `trace`: what OpenAI's completions tell at most."""
Job = tuple[Prompt, int]
"""A prompt and the index of the sample it is asked for."""


@final
class OpenAIEngine(Engine):
    """Completions from a server.

    Args:
        options: where the server is and how it is spoken to; `url` has to be given.
        model: name under which the server knows the model.
    """

    name = "openai"
    hosts = "fft and what can be merged, served as a checkpoint, and lora, as the server's adapter"

    def __init__(self, options: OpenAIOptions, model: str) -> None:
        assert options.url is not None
        self._options = options
        self._model = model
        self._server = options.server(options.url)
        self._asker = Asker(self._server, options.n_at_once, options.tries, self._explained)
        self._left_out: set[str] = set()  # fields that this server has refused
        self._warned: set[str] = set()

    @classmethod
    def supports(cls, method: str) -> bool:
        """What some such server can serve under a name: whole checkpoints, and LoRA."""
        return methods.method(method).mergeable

    @classmethod
    def check(cls, model: Model) -> None:
        """See `Engine.check`; the address has to be given, and a tuned model's name."""
        options = validate(dict(model.options), OpenAIOptions, source="engine_options")
        if options.url is None:
            raise ConfigError("engine openai needs the server's address: engine_options.url=URL")
        if model.long_prompts == "cut":
            raise ConfigError(
                "engine openai cannot cut prompts: the tokenizer is the server's; use "
                "long_prompts=refuse, or engine vllm or hf"
            )
        if model.method is not None and options.model is None:
            raise ConfigError(
                f"engine openai cannot tell a server to load what {model.method!r} tuned: serve it "
                "(merged, or as the server's adapter) and give the name that the server knows it "
                "by: engine_options.model=NAME"
            )

    @classmethod
    def check_tools(cls, model: Model) -> None:
        """See `Engine.check_tools`."""
        library()

    @classmethod
    def open(cls, model: Model) -> OpenAIEngine:
        """Find the server and the model in it.

        Raises:
            ConfigError: if an option is wrong, or a tuned model is not named.
            EngineError: if the server is not there, refuses the key or does not serve the model.
        """
        cls.check(model)
        options = validate(dict(model.options), OpenAIOptions, source="engine_options")
        assert options.url is not None
        server = options.server(options.url)
        name = served_model(server, options, model.base_model)
        return cls(options, name)

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
        """See `Engine.complete`. What has no answer after all tries is a fault.

        Raises:
            DataError: if a prompt is empty, or too long for the model.
            ConfigError: if a prompt is to be cut to a number of tokens.
            EngineError: if the server refuses requests, or a long row of them had no answer.
        """
        check_distinct(prompts)
        jobs = [(p, index) for p in prompts for index in wanted(p, sampling, skip)]
        for prompt in prompts:
            self._check(prompt)

        async def work(client: Client, job: Job) -> Sample:
            while True:
                body = refusals.without(self._asked(job, sampling), self._left_out)
                try:
                    return await self._sample(client, job, body, finished)
                except Refused as refused:
                    found = refusals.objection(refused, body)
                    if found is None:
                        raise refusals.of_one_prompt(refused) from None
                    name, lost = found
                    self._left_out.add(name)
                    self._once(f"the server refuses the field {name!r}: {lost}")

        for (prompt, index), result in self._asker.each(jobs, work, progress):
            if isinstance(result, Failed):
                sha = prompt_sha(prompt.text)
                yield protocol.fault(prompt.problem_id, index, prompt.turn, sha, str(result))
            else:
                yield result

    def spelled(self, prompt: Prompt) -> Prompt:
        """The prompt itself: messages stay messages, and the server spells them."""
        return prompt

    def _check(self, prompt: Prompt) -> None:
        where = f"problem {prompt.problem_id!r}, turn {prompt.turn}"
        if prompt.kind == "chat":
            protocol.messages(prompt)
        if not prompt.text:
            raise DataError(
                f"{where}: the prompt is empty, a model needs at least one token to go on from"
            )
        if prompt.max_length is not None:
            raise ConfigError(
                f"{where}: the task cuts prompts to {prompt.max_length} tokens, which engine "
                "openai cannot count: the tokenizer is the server's; use engine vllm or hf"
            )

    def _asked(self, job: Job, sampling: Sampling) -> dict[str, Any]:
        """The request for one sample, with all that helps where a server knows it."""
        prompt, index = job
        random = stream(sampling.seed, prompt.problem_id, index, prompt.turn)
        body = self._question(prompt)
        body |= {"max_tokens": sampling.max_new_tokens, **protocol.drawing(sampling, random)}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        if self._options.logprobs:
            body["logprobs"] = True if "messages" in body else 1
        return body

    async def _sample(
        self, client: Client, job: Job, body: dict[str, Any], finished: Finished | None
    ) -> Sample:
        prompt, index = job
        n_most = body.get("max_tokens") or body[refusals.NEWER]
        answer = TextAnswer(prompt.stops, finished, n_most)
        reply = protocol.Reply()
        async with aclosing(client.events(_path(body), body)) as events:
            async for event in events:
                piece = reply.read(event)
                before = answer.n_tokens
                answer.push(piece.text, piece.tokens)
                self._asker.count(answer.n_tokens - before)
                if answer.ended or answer.is_full:
                    break
        if answer.ended:
            finish = Finish.STOP
        else:
            finish = Finish.LENGTH if answer.is_full else reply.finish(n_most)
        self._warn_about(reply, answer)
        told = None
        if index == 0 and prompt.answers:
            told = await self._likelihoods(client, prompt)
        n_tokens = answer.n_tokens
        if not (answer.ended or answer.is_full) and reply.n_completion_tokens is not None:
            n_tokens = reply.n_completion_tokens
        return Sample(
            problem_id=prompt.problem_id,
            index=index,
            turn=prompt.turn,
            prompt_sha=prompt_sha(prompt.text),
            completion=answer.text,
            finish=finish,
            n_prompt_tokens=reply.n_prompt_tokens or 0,
            n_completion_tokens=n_tokens,
            likelihoods=told,
        )

    def _question(self, prompt: Prompt) -> dict[str, Any]:
        """The fields that say model and prompt."""
        if prompt.kind == "chat":
            return {"model": self._model, **protocol.conversation(prompt)}
        if self._options.endpoint == "chat":
            message = {"role": "user", "content": prompt.text}
            return {"model": self._model, "messages": [message]}
        return {"model": self._model, "prompt": prompt.text}

    def _warn_about(self, reply: protocol.Reply, answer: TextAnswer) -> None:
        if reply.model is not None and reply.model != self._model:
            model = self._server.clean(reply.model)
            self._once(f"the server answers as model {model!r} where {self._model!r} was asked")
        if answer.is_full:
            self._once("the server goes on after max_tokens; completions are cut there")
        elif not answer.ended and reply.reason is None:
            self._once("the server does not say why completions end (finish_reason)")
        if self._options.logprobs and not reply.tells_tokens:
            self._once(
                "the server tells no tokens: completions end with the last character of a stop, "
                "and token counts are the server's or numbers of events"
            )

    def _once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            log.warning("engine openai: %s", message)

    # --- tokens and likelihoods ---------------------------------------------------------------

    def trace(self, prompts: Sequence[Prompt], n_tokens: int) -> list[list[Drawn]]:
        """See `Engine.trace`; tokens as the server writes them, without numbers."""
        for prompt in prompts:
            self._check(prompt)

        async def work(client: Client, prompt: Prompt) -> list[Drawn]:
            body = self._question(prompt) | {"max_tokens": n_tokens, "temperature": 0}
            if "messages" in body:
                body |= {"logprobs": True, "top_logprobs": N_OTHERS}
            else:
                body |= {"logprobs": N_OTHERS}
            return protocol.drawn(await client.answer(_path(body), body))

        return self._asker.map(prompts, work, "tracing greedy tokens")

    def log_likelihoods(self, prompts: Sequence[Prompt]) -> Iterator[dict[str, float] | None]:
        """See `Engine.log_likelihoods`; needs a server that echoes prompts with log-probabilities.

        Raises:
            EngineError: if it does not, or a token spans the end of a prompt.
        """
        for prompt in prompts:
            self._check(prompt)
        yield from self._asker.map(prompts, self._told, "asking for likelihoods")

    async def _likelihoods(self, client: Client, prompt: Prompt) -> dict[str, float] | None:
        """Those of a prompt's answers; None, said once, where the server cannot tell."""
        if prompt.kind == "chat" or self._options.endpoint == "chat":
            self._once("chat endpoints tell no likelihoods of answers; samples have none")
            return None
        try:
            return await self._told(client, prompt)
        except (Refused, EngineError) as error:
            self._once(f"samples have no likelihoods: {error}")
            return None

    async def _told(self, client: Client, prompt: Prompt) -> dict[str, float]:
        if prompt.kind == "chat" or self._options.endpoint == "chat":
            raise EngineError("chat endpoints tell no likelihoods; use engine hf or vllm")

        async def echoed(text: str) -> tuple[list[str], list[float | None]]:
            body = {"model": self._model, "prompt": text, "max_tokens": 0, "echo": True}
            found = await client.answer(protocol.COMPLETIONS, body | {"logprobs": 1})
            return protocol.echoed(found)

        before, _ = await echoed(prompt.text)
        told = {}
        for answer in prompt.answers:
            tokens, values = await echoed(prompt.text + answer)
            if len(tokens) <= len(before) or tokens[: len(before)] != before:
                raise EngineError(
                    f"problem {prompt.problem_id!r}: a token spans the end of the prompt and the "
                    f"answer {answer!r}, which engine openai cannot take apart; use engine vllm "
                    "or hf"
                )
            told[answer] = protocol.likelihood(values[len(before) :])
        return told

    # --- the rest -----------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """Which of the server's endpoints answered; its weights and its machine are not known."""
        return {"endpoint": self._options.endpoint}

    def _explained(self, refused: Refused, job: Any) -> AstraiosError:
        prompt = job if isinstance(job, Prompt) else next(x for x in job if isinstance(x, Prompt))
        where = f"problem {prompt.problem_id!r}, turn {prompt.turn}"
        return refusals.explained(refused, where, self._server, self._options, self._model)


def _path(body: Mapping[str, Any]) -> str:
    return protocol.CHAT if "messages" in body else protocol.COMPLETIONS


engine = OpenAIEngine
