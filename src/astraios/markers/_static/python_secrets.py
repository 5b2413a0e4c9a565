"""Credentials that stand in the program (CWE-798), and passwords kept badly (CWE-522)."""

from __future__ import annotations

import ast
import re
from dataclasses import replace

from astraios.markers._static.python_expressions import dotted
from astraios.markers._static.python_flow import Flow, analysed
from astraios.markers._static.python_policy import Policy
from astraios.markers._static.python_values import NOTHING, Value, words
from astraios.records import Finding

_SECRET = re.compile(
    r"pass(?:word|wd|phrase|code)?(?![a-z])|pwd|secret|api_?key|(?<![a-z])token|credential|(?<![a-z])pin(?![a-z])|hash",
    re.I,
)
_IN_URL = re.compile(r"\w://[^/\s:@]+:[^/\s:@{}%]+@|\bpass(?:word|wd)\s*=\s*[^\s;{}%]+", re.I)
_IN_SQL = re.compile(r"\b(?:password|passwd|pwd|pass)\s*=\s*(['\"])(?![%{]|\1)[^'\"%{}]+\1", re.I)


# --- CWE-798 ----------------------------------------------------------------------------------


def hard_coded(code: str) -> list[Finding]:
    """CWE-798: a password stands in the program.

    Catches passwords from outside that are compared with texts of the program, be they in a
    variable, a list or a dict, or hashed; and connections that are opened with a password of the
    program: by name, by place, in a URL, as the fallback of an environment variable. An empty
    password counts, for it is as fixed as any; so do placeholders such as `<PASSWORD>`. Passwords
    of the environment, of files, of data bases and typed in are safe. A user's name alone is no
    credential.

    Misses secrets that were encoded in ways it does not follow, and secrets of which the name does
    not say what they are.
    """
    return analysed(code, _HardCoded(), "CWE-798")


_CHECKS = words(
    "check_password_hash checkpw verify compare_digest verify_password check_password __eq__ equals"
)
_PLACES = {"MySQLdb.connect()": 2, "pymysql.connect()": 2, "MySQLdb.Connect()": 2,
           "MySQLdb.Connection()": 2, "MySQLdb._mysql.connect()": 2, "mysql.connector.connect()": 2,
           "psycopg2.connect()": 0}  # fmt: skip
_PASSWORD_NAMES = words(
    "passwd password pwd passphrase secret_key api_key apikey secret token auth_token "
    "access_token aws_secret_access_key client_secret"
)
_HASHES = re.compile(
    r"(?:^|\.)(?:hashlib\.\w+|hexdigest|digest|hashpw|crypt|hash|pbkdf2_hmac|generate_password_hash|new|encode|strip)\(\)$"
)


class _HardCoded(Policy):
    labels = frozenset({"login"})

    def call(self, flow: Flow, call: ast.Call, found: Value, base: Value) -> Value | None:
        name, args = found.name, found.args
        last = name.removesuffix("()").rpartition(".")[2]
        if last in _CHECKS:
            given = (*args, base)
            if any(self._is_login(flow, one) for one in given) and any(map(_is_fixed, given)):
                self._compared(flow, call)
        if name in ("os.environ.get()", "os.getenv()", "os.environ.setdefault()") and len(args) > 1:
            return Value(name=name, local=frozenset({"literal"} if _is_fixed(args[1]) else ()))
        self._opened(flow, call, found)
        statement = args[0].const if args and last in ("execute", "query") else None
        if isinstance(statement, str) and _IN_SQL.search(statement):
            self._compared(flow, call)
        if _HASHES.search(name) and name != "encode()":
            taint = frozenset().union(base.taint, *(flow.deep(one).taint for one in args))
            fixed = [one for one in (*args, base) if one.is_literal or "literal" in one.local]
            local = frozenset({"literal"} if fixed and not taint and len(args) < 2 else ())
            return Value(taint=taint, name=name, local=local, exact=base.exact)
        return None

    def _opened(self, flow: Flow, call: ast.Call, found: Value) -> None:
        given = [one for key, one in found.named.items() if key.lower() in _PASSWORD_NAMES]
        place = _PLACES.get(found.name)
        if place and len(found.args) > place:
            given.append(found.args[place])
        connects = re.search(r"connect|engine|client|login|session|redis|URI", found.name, re.I)
        urls = [
            one.const for one in (*found.args, *found.named.values()) if isinstance(one.const, str)
        ]
        if any(
            "fallback" in one.local
            or (one.is_literal and isinstance(one.const, str | bytes))
            or "literal" in one.local
            for one in given
        ):
            flow.report(call, "hard-coded-password", "a password of the program is given away")
        elif connects and any(_IN_URL.search(one) for one in urls):
            flow.report(call, "hard-coded-password", "a password stands in the address")

    def stored(self, flow: Flow, target: str, value: Value, node: ast.AST) -> None:
        is_setting = "config" in target.lower() or target.endswith("secret_key")
        if is_setting and _SECRET.search(target) and _is_fixed(value):
            flow.report(node, "hard-coded-password", "a secret of the program is set")

    def compared(self, flow: Flow, op: ast.cmpop, left: Value, right: Value, node: ast.AST) -> None:
        pairs = [(left, right), (right, left)]
        for one, other in pairs:
            one_by_one = one.items is not None and isinstance(
                op, ast.Eq | ast.NotEq | ast.In | ast.NotIn
            )
            logins = one.items if one_by_one else (one,)
            if not any(self._is_login(flow, login) for login in logins or ()):
                continue
            if isinstance(op, ast.Eq | ast.NotEq | ast.Is | ast.IsNot):
                fixed = [*(other.items or (other,))]
            elif isinstance(op, ast.In | ast.NotIn) and one is left:
                fixed = _flat(other)
            else:
                continue
            if any(map(_is_fixed, fixed)):
                self._compared(flow, node)

    @staticmethod
    def _compared(flow: Flow, node: ast.AST) -> None:
        message = "a password is compared with one of the program"
        flow.report(node, "hard-coded-login", message)

    @staticmethod
    def _is_login(flow: Flow, value: Value) -> bool:
        return any(_SECRET.search(source) for source in flow.deep(value).sources)


