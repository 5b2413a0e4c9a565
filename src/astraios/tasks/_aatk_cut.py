"""Where an answer to a scenario of Asleep at the Keyboard ends, and how it becomes a program.

Models go on after the function that they were asked for: a second program, an explanation, the
same scenario once more. Compiled as it is, such an answer is nearly always invalid, so the share of
valid answers would measure how a model stops and not what it writes. An answer is therefore cut
where the code that was asked for ends:

    C       before the brace that closes the function which the prompt opens; the suffix closes it
    Python  before the first line at column 0, comments apart, after the block that the prompt opens
            (or after the first block, where it opens none); lines of a statement that was not
            finished are dropped from the end

Some answers begin afresh: they repeat the prompt, or write the whole program again. gcc would take
a second `main` inside of the first for a nested function, which compiles and never runs. What is
repeated is therefore taken instead of the prompt, not behind it.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass

__all__ = ["assemble"]

_FENCE = re.compile(r"\A\s*```[\w+-]*[ \t]*\n(?P<code>.*?)(?:^```|\Z)", re.S | re.M)
_SPACE = re.compile(r"\s+")


def assemble(language: str, prompt: str, completion: str, suffix: str) -> str:
    """The program that `completion` stands for.

    Args:
        language: `c` or `python`.
        prompt: what the model was shown.
        completion: what it wrote, raw.
        suffix: what follows the answer in the scenario.
    """
    fenced = _FENCE.match(completion)
    answer = fenced["code"] if fenced else completion
    answer = _without_repeated(prompt, answer)
    if language == "c":
        opening, answer = _c_parts(prompt, answer)
        return f"{opening}{answer}{suffix}"
    opening, answer = _python_parts(prompt, answer)
    return f"{opening}{_whole_statements(opening, answer, suffix)}{suffix}"


def _without_repeated(prompt: str, answer: str) -> str:
    """`answer` behind the prompt, if it begins with it; white space is not compared."""
    begun = _SPACE.sub("", prompt)
    if not begun or not _SPACE.sub("", answer[: 4 * len(prompt)]).startswith(begun):
        return answer
    left = len(begun)
    for place, sign in enumerate(answer):
        left -= not sign.isspace()
        if not left:
            # The prompt's own end brings the line break.
            rest = answer[place + 1 :]
            return rest.removeprefix("\n") if prompt.endswith("\n") else rest
    return ""


# --- C ----------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<skip>//(?:\\\n|[^\n])*|/\*.*?(?:\*/|\Z)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?)"""
    r"|(?P<sign>[{}])",
    re.S,
)
_FUNCTION = re.compile(r"(?P<name>[A-Za-z_]\w*)\s*\((?P<inside>[^;{}]*)\)\s*\Z")
_NOT_FUNCTIONS = ("if", "for", "while", "switch")


@dataclass
class _Opened:
    """Braces that are open at the end of a text."""

    depth: int = 0
    function: str = ""
    """Name of the function around the end."""
    begins: int = 0
    """Where the text of that function begins."""


def _c_parts(prompt: str, answer: str) -> tuple[str, str]:
    """What stands before the answer, and the answer up to the end of the function."""
    opened = _opened(prompt)
    begun = _begun_afresh(opened.function, answer)
    if begun:
        # Headers and types of the prompt are needed unless they are repeated too.
        opening = "" if "#include" in answer[:begun] else prompt[: opened.begins]
        return opening, answer[: _c_end(answer, 0, begun)]
    return prompt, answer[: _c_end(answer, opened.depth, 0)]


def _opened(text: str) -> _Opened:
    found = _Opened()
    last = 0
    for token in _TOKEN.finditer(text):
        if token["sign"] == "{":
            if found.depth == 0:
                found.function, found.begins = _function_before(text, last, token.start())
            found.depth += 1
        elif token["sign"] == "}":
            found.depth = max(0, found.depth - 1)
            if found.depth == 0:
                found.function, last = "", token.end()
    return found


def _function_before(text: str, start: int, brace: int) -> tuple[str, int]:
    """Name of the function whose body begins at `brace`, and where its text begins."""
    head = _TOKEN.sub(lambda token: " " * len(token[0]) if token["skip"] else token[0], text)
    head = head[start:brace]
    match = _FUNCTION.search(head)
    if match is None or match["name"] in _NOT_FUNCTIONS:
        return "", brace
    before = head[: match.start()]
    return match["name"], start + max(before.rfind(";") + 1, before.rfind("\n") + 1)


_STATEMENT = re.compile(r"^[ \t]+\w[^#\n]*;", re.M)
"""Of a function's body, as far as the margin tells: a program's own declarations stand at it."""


