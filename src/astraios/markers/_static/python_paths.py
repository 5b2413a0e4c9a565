"""Names from outside that leave the folder they were meant for (CWE-22)."""

from __future__ import annotations

import ast

from astraios.markers._static.python_flow import Flow, analysed
from astraios.markers._static.python_injection import substituted
from astraios.markers._static.python_policy import Policy
from astraios.markers._static.python_values import NOTHING, UNKNOWN, Mark, Value, constant, words
from astraios.records import Finding

PARENT, ABSOLUTE, LINK = "parent", "absolute", "link"
_BOTH = (PARENT, ABSOLUTE)


def path(code: str) -> list[Finding]:
    """CWE-22: a path made of a name from outside, or of a member of an archive, is used unchecked.

    A name can do harm in two ways: it climbs (`../`), or it is absolute, which matters to
    `os.path.join` and where nothing stands in front. Catches `open`, `send_file`, `pathlib`, `os`
    and `shutil` functions, commands that are given such paths, and `extract` and `extractall` of
    archives without a filter. `secure_filename`, `basename`, `safe_join`, `send_from_directory`, a
    comparison of the *resolved* path with the folder, lists of known names, tests for `..` and for
    a leading `/`, and the filters `data` and `tar` are safe; upstream takes only the resolved path
    followed by a test, and reports tests for `..`.

    Misses symbolic links in archives, Windows' separators and drives, and folders that are a prefix
    of another folder's name.
    """
    return analysed(code, _Path(), "CWE-22")


_OPENS = words("""
    open() io.open() codecs.open() os.open() os.fdopen() flask.send_file() send_file() os.remove()
    os.unlink() os.rename() os.replace() os.rmdir() os.mkdir() os.makedirs() os.listdir()
    os.scandir() os.walk() os.chmod() shutil.copy() shutil.copy2() shutil.copyfile()
    shutil.move() shutil.rmtree() shutil.copytree() PIL.Image.open() Image.open() cv2.imread()
    imageio.imread() matplotlib.image.imread() numpy.load() zipfile.ZipFile() tarfile.open()
    aiofiles.open() linecache.getlines() flask.safe_open() app.open_resource()
    """)
_PATH_METHODS = words(
    "read_text read_bytes write_text write_bytes open unlink rename rmdir iterdir glob save "
    "open_resource"
)
_SAFE = words("secure_filename safe_join basename send_static_file")
_RESOLVES = (
    "os.path.realpath()", "os.path.abspath()", "os.path.normpath()", ".resolve()", ".absolute()",
)  # fmt: skip
_COMMON = ("os.path.commonpath()", "os.path.commonprefix()")
_COMMANDS = words("run call check_call check_output Popen system popen getoutput")
_ARCHIVES = ("tarfile.open()", "tarfile.TarFile.open()", "tarfile.TarFile()")
_FILTERS = ("data", "tar", "tarfile.data_filter", "tarfile.tar_filter")


