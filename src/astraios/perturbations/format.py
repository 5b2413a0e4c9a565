"""Format: the same tokens on other lines (ReCode, section 3.4). Half of the body is given."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from astraios.perturbations import Claim, Told, Transformation
from astraios.perturbations._chance import Chance
from astraios.perturbations._layout import (
    Edit,
    boundaries,
    documentation,
    edited,
    literals,
    quotes,
    starts,
    statements_of_text,
)

TAB = 4
"""Blanks that one tab stands for."""


def _doc2comments(told: Told, chance: Chance) -> Told:
    span = documentation(told.prompt)
    if span is None:
        return told
    literal = told.prompt[span.start : span.end]
    head, tail = quotes(literal)
    line = told.prompt.rfind("\n", 0, span.start) + 1
    indent = told.prompt[line : span.start]
    first, *others = literal[len(head) : -len(tail)].split("\n")
    lines = [indent + first.lstrip(), *others]
    if not lines[-1].strip():
        lines.pop()
    if lines and not lines[0].strip():
        lines.pop(0)
    text = "\n".join(_comment(one, indent) for one in lines)
    end = span.end
    if not text:  # an empty docstring: its line goes
        return told
    return replace(told, prompt=told.prompt[:line] + text + told.prompt[end:])


def _comment(line: str, indent: str) -> str:
    if not line.strip():
        return f"{indent}#  {line[len(indent) :]}" if indent and line.startswith(indent) else line
    return f"{indent}# {line.removeprefix(indent)}"


def _new_line_afterdoc(told: Told, chance: Chance) -> Told:
    return replace(told, prompt=told.prompt + "\n")


def _new_line_aftercode(told: Told, chance: Chance) -> Told:
    if not told.begun:
        return replace(told, prompt=told.prompt + "\n")
    return replace(told, begun=told.begun + "\n")


def _new_lines(told: Told, chance: Chance) -> Told:
    places = starts(told.code)
    whole = {places[row] for row in boundaries(told.code) if row < len(places)}
    able = [at for at in sorted(whole) if len(told.prompt) <= at <= len(told.shown)]
    return edited(told, [Edit(at, at, "\n") for at in chance.some(able, 50)])


def _split_lines(told: Told, chance: Chance) -> Told:
    """The longest line outside declaration and documentation is broken in its middle blank."""
    code = told.code
    kept = [(span.start, span.end) for span in literals(code)]
    document = documentation(told.prompt)
    lines = []
    for at, line in zip(starts(code), told.shown.split("\n"), strict=False):
        bare = line.strip()
        inside = document and document.start - len(line) <= at < document.end
        if bare and not inside and not line.startswith("def ") and bare[0] not in "#@":
            lines.append((len(bare), -at, line))
    for _, minus, line in sorted(lines, reverse=True):
        gaps = [
            gap
            for gap in re.finditer(r"(?<=\S)[ \t]+(?=[^\s#\\])", line)
            if not any(
                start < gap.end() - minus and gap.start() - minus < end for start, end in kept
            )
        ]
        if gaps:
            words = list(re.finditer(r"(?<=\S)[ \t]+(?=\S)", line))
            middle = words[(len(words) + 1) // 2 - 1].start()
            gap = min(gaps, key=lambda one: (abs(one.start() - middle), one.start()))
            return edited(told, [Edit(gap.start() - minus, gap.end() - minus, "  \\\n  ")])
    return told


def _tab_indent(told: Told, chance: Chance) -> Told:
    code = told.code
    rows = code.split("\n")
    inside = _inside_strings(told)
    begin = boundaries(code)
    indents = {
        len(row) - len(row.lstrip(" "))
        for number, row in enumerate(rows)
        if number in begin and row.strip() and not row.lstrip(" ").startswith("#")
    }
    if any(row.startswith("\t") for row in rows):
        return told
    unit = next((n for n in (TAB, 2, 3, 1) if all(indent % n == 0 for indent in indents)), TAB)
    edits = []
    for number, (at, row) in enumerate(zip(starts(code), rows, strict=False)):
        blanks = len(row) - len(row.lstrip(" "))
        if row.strip() and blanks >= unit and number not in inside:
            edits.append(Edit(at, at + blanks // unit * unit, "\t" * (blanks // unit)))
    return edited(told, edits)


def _inside_strings(told: Told) -> set[int]:
    """Numbers of the lines that begin inside a string that is no documentation."""
    documents = set(statements_of_text(told.code))
    found = set()
    for span in literals(told.code):
        if span not in documents:
            first = told.code.count("\n", 0, span.start)
            found |= set(range(first + 1, first + 1 + told.code.count("\n", span.start, span.end)))
    return found


def _made(
    name: str, summary: str, apply: Callable[[Told, Chance], Told], drawn: bool = False
) -> Transformation:
    return Transformation(name, Claim.LAYOUT, summary, apply, drawn=drawn, partial=True)


family = (
    _made("doc2comments", "the docstring becomes comments", _doc2comments),
    _made("new_line_aftercode", "an empty line behind the given code", _new_line_aftercode),
    _made("new_line_afterdoc", "an empty line behind the documentation", _new_line_afterdoc),
    _made("new_lines", "empty lines between given statements", _new_lines, drawn=True),
    _made("split_lines", "the longest given line is broken with a backslash", _split_lines),
    _made("tab_indent", "tabs in place of four blanks", _tab_indent),
)
