"""A completion that arrives as text: where it ends.

The rule is the hf engine's: a completion goes up to the token that completed a stop string or met
the task's rule. Servers send text in events of one token or of several, so where tokens end is not
always known:

    the event's tokens are told     up to the end of that token
    they are not, or do not add     up to the last character of the stop, or the first at which the
    up to the event's text          rule is met: wherever events are divided, the result is the same

Stop strings are looked for here and not by the server: OpenAI takes four at most, servers differ in
what they cut off, and none knows the rule.
"""

from __future__ import annotations

from collections.abc import Sequence

from astraios.generation import Finished

__all__ = ["TextAnswer"]


class TextAnswer:
    """One completion in the making.

    Args:
        stops: strings that end it.
        finished: ends it once true of the text; true of a text, it is true of every longer one.
        n_most: tokens it may have, for servers that do not count; None for any number.
    """

    def __init__(
        self, stops: Sequence[str], finished: Finished | None, n_most: int | None = None
    ) -> None:
        self.text = ""
        self.n_tokens = 0
        """Tokens so far, where events tell; else events that brought text."""
        self.ended = False
        """Whether a stop or the rule ended it."""
        self.is_full = False
        """Whether it was to get more tokens than it may have."""
        self._n_most = n_most
        self._stops = tuple(filter(None, stops))
        self._finished = finished

    def push(self, text: str, tokens: Sequence[str] | None = None) -> None:
        """Add the text of an event; `tokens` are its tokens, each as text, where they are told."""
        if self.ended or self.is_full:
            return
        if tokens is not None and (len(tokens) == 1 or "".join(tokens) == text):
            for piece in [text] if len(tokens) == 1 else tokens:
                if self._add(piece, 1):
                    return
            return
        before = len(self.text)
        n_tokens = len(tokens) if tokens is not None else int(bool(text))
        if self._add(text, n_tokens) and not self.is_full:
            self.text = self.text[: self._end(before)]

    def _add(self, piece: str, n_tokens: int) -> bool:
        """Add text without a boundary in it; whether the completion ends with it."""
        if self._n_most is not None and piece and self.n_tokens >= self._n_most:
            self.is_full = True
            return True
        before = len(self.text)
        self.text += piece
        self.n_tokens += n_tokens
        self.ended = bool(piece) and (
            self._stop_end(before) is not None
            or (self._finished is not None and self._finished(self.text))
        )
        return self.ended

    def _stop_end(self, before: int) -> int | None:
        """Where the first stop is complete that reaches behind `before`."""
        ends = [
            place + len(stop)
            for stop in self._stops
            if (place := self.text.find(stop, max(0, before - len(stop) + 1))) >= 0
        ]
        return min(ends, default=None)

    def _end(self, before: int) -> int:
        """Length of the shortest text beyond `before` that ends the completion."""
        end = self._stop_end(before) or len(self.text)
        if self._finished is None or not self._finished(self.text[:end]):
            return end
        low, high = before, end  # not met at low, met at high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._finished(self.text[:middle]) else (middle, high)
        return high
