"""Functions that end at a closing brace, as the BigCode harness cuts them for HumanEvalPack.

A completion goes on inside a function whose opening brace stands in the prompt. It ends at the
brace that closes that function; braces in strings and comments count like all others:

    open so far    completion
    1              return {1}.size(); } int main() { ...
                                      ^ kept up to here

Where it never closes, it ends after its last closing brace, and where there is none, at its end.
"""

from __future__ import annotations

import re

from astraios.languages import Language

_BRACE = re.compile(r"[{}]")


class BraceLanguage(Language):
    """A language whose functions stand in braces."""

    n_open = 1
    """Braces that a prompt leaves open."""
    stops: tuple[str, ...] = ("<|endoftext|>",)

    def truncate(self, completion: str) -> str:
        text = completion.rstrip()
        for stop in self.stops:
            text = text.partition(stop)[0]
        end = closing(text, self.n_open)
        return self.unclosed(text) if end is None else text[:end]

    def finished(self, completion: str) -> bool:
        """Whether a stop word occurred, or exactly the braces of the prompt are closed.

        Where the counts are equal at the end, the text up to there closes the function, so what
        follows cannot move the cut. The reverse does not hold: `}}` in one token can jump over the
        equality. Generation then goes on for nothing, the cut is the same.
        """
        if any(stop in completion for stop in self.stops):
            return True
        return completion.count("{") + self.n_open == completion.count("}")

    def unclosed(self, text: str) -> str:
        """What is kept of a text that never closes its function."""
        return up_to_last_brace(text)


def closing(text: str, n_open: int) -> int | None:
    """Where `text` ends if it is cut behind the brace that closes the last of `n_open`."""
    for brace in _BRACE.finditer(text):
        n_open += 1 if brace.group() == "{" else -1
        if n_open == 0:
            return brace.end()
    return None


def up_to_last_brace(text: str) -> str:
    """`text` up to its last closing brace; all of it if it has none."""
    end = text.rfind("}") + 1
    return text[:end] if end else text
