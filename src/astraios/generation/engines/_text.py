"""From token ids to text, one token at a time.

The text of a completion is what its tokens add to the text of the prompt. Decoding the new tokens
alone gives that for byte-level tokenizers, where every token stands for fixed bytes; others add or
drop a space at the start of what they decode, so they are decoded behind the end of the prompt.

A character whose bytes are not complete yet is held back; at the end of a completion it becomes
U+FFFD, as in the tokenizer's own decoding.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any, Protocol

BROKEN = "\ufffd"
CONTEXT = 8
"""Prompt tokens that stand before the completion while it is decoded."""


class Stream(Protocol):
    """The growing text of one completion."""

    text: str
    """Text that no later token can change."""

    def push(self, token: int) -> bool:
        """Add a token; whether `text` grew."""

    def close(self) -> str:
        """The whole text, with what was held back."""


class Detokenizer:
    """Makes the streams of one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self._special = frozenset(tokenizer.all_special_ids) | {
            number for number, token in added.items() if token.special
        }
        self._pieces = _byte_pieces(tokenizer, self._special)

    def stream(self, prompt_ids: Sequence[int]) -> Stream:
        """A stream for the completion of `prompt_ids`."""
        if self._pieces is not None:
            return ByteStream(self._pieces)
        return WindowStream(self._tokenizer, self._special, prompt_ids)


class ByteStream:
    """Text of a byte-level tokenizer: the bytes of the tokens, joined."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.text = ""
        self._pieces = pieces
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> bool:
        pieces = self._pieces
        # Models have more rows in their embedding than tokens; the rest stands for nothing.
        added = self._utf8.decode(pieces[token]) if token < len(pieces) else ""
        self.text += added
        return bool(added)

    def close(self) -> str:
        self.text += self._utf8.decode(b"", final=True)
        return self.text


class WindowStream:
    """Text of any tokenizer: what decoding a window of ids gains when a token is added.

    The window starts at ids whose text is known; while its text ends in a broken character, the
    window only grows.
    """

    def __init__(self, tokenizer: Any, special: frozenset[int], prompt_ids: Sequence[int]) -> None:
        self.text = ""
        self._tokenizer = tokenizer
        self._special = special
        self._window = list(prompt_ids[-CONTEXT:])
        self._known = self._decode()
        if not self._known:  # nothing but special tokens: a space after them could be lost
            self._window = list(prompt_ids)
            self._known = self._decode()

    def push(self, token: int) -> bool:
        if token in self._special:
            return False
        self._window.append(token)
        decoded = self._decode()
        if decoded.endswith(BROKEN) or len(decoded) <= len(self._known):
            return False
        self._take(decoded)
        return True

    def close(self) -> str:
        decoded = self._decode()
        if len(decoded) > len(self._known):
            self._take(decoded)
        return self.text

    def _take(self, decoded: str) -> None:
        self.text += decoded[len(self._known) :]
        self._window = self._window[-CONTEXT:]
        self._known = self._decode()

    def _decode(self) -> str:
        text: str = self._tokenizer.decode(
            self._window, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def _byte_pieces(tokenizer: Any, special: frozenset[int]) -> tuple[bytes, ...] | None:
    """The bytes of every id, or None where tokens do not stand for fixed bytes."""
    from tokenizers import decoders

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not isinstance(backend.decoder, decoders.ByteLevel):
        return None
    bytes_of = _byte_alphabet()
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return tuple(
        b"" if token is None or number in special else _piece(token, bytes_of)
        for number, token in enumerate(tokens)
    )


def _piece(token: str, bytes_of: dict[str, int]) -> bytes:
    """Bytes of a token; one with a character outside the alphabet (an added token) is itself."""
    if all(character in bytes_of for character in token):
        return bytes(bytes_of[character] for character in token)
    return token.encode("utf-8", "replace")


def _byte_alphabet() -> dict[str, int]:
    """The characters that byte-level tokenizers write bytes with (GPT-2, Radford et al. 2019).

    Printable Latin-1 bytes stand for themselves, the others for 256, 257, ... in order.
    """
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(b): b for b in sorted(shown)} | {chr(256 + i): b for i, b in enumerate(hidden)}
