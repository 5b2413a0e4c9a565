"""The functions of the C library, POSIX and three databases that the checks know.

Sources of text from outside: the arguments, the environment, and every function that reads. What
makes it harmless is a test on the path (`strstr`, `strchr`, `strpbrk`, `strspn`, a resolved path
compared with its directory), an escaping function, or a loop over the characters (`c_paths`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from astraios.markers._static.c_input import Input
from astraios.markers._static.c_tree import Node
from astraios.markers._static.c_values import (
    CHAR,
    INT,
    NONE,
    SIZE,
    TEXT,
    VOID,
    WILD,
    ZERO,
    CType,
    Num,
    Ptr,
    State,
    Value,
)  # fmt: skip

_LEAVES = frozenset(
    ["exit", "abort", "_exit", "_Exit", "quick_exit", "err", "errx", "longjmp", "__builtin_trap",
     "pthread_exit", "__assert_fail"]
)  # fmt: skip
_EXEC = ("execl", "execlp", "execle", "execv", "execvp", "execve")
_ESCAPES = re.compile(r"escape|encode|sanit|quote", re.I)
_OPENS = ("fopen", "open", "open64", "opendir", "freopen", "remove", "unlink", "creat", "openat",
          "stat", "access", "rename", "mkdir", "rmdir", "fopen64")  # fmt: skip
_SQL = {"sqlite3_exec": 1, "sqlite3_prepare": 1, "sqlite3_prepare_v2": 1, "mysql_query": 1,
        "mysql_real_query": 1, "PQexec": 1, "sqlite3_prepare_v3": 1, "PQprepare": 2,
        "mysql_stmt_prepare": 1, "sqlite3_get_table": 1}  # fmt: skip
Results = list[tuple[State, Value]]


class Library(Input):
    """Calls of functions that the program does not define."""

    def library(self, name: str, node: Node, st: State, args: Sequence[Value]) -> Results:
        """The result of a call; none if it does not come back."""
        name = re.sub(r"^__builtin_(?!.*overflow)", "", name)
        self._sinks(name, node, st, args)
        if name in _LEAVES:
            self.leaves(st)
            return []
        handler = getattr(self, f"_on_{name}", None)
        if handler is not None:
            try:
                found: Results | Value = handler(node, st, args)
            except IndexError:
                found = self.fresh(st, INT)
            return found if isinstance(found, list) else [(st, found)]
        return [(st, self._unknown_call(name, node, st, args))]

    def leaves(self, st: State) -> None:
        """The program ends on this path."""
        for name, (line, descriptor, question) in st.files.items():
            failed = descriptor is not None and st.hi(descriptor) < 0
            if not failed and not (question and st.nulls.get(question) is True):
                message = f"{name} may be created for everybody to write"
                if not self.mute:
                    self.found.setdefault(("mode", line), message)

    def _unknown_call(self, name: str, node: Node, st: State, args: Sequence[Value]) -> Value:
        declared = self.declared_functions.get(name)
        pure = name in ("puts", "perror", "printf", "close", "fclose", "fflush", "pclose")
        for value in args:
            if isinstance(value, Ptr):
                self.kept(st, value, node)
                if not pure and self.regions[value.region].kind != "literal":
                    self._clobbered(st, value.region)
        if _ESCAPES.search(name) and not declared:
            return Ptr(self.text(st, NONE), ZERO, 1, 0, CHAR)
        if declared is None:
            return self.fresh(st, INT, labels=frozenset({WILD}))
        return self.unknown(st, declared, TEXT if declared.kind == "ptr" else frozenset({WILD}))

    declared_functions: dict[str, CType]

    # --- where text from outside does harm -------------------------------------------------------

    def _sinks(self, name: str, node: Node, st: State, args: Sequence[Value]) -> None:
        labels = [self.labels_of(st, value) for value in args]
        every = frozenset().union(*labels) if labels else NONE
        first = labels[0] if labels else NONE
        shell = {"shell", "quoted"}
        if name in ("system", "popen") and first & shell:
            self.report("shell", node, "text from outside reaches a shell")
        if name in _EXEC and every & shell:
            texts = [self.regions[v.region].literal for v in args if isinstance(v, Ptr)]
            program = labels[0] & shell
            shells = any(t and re.search(r"(^|/)(ba|da|z|k)?sh$", t) for t in texts)
            if program or ("-c" in texts and shells):
                self.report("shell", node, "text from outside is run as a command")
        if name in _OPENS:
            at = 1 if name == "openat" else 0
            if at < len(labels) and labels[at] & {"dotdot", "abs"}:
                self.report("path", node, "a path from outside may lead out of its directory")
        if name in _SQL and len(labels) > _SQL[name] and "sql" in labels[_SQL[name]]:
            self.report("sql", node, "text from outside is part of a statement")
        self._pages(name, node, st, args)

    def _pages(self, name: str, node: Node, st: State, args: Sequence[Value]) -> None:
        texts: Sequence[Value] = ()
        if name in ("fputs", "fwrite", "puts", "write", "send", "fputc", "putc"):
            texts = args[1:2] if name in ("write", "send") else args[:1]
        elif name in ("printf", "fprintf", "dprintf"):
            texts = args if name == "printf" else args[1:]
        arguments = node.fields["arguments"].text if "arguments" in node.fields else ""
        if "stderr" not in arguments and any("html" in self.labels_of(st, t) for t in texts):
            self.report("html", node, "text from outside is written into a page")

    # --- memory --------------------------------------------------------------------------------

    def _allocated(self, st: State, n: Num) -> Value:
        unit, count = self.steps(st, n)
        made = self.region("heap", replace(count, type=SIZE), unit)
        return Ptr(made, ZERO, 1, self.new(), VOID)

    def _on_malloc(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.converted(st, a[0], SIZE)
        return self._allocated(st, n if isinstance(n, Num) else self.fresh(st, SIZE))

    def _on_calloc(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self.mute += 1
        n = self.computed(st, "*", self.converted(st, a[0], SIZE), a[1], node)
        self.mute -= 1
        made = self._allocated(st, n if isinstance(n, Num) else self.fresh(st, SIZE))
        if isinstance(made, Ptr):
            st.zeroed |= {made.region}
            st.lengths[made.region] = ZERO
        return made

    def _on_realloc(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        made = self._on_malloc(node, st, a[1:])
        if isinstance(a[0], Ptr) and isinstance(made, Ptr):
            self.kept(st, a[0], node)
            st.freed[self.root(a[0].region)] = made.null
            st.labels[made.region] = st.labels.get(a[0].region, NONE)
            made = replace(made, unit=1)
        return made

    def _on_free(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        if isinstance(a[0], Ptr) and not (a[0].null and st.nulls.get(a[0].null) is True):
            region = self.root(a[0].region)
            self.kept(st, a[0], node)
            if self.regions[region].kind in ("heap", "outside", "unknown"):
                st.freed[region] = 0
                if a[0].null and a[0].null not in st.nulls:
                    question = self.new()
                    st.facts["freed", a[0].null] = question
        return ZERO

    def _on_alloca(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        made = self._on_malloc(node, st, a)
        return replace(made, null=0) if isinstance(made, Ptr) else made

    def _on___builtin_add_overflow(self, node: Node, st: State, a: Sequence[Value]) -> Results:
        if isinstance(a[2], Ptr):
            kind = a[2].to or INT
            self.store(st, a[2], kind, self.fresh(st, kind), node)
        return [(st, self.fresh(st, INT, 0, 1))]

    _on___builtin_mul_overflow = _on___builtin_add_overflow
    _on___builtin_sub_overflow = _on___builtin_add_overflow
    _on___builtin_sadd_overflow = _on___builtin_add_overflow
    _on___builtin_smul_overflow = _on___builtin_add_overflow
    _on___builtin_uadd_overflow = _on___builtin_add_overflow

    def _on_assert(self, node: Node, st: State, a: Sequence[Value]) -> Results:
        return [(st, ZERO)] if a and self.assume(st, "!=", a[0], ZERO) else []

    # --- files ---------------------------------------------------------------------------------

    def _created(
        self, st: State, node: Node, mode: float | None, descriptor: Num | None, question: int
    ) -> None:
        """A file is created with `mode`, of which the mask takes what it was told to."""
        mask = st.umask if st.umask >= 0 else 0
        if mode is None or int(mode) & ~mask & 0o002:
            arguments = node.fields["arguments"].children
            name = arguments[0].text if arguments else "a file"
            st.files[name] = (node.line, descriptor, question)

    def _on_umask(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        st.umask = int(a[0].off) if isinstance(a[0], Num) and not a[0].coef else -1
        return self.fresh(st, INT, 0, 0o777)

    def _on_fopen(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        question = self.new()
        mode = self._literal(a[1]) or ""
        if mode[:1] in ("w", "a"):
            self._created(st, node, 0o666, None, question)
        return Ptr(self.region("stream"), ZERO, 1, question, VOID)

    _on_freopen = _on_fopen

    def _on_popen(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return Ptr(self.region("stream"), ZERO, 1, self.new(), VOID)

    _on_fdopen = _on_tmpfile = _on_opendir = _on_popen

    def _on_open(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        made = self.fresh(st, INT, -1)
        flags = a[1] if isinstance(a[1], Num) and not a[1].coef else None
        if flags is not None and int(flags.off) & 0o100:
            mode = a[2] if len(a) > 2 else None
            known = isinstance(mode, Num) and not mode.coef
            if mode is None or known:
                self._created(st, node, mode.off if isinstance(mode, Num) else None, made, 0)
        return made

    _on_open64 = _on_open

    def _on_openat(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._on_open(node, st, a[1:])

    def _on_creat(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        made = self.fresh(st, INT, -1)
        if isinstance(a[1], Num) and not a[1].coef:
            self._created(st, node, a[1].off, made, 0)
        return made

    def _on_mkdir(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._on_creat(node, st, a)

    def _on_chmod(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        if len(a) > 1 and isinstance(a[1], Num) and not a[1].coef:
            if int(a[1].off) & 0o002:
                self.report("mode", node, "everybody is allowed to write")
            else:
                name = node.fields["arguments"].children[0].text
                gone = [name] if name in st.files else []
                if node.fields["function"].text == "fchmod":
                    gone = list(st.files)
                for key in gone:
                    del st.files[key]
        return self.fresh(st, INT, -1, 0)

    _on_fchmod = _on_chmod
