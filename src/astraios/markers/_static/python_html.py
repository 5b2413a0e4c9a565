"""Text from outside in pages (CWE-79)."""

from __future__ import annotations

import ast
import re

from astraios.markers._static.python_flow import Flow, analysed
from astraios.markers._static.python_injection import substituted
from astraios.markers._static.python_policy import Policy
from astraios.markers._static.python_values import NOTHING, UNKNOWN, Value, words
from astraios.records import Finding


def html(code: str) -> list[Finding]:
    """CWE-79: text from outside becomes part of a page without being escaped.

    Catches what functions that answer requests return, `make_response` and `Response` of HTML,
    `Markup` of text that was not escaped, text that becomes part of a template, and environments of
    Jinja that do not escape: made without `autoescape`, or with one that leaves out `.html`.
    Escaped texts, values given to templates of Flask, JSON, plain text and numbers are safe.
    Upstream has two queries, one for each scenario; it would report `escape` of other libraries,
    and it does not look at what `select_autoescape` is asked for.

    Misses attributes without quotes, scripts in pages, `javascript:` in links, templates in files
    (`|safe`), and text that was stored before.
    """
    return analysed(code, _Html(), "CWE-79")


_ESCAPES = words(
    "escape escape_silent clean quote quote_plus urlencode linkify conditional_escape "
    "xml_escape htmlspecialchars quoteattr"
)
_ENVIRONMENTS = words(
    "jinja2.Environment() jinja2.sandbox.SandboxedEnvironment() jinja2.environment.Environment() "
    "jinja2.nativetypes.NativeEnvironment()"
)
_OF_FLASK = words("render_template render_template_string stream_template")
_JSON = words("jsonify JSONResponse")
_PAGES = words("make_response Response HTMLResponse")
_SAFE_FILTER = re.compile(r"\{\{[^}]*\|\s*safe\b|autoescape\s+false")


