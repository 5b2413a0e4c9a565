"""Reading Go source as far as imports go; what is not Go comes back as it was.

    masked("a := `x.` // y.")    ->  "a :=           "       same length, same line ends
    split_imports(text)          ->  (imports in order, text without package clause and imports)
    used_names(text)             ->  every `x` of an `x.` outside of strings and comments

Every function takes time linear in the text's length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# An open string ends with its line, an open comment or raw string with the text.
_HIDDEN = re.compile(
    r"""//[^\n]*|/\*[\s\S]*?(?:\*/|\Z)|`[^`]*`?|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?"""
)
_NOT_LINE_END = re.compile(r"[^\n]")
_COMMENT_OR_PATH = re.compile(r"""//[^\n]*|/\*[\s\S]*?(?:\*/|\Z)|"[^"\n]*"|`[^`\n]*`""")
_PACKAGE = re.compile(r"^[ \t]*package[ \t]+\w+[ \t]*;?[ \t]*(?:\n|\Z)", re.MULTILINE)
_IMPORT = re.compile(
    r"^[ \t]*import(?:[ \t]*\([^()]*\)|\b(?![ \t]*\()[^\n;]*)[ \t]*;?", re.MULTILINE
)
_SPEC = re.compile(r"""(?:([\w.]+)[ \t]*)?(?:"([^"\n]+)"|`([^`\n]+)`)""")
_USED = re.compile(r"(?<![\w.)\]}])([A-Za-z_]\w*)[ \t]*\.")
_VERSION = re.compile(r"v[0-9]+")


@dataclass(frozen=True)
class Import:
    """One line of an import block."""

    path: str
    alias: str = ""
    """`_` and `.` included."""

    @property
    def name(self) -> str:
        """What the package is called where it is used."""
        if self.alias:
            return self.alias
        parts = self.path.split("/")
        if len(parts) > 1 and _VERSION.fullmatch(parts[-1]):
            parts.pop()
        return parts[-1]

    def __str__(self) -> str:
        return f'{self.alias} "{self.path}"' if self.alias else f'"{self.path}"'


def masked(text: str) -> str:
    """`text` with blanks for strings, runes and comments."""
    return _HIDDEN.sub(lambda hidden: _NOT_LINE_END.sub(" ", hidden.group()), text)


def used_names(text: str) -> frozenset[str]:
    """Names that stand in front of a dot, as packages do where they are used."""
    return frozenset(_USED.findall(masked(text)))


def split_imports(text: str) -> tuple[tuple[Import, ...], str]:
    """The imports of `text`, and what is left of it without them and its package clause."""
    seen = masked(text)
    imports: list[Import] = []
    kept: list[str] = []
    end = 0
    for found in _statements(seen):
        kept.append(text[end : found.start()])
        end = found.end()
        imports += _specs(text[found.start() : end])
    return tuple(imports), "".join([*kept, text[end:]])


def _statements(seen: str) -> list[re.Match[str]]:
    """The package clause, if there is one, and all imports."""
    found = list(_IMPORT.finditer(seen))
    package = _PACKAGE.search(seen)
    if package is not None and not (found and found[0].start() < package.start()):
        found.insert(0, package)
    return found


def _specs(statement: str) -> list[Import]:
    # comments go first: they may hold quoted text; paths that hold `//` do not exist
    plain = _COMMENT_OR_PATH.sub(
        lambda part: "" if part.group().startswith("/") else part.group(), statement
    )
    plain = plain.replace("import", " ", 1) if plain.lstrip().startswith("import") else ""
    return [Import(path=quoted or raw, alias=alias) for alias, quoted, raw in _SPEC.findall(plain)]
