"""What bandit says stands beside our findings and decides nothing."""

from __future__ import annotations

import pytest

from astraios.markers import Rule, Source, _bandit
from astraios.markers.static import marker

CODE = "import os\n\ndef run(name):\n    os.system('ping ' + name)\n"
RULE = Rule("static", "CWE-78")


def test_it_is_heard_and_does_not_decide():
    if not _bandit.version_of():
        pytest.skip("bandit is not installed: pip install bandit")
    first, second = marker.mark(RULE, [Source("python", CODE), Source("python", "x = 1\n")])
    assert first.findings == ()  # nobody outside calls the function
    assert first.others == ("bandit B605, line 4",) and second.others == ()
    assert "bandit (evidence only)" in marker.tools()


def test_without_it_nothing_is_said(monkeypatch):
    monkeypatch.setattr(_bandit, "version_of", lambda: "")
    assert _bandit.opinions("CWE-78", [CODE]) == [()]


def test_without_a_rule_nothing_is_said():
    assert _bandit.opinions("CWE-20", [CODE, CODE]) == [(), ()]
