"""The functions of the C library, POSIX and three databases that the checks know.

Sources of text from outside: the arguments, the environment, and every function that reads. What
makes it harmless is a test on the path (`strstr`, `strchr`, `strpbrk`, `strspn`, a resolved path
compared with its directory), an escaping function, or a loop over the characters (`c_paths`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from astraios.markers._static.c_expressions import Expressions
from astraios.markers._static.c_formats import converted_length, marked, pieces
from astraios.markers._static.c_tree import Node
from astraios.markers._static.c_values import (
    CHAR,
    INT,
    LONG,
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

DANGEROUS = {
    "shell": ";|&$`\n<>", "quote": "'", "quoted": "'", "html": "<", "sql": "'", "abs": "/",
}  # fmt: skip
"""Characters, of which each one does harm; `dotdot` needs a dot and a slash."""
_LEAVES = frozenset(
    ["exit", "abort", "_exit", "_Exit", "quick_exit", "err", "errx", "longjmp", "__builtin_trap",
     "pthread_exit", "__assert_fail"]
)  # fmt: skip
_EXEC = ("execl", "execlp", "execle", "execv", "execvp", "execve")
_CONVERSION = re.compile(r"%(\*)?(\d+)?(?:hh|h|ll|l|z|j|L)?(\[\^?\]?[^\]]*\]|[a-zA-Z])")
"""Of scanf: star, width, kind."""
_ESCAPES = re.compile(r"escape|encode|sanit|quote", re.I)
_OPENS = ("fopen", "open", "open64", "opendir", "freopen", "remove", "unlink", "creat", "openat",
          "stat", "access", "rename", "mkdir", "rmdir", "fopen64")  # fmt: skip
_SQL = {"sqlite3_exec": 1, "sqlite3_prepare": 1, "sqlite3_prepare_v2": 1, "mysql_query": 1,
        "mysql_real_query": 1, "PQexec": 1, "sqlite3_prepare_v3": 1, "PQprepare": 2,
        "mysql_stmt_prepare": 1, "sqlite3_get_table": 1}  # fmt: skip
Results = list[tuple[State, Value]]


class Library(Expressions):
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

    def _clobbered(self, st: State, region: int) -> None:
        for key in [key for key in st.cells if key[0] == region]:
            del st.cells[key]
        st.lengths.pop(region, None)

    def labels_of(self, st: State, value: Value | None) -> frozenset[str]:
        if isinstance(value, Ptr):
            return st.labels.get(value.region, NONE)
        return value.labels & TEXT if isinstance(value, Num) else NONE

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

    # --- text ----------------------------------------------------------------------------------

    def length(self, st: State, value: Value, node: Node) -> Num:
        """Length of a text, which is read for it."""
        if not isinstance(value, Ptr):
            if not value.coef and value.off == 0:
                self.report("null", node, "a null pointer is followed")
            return self.fresh(st, SIZE, 0, 2**31 - 2)
        self.alive(st, value, node)
        region = value.region
        known = st.lengths.get(region)
        if known is None:
            if region in st.lengths:
                self.report("read", node, "a text is read that no zero ends")
            size = self.regions[region].size
            known = self.fresh(st, SIZE, 0, 2**31 - 2)
            if size is not None and self.regions[region].unit == 1:
                st.assume_le(known.plus(1), size)
            st.lengths[region] = known
        if not value.off.coef and value.off.off == 0:
            return known
        back = replace(value.off, off=-value.off.off, coef=-value.off.coef)
        rest = self.sum(st, known, back)
        return replace(rest, type=SIZE) if st.lo(rest) >= 0 else self.fresh(st, SIZE, 0, 2**31 - 2)

    def written(
        self, st: State, dst: Value, n: Num, labels: frozenset[str], node: Node,
        bound: Num | None = None, append: bool = False,
    ) -> None:  # fmt: skip
        """A text of `n` characters and its zero are put where `dst` points."""
        if not isinstance(dst, Ptr):
            if not dst.coef and dst.off == 0:
                self.report("null", node, "a null pointer is written through")
            return
        if append:
            dst = replace(dst, off=self.sum(st, replace(dst.off, type=SIZE),
                                            self.length(st, dst, node)), unit=1)  # fmt: skip
        total = n.plus(1)
        if bound is not None and not st.is_le(total, bound):
            low = min(st.lo(n), max(0, st.lo(bound) - 1))
            n = self.fresh(st, SIZE, max(0, low), max(0, min(st.hi(n), st.hi(bound) - 1)))
            st.assume_le(n.plus(1), bound)
            total = bound
        self.span(st, dst, total, node, writes=True)
        region = dst.region
        start = not dst.off.coef and dst.off.off == 0
        st.lengths[region] = n if start else self.sum(st, replace(dst.off, type=SIZE), n)
        st.labels[region] = labels if start else st.labels.get(region, NONE) | labels
        for key in [key for key in st.cells if key[0] == region]:
            del st.cells[key]

    def _print(
        self, st: State, dst: Value | None, template: Value, args: Sequence[Value], node: Node,
        bound: Num | None = None,
    ) -> Num:  # fmt: skip
        """Any of the printf functions; returns how much it writes."""
        text = self.regions[template.region].literal if isinstance(template, Ptr) else None
        if text is None:
            n = self.length(st, template, node)
            self.written(st, dst, n, self.labels_of(st, template), node, bound) if dst else None
            return replace(n, type=INT)
        total = Num(0, type=SIZE)
        labels: frozenset[str] = NONE
        out = ""
        for piece in pieces(text, args):
            if not piece.sign:
                total = total.plus(len(piece.text))
                out += piece.text
            elif piece.sign == "s" and piece.argument is not None:
                if piece.precision is None:
                    n = self.length(st, piece.argument, node)
                else:
                    n = self.fresh(st, SIZE, 0, piece.precision)
                if piece.width:
                    n = self.fresh(st, SIZE, piece.width, max(piece.width, st.hi(n)))
                total = self.sum(st, total, n)
                gained = marked(self.labels_of(st, piece.argument), piece)
                literal = ""
                if isinstance(piece.argument, Ptr):
                    literal = self.regions[piece.argument.region].literal or ""
                out += literal
                labels |= gained - {"abs"} if out else gained
            else:
                low, high = converted_length(st, piece)
                most = self.fresh(st, SIZE, low, high) if low != high else Num(low, type=SIZE)
                total = self.sum(st, total, most)
                if piece.sign == "c" and isinstance(piece.argument, Num):
                    labels |= piece.argument.labels & TEXT
        if dst is not None:
            self.written(st, dst, total, labels, node, bound)
        return replace(total, type=INT)

    def _on_printf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._print(st, None, a[0], a[1:], node)

    def _on_fprintf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self._stream(st, a[0], node)
        return self._print(st, None, a[1], a[2:], node)

    def _on_sprintf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._print(st, a[0], a[1], a[2:], node)

    def _on_snprintf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        bound = a[1] if isinstance(a[1], Num) else None
        dst = None if isinstance(a[0], Num) or (bound and st.hi(bound) <= 0) else a[0]
        return self._print(st, dst, a[2], a[3:], node, bound)

    def _on_asprintf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        made = self.text(st, NONE, "heap")
        probe = Ptr(made, ZERO, 1, 0, CHAR)
        self.regions[made].size = None
        self._print(st, probe, a[1], a[2:], node)
        if isinstance(a[0], Ptr):
            self.store(st, a[0], CType("ptr", 8, to=CHAR), probe, node)
        return self.fresh(st, INT, -1)

    def _on_strcpy(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self.written(st, a[0], self.length(st, a[1], node), self.labels_of(st, a[1]), node)
        return a[0]

    def _on_stpcpy(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.length(st, a[1], node)
        self.written(st, a[0], n, self.labels_of(st, a[1]), node)
        return self._moved(st, "+", a[0], n)

    def _on_strcat(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        labels = self.labels_of(st, a[1]) - {"abs"}
        n = self.length(st, a[1], node)
        self.written(st, a[0], n, labels, node, append=True)
        return a[0]

    def _on_strncat(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.length(st, a[1], node)
        bound = a[2].plus(1) if isinstance(a[2], Num) else None
        labels = self.labels_of(st, a[1]) - {"abs"}
        self.written(st, a[0], n, labels, node, bound, append=True)
        return a[0]

    def _on_strlcpy(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.length(st, a[1], node)
        bound = a[2] if isinstance(a[2], Num) else None
        self.written(st, a[0], n, self.labels_of(st, a[1]), node, bound)
        return n

    def _on_strncpy(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.length(st, a[1], node)
        bound = a[2] if isinstance(a[2], Num) else n
        if not isinstance(a[0], Ptr):
            return a[0]
        self.span(st, a[0], bound, node, writes=True)
        region, size = a[0].region, self.regions[a[0].region].size
        labels = self.labels_of(st, a[1])
        start = not a[0].off.coef and a[0].off.off == 0
        st.labels[region] = labels if start else st.labels.get(region, NONE) | labels
        short = st.is_le(n.plus(1), bound)
        tail = region in st.zeroed and size is not None and not st.is_le(size, bound)
        if not start:
            st.lengths.pop(region, None)
        elif short:
            st.lengths[region] = n
        elif tail:
            st.lengths[region] = self.fresh(st, SIZE, 0, st.hi(bound))
        else:
            st.lengths[region] = None
        return a[0]

    def _on_memcpy(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.converted(st, a[2], SIZE)
        if not isinstance(n, Num):
            return a[0]
        if isinstance(a[1], Ptr):
            self.span(st, a[1], n, node, writes=False)
        if not isinstance(a[0], Ptr):
            return a[0]
        self.span(st, a[0], n, node, writes=True)
        if st.hi(n) <= 0:
            return a[0]
        region = a[0].region
        start = not a[0].off.coef and a[0].off.off == 0
        labels = self.labels_of(st, a[1])
        source = st.lengths.get(a[1].region) if isinstance(a[1], Ptr) else None
        was = region in st.zeroed
        self._clobbered(st, region)
        size = self.regions[region].size
        if start and source is not None and st.is_le(source.plus(1), n):
            st.lengths[region] = source
        elif start and was and size is not None and st.is_le(n.plus(1), size):
            st.lengths[region] = replace(n, type=SIZE)
        elif start and source is not None and self.regions[region].kind != "argv":
            st.lengths[region] = None
        st.labels[region] = labels if start else st.labels.get(region, NONE) | labels
        return a[0]

    _on_memmove = _on_memcpy

    def _on_memset(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.converted(st, a[2], SIZE)
        if isinstance(a[0], Ptr) and isinstance(n, Num):
            self.span(st, a[0], n, node, writes=True)
            self._clobbered(st, a[0].region)
            zero = isinstance(a[1], Num) and not a[1].coef and a[1].off == 0
            size = self.regions[a[0].region].size
            if zero and not a[0].off.coef and a[0].off.off == 0:
                st.lengths[a[0].region] = ZERO
                st.labels[a[0].region] = NONE
                if size is not None and st.is_le(size, n):
                    st.zeroed |= {a[0].region}
        return a[0]

    def _on_strlen(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.length(st, a[0], node)
        if isinstance(a[0], Ptr) and n.coef:
            st.facts["strlen", n.sym] = a[0].region
        return n

    def _on_strdup(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.length(st, a[0], node)
        made = self.region("heap", n.plus(1))
        st.lengths[made] = n
        st.labels[made] = self.labels_of(st, a[0])
        return Ptr(made, ZERO, 1, self.new(), CHAR)

    def _on_strndup(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        made = self.text(st, self.labels_of(st, a[0]), "heap")
        return Ptr(made, ZERO, 1, self.new(), CHAR)

    # --- tests of text -------------------------------------------------------------------------

    def _found(self, st: State, a: Sequence[Value], what: str, node: Node) -> Value:
        """A search: null if nothing was found, and what that says of the text."""
        if not isinstance(a[0], Ptr):
            return self.fresh(st, INT)
        self.alive(st, a[0], node)
        question = self.new()
        st.facts["told", question] = (what, a[0].region)
        off = self.fresh(st, LONG, 0)
        known = st.lengths.get(a[0].region)
        if known is not None:
            st.assume_le(off, known.plus(0 if what == "strchr:\0" else -1))
        return Ptr(a[0].region, off, 1, question, CHAR)

    def _literal(self, value: Value) -> str | None:
        if isinstance(value, Ptr):
            return self.regions[value.region].literal
        return chr(int(value.off)) if not value.coef and 0 <= value.off < 256 else None

    def _on_strchr(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        sign, text = self._literal(a[1]), self._literal(a[0])
        if sign is not None and text is not None and isinstance(a[0], Ptr):
            held = sign in text + "\0"
            return replace(a[0], off=Num((text + "\0").index(sign))) if held else ZERO
        if text is not None and isinstance(a[1], Num):
            return self.fresh(st, INT)
        return self._found(st, a, f"none:{sign or ''}", node)

    _on_index = _on_memchr = _on_strchr

    def _on_strrchr(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        sign = self._literal(a[1])
        found = self._found(st, a, f"none:{sign or ''}", node)
        if sign == "/" and isinstance(found, Ptr):
            made = self.text(st, self.labels_of(st, found) - {"dotdot", "abs"})
            return Ptr(made, ZERO, 1, found.null, CHAR)
        return found

    def _on_basename(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        made = self.text(st, self.labels_of(st, a[0]) - {"dotdot", "abs"})
        return Ptr(made, ZERO, 1, 0, CHAR)

    def _on_strstr(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._found(st, a, f"substring:{self._literal(a[1]) or ''}", node)

    def _on_strpbrk(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._found(st, a, f"none:{self._literal(a[1]) or ''}", node)

    def _spanning(self, node: Node, st: State, a: Sequence[Value], kind: str) -> Value:
        n = self.length(st, a[0], node)
        made = self.fresh(st, SIZE, 0, 2**31 - 2)
        st.assume_le(made, n)
        if isinstance(a[0], Ptr):
            st.facts["span", made.sym] = (f"{kind}:{self._literal(a[1]) or ''}", a[0].region)
        return made

    def _on_strspn(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._spanning(node, st, a, "only")

    def _on_strcspn(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._spanning(node, st, a, "none")

    def _on_strcmp(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        for value in a[:2]:
            self.length(st, value, node)
        return self._compared_texts(st, a, None)

    _on_strcasecmp = _on_strcmp

    def _on_strncmp(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        for value in a[:2]:
            if isinstance(value, Ptr):
                self.alive(st, value, node)
        return self._compared_texts(st, a, a[2])

    _on_strncasecmp = _on_memcmp = _on_strncmp

    def _compared_texts(self, st: State, a: Sequence[Value], n: Value | None) -> Value:
        made = self.fresh(st, INT)
        for x, y in ((a[0], a[1]), (a[1], a[0])):
            text = self._literal(y)
            if isinstance(x, Ptr) and text is not None and self._literal(x) is None:
                if n is None:
                    st.facts["told", made.sym] = ("equal", x.region)
                elif isinstance(n, Num) and not n.coef:
                    whole = text + "\0" if n.off > len(text) else text[: int(n.off)]
                    st.facts["told", made.sym] = (f"begins:{whole}", x.region)
        return made

    def tested(self, st: State, fact: object, is_true: bool) -> None:
        if not isinstance(fact, tuple):
            return
        if isinstance(fact[0], tuple):  # a span that equals a length
            (kind, region), other = fact
            owner = st.facts.get(("strlen", other.sym))
            if owner == region or (not other.coef and other.off > 0):
                self._harmless(st, kind, region)
            return
        kind, region = fact
        positive = kind.startswith(("equal", "begins", "allowed"))
        if kind.startswith("resolved"):
            return
        if not is_true:
            # null: nothing was found; zero: the texts are equal
            self._harmless(st, kind, region)
        elif positive:
            return

    def _harmless(self, st: State, kind: str, region: int) -> None:
        what, _, signs = kind.partition(":")
        labels = st.labels.get(region, NONE)
        gone: set[str] = set()
        if what == "equal":
            gone = set(labels)
        elif what in ("none", "only"):

            def refused(sign: str) -> bool:
                return (sign in signs) == (what == "none")

            gone = {x for x, bad in DANGEROUS.items() if all(refused(sign) for sign in bad)}
            if refused("/") or refused("."):
                gone |= {"dotdot"}
        elif what == "substring":
            gone = {"dotdot"} if signs and signs in "../" and signs != "./" else set()
            if signs == "/":
                gone = {"dotdot", "abs"}
        elif what == "begins" and (signs.endswith(("/", "\0"))):
            gone = {"abs"}
            source = st.facts.get(("resolves", region))
            if isinstance(source, int):
                st.labels[source] = st.labels.get(source, NONE) - {"dotdot", "abs"}
        st.labels[region] = labels - gone

    def _on_realpath(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        labels = self.labels_of(st, a[0])
        out = a[1] if len(a) > 1 and isinstance(a[1], Ptr) else None
        made = out.region if out is not None else self.text(st, kind="heap")
        path = labels & {"dotdot", "abs"}
        st.lengths[made] = self.fresh(st, SIZE, 0, 4095)
        st.labels[made] = labels - path | ({"abs"} if path else NONE)
        if isinstance(a[0], Ptr):
            st.facts["resolves", made] = a[0].region
        return Ptr(made, ZERO, 1, self.new(), CHAR)

    def _on_mysql_real_escape_string(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        if isinstance(a[1], Ptr):
            st.labels[a[1].region] = self.labels_of(st, a[2]) - {"sql"}
            st.lengths.pop(a[1].region, None)
        return self.fresh(st, SIZE, 0, 2**31)

    def _on_sqlite3_mprintf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        text = self._literal(a[0]) or ""
        raw = re.findall(r"%[-0-9.]*([a-zA-Z])", text)
        labels: frozenset[str] = NONE
        for sign, value in zip(raw, a[1:], strict=False):
            labels |= self.labels_of(st, value) - ({"sql"} if sign in "qQw" else set())
        return Ptr(self.text(st, labels, "heap"), ZERO, 1, self.new(), CHAR)

    # --- input ---------------------------------------------------------------------------------

    def _stream(self, st: State, value: Value, node: Node) -> None:
        if isinstance(value, Ptr):
            self.alive(st, value, node)

    def _read_text(self, node: Node, st: State, dst: Value, n: Num | None) -> None:
        if isinstance(dst, Ptr):
            most = self.fresh(st, SIZE, 0, 2**31 - 2)
            if n is not None:
                st.assume_le(most.plus(1), n)
                self.span(st, dst, n, node, writes=True)
            else:
                self.span(st, dst, most.plus(1), node, writes=True)
            self._clobbered(st, dst.region)
            if not dst.off.coef and dst.off.off == 0:
                st.lengths[dst.region] = most
            st.labels[dst.region] = TEXT

    def _on_fgets(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self._stream(st, a[2], node) if len(a) > 2 else None
        self._read_text(node, st, a[0], a[1] if isinstance(a[1], Num) else None)
        return replace(a[0], null=self.new()) if isinstance(a[0], Ptr) else a[0]

    def _on_gets(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self._read_text(node, st, a[0], None)
        return a[0]

    def _on_fread(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self._stream(st, a[3], node)
        if not isinstance(a[1], Num) or not isinstance(a[2], Num):
            return self.fresh(st, SIZE)
        self.mute += 1
        total = self.computed(st, "*", self.converted(st, a[1], SIZE),
                              self.converted(st, a[2], SIZE), node)  # fmt: skip
        self.mute -= 1
        made = self.fresh(st, SIZE, 0)
        st.assume_le(made, a[2])
        if isinstance(a[0], Ptr) and isinstance(total, Num):
            one = not a[1].coef and a[1].off == 1
            self.span(st, a[0], a[2] if one else total, node, writes=True)
            zeroed = a[0].region in st.zeroed
            self._clobbered(st, a[0].region)
            if not zeroed:
                st.lengths[a[0].region] = None
            st.labels[a[0].region] = TEXT
        return made

    def _on_read(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        made = self.fresh(st, LONG, -1)
        if isinstance(a[2], Num):
            n = self.converted(st, a[2], SIZE)
            if isinstance(a[1], Ptr) and isinstance(n, Num):
                self.span(st, a[1], n, node, writes=True)
                zeroed = a[1].region in st.zeroed
                self._clobbered(st, a[1].region)
                if not zeroed:
                    st.lengths[a[1].region] = None
                st.labels[a[1].region] = TEXT
                st.assume_le(made, n)
        return made

    def _on_recv(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._on_read(node, st, a)

    def _on_fwrite(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self._stream(st, a[3], node)
        if isinstance(a[0], Ptr) and isinstance(a[1], Num) and isinstance(a[2], Num):
            one = not a[1].coef and a[1].off == 1
            total = a[2] if one else a[1] if not a[2].coef and a[2].off == 1 else None
            if total is not None:
                self.span(st, a[0], total, node, writes=False)
            else:
                self.alive(st, a[0], node)
        return self.fresh(st, SIZE)

    def _on_write(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.converted(st, a[2], SIZE)
        if isinstance(a[1], Ptr) and isinstance(n, Num):
            self.span(st, a[1], n, node, writes=False)
        return self.fresh(st, LONG, -1)

    def _on_fputs(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self.length(st, a[0], node)
        self._stream(st, a[1], node)
        return self.fresh(st, INT)

    def _on_puts(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self.length(st, a[0], node)
        return self.fresh(st, INT)

    def _scan(self, node: Node, st: State, text: str, targets: Sequence[Value]) -> Value:
        specs = [found for found in _CONVERSION.finditer(text) if not found[1]]
        for spec, target in zip(specs, targets, strict=False):
            if not isinstance(target, Ptr):
                continue
            if spec[3][0] in "s[":
                width = Num(int(spec[2]) + 1, type=SIZE) if spec[2] else None
                self._read_text(node, st, target, width)
            elif target.to is not None and target.to.kind in ("int", "float"):
                value = self.fresh(st, target.to, labels=frozenset({WILD}))
                self.store(st, target, target.to, value, node)
        return self.fresh(st, INT, -1, len(specs))

    def _on_scanf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._scan(node, st, self._literal(a[0]) or "", a[1:])

    def _on_fscanf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self._stream(st, a[0], node)
        return self._scan(node, st, self._literal(a[1]) or "", a[2:])

    def _on_sscanf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._scan(node, st, self._literal(a[1]) or "", a[2:])

    def _on_getenv(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return Ptr(self.text(st, kind="outside"), ZERO, 1, self.new(), CHAR)

    def _on_getline(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        made = self.text(st, kind="heap")
        if isinstance(a[0], Ptr):
            value = Ptr(made, ZERO, 1, 0, CHAR)
            self.store(st, a[0], CType("ptr", 8, to=CHAR), value, node)
        return self.fresh(st, LONG, -1)

    def _number(self, node: Node, st: State, a: Sequence[Value], kind: CType) -> Value:
        if isinstance(a[0], Ptr):
            self.alive(st, a[0], node)
        if len(a) > 1 and isinstance(a[1], Ptr):
            end = Ptr(self.text(st, NONE), ZERO, 1, 0, CHAR)
            self.store(st, a[1], CType("ptr", 8, to=CHAR), end, node)
        return self.fresh(st, kind, labels=frozenset({WILD}))

    def _on_atoi(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._number(node, st, a[:1], INT)

    def _on_strtol(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._number(node, st, a[:2], LONG)

    _on_strtoll = _on_strtol

    def _on_atol(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._number(node, st, a[:1], LONG)

    _on_atoll = _on_atol

    def _on_strtoul(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._number(node, st, a[:2], SIZE)

    _on_strtoull = _on_strtoul

    def _on_rand(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self.fresh(st, INT, 0, labels=frozenset({WILD}))

    def _on_random(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self.fresh(st, LONG, 0, 2**31 - 1, labels=frozenset({WILD}))

    def _on_getchar(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self.fresh(st, INT, -1, 255, TEXT)

    _on_fgetc = _on_getc = _on_getchar

    def _on_isalnum(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        name = node.fields["function"].text
        if isinstance(a[0], Num) and not a[0].coef and 0 <= a[0].off < 128:
            return Num(int(_CLASSES[name](chr(int(a[0].off)))))
        return self.fresh(st, INT)

    _on_isalpha = _on_isdigit = _on_isspace = _on_isupper = _on_islower = _on_isalnum
    _on_isprint = _on_ispunct = _on_isxdigit = _on_isgraph = _on_iscntrl = _on_isalnum

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


_CLASSES: dict[str, Callable[[str], bool]] = {
    "isalnum": str.isalnum, "isalpha": str.isalpha, "isdigit": str.isdigit,
    "isspace": str.isspace, "isupper": str.isupper, "islower": str.islower,
    "isprint": str.isprintable, "ispunct": lambda c: c.isprintable() and not c.isalnum()
    and c != " ", "isxdigit": lambda c: c in "0123456789abcdefABCDEF",
    "isgraph": lambda c: c.isprintable() and c != " ", "iscntrl": lambda c: not c.isprintable(),
}  # fmt: skip