class _Html(Policy):
    labels = frozenset({"html"})

    def call(self, flow: Flow, call: ast.Call, found: Value, base: Value) -> Value | None:
        name = found.name
        last = name.removesuffix("()").rpartition(".")[2]
        if last in _ESCAPES and not name.startswith(("re.", "shlex.")):
            return Value(name="escaped()", local=frozenset({"markup"}))
        if name in _ENVIRONMENTS:
            return self._environment(flow, call, found)
        if last == "Markup":
            return self._markup(flow, call, found)
        if last in _OF_FLASK:
            return self._flask(flow, call, found, last)
        if last in _JSON or name == "flask.json.dumps()":
            return NOTHING
        if last in _PAGES:
            return self._page(flow, call, found)
        if last in ("from_string", "Template"):
            option = found.named.get("autoescape", Value(const=False))
            escapes = "escapes" in base.local or _is_on(option) or _escapes_itself(found)
            if flow.harms(flow.deep(found.args[0] if found.args else NOTHING)):
                flow.report(call, "template-injection", "text from outside is part of a template")
            facts = {"template", "escapes"} if escapes else {"template"}
            return Value(name=name, local=frozenset(facts))
        if last == "render" and "template" in base.local and "escapes" not in base.local:
            given = [flow.deep(one) for one in (*found.args, *found.named.values())]
            return Value(taint=frozenset().union(*(one.taint for one in given)), name=name)
        if last == "replace" and [one.const for one in found.args] == ["<", "&lt;"]:
            return base.without(["html"])
        if "markup" in base.local and last in ("format", "join"):
            return Value(name="escaped()", local=base.local)
        if last in ("select_autoescape", "dumps"):
            return None if last == "dumps" else Value(name=name, args=found.args, named=found.named)
        return substituted(flow, found, self)

    def _environment(self, flow: Flow, call: ast.Call, found: Value) -> Value:
        escape = found.named.get("autoescape", Value(const=False))
        if _is_on(escape):
            return Value(name="jinja", local=frozenset({"escapes"}))
        message = "this environment of Jinja does not escape what goes into pages"
        flow.report(call, "no-autoescape", message)
        return Value(name=f"jinja.{call.lineno}")

    def stored(self, flow: Flow, target: str, value: Value, node: ast.AST) -> None:
        holder, _, name = target.rpartition(".")
        held = flow.state.values.get(holder, NOTHING)
        if name == "autoescape" and held.name.startswith("jinja.") and _is_on(value):
            line = int(held.name.partition(".")[2])
            flow.found.pop((line, "no-autoescape"), None)
            flow.state.values[holder] = Value(name="jinja", local=frozenset({"escapes"}))
        kind = str(value.const)
        is_type = name in ("mimetype", "content_type") or target.lower().endswith(
            "['content-type']"
        )
        if is_type and not _is_page(kind):
            response = target.partition(".")[0]
            if response in flow.state.values:
                flow.state.values[response] = NOTHING

    def _markup(self, flow: Flow, call: ast.Call, found: Value) -> Value:
        given = found.args[0] if found.args else NOTHING
        if flow.harms(given):
            return Value(taint=given.taint, name="Markup()")
        return Value(name="Markup()", local=frozenset({"markup"}))

    def _flask(self, flow: Flow, call: ast.Call, found: Value, last: str) -> Value:
        given = found.args[0] if found.args else found.named.get("source", NOTHING)
        if last == "render_template_string" and flow.harms(flow.deep(given)):
            flow.report(call, "template-injection", "text from outside is part of a template")
        values = [flow.deep(one) for one in found.named.values()]
        is_raw = isinstance(given.const, str) and bool(_SAFE_FILTER.search(given.const))
        marked = [one for one in values if one.name == "Markup()" or is_raw]
        return Value(taint=frozenset().union(*(one.taint for one in marked)), name="page")

    def _page(self, flow: Flow, call: ast.Call, found: Value) -> Value:
        kind = (
            found.named.get("mimetype")
            or found.named.get("content_type")
            or found.named.get("media_type")
        )
        headers = found.named.get("headers")
        if headers is None and len(found.args) > 2:
            headers = found.args[2]
        if headers is not None and headers.fields:
            kind = next(
                (v for k, v in headers.fields.items() if str(k).lower() == "content-type"), kind
            )
        if kind is not None and kind.const is not UNKNOWN and not _is_page(str(kind.const)):
            return NOTHING
        given = found.args[0] if found.args else found.named.get("response", NOTHING)
        return Value(taint=flow.deep(given).taint, name="response")

    def returned(self, flow: Flow, node: ast.AST, value: Value) -> None:
        if value.fields is not None or value.name == "response.json":
            return  # Flask answers with JSON
        body = value
        if value.items:
            body = value.items[0]
            headers = value.items[-1].fields or {}
            kinds = [
                str(one.const) for key, one in headers.items() if str(key).lower() == "content-type"
            ]
            if kinds and not _is_page(kinds[0]):
                return
            if body.fields is not None:
                return
        if flow.harms(body, "html"):
            flow.report(node, "reflected-xss", "text from outside is returned as part of a page")

    def joined(self, flow: Flow, value: Value) -> Value:
        """What is joined to `Markup` is escaped: `Markup("<b>%s</b>") % name`."""
        if value.args and "markup" in value.args[0].local and value.args[0].name == "Markup()":
            return Value(name="escaped()", local=frozenset({"markup"}))
        if value.args and value.args[0].name == "escaped()" and len(value.args) == 2:
            # The result of `escape` is Markup too, and `+` escapes what follows.
            return value if _is_plain(value.args[1]) else Value(name="escaped()", local=value.local)
        return Value(
            taint=value.taint,
            name=value.name,
            prefix=value.prefix,
            const=value.const,
            args=value.args,
        )

    def dangerous(self) -> dict[str, str]:
        return {"html": "<>&\"'"}


def _escapes_itself(template: Value) -> bool:
    """Whether each variable of a template's text goes through the filter that escapes."""
    text = template.args[0].const if template.args else None
    if not isinstance(text, str):
        return False
    return all(
        re.search(r"\|\s*(?:e|escape)\s*$", one) for one in re.findall(r"\{\{(.*?)\}\}", text)
    )


def _is_plain(value: Value) -> bool:
    return not value.taint


def _is_page(kind: str) -> bool:
    return "html" in kind or "xml" in kind or "svg" in kind or kind in ("", "UNKNOWN")


def _is_on(escape: Value) -> bool:
    """Whether `autoescape` has this value escapes pages."""
    if escape.const is not UNKNOWN:
        return bool(escape.const)
    if escape.name.endswith("select_autoescape()"):
        enabled = escape.named.get("enabled_extensions", escape.args[0] if escape.args else None)
        disabled = escape.named.get("disabled_extensions")
        off = disabled is not None and _holds_html(disabled)
        default = escape.named.get("default", NOTHING).const is True
        return not off and (enabled is None or default or _holds_html(enabled))
    if isinstance(escape.function, ast.Lambda):
        body = escape.function.body
        return not (isinstance(body, ast.Constant) and not body.value)
    return True


def _holds_html(extensions: Value) -> bool:
    if extensions.items is None:
        return "html" in str(extensions.const) if extensions.is_literal else True
    return any(str(one.const).lstrip(".") in ("html", "UNKNOWN") for one in extensions.items)
