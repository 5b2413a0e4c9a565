"""Whose commits may be used: an allow-list of licences."""

from __future__ import annotations

import re
from collections.abc import Collection
from types import MappingProxyType

from astraios.data.rules import Rule, keeping
from astraios.data.rules._commit import Commit
from astraios.errors import ConfigError

PUBLISHED = frozenset(
    {
        "mit", "artistic-2.0", "isc", "cc0-1.0", "epl-1.0", "mpl-2.0", "unlicense", "apache-2.0",
        "bsd-3-clause", "bsd-2-clause", "agpl-3.0", "lgpl-2.1",
    }
)  # fmt: skip
"""CommitPack's, as its script lists them. The paper adds "or none", which has to be asked for here:
`PUBLISHED | {NONE}`."""

COPYLEFT = frozenset({"epl-1.0", "mpl-2.0", "agpl-3.0", "lgpl-2.1"})
"""Those of the published list that bind what is made from the code."""

PERMISSIVE = PUBLISHED - COPYLEFT
"""The default."""

NONE = "none"
"""A repository whose licence is missing or unknown. No permission is given for its code, so it is
allowed only by a list that names it."""

_ALIASES = MappingProxyType(
    {
        "": NONE, "null": NONE, "unknown": NONE, "unlicensed": NONE, "no-license": NONE,
        "no-licence": NONE, "noassertion": NONE, "other": NONE, "n/a": NONE,
        "expat": "mit", "x11": "mit",
        "apache-2": "apache-2.0", "apache2": "apache-2.0", "apache2.0": "apache-2.0",
        "bsd-3": "bsd-3-clause", "bsd3": "bsd-3-clause", "new-bsd": "bsd-3-clause",
        "bsd-2": "bsd-2-clause", "bsd2": "bsd-2-clause", "simplified-bsd": "bsd-2-clause",
        "cc0": "cc0-1.0", "the-unlicense": "unlicense",
        "mpl-2": "mpl-2.0", "mpl2": "mpl-2.0", "epl-1": "epl-1.0", "artistic-2": "artistic-2.0",
        "agpl-3": "agpl-3.0", "agpl3": "agpl-3.0",
    }
)  # fmt: skip


def normalised(name: str) -> str:
    """The name as the lists above have it, by SPDX in lower case; an unknown name stays itself.

    `Apache License 2.0`, `Apache-2.0` and `apache2` are one, `AGPL-3.0-or-later` is `agpl-3.0`.
    """
    text = re.sub(r"[\s_]+", "-", name.strip().lower().replace(", version", " "))
    text = _ALIASES.get(text, text)
    text = re.sub(r"^the-|-licen[sc]e(?=-|$)", "", text)
    text = re.sub(r"-only$|-or-later$|\+$", "", text)
    return _ALIASES.get(text, text)


def allows(allowed: Collection[str], licence: str) -> bool:
    """Whether the normalised names `allowed` permit what a row names.

    Of `MIT OR GPL-3.0` one is enough. Of `MIT AND GPL-3.0`, of a list with commas, and wherever
    brackets are nested, all are needed.
    """
    text = licence.strip().lower().replace(", version", " ")
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    choices = re.split(r"\s+or\s+", text) if not re.search(r"[()]", text) else [text]
    return any(
        all(
            normalised(name.strip("() ")) in allowed
            for name in re.split(r"\s+(?:and|or)\s+|[,;]", choice)
        )
        for choice in choices
    )


def licence_rule(allowed: Collection[str]) -> Rule[Commit]:
    """The rule S1.

    Raises:
        ConfigError: if nothing is allowed.
    """
    names = frozenset(normalised(name) for name in allowed)
    if not names:
        raise ConfigError(
            "licences: the list of allowed licences is empty, so no commit would be kept; "
            f"name some, such as {', '.join(sorted(PERMISSIVE))}"
        )
    return keeping(
        "S1-licence",
        f"the licence is one of {', '.join(sorted(names))}",
        lambda commit: allows(names, commit.license),
    )
