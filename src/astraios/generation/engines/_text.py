"""From token ids to text, one token at a time.

The text of a completion is what its tokens add to the text of the prompt. For nearly all tokenizers
every token stands for fixed bytes, and the text is these bytes, joined:

    byte-level      `Ġx` is b" x", `âĺĥ` is b"\xe2\x98\x83"         StarCoder, GPT, Llama 3
    SentencePiece   `▁x` is b" x", `<0xE2>` is b"\xe2"              Llama 2, CodeLlama, Gemma

Others are decoded behind the end of the prompt, and what the text gains is taken.

A character whose bytes are not complete yet is held back; at the end of a completion it becomes
U+FFFD. Special tokens are no text.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

BROKEN = "\ufffd"


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
        self.pieces = _pieces(tokenizer, self._special)
        """The bytes of each token; None where they are not fixed."""

    def stream(self, prompt_ids: Sequence[int]) -> Stream:
        """A stream for the completion of `prompt_ids`."""
        if self.pieces is not None:
            return ByteStream(self.pieces)
        return WindowStream(self._tokenizer, self._special, prompt_ids)

    def spelling(self, token: int) -> str:
        """One token alone: special ones by name, broken characters as U+FFFD."""
        if token in self._special:
            name: str = self._tokenizer.convert_ids_to_tokens(token)
            return name
        if self.pieces is not None:
            piece = self.pieces[token] if token < len(self.pieces) else b""
            return piece.decode("utf-8", "replace")
        text: str = self._tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return text


class ByteStream:
    """Text of tokens that stand for fixed bytes."""

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

    The window is what was decoded last (at first the prompt), so it begins and ends with a whole
    character, and the pending tokens behind it.
    """

    def __init__(self, tokenizer: Any, special: frozenset[int], prompt_ids: Sequence[int]) -> None:
        self.text = ""
        self._tokenizer = tokenizer
        self._special = special
        self._pending: list[int] = []
        self._set_window(prompt_ids)

    def push(self, token: int) -> bool:
        if token in self._special:
            return False
        self._pending.append(token)
        return self._take(broken=False)

    def close(self) -> str:
        self._take(broken=True)
        return self.text

    def _take(self, *, broken: bool) -> bool:
        """Move what the pending tokens say to `text`, if it says anything and is whole."""
        decoded = self._decode([*self._window, *self._pending])
        if not decoded.startswith(self._known):  # what is known cannot change
            decoded = self._known + self._decode(self._pending)
        if len(decoded) == len(self._known) or (decoded.endswith(BROKEN) and not broken):
            return False
        self.text += decoded[len(self._known) :]
        self._set_window(self._pending)
        self._pending = []
        return True

    def _set_window(self, ids: Sequence[int]) -> None:
        self._window = list(ids)
        self._known = self._decode(self._window)

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def _pieces(tokenizer: Any, special: frozenset[int]) -> tuple[bytes, ...] | None:
    """The bytes of every id, or None where tokens do not stand for fixed bytes."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.decoder is None:
        return None
    steps = _steps(json.loads(backend.decoder.__getstate__()))
    meaning: Callable[[str], bytes]
    if steps == {"ByteLevel"}:
        meaning = partial(_byte_level, _byte_alphabet())
    elif steps and steps <= {"Metaspace", "Replace ▁", "ByteFallback", "Fuse", "Strip"}:
        meaning = _sentence_piece
    else:
        return None
    n_ids = max(tokenizer.get_vocab().values(), default=-1) + 1  # ids may have gaps
    tokens = tokenizer.convert_ids_to_tokens(list(range(n_ids)))
    return tuple(
        b"" if token is None or number in special else meaning(token)
        for number, token in enumerate(tokens)
    )


def _steps(decoder: dict[str, Any]) -> set[str]:
    """Names of the steps a decoder takes."""
    if decoder["type"] == "Sequence":
        return set().union(*map(_steps, decoder["decoders"]))
    if decoder["type"] == "Replace" and decoder["content"] == " ":
        return {f"Replace {decoder['pattern'].get('String')}"}
    return {decoder["type"]}


def _byte_level(alphabet: dict[str, int], token: str) -> bytes:
    """A token with a character outside the alphabet was added and is itself."""
    if all(character in alphabet for character in token):
        return bytes(alphabet[character] for character in token)
    return token.encode("utf-8", "replace")


def _sentence_piece(token: str) -> bytes:
    """`Strip` concerns the first token of a text, which is never a completion's."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes.fromhex(token[3:5])
    return token.replace("▁", " ").encode("utf-8", "replace")


def _byte_alphabet() -> dict[str, int]:
    """The characters that byte-level tokenizers write bytes with (GPT-2, Radford et al. 2019).

    Printable Latin-1 bytes stand for themselves, the others for 256, 257, ... in order.
    """
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(b): b for b in sorted(shown)} | {chr(256 + i): b for i, b in enumerate(hidden)}