class _Path(Policy):
    labels = frozenset(_BOTH)

    def call(self, flow: Flow, call: ast.Call, found: Value, base: Value) -> Value | None:
        name, args = found.name, found.args
        last = name.removesuffix("()").rpartition(".")[2]
        if name in _ARCHIVES:
            if args and flow.harms(args[0]):
                self._opened(flow, call)
            marks = frozenset((f"archive.{call.lineno}", label) for label in _BOTH)
            return Value(taint=marks, name="archive")
        if base.name == "archive":
            return self._archive(flow, call, found, base, last)
        if last in _SAFE:
            return Value(name=name, args=args)
        if last == "send_from_directory":
            folder = args[0] if args else found.named.get("directory", NOTHING)
            if flow.harms(folder):
                self._opened(flow, call)
            return NOTHING
        if last == "replace" and base.taint and len(args) == 2:
            return _replaced(base, args[0].const, args[1].const)
        if last == "lstrip" and args and "/" in str(args[0].const):
            return base.without([ABSOLUTE])
        if name == "os.path.relpath()" and args:
            return Value(taint=args[0].taint, name=name, args=args).without([ABSOLUTE])
        if last in ("join", "joinpath") and (
            "os.path" in name or "Path" in name or last == "joinpath"
        ):
            return _path_joined([*([base] if last == "joinpath" else []), *args])
        if name in _OPENS or (last == "open_resource"):
            if any(flow.harms(flow.deep(one)) for one in (*args[:2], *found.named.values())):
                self._opened(flow, call)
            return NOTHING
        if (
            last in _PATH_METHODS
            and self._is_path(base, last, args)
            and flow.harms(_saved(base, last, args))
        ):
            self._opened(flow, call)
            return NOTHING
        if last in _COMMANDS and name.startswith(("subprocess.", "os.")):
            if args and flow.harms(flow.deep(args[0])):
                self._opened(flow, call)
            return NOTHING
        return substituted(flow, found, self)

    @staticmethod
    def _is_path(base: Value, last: str, args: tuple[Value, ...]) -> bool:
        return (
            (last == "save" and bool(args)) or "Path" in base.name or base.name.endswith(_RESOLVES)
        )

    @staticmethod
    def _opened(flow: Flow, node: ast.AST) -> None:
        flow.report(node, "path-traversal", "a path from outside is used without a check")

    def _archive(
        self, flow: Flow, call: ast.Call, found: Value, base: Value, last: str
    ) -> Value | None:
        if last not in ("extract", "extractall", "_extract_member"):
            return Value(taint=base.taint, name="archive.members" if last != "close" else "")
        chosen = found.named.get("filter")
        if chosen is not None and (chosen.const in _FILTERS or chosen.name in _FILTERS):
            return NOTHING
        if chosen is not None and (chosen.function is not None or chosen.const is UNKNOWN):
            return NOTHING
        if last == "extractall":
            members = found.named.get("members", found.args[1] if len(found.args) > 1 else base)
            members = base if members.const is None else members
        else:
            members = found.args[0] if found.args else found.named.get("member", base)
        if flow.harms(flow.deep(members)):
            message = "a member of the archive may be written outside of the folder"
            flow.report(call, "archive-traversal", message)
        return NOTHING

    def joined(self, flow: Flow, value: Value) -> Value:
        """Text in front of a name keeps it from being absolute."""
        return value.without([ABSOLUTE]) if value.prefix else value

    def stored(self, flow: Flow, target: str, value: Value, node: ast.AST) -> None:
        """`archive.extraction_filter = ...`, `member.name = basename(...)`."""
        holder, _, name = target.rpartition(".")
        held = flow.state.values.get(holder, NOTHING)
        filtered = name == "extraction_filter" and value.name.endswith(_FILTERS)
        renamed = name in ("name", "path") and not flow.harms(value)
        if held.name.startswith("archive") and (filtered or renamed):
            flow.state.values[holder] = Value(name=held.name)

    # --- guards ---

    def dangerous(self) -> dict[str, str]:
        return {PARENT: "/\\", ABSOLUTE: "/"}

    def absent(self, literal: str, value: Value) -> frozenset[Mark]:
        gone = {"..": (PARENT,), "../": (PARENT,), "/": _BOTH, "/..": (PARENT,), ".": (PARENT,)}
        if literal == "/" and value.name.endswith("[0]"):
            gone = {"/": (ABSOLUTE,)}
        return frozenset(mark for mark in value.taint if mark[1] in gone.get(literal, ()))

    def equal(self, value: Value, other: Value) -> frozenset[Mark]:
        if value.name in _COMMON or value.name.endswith(".parent"):
            inner = [one for given in value.args for one in (*(given.items or ()), given)]
            if any(_resolved(one) for one in inner):
                return frozenset().union(value.taint, *(one.taint for one in inner))
        if value.name in (
            "os.path.basename()",
            "werkzeug.utils.secure_filename()",
            "secure_filename()",
        ):
            return frozenset(m for one in value.args for m in one.taint if m in other.taint)
        if _resolved(value) and value.taint & other.taint and other.exact:
            return frozenset()
        return frozenset()

    def among(self, value: Value, others: Value) -> frozenset[Mark]:
        if others.name.endswith(".parents"):
            return others.taint
        if value.name == "os.path.basename()" and value.args and not others.taint:
            return frozenset()
        return frozenset()

    def held(self, flow: Flow, name: str, call: Value, base: Value) -> frozenset[Mark]:
        is_folder = bool(call.args) and not call.args[0].taint
        if name == "startswith" and is_folder and _resolved(base):
            return base.taint
        if name == "is_relative_to" and is_folder and _resolved(base):
            return base.taint
        return frozenset()

    def failed(self, flow: Flow, name: str, call: Value, base: Value) -> frozenset[Mark]:
        given = call.args[0] if call.args else NOTHING
        gone: set[str] = set()
        if name == "startswith":
            texts = given.const if isinstance(given.const, str) else ""
            for one in [texts, *(str(item.const) for item in given.items or ())]:
                gone |= {ABSOLUTE} if one == "/" else set()
                if one in ("..", "../") and base.name == "os.path.relpath()" and base.args:
                    return base.taint | base.args[0].taint
                if one in ("..", "../") and base.name.endswith("normpath()"):
                    gone |= {PARENT}
        if name == "isabs":
            base, gone = given, {ABSOLUTE}
        if name == "is_absolute":
            gone = {ABSOLUTE}
        return frozenset(mark for mark in base.taint if mark[1] in gone)


def _resolved(value: Value) -> bool:
    """Whether `..` and links were taken out of a path, perhaps with a separator added."""
    if value.name == "concatenation" and value.args:
        return _resolved(value.args[0])
    if value.name == "str()" and value.args:
        return _resolved(value.args[0])
    return value.name.endswith(_RESOLVES)


def _replaced(base: Value, old: object, new: object) -> Value:
    if new not in ("", "_", "-"):
        return Value(taint=base.taint, name=f"{base.name}.replace()")
    if old == "..":
        return base.without([PARENT])
    if old == "/":
        return base.without(_BOTH)
    return Value(taint=base.taint, name=f"{base.name}.replace()")


def _path_joined(parts: list[Value]) -> Value:
    """`os.path.join`: what is absolute stays so wherever it stands."""
    if all(isinstance(one.const, str) for one in parts):
        return constant("/".join(str(one.const) for one in parts))
    taint = frozenset().union(*(one.taint for one in parts))
    return Value(taint=taint, name="pathlib.Path.joinpath()", args=tuple(parts))


def _saved(base: Value, last: str, args: tuple[Value, ...]) -> Value:
    """The path that a method uses: its object, or where `save` writes to."""
    return args[0] if last == "save" else base
