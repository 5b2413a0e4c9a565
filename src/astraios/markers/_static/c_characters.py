"""Loops of C over the characters of a text from outside.

Such a loop is asked about each character that does harm: if no round in which it is read goes on,
or all leave a mark behind, the text behind the loop is without it. That is how a list of allowed
characters is told from a loop that only looks at them.
"""

from __future__ import annotations

from collections.abc import Sequence

from astraios.markers._static.c_paths import Paths
from astraios.markers._static.c_searches import DANGEROUS
from astraios.markers._static.c_tree import Node
from astraios.markers._static.c_values import (
    NONE,
    Num,
    State,
    Value,
)  # fmt: skip


class Characters(Paths):
    """What a loop over characters makes harmless."""

    def _harmless_after(
        self, scanned: set[int], parts: Sequence[Node | None], start: State, entry: State
    ) -> tuple[
        dict[int, frozenset[str]], list[tuple[tuple[str, Value], tuple[int, frozenset[str]]]]
    ]:
        clean: dict[int, frozenset[str]] = {}
        guarded: list[tuple[tuple[str, Value], tuple[int, frozenset[str]]]] = []
        for region in sorted(scanned):
            gone: set[str] = set()
            by_flag: dict[str, set[str]] = {}
            for label in sorted(start.labels.get(region, NONE)):
                how = self._refuses(region, label, parts, start, entry)
                if how == "":
                    gone.add(label)
                elif how is not None:
                    by_flag.setdefault(how, set()).add(label)
            clean[region] = frozenset(gone)
            for name, labels in by_flag.items():
                value = entry.cells[entry.env[name][0], 0]
                guarded.append(((name, value), (region, frozenset(labels))))
        return clean, guarded

    def _refuses(
        self, region: int, label: str, parts: Sequence[Node | None], start: State, entry: State
    ) -> str | None:
        """How the loop treats each character that does harm: `` if none gets behind it."""
        if label == "dotdot":
            outer, kept = self.gained, []
            ways = []
            for sign in "/.":
                self.gained = set()
                ways.append(self._rejected(region, sign, label, parts, start, entry))
                kept.append(self.gained)
            self.gained = outer | (kept[0] & kept[1])
            return next((way for way in ways if way is not None), None)
        if label not in DANGEROUS:
            return None
        ways = [
            self._rejected(region, sign, label, parts, start, entry) for sign in DANGEROUS[label]
        ]
        return None if None in ways else max(way or "" for way in ways)

    def _rejected(
        self, region: int, sign: str, label: str, parts: Sequence[Node | None], start: State,
        entry: State,
    ) -> str | None:  # fmt: skip
        condition, update, body = parts
        st = start.copy()
        st.probe = (region, sign, label)
        st.facts.pop(("replaced", region), None)
        self.mute += 1
        _, ends = self._round(condition, update, body, st) if body is not None else ([], [])
        self.mute -= 1
        for s in ends:
            self.gained |= {
                (r, label) for r, held in s.labels.items()
                if label in held and label not in start.labels.get(r, NONE)
            }  # fmt: skip
        left = [s for s in ends if not self._replaced(s, region, label)]
        if not left:
            return ""
        for name, (place, kind) in entry.env.items():
            before = entry.cells.get((place, 0))
            if kind.kind != "int" or not isinstance(before, Num) or before.coef:
                continue
            after = [s.cells.get((place, 0)) for s in left]
            if all(isinstance(v, Num) and not v.coef and v.off != before.off for v in after):
                return name
        return None

    def _replaced(self, st: State, region: int, label: str) -> bool:
        value = st.facts.get(("replaced", region))
        if not isinstance(value, Num) or value.coef:
            return False
        return label != "dotdot" and chr(int(value.off) & 255) not in DANGEROUS.get(label, "")
