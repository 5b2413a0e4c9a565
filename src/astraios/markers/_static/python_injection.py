"""Text from outside in statements of SQL (CWE-89) and in commands (CWE-78)."""

from __future__ import annotations

import ast
import re

from astraios.markers._static.python_flow import Flow, analysed
from astraios.markers._static.python_policy import Policy
from astraios.markers._static.python_regex import matches
from astraios.markers._static.python_values import NOTHING, Mark, Value, words
from astraios.records import Finding

VALIDATORS = words("""
    ipaddress.ip_address() ipaddress.ip_network() ipaddress.ip_interface()
    ipaddress.IPv4Address() ipaddress.IPv6Address() ipaddress.IPv4Network() uuid.UUID()
    socket.gethostbyname() socket.inet_pton() int() float() decimal.Decimal() Decimal()
    datetime.date.fromisoformat() datetime.datetime.strptime() datetime.datetime.fromisoformat()
    """)
"""Functions that raise unless their argument is a number, an address, a date."""
_VALID = words("ipv4 ipv6 ip_address domain hostname fqdn uuid")


def validated(flow: Flow, found: Value) -> Value | None:
    """The value of a call of a validator; its argument is harmless from there on."""
    if found.name not in VALIDATORS:
        return None
    if found.args and found.args[0].exact:
        flow.state.cleared |= found.args[0].taint
    return Value(name=found.name)


def substituted(flow: Flow, found: Value, policy: Policy) -> Value | None:
    """`re.sub(pattern, "", text)`, which may take away every character that could do harm."""
    if not found.name.endswith((".sub()", "translate()")):
        return None
    args = found.args
    if found.name != "re.sub()" or len(args) < 3 or not isinstance(args[0].const, str):
        return None
    tree = flow.pattern(NOTHING, Value(args=(args[0], args[2])))[0]
    if tree is None or not isinstance(args[1].const, str):
        return None
    gone = [
        label
        for label, characters in policy.dangerous().items()
        if all(matches(tree, character, "fullmatch") for character in characters)
        and not set(args[1].const) & set(characters)
    ]
    return args[2].without(gone)


# --- SQL --------------------------------------------------------------------------------------


def sql(code: str) -> list[Finding]:
    """CWE-89: text from outside becomes part of a statement that a data base runs.

    Catches statements made by `+`, `%`, `format`, f-strings and `join`, passed through local
    functions, and run by `execute`, `executemany`, `executescript`, `query` or SQLAlchemy's
    `text`. Parameters of their own argument, numbers, and texts that were escaped for SQL or found
    to be without quotes are safe; upstream does not know `escape_string` and would report it.

    Misses statements that come from data bases or files, stored procedures that build SQL, names of
    tables that were checked by means it cannot read, and values of the session, which the server
    signed.
    """
    return analysed(code, _Sql(), "CWE-89")


_RUNS = words("execute executemany executescript query raw execute_sql read_sql")
_SQL_ESCAPES = words("escape_string real_escape_string escape literal mogrify quote_ident")


class _Sql(Policy):
    labels = frozenset({"sql"})

    def call(self, flow: Flow, call: ast.Call, found: Value, base: Value) -> Value | None:
        last = found.name.removesuffix("()").rpartition(".")[2]
        if last in _SQL_ESCAPES and "." in found.name and not found.name.startswith("html."):
            return Value(name=found.name)
        if last in _RUNS and isinstance(call.func, ast.Attribute):
            statement = found.args[:1] or tuple(
                one
                for key, one in found.named.items()
                if key in ("query", "operation", "sql", "statement")
            )
            if statement and flow.harms(flow.deep(statement[0]), "sql"):
                flow.report(call, "sql-injection", "text from outside is part of an SQL statement")
            return None
        return validated(flow, found) or substituted(flow, found, self)

    def dangerous(self) -> dict[str, str]:
        return {"sql": "'\"; "}

    def held(self, flow: Flow, name: str, call: Value, base: Value) -> frozenset[Mark]:
        return valid_marks(name, call)


