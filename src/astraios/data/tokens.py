"""Records to token ids and a loss mask, many texts a call.

    Question: ...  Answer:   |  \n   return v   <eos>
    loss_on: response   0 0  |  1    1     1     1

`boundary: joint` tokenizes prompt and response as one text and finds where they meet by the places
of characters. A token that holds characters of both sides counts in the loss, and is counted: at
evaluation the prompt stands alone, where that token cannot be. `boundary: apart` tokenizes the
prompt exactly as evaluation does, and the response alone.

Special tokens at the beginning are those that the tokenizer gives a prompt at evaluation; at the
end stands one end-of-text token, whether or not the tokenizer adds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from astraios.data import Row
from astraios.errors import DataError
from astraios.records import InstructionRecord
from astraios.templates import Template

Ids: TypeAlias = NDArray[np.int32]
Counts: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

IGNORED = -100
"""Label of a token that is not in the loss (PyTorch's default `ignore_index`)."""

BATCH = 1_000
"""Texts that are tokenized in one call."""


@dataclass(frozen=True)
class TokenizedRecord:
    """One document with its end-of-text token."""

    ids_T: list[int]
    in_loss_T: list[bool]


def row(document: TokenizedRecord, *, offset: int = 0) -> Row:
    """A row of one document whose positions start at `offset`."""
    labels = [
        token if counts else IGNORED
        for token, counts in zip(document.ids_T, document.in_loss_T, strict=True)
    ]
    return Row(document.ids_T, labels, list(range(offset, offset + len(labels))))


@dataclass(frozen=True)
class TrainingText:
    """The whole text of a record, and what of it has to be learned."""

    id: str
    text: str
    targets: tuple[tuple[int, int], ...]
    """Begin and end of each run of characters that counts in the loss."""
    closed: bool = False
    """Whether the text itself says that it ends, so that no end-of-text token is added."""


@dataclass(frozen=True)
class Documents:
    """Tokenized records, one behind the other."""

    ids: Ids
    in_loss: Mask
    lengths: Counts
    """Tokens of each."""
    names: list[str]
    """The records they came from."""
    n_straddling: int = 0
    """Tokens that hold characters of the loss and others."""

    @property
    def starts(self) -> Counts:
        """Where each begins in `ids`."""
        return np.cumsum(self.lengths) - self.lengths


def joined(parts: Sequence[Documents]) -> Documents:
    """The documents of all `parts`, at least one, in order."""
    if len(parts) == 1:
        return parts[0]
    return Documents(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.in_loss for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        list(chain.from_iterable(part.names for part in parts)),
        sum(part.n_straddling for part in parts),
    )


def templated(record: InstructionRecord, template: Template) -> TrainingText:
    """The text of `template`; the response is what has to be learned."""
    prompt, response = template.training_text(record)
    text = prompt + response
    return TrainingText(record.id, text, ((len(prompt), len(text)),))


class Encoder:
    """Texts to documents, by one tokenizer and one way of masking."""

    def __init__(
        self,
        tokenizer: Any,
        write: Callable[[InstructionRecord], TrainingText],
        loss_on: Literal["all", "response"],
        boundary: Literal["joint", "apart"] = "joint",
        *,
        special_tokens: bool = True,
    ) -> None:
        """Of a Hugging Face tokenizer with an end-of-text token.

        Args:
            tokenizer: what makes ids.
            write: what makes the text of a record.
            loss_on: `all` counts every token, `response` only those of the text's targets.
            boundary: whether prompt and response are tokenized together.
            special_tokens: whether the tokenizer puts its own around a text; False where the
                text brings them.
        """
        self.write = write
        self._tokenizer = tokenizer
        self._loss_on = loss_on
        self._boundary = boundary
        self._special_tokens = special_tokens

    def encode(self, texts: Sequence[TrainingText]) -> Documents:
        """Tokenize `texts`, `BATCH` of them a call.

        Raises:
            DataError: if the boundary is asked for and the tokenizer cannot tell places.
        """
        one = self._apart if self._boundary == "apart" else self._joint
        batches = [one(texts[at : at + BATCH]) for at in range(0, len(texts), BATCH)]
        return joined(batches or [_documents([], [], [], [], 0)])

    def _joint(self, texts: Sequence[TrainingText]) -> Documents:
        encoded = self._tokenize([text.text for text in texts], self._special_tokens)
        ids: list[list[int]] = encoded["input_ids"]
        n_open = [self._close(own, text) for own, text in zip(ids, texts, strict=True)]
        if self._loss_on == "all":
            spans = [(0, len(own)) for own in ids]
            return _documents(ids, range(len(ids)), spans, [text.id for text in texts], 0)
        encodings = getattr(encoded, "encodings", None)
        if encodings is None:
            raise DataError(
                f"a {type(self._tokenizer).__name__} does not tell which characters its tokens "
                "hold, so it cannot be seen where the response begins; set boundary to apart, "
                "loss_on to all, or use a fast tokenizer"
            )
        owners, spans, n_straddling = [], [], 0
        for at, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
            for begin, end in text.targets:
                first, straddles = self._token_at(encoding, text.text, begin)
                last = len(ids[at])
                n_straddling += straddles
                if end < len(text.text) or text.closed:
                    last, straddles = self._token_at(encoding, text.text, end)
                    last, n_straddling = last + straddles, n_straddling + straddles
                owners.append(at)
                spans.append((min(first, n_open[at]), last))
        return _documents(ids, owners, spans, [text.id for text in texts], n_straddling)

    def _apart(self, texts: Sequence[TrainingText]) -> Documents:
        cuts = [text.targets[0][0] for text in texts]
        prompts = [text.text[:cut] for text, cut in zip(texts, cuts, strict=True)]
        responses = [text.text[cut:] for text, cut in zip(texts, cuts, strict=True)]
        ids: list[list[int]] = self._tokenize(prompts, self._special_tokens)["input_ids"]
        answers: list[list[int]] = self._tokenize(responses, False)["input_ids"]
        spans = []
        for own, prompt, answer in zip(ids, prompts, answers, strict=True):
            if self._ended(own, prompt):
                own.pop()
            begin = 0 if self._loss_on == "all" else len(own)
            own += [*answer, self._tokenizer.eos_token_id]
            spans.append((begin, len(own)))
        return _documents(ids, range(len(ids)), spans, [text.id for text in texts], 0)

    def _tokenize(self, texts: list[str], special_tokens: bool) -> Any:
        return self._tokenizer(
            texts,
            add_special_tokens=special_tokens,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # no word about texts longer than a model's context
        )

    def _ended(self, ids: list[int], text: str) -> bool:
        """Whether the tokenizer put an end-of-text token behind `text`; as evaluation sees it."""
        end, end_id = self._tokenizer.eos_token, self._tokenizer.eos_token_id
        return len(ids) > 1 and ids[-1] == end_id and not text.endswith(end)

    def _close(self, ids: list[int], text: TrainingText) -> int:
        """End `ids`, and say how many tokens the text itself has."""
        if text.closed:
            return len(ids)
        if not self._ended(ids, text.text):
            ids.append(self._tokenizer.eos_token_id)
        return len(ids) - 1

    def _token_at(self, encoding: Any, text: str, place: int) -> tuple[int, bool]:
        """The first token at or behind `place`, and whether it holds characters before it too.

        Some tokenizers leave white space out of the places of their tokens. What stands in front of
        it, no white space as a rule, then leads to it.
        """
        n = len(encoding)
        token = encoding.char_to_token(place) if place < len(text) else None
        if token is not None:
            return token, encoding.token_to_chars(token)[0] < place
        before = encoding.char_to_token(place - 1) if place else None
        if before is None:
            behind = map(encoding.char_to_token, range(place, len(text)))
            return next((token for token in behind if token is not None), n), False
        token = before + 1
        while token < n and (held := encoding.token_to_chars(token)) and held[0] < place:
            token += 1  # a character of several tokens
        if place < len(text) and not text[place - 1].isspace():
            last = self._tokenizer.decode([encoding.ids[token - 1]])
            if last[-1:].isspace():
                return token - 1, True
        return token, False


def _documents(
    ids: Sequence[list[int]],
    owners: Sequence[int],
    spans: Sequence[tuple[int, int]],
    names: list[str],
    n_straddling: int,
) -> Documents:
    """`spans` of tokens are in the loss; `owners` are the documents they belong to."""
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    total = int(lengths.sum())
    flat = np.fromiter(chain.from_iterable(ids), np.int32, total)
    ends = np.array(spans, np.int64).reshape(-1, 2)
    ends += (np.cumsum(lengths) - lengths)[np.array(owners, np.int64)][:, None]
    steps = np.zeros(total + 1, np.int32)
    np.add.at(steps, ends[:, 0], 1)
    np.add.at(steps, ends[:, 1], -1)
    return Documents(flat, np.cumsum(steps[:-1]) > 0, lengths, names, n_straddling)
