"""Prompts to tokens: what a tokenizer makes of them, and what becomes of those that are too long.

    |<------------------ positions of the model's context ------------------>|
    | virtual tokens | prompt                          | room for the answer |

A prompt is *too long* where its answer would not have the room it may need: `max_new_tokens`, but
never more than half of the context, so that no prompt vanishes behind a generous limit. Policy
`refuse` takes it as long as one token fits, and refuses it otherwise; policy `cut` leaves tokens
out at its beginning, a begin-of-text token excepted, until the answer has its room.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from astraios.errors import ConfigError, DataError
from astraios.generation.engines._rows import Question
from astraios.generation.keys import prompt_sha
from astraios.records import Prompt

__all__ = ["Reader"]

log = logging.getLogger(__name__)

POLICIES = ("refuse", "cut")
SHOWN = 24
"""Characters shown of a text that a tokenizer changes."""


class Reader:
    """Makes questions of prompts, with one tokenizer and for one context.

    Args:
        tokenizer: of the model.
        n_positions: tokens that the model's context holds.
        n_virtual: tokens that its tuning puts in front of each prompt.
        long_prompts: `refuse` or `cut`.
        pieces: the bytes of each token, where they are fixed.

    Raises:
        ConfigError: if there is no such policy.
    """

    def __init__(
        self,
        tokenizer: Any,
        n_positions: int,
        n_virtual: int,
        long_prompts: str = "refuse",
        pieces: Sequence[bytes] | None = None,
    ) -> None:
        if long_prompts not in POLICIES:
            raise ConfigError(f"long_prompts is {long_prompts!r}; known: {', '.join(POLICIES)}")
        self._tokenizer = tokenizer
        self._n_positions = n_positions
        self._n_virtual = n_virtual
        self._pieces = pieces
        self._cuts = long_prompts == "cut"
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = tokenizer("a")["input_ids"]
        places = (n for n in range(len(whole)) if whole[n : n + len(bare)] == bare)
        self._n_added = next(places, 0)
        """Special tokens that the tokenizer puts in front of a text."""
        self._n_behind = max(0, len(whole) - self._n_added - len(bare))
        """Those that it puts behind one; a prompt goes on, so they are left out."""

    def read(
        self, prompts: Sequence[Prompt], n_new: int, *, may_fill: bool = False
    ) -> list[Question]:
        """One question a prompt; all are checked.

        Args:
            prompts: what is asked.
            n_new: most tokens an answer may have.
            may_fill: whether a prompt may leave no room at all, as for likelihoods.

        Raises:
            DataError: if a prompt is empty, leaves no room, or is changed by the tokenizer.
        """
        if not prompts:
            return []
        encoded = self._encoded(prompts)
        self._check_round_trip(prompts, encoded)
        questions = [
            self._question(prompt, ids, n_new, may_fill)
            for prompt, ids in zip(prompts, encoded, strict=True)
        ]
        cut = [q for q, p in zip(questions, prompts, strict=True) if q.n_cut and not p.max_length]
        if cut:
            log.warning(
                "%d of %d prompts are too long for the model's %d positions and lose up to %d "
                "tokens of their beginning (problem %r first)",
                len(cut),
                len(prompts),
                self._n_positions,
                max(question.n_cut for question in cut),
                cut[0].problem_id,
            )
        return questions

    def _encoded(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        found: dict[int, list[int]] = {}
        for chat in (False, True):
            places = [n for n, prompt in enumerate(prompts) if (prompt.kind == "chat") is chat]
            if places:
                texts = [prompts[place].text for place in places]
                found.update(zip(places, self._ids(texts, chat), strict=True))
        return [found[n] for n in range(len(prompts))]

    def _ids(self, texts: Sequence[str], chat: bool) -> list[list[int]]:
        """Tokens of each text; a conversation brings its special ones itself."""
        ids = self._tokenizer(texts, add_special_tokens=not chat)["input_ids"]
        n_behind = 0 if chat else self._n_behind
        return [its[: len(its) - n_behind] for its in ids]

    def _question(self, prompt: Prompt, ids: list[int], n_new: int, may_fill: bool) -> Question:
        where = f"problem {prompt.problem_id!r}, turn {prompt.turn}"
        answers = tuple((answer, self._answer(prompt, ids, answer)) for answer in prompt.answers)
        n_whole = len(ids)
        if prompt.max_length is not None:
            ids = ids[-prompt.max_length :]
        if not ids:
            raise DataError(
                f"{where}: the prompt is empty, a model needs at least one token to go on from"
            )
        places = self._n_positions - self._n_virtual
        if self._cuts:
            wanted = max([n_new, *(len(its) for _, its in answers)])
            ids = self._cut(ids, places - max(1, min(wanted, places // 2)))
        room = places - len(ids)
        if room <= 0 and not may_fill:
            virtual = f" and {self._n_virtual} virtual tokens" if self._n_virtual else ""
            raise DataError(
                f"{where}: the prompt has {len(ids)} tokens{virtual}, which leaves no room for an "
                f"answer within the model's {self._n_positions} positions; shorten the prompt, use "
                "a model with a longer context, or leave out beginnings by long_prompts=cut"
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
            n_cut=n_whole - len(ids),
            answers=answers,
        )

    def _cut(self, ids: list[int], n_kept: int) -> list[int]:
        """The last `n_kept` tokens, a begin-of-text token before them."""
        n_kept = max(1, n_kept)
        if len(ids) <= n_kept:
            return ids
        first = ids[:1] if ids[0] == self._tokenizer.bos_token_id and n_kept > 1 else []
        return first + ids[len(ids) - n_kept + len(first) :]

    def _answer(self, prompt: Prompt, prompt_ids: list[int], answer: str) -> tuple[int, ...]:
        """Tokens of `answer` behind the prompt's.

        They are what the tokenizer makes of the whole text, unless a token spans the boundary:
        then the answer's alone, since the prompt is asked in its own tokens.
        """
        (ids,) = self._ids([prompt.text + answer], prompt.kind == "chat")
        if ids[: len(prompt_ids)] == prompt_ids and len(ids) > len(prompt_ids):
            ids = ids[len(prompt_ids) :]
        else:
            ids = self._tokenizer(answer, add_special_tokens=False)["input_ids"]
        if not ids:
            raise DataError(f"answer {answer!r} has no tokens, so it has no likelihood")
        return tuple(ids)

    # --- what a tokenizer changes ---------------------------------------------------------------

    def _check_round_trip(self, prompts: Sequence[Prompt], encoded: Sequence[list[int]]) -> None:
        """Refuse a tokenizer that reads another text than the prompt's.

        A conversation is spelled by the tokenizer itself, whose special tokens may take the spaces
        beside them by design.
        """
        plain = [
            (prompt, ids[self._n_added :])
            for prompt, ids in zip(prompts, encoded, strict=True)
            if prompt.kind != "chat" and not self._joins(prompt.text, ids[self._n_added :])
        ]
        if not plain:
            return
        again = self._tokenizer.batch_decode(
            [ids for _, ids in plain],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        for (prompt, _), text in zip(plain, again, strict=True):
            if text != prompt.text and not self._same(prompt.text, text):
                raise DataError(_changed(prompt, text))

    def _joins(self, text: str, ids: Sequence[int]) -> bool:
        """Whether the bytes of the tokens are the text's; cheaper than decoding, where it holds."""
        pieces = self._pieces
        if pieces is None:
            return False
        return b"".join([pieces[i] for i in ids]) == text.encode("utf-8", "surrogatepass")

    def _same(self, text: str, again: str) -> bool:
        """Up to a leading space, Unicode's NFC, and spaces that special tokens take."""
        text, again = _composed(text), _composed(again)
        if again in (text, text.removeprefix(" "), f" {text}"):
            return True
        added = getattr(self._tokenizer, "added_tokens_decoder", {}).values()
        names = "|".join(re.escape(token.content) for token in added)
        beside = re.compile(rf"\s*({names})\s*")
        return bool(names) and beside.sub(r"\1", text) == beside.sub(r"\1", again)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _changed(prompt: Prompt, again: str) -> str:
    text, again = _composed(prompt.text), _composed(again)
    pairs = zip(text, again, strict=False)
    at = next((n for n, (one, other) in enumerate(pairs) if one != other), None)
    at = min(len(text), len(again)) if at is None else at
    return (
        f"problem {prompt.problem_id!r}, turn {prompt.turn}: the tokenizer does not give the "
        f"prompt back: from character {at} on, {text[at : at + SHOWN]!r} has become "
        f"{again[at : at + SHOWN]!r}, so the model would read another text; use the tokenizer the "
        "model was trained with (a code model's keeps spaces, line ends and case), or take these "
        "characters out of the prompt"
    )