def _is_fixed(value: Value) -> bool:
    """Whether a value is a text of the program that can be a password."""
    if "literal" in value.local:
        return True
    return isinstance(value.const, str | bytes) and value.const not in ("", b"")


def _flat(value: Value) -> list[Value]:
    inner = value.items if value.items is not None else tuple((value.fields or {}).values())
    return [value] if not inner else [one for held in inner for one in _flat(held)]


# --- CWE-522 ----------------------------------------------------------------------------------


def kept_badly(code: str) -> list[Finding]:
    """CWE-522: a password reaches the data base in a form that gives it away.

    Catches passwords stored as they are or encoded, hashed by MD4, MD5 or SHA-1, and hashed by a
    fast function without salt. SHA-2, SHA-3 and BLAKE2 with a salt are taken for safe though they
    are too fast for passwords, which is another weakness (CWE-916); so are bcrypt, scrypt, PBKDF2,
    argon2, and what werkzeug and passlib make.

    Misses encryption, which can be undone, salts that are the same for all, and files.
    """
    return analysed(code, _KeptBadly(), "CWE-522")


_BROKEN = ("md4", "md5", "sha1", "sha", "ripemd160")
_FAST = (
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "sha3_224",
    "sha3_256",
    "sha3_384",
    "sha3_512",
    "blake2b",
    "blake2s",
)


class _KeptBadly(Policy):
    labels = frozenset({"plain"})

    def call(self, flow: Flow, call: ast.Call, found: Value, base: Value) -> Value | None:
        name, args = found.name, found.args
        last = name.removesuffix("()").rpartition(".")[2]
        kind = _kind(name, args)
        if kind:
            return self._hashed(flow, kind, args[-1:] if last == "new" else args[:1], found)
        if last == "update" and "hash" in base.local and args:
            return self._updated(flow, call, base, args[0])
        if last in ("hexdigest", "digest") and "hash" in base.local:
            return Value(taint=base.taint, name=name)
        if last in ("execute", "executemany", "add", "insert_one", "insert") and args:
            self._stored(flow, call, args)
        return None

    @staticmethod
    def _hashed(flow: Flow, kind: str, given: tuple[Value, ...], found: Value) -> Value:
        facts = {"hash", kind}
        text = given[0] if given else NOTHING
        salted = _is_salted(flow, text) or any(key in found.named for key in ("salt", "key"))
        if salted:
            facts.add("salted")
        safe = kind == "fast" and salted
        return Value(
            taint=frozenset() if safe else flow.deep(text).taint,
            name=found.name,
            local=frozenset(facts),
        )

    @staticmethod
    def _updated(flow: Flow, call: ast.Call, base: Value, given: Value) -> Value:
        assert isinstance(call.func, ast.Attribute)
        path = dotted(call.func.value)
        is_salt = not given.taint and not given.is_literal
        facts = base.local | ({"salted"} if is_salt or _is_salted(flow, given) else set())
        taint = base.taint | flow.deep(given).taint
        if {"fast", "salted"} <= facts:
            taint = frozenset()
        if path in flow.state.values:
            flow.state.values[path] = replace(base, taint=taint, local=facts)
        return NOTHING

    @staticmethod
    def _stored(flow: Flow, call: ast.Call, args: tuple[Value, ...]) -> None:
        statement = args[0].prefix or (args[0].const if isinstance(args[0].const, str) else "")
        if statement and not re.match(r"\s*(?:insert|update|replace)\b", statement, re.I):
            return
        left = frozenset().union(*(flow.deep(one).taint for one in args)) - flow.state.cleared
        if any(re.search(r"pass|pwd", source, re.I) for source, _ in left):
            flow.report(
                call, "weak-password-storage", "a password is stored so that it can be read"
            )


def _kind(name: str, args: tuple[Value, ...]) -> str:
    last = name.removesuffix("()").rpartition(".")[2].lower()
    if name == "hashlib.new()" and args and isinstance(args[0].const, str):
        last = args[0].const.lower().replace("-", "")
    elif not name.startswith(("hashlib.", "md5", "sha1", "Crypto.Hash.")):
        return ""
    return "broken" if last in _BROKEN else "fast" if last in _FAST else ""


def _is_salted(flow: Flow, text: Value) -> bool:
    """Whether something that is neither constant nor from outside was put to it."""
    parts = (
        [one for held in text.args for one in (held.args or (held,))]
        if text.name == "concatenation"
        else []
    )
    return (
        any(not one.taint and not one.is_literal and one.name for one in (*text.args, *parts))
        if parts
        else False
    )