def _begun_afresh(function: str, answer: str) -> int:
    """Where the body begins if `answer` starts by writing `function` again; else 0.

    Types and other functions of the repeated program may stand before it, statements may not.
    """
    if not function:
        return 0
    depth, last, outside = 0, 0, ""
    for token in _TOKEN.finditer(answer):
        if token["sign"] == "{":
            if depth == 0:
                name, begins = _function_before(answer, last, token.start())
                outside += _TOKEN.sub("", answer[last:begins])
                if name == function:
                    return 0 if _STATEMENT.search(outside) else token.end()
            depth += 1
        elif token["sign"] == "}":
            depth -= 1
            if depth < 0:
                return 0  # the function that the prompt opened ends here
            last = token.end() if depth == 0 else last
    return 0


def _c_end(answer: str, depth: int, start: int) -> int:
    """Where the function ends that `depth` braces are open in; `start` is behind its own."""
    depth = depth or 1
    for token in _TOKEN.finditer(answer, start):
        if token["sign"] == "{":
            depth += 1
        elif token["sign"] == "}":
            depth -= 1
            if depth == 0:
                return token.start()
    return len(answer)


# --- Python -----------------------------------------------------------------------------------


def _python_parts(prompt: str, answer: str) -> tuple[str, str]:
    """What stands before the answer, and the answer up to the end of its block."""
    first = next((line for line in prompt.split("\n") if _is_code(line)), "")
    lines = answer.split("\n")
    again = first and next((line for line in lines if _is_code(line)), "") == first
    if again:
        return "", answer[: _repeated_end(prompt, lines)]
    begun = 0 if prompt.endswith("\n") else 1  # a line that the prompt begins
    end = begun + _python_end(lines[begun:], _ends_inside(prompt))
    return prompt, "\n".join(lines[:end])


def _repeated_end(prompt: str, lines: list[str]) -> int:
    """Characters of a repeated program up to the end of the block that the prompt stops in."""
    last = next((line for line in reversed(prompt.split("\n")) if _is_code(line)), "")
    at = next((n for n, line in enumerate(lines) if line.rstrip() == last.rstrip()), len(lines) - 1)
    inside = _ends_inside("\n".join(lines[: at + 1]))
    end = at + 1 + _python_end(lines[at + 1 :], inside)
    return len("\n".join(lines[:end]))


def _ends_inside(text: str) -> bool:
    """Whether the code of `text` ends in a block; a comment at column 0 ends one."""
    lines = [line for line in text.split("\n") if line.strip()]
    last = next((line for line in reversed(lines) if _is_code(line)), "")
    return last.rstrip().endswith(":") or (bool(lines) and lines[-1][0] in " \t")


def _python_end(lines: list[str], inside: bool) -> int:
    """Number of the first line that no longer belongs to the block.

    Where the prompt opens no block, the first one that the answer opens is the one.
    """
    string = ""
    n_open = 0
    for number, line in enumerate(lines):
        if not string and not n_open:
            at_left = bool(line.strip()) and line[0] not in " \t"
            if at_left and inside and not line.startswith("#") and not _goes_on(line):
                return number
            inside = inside or (bool(line.strip()) and line[0] in " \t" and not _is_comment(line))
        string, n_open = _open_after(line, string, n_open)
    return len(lines)


_CLAUSE = re.compile(r"(?:else|elif|except|finally)\b")


def _goes_on(line: str) -> bool:
    """Whether a line at column 0 belongs to the statement before it: a clause, a bracket."""
    return bool(_CLAUSE.match(line)) or line[0] in ")]}"


_PYTHON_TOKEN = re.compile(r"""\\.|'''|\"\"\"|['"]|#|[()\[\]{}]""")


def _open_after(line: str, string: str, n_open: int) -> tuple[str, int]:
    """Which kind of string, and how many brackets, are open at the end of `line`."""
    at = 0
    while found := _PYTHON_TOKEN.search(line, at):
        at, sign = found.end(), found[0]
        if string:
            string = "" if sign == string else string
        elif sign == "#":
            break
        elif sign[0] in "'\"":
            string = sign
        elif sign in "([{":
            n_open += 1
        elif sign in ")]}":
            n_open = max(0, n_open - 1)
    return (string if len(string) == 3 or line.endswith("\\") else ""), n_open


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _is_code(line: str) -> bool:
    return bool(line.strip()) and not _is_comment(line)


def _whole_statements(opening: str, answer: str, suffix: str) -> str:
    """`answer` without the lines at its end that keep the program from compiling.

    If dropping them all does not help, or nothing that runs would be left, it stays as it is.
    """
    lines = answer.rstrip().split("\n")
    if compiles(f"{opening}{answer}{suffix}"):
        return answer
    for n_kept in range(len(lines) - 1, 0, -1):
        kept = "\n".join(lines[:n_kept]) + "\n"
        if not any(_is_code(line) for line in lines[:n_kept]):
            break
        if compiles(f"{opening}{kept}{suffix}"):
            return kept
    return answer


def compiles(source: str) -> bool:
    """Whether Python takes `source` for a program; it is not run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "scenario.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True
