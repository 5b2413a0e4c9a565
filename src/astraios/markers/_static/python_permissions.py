"""Files with secrets that others may read (CWE-732)."""

from __future__ import annotations

import ast
import re

from astraios.markers._static.python_flow import Flow, followed
from astraios.markers._static.python_policy import Policy
from astraios.markers._static.python_values import NOTHING, Value
from astraios.records import Finding

_OTHERS = 0o077
"""Bits of the group and of all others."""


def permissions(code: str) -> list[Finding]:
    """CWE-732: a file is made accessible to others than its owner.

    Catches modes with a bit for the group or for all, given to `os.chmod`, `fchmod`, `os.open`,
    `mkdir`, `Path.chmod`, or as an argument of the command `chmod`, in numbers (a decimal 600 is
    0o1130), names of `stat`, or letters; and files of which name or content says that they are
    secret that are written with the usual mode and never restricted, which upstream does not
    report. The group counts for others, as it does upstream.

    Misses modes that are computed from what the file had, ACLs, and the mask that a shell set.
    """
    policy = _Permissions()
    flow = followed(code, policy, "CWE-732")
    if policy.written is not None and not policy.restricted and not flow.found:
        flow.report(
            policy.written, "secret-left-open", "a secret is written to a file that others may read"
        )
    return [flow.found[key] for key in sorted(flow.found)]


_MODE_AT = {
    "os.chmod()": 1, "os.fchmod()": 1, "os.lchmod()": 1, "os.open()": 2, "os.mkdir()": 1,
    "os.makedirs()": 1, "os.mknod()": 1, "os.mkfifo()": 1, "pathlib.Path.chmod()": 0,
}  # fmt: skip
_SECRET = re.compile(r"secret|passw|credential|private|api_?key|token", re.I)
_CLAUSE = re.compile(r"(?P<who>[ugoa]*)(?P<how>[-+=])(?P<what>[rwxXst]*)")


class _Permissions(Policy):
    def __init__(self) -> None:
        self.written: ast.AST | None = None
        self.restricted = False

    def call(self, flow: Flow, call: ast.Call, found: Value, base: Value) -> Value | None:
        name, args = found.name, found.args
        last = name.removesuffix("()").rpartition(".")[2]
        if last == "chmod" and name not in _MODE_AT:
            name = "pathlib.Path.chmod()"
        if name in _MODE_AT:
            place = _MODE_AT[name]
            mode = found.named.get("mode", args[place] if len(args) > place else NOTHING)
            self._mode(flow, call, mode, name)
        elif name == "os.umask()" and args and isinstance(args[0].const, int):
            self.restricted |= args[0].const & _OTHERS == _OTHERS
        elif name.startswith(("subprocess.", "os.system", "os.popen")) and args:
            self._command(flow, call, args[0])
        elif name in ("open()", "io.open()") and args:
            self._open(flow, call, found)
        elif last in ("write", "writelines", "write_text") and base.name == "written" and args:
            if "secret" in base.local or _is_secret(call.args[0], args[0]):
                self.written = call
        elif last in ("remove", "unlink") and name.startswith("os."):
            pass
        return None

    def _mode(self, flow: Flow, call: ast.Call, mode: Value, name: str) -> None:
        added = _bits(mode)
        if added & _OTHERS:
            flow.report(call, "open-to-others", f"the mode adds {added & _OTHERS:#o} for others")
            return
        if not isinstance(mode.const, int):
            self.restricted = True  # computed: taken for what it says it is
            return
        if mode.const & _OTHERS and name not in ("os.makedirs()", "os.mkdir()"):
            flow.report(call, "open-to-others", f"the mode {mode.const & 0o7777:#o} lets others in")
        else:
            self.restricted = True

    def _command(self, flow: Flow, call: ast.Call, given: Value) -> None:
        parts = [one.const for one in given.items or ()] or [given.const, given.prefix]
        words = " ".join(one for one in parts if isinstance(one, str)).split()
        if "chmod" not in [word.rpartition("/")[2] for word in words]:
            self.restricted |= any(
                word.rpartition("/")[2] in ("icacls", "setfacl") for word in words
            )
            return
        at = next(n for n, word in enumerate(words) if word.rpartition("/")[2] == "chmod")
        mode = next((word for word in words[at + 1 :] if not re.match(r"-[RvcfLHP]|--", word)), "")
        if opens(mode):
            flow.report(call, "open-to-others", f"the mode {mode} lets others in")
        elif closes(mode):
            self.restricted = True

    def _open(self, flow: Flow, call: ast.Call, found: Value) -> None:
        how = found.named.get("mode", found.args[1] if len(found.args) > 1 else NOTHING).const
        if "opener" in found.named:
            self.restricted = True
        if isinstance(how, str) and set(how) & set("wax+") and self._is_new(call, found):
            return

    def _is_new(self, call: ast.Call, found: Value) -> bool:
        if _is_secret(call.args[0], found.args[0]):
            self.written = self.written or call
        return True


def _bits(mode: Value) -> int:
    """Bits that a computed mode has in any case."""
    if mode.name != "BitOr":
        return 0
    known = [one.const for one in mode.args if isinstance(one.const, int)]
    return sum(known) | sum(_bits(one) for one in mode.args)


def _is_secret(node: ast.expr, value: Value) -> bool:
    text = f"{ast.unparse(node)} {value.const if isinstance(value.const, str) else ''}"
    return bool(_SECRET.search(text))


def opens(mode: str) -> bool:
    """Whether `chmod` with this mode gives others something."""
    if re.fullmatch(r"[0-7]+", mode):
        return bool(int(mode, 8) & _OTHERS)
    clauses = [_CLAUSE.fullmatch(one) for one in mode.split(",")]
    return any(
        one is not None and one["how"] in "+=" and one["what"] and one["who"] != "u"
        for one in clauses
    )


def closes(mode: str) -> bool:
    """Whether `chmod` with this mode takes reading from all others."""
    if re.fullmatch(r"[0-7]+", mode):
        return not int(mode, 8) & _OTHERS
    taken: set[str] = set()
    for one in map(_CLAUSE.fullmatch, mode.split(",")):
        if one is None:
            return True
        who = set(one["who"] or "a")
        who = set("ugo") if "a" in who else who
        if one["how"] == "=" or (one["how"] == "-" and "r" in one["what"]):
            taken |= who if one["how"] == "-" or not one["what"] else set()
    return {"g", "o"} <= taken
