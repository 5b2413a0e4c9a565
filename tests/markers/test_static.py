"""What the static marker follows in Python, and that it takes any program."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.errors import WorkError
from astraios.markers import Rule, Source
from astraios.markers._static import python_regex
from astraios.markers._static.python import CHECKS
from astraios.markers.static import marker

HEAD = "from flask import Flask, request, redirect\nimport os, subprocess, re\napp = Flask('a')\n"
VIEW = HEAD + "@app.route('/x/<name>')\ndef view(name):\n"


def is_flagged(cwe: str, code: str) -> bool:
    found = marker.mark(Rule("static", cwe), [Source("python", code)])[0]
    assert all(one.cwe == cwe and one.line >= 1 and one.message for one in found.findings)
    return bool(found.findings)


def runs(body: str) -> bool:
    """Whether a view with this body is reported for what it runs."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return is_flagged("CWE-78", VIEW + lines)


@pytest.mark.parametrize(
    "body",
    [
        "os.system('ping ' + name)",
        "os.system(f'ping {name}')",
        "os.system('ping {}'.format(name))",
        "os.system('ping %s' % name)",
        "os.system(' '.join(['ping', name]))",
        "words = ['ping']\nwords.append(name)\nos.system(' '.join(words))",
        "a, b = 'ping', name\nos.system(a + b)",
        "x = {'host': name}\nos.system('ping ' + x['host'])",
        "x = name\nx += ' -c 1'\nos.system(x)",
        "for word in name.split():\n    os.system(word)",
        "while name:\n    os.system(name)\n    name = ''",
        "try:\n    x = name\nexcept ValueError:\n    x = ''\nos.system(x)",
        "with open(name) as f:\n    os.system(name)",
        "def run(c):\n    return os.system(c)\nrun(name)",
        "run = lambda c: os.system(c)\nrun(name)",
        "x = name if len(name) > 3 else 'a'\nos.system(x)",
        "if name == 'a':\n    pass\nos.system(name)",
        "os.system(request.args.get('a') or 'b')",
        "if (x := request.args['a']):\n    os.system(x)",
        "os.system([n for n in request.args.getlist('a')][0])",
        "match name:\n    case 'a':\n        x = 'a'\n    case _:\n        x = name\nos.system(x)",
        "name = name or 'localhost'\nif name:\n    os.system(name)",
    ],
)
def test_text_from_outside_is_followed(body):
    assert runs(body)


@pytest.mark.parametrize(
    "body",
    [
        "os.system('ping localhost')",
        "subprocess.run(['ping', name])",
        "if name != 'a':\n    return 'no'\nos.system(name)",
        "if not name.isalnum():\n    raise ValueError\nos.system(name)",
        "assert name.isalnum()\nos.system(name)",
        "ok = re.fullmatch('[a-z]+', name)\nif not ok:\n    return 'no'\nos.system(name)",
        "ok = re.fullmatch('[a-z]+', name)\nif ok is None:\n    return 'no'\nos.system(name)",
        "def valid(x):\n    return x in ('a', 'b')\nif valid(name):\n    os.system(name)",
        "def f(x):\n    if x not in ('a',):\n        raise ValueError\nf(name)\nos.system(name)",
        "if name not in ['a', 'b']:\n    name = 'a'\nos.system(name)",
        "os.system('ping %d' % int(name))",
        "name = 'localhost'\nos.system(name)",
        "os.system(name) if name == 'a' else None",
        "try:\n    n = int(name)\nexcept ValueError:\n    return 'no'\nos.system(name)",
        "import shlex\nos.system('ping ' + shlex.quote(name))",
        "os.system(re.sub('[^a-z]', '', name))",
        "while True:\n    if name == 'a':\n        break\n    return 'no'\nos.system(name)",
    ],
)  # fmt: skip
def test_what_was_checked_or_replaced_is_safe(body):
    assert not runs(body)


def test_numbers_in_routes_are_numbers():
    code = VIEW.replace("<name>", "<int:name>") + "    os.system('ping %s' % name)\n"
    assert not is_flagged("CWE-78", code)


def test_functions_that_answer_nobody_have_no_outside():
    assert not is_flagged("CWE-78", HEAD + "def run(name):\n    os.system(name)\n")


def test_a_helper_is_followed_from_the_view_that_calls_it():
    helper = "def run(name):\n    os.system(name)\n\n"
    assert is_flagged("CWE-78", HEAD + helper + VIEW.removeprefix(HEAD) + "    run(name)\n")


# --- regular expressions are read, not run ---


@given(
    st.from_regex(r"(\(a\|b\)|\[a-c\]|a|b|\.|x)([*+?]|\{1,2\})?(a|b|\$)?", fullmatch=True),
    st.text("abcx.", max_size=6),
    st.sampled_from(["match", "fullmatch", "search"]),
)
def test_reading_a_pattern_agrees_with_running_it(pattern, text, method):
    import re

    tree = python_regex.parsed(pattern)
    assert python_regex.matches(tree, text, method) == bool(getattr(re, method)(pattern, text))


def test_patterns_that_would_never_end_are_read_at_once():
    tree = python_regex.parsed("(a+)+$")
    begun = time.process_time()
    assert not python_regex.matches(tree, "a" * 200 + "b", "match")
    assert time.process_time() - begun < 30  # running it would take ages


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "(?P<x", "\\", "a" * 5000])
def test_what_is_no_pattern_is_none(pattern):
    assert python_regex.parsed(pattern) is None


# --- any program ---


@pytest.mark.parametrize(
    "name",
    [
        "dataclasses",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("ast", "tarfile", "shutil", "argparse")
        ),
    ],
)
def test_long_programs_are_read_by_every_check(name):
    code = Path(ast.__file__).with_name(f"{name}.py").read_text("utf-8")
    for cwe in CHECKS:
        marker.mark(Rule("static", cwe), [Source("python", code)])


def test_functions_that_call_each_other_come_to_an_end():
    calls = "".join(f"def f{n}(x):\n" + f"    f{n + 1}(x)\n" * 9 for n in range(9))
    loops = "".join("    " * n + f"for i{n} in x:\n" for n in range(1, 12))
    code = calls + "def f9(x):\n    return x\n" + VIEW + loops + "    " * 12 + "f0(name)\n"
    assert not is_flagged("CWE-89", code)


def test_a_test_that_rests_on_itself_comes_to_an_end():
    assert runs("x = name\nx = x or name\nx = not x or x\nif x:\n    os.system(name)")


def test_nesting_beyond_the_stack_is_an_error_that_says_so():
    deep = "x = " + "-" * 5000 + "1\n"
    try:
        ast.parse(deep)
    except (RecursionError, MemoryError):
        pytest.skip("this Python does not parse it either")
    with pytest.raises(WorkError, match="nested too deeply"):
        marker.mark(Rule("static", "CWE-89"), [Source("python", deep)])
