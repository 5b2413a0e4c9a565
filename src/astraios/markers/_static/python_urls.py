"""Checks of where a URL leads (CWE-20)."""

from __future__ import annotations

import ast
import functools
import re
from typing import Any

from astraios.markers._static import python_regex
from astraios.markers._static.python_flow import Flow, analysed
from astraios.markers._static.python_policy import Policy
from astraios.markers._static.python_values import NOTHING, Mark, Value, words
from astraios.records import Finding


def url(code: str) -> list[Finding]:
    """CWE-20: a URL is taken for one of the program's own host though it can lead elsewhere.

    A URL from outside must not be redirected to unless its host was compared: `netloc` or
    `hostname` with `==` or in a list, or its end with `.example.com`, dot included; or the URL
    begins with scheme, host and `/`; or such a text was put in front. `"example.com" in url`,
    `startswith("http://example.com")` and `endswith("example.com")` prove nothing, nor does no test
    at all, which upstream does not report: it looks for the tests only.

    A regular expression that names a host is tried on URLs of other hosts that resemble it: another
    sign for a dot, the host as part of a longer one, as a user's name, in path or query. If it
    lets one through, it is reported. Upstream looks for dots that were not escaped before the last
    two labels of the host, and for `.*` in front.

    Misses hosts that are spelled in other ways, hosts that are computed, ports and schemes.
    """
    return analysed(code, _Url(), "CWE-20")


_HOST_PARTS = (".netloc", ".hostname", ".host", ".domain", ".registered_domain", ".fqdn")
_REGEX = words("compile match fullmatch search")
_HOST = re.compile(
    r"[a-z0-9-]{2,63}(?:\\?\.|\[\.\])(?:com|org|net|io|edu|gov|co\\?\.uk|uk|de|dev)\b", re.I
)
_FIRST = re.compile(r"(?:https?:)?//[^/?#\\@]+[/?#]|/[^/\\]|\.?/?[a-z0-9_-]+[/?#]", re.I)
_SUFFIXES = ("", "/", "/a", "?a=b")


class _Url(Policy):
    labels = frozenset({"host"})
    parts_are_sources = False

    def call(self, flow: Flow, call: ast.Call, found: Value, base: Value) -> Value | None:
        name = found.name
        last = name.removesuffix("()").rpartition(".")[2]
        if last in _REGEX and not base.taint:
            self._regex(flow, call, found, base, last)
        if last == "redirect" or name.endswith("RedirectResponse()"):
            target = found.args[0] if found.args else found.named.get("location", NOTHING)
            if flow.harms(target) and not _FIRST.match(target.prefix):
                flow.report(call, "open-redirect", "the host of the URL was not checked")
            return NOTHING
        if last == "url_for":
            return NOTHING
        return None

    def _regex(self, flow: Flow, call: ast.Call, found: Value, base: Value, last: str) -> None:
        if base.name == "re.compile()":
            source = base.args[:1]
            method = last
        else:
            source = found.args[:1]
            method = "match" if last == "compile" else last
        text = source[0].const if source else None
        if not isinstance(text, str) or not found.name.startswith(("re.", "regex.")):
            return
        named = _HOST.search(text)
        tree = python_regex.parsed(text)
        if named is None or tree is None:
            return
        passed = _let_through(tree, method, named[0])
        if passed is not None:
            flow.report(call, "weak-host-pattern", f"the pattern lets {passed!r} through")

    def matched(self, tree: Any, method: str, text: Value) -> frozenset[Mark]:
        """A pattern that cannot be read is not blamed, nor is one that lets no other host in."""
        if tree is None or _let_through(tree, method, "example.com") is None:
            return text.taint
        return frozenset()

    def equal(self, value: Value, other: Value) -> frozenset[Mark]:
        if _is_host(value) and not other.taint and other.const != "":
            return value.taint
        return frozenset()

    def among(self, value: Value, others: Value) -> frozenset[Mark]:
        listed = others.items is not None or others.fields is not None or not others.is_literal
        return value.taint if _is_host(value) and listed and not others.taint else frozenset()

    def held(self, flow: Flow, name: str, call: Value, base: Value) -> frozenset[Mark]:
        given = call.args[0] if call.args else NOTHING
        texts = [one.const for one in (given.items or (given,))]
        if name == "startswith" and all(isinstance(one, str) and _ends_host(one) for one in texts):
            return base.taint if base.exact else frozenset()
        if name == "endswith" and _is_host(base):
            closed = all(isinstance(one, str) and one.startswith(".") for one in texts)
            return base.taint if closed else frozenset()
        return frozenset()

    def dangerous(self) -> dict[str, str]:
        return {"host": "/:"}


def _is_host(value: Value) -> bool:
    name = value.name.removesuffix(".lower()").removesuffix(".strip()")
    if name == "concatenation" and len(value.args) == 1:
        return value.args[0].name.endswith((".netloc.split()[:]", ".hostname.split()[:]"))
    return name.endswith(_HOST_PARTS) or bool(
        re.search(
            r"(?:urlparse|urlsplit)\(\)\[1\]$|\.netloc\.split\(\)\[0\]$|\.netloc\[:\]$|\.split\(\)\[2\]$",
            name,
        )
    )


def _ends_host(text: str) -> bool:
    return re.match(r"(?:https?:)?//[^/?#\\@]+[/?#]", text, re.I) is not None or (
        text.startswith("/") and len(text) > 1 and text[1] not in "/\\"
    )


@functools.lru_cache(maxsize=256)
def _let_through(tree: Any, method: str, host: str) -> str | None:
    """A URL of another host that the pattern matches."""
    plain = re.sub(r"\\|\[|\]", "", host)
    found = (one for one in _others(plain) if python_regex.matches(tree, one, method))
    return next(found, None)


def _others(host: str) -> list[str]:
    """URLs of other hosts that a weak pattern for `host` may take for its own."""
    found = []
    for scheme in ("http://", "https://", "//", ""):
        for sub in ("", "www."):
            full = sub + host
            hosts = [
                f"{full}.evil.org",
                f"{full}x.evil.org",
                f"{full}@evil.org",
                f"{full}:x@evil.org",
            ]
            for at, sign in enumerate(full):
                if sign == ".":
                    hosts.append(f"{full[:at]}x{full[at + 1 :]}")
            hosts += [f"evil{host}", f"evil.org/{full}", f"evil.org/.{full}", f"evil.org?{full}"]
            hosts += [f"evil.org#{full}", f"evil.org/?x=http://{full}", f"evil.org/http://{full}"]
            hosts += [f"evil.org?.{full}", f"evil.org#.{full}", f"evil.org/a.{full}"]
            found += [f"{scheme}{one}{end}" for one in hosts for end in _SUFFIXES]
    return found