def valid_marks(name: str, call: Value) -> frozenset[Mark]:
    """`validators.domain(text)` holds."""
    if name in _VALID and call.args and call.args[0].exact:
        return call.args[0].taint
    return frozenset()


# --- commands ---------------------------------------------------------------------------------


def command(code: str) -> list[Finding]:
    """CWE-78: text from outside becomes part of a command that a shell, or exec, takes apart.

    Catches `os.system`, `os.popen`, `subprocess` with `shell=True`, with one string, with a list
    that was split from a string or begins with a shell and `-c`, and the program's name itself.
    `shlex.quote` and lists whose words were given one by one are safe: the worst is an option more
    (CWE-88), which upstream does not report either.

    Misses commands run by other libraries, black lists (they count as no check at all, which can be
    wrong), and commands put into files.
    """
    return analysed(code, _Command(), "CWE-78")


_SHELLS = re.compile(r"(?:.*/)?(?:ba|da|z|k|c|a)?sh\Z|cmd(?:\.exe)?\Z|powershell(?:\.exe)?\Z")
_STRINGS = words("""
    os.system() os.popen() os.popen2() os.popen3() os.popen4() subprocess.getoutput()
    subprocess.getstatusoutput() commands.getoutput() commands.getstatusoutput() popen2.popen2()
    asyncio.create_subprocess_shell() pty.spawn() pexpect.spawn() pexpect.run()
    """)
_PROCESSES = words("run call check_call check_output Popen")


class _Command(Policy):
    labels = frozenset({"shell"})

    def call(self, flow: Flow, call: ast.Call, found: Value, base: Value) -> Value | None:
        name, args = found.name, found.args
        if name in ("shlex.quote()", "pipes.quote()", "shlex.join()", "subprocess.list2cmdline()"):
            return Value(name=name) if not name.startswith("subprocess") else None
        given = args[0] if args else found.named.get("args", found.named.get("cmd", NOTHING))
        module, _, last = name.removesuffix("()").rpartition(".")
        bad = False
        if name in _STRINGS:
            bad = flow.harms(flow.deep(given))
        elif module in ("subprocess", "sp") and last in _PROCESSES:
            bad = self._process(flow, given, found)
        elif module in ("os", "asyncio") and last.startswith(
            ("exec", "spawn", "create_subprocess_exec")
        ):
            bad = self._words(flow, args[1:] if last.startswith("spawn") else args)
        if bad:
            flow.report(call, "command-injection", "text from outside is part of a command")
            return Value(name=name)
        return validated(flow, found) or substituted(flow, found, self)

    def _process(self, flow: Flow, given: Value, found: Value) -> bool:
        shell = found.named.get("shell", Value(const=False))
        if shell.const is not False and shell.const != 0:
            first = given.items[0] if given.items else given
            return flow.harms(flow.deep(first))
        if flow.harms(found.named.get("executable", NOTHING)):
            return True
        if given.items is None:
            return flow.harms(given)
        return self._words(flow, given.items)

    @staticmethod
    def _words(flow: Flow, words: tuple[Value, ...]) -> bool:
        """Whether a command given word by word lets a text from outside decide what is run."""
        if not words:
            return False
        if flow.harms(words[0]):
            return True
        texts = [one.const if isinstance(one.const, str) else "" for one in words]
        through = next(
            (n for n, text in enumerate(texts) if text in ("-c", "/c", "-Command")), None
        )
        runs_shell = any(_SHELLS.match(text) for text in texts[:through])
        return (
            through is not None and runs_shell and any(flow.harms(one) for one in words[through:])
        )

    def dangerous(self) -> dict[str, str]:
        return {"shell": ";|&$`\n<>()'\"\\"}

    def essential(self) -> dict[str, str]:
        return {"shell": ";|&$`\n<>"}

    def held(self, flow: Flow, name: str, call: Value, base: Value) -> frozenset[Mark]:
        return valid_marks(name, call)
