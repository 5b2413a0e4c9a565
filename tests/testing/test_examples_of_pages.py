"""The examples of the how-to pages keep the contract of their kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.analysis.examples import install_example
from tests.docs.pages import DOCS

from astraios.testing import check_engine, check_language, check_task
from astraios.testing.languages import CONTRACT as LANGUAGE
from astraios.testing.languages import Examples

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs the example of a page, as a module of a project of its own."""

    def installed(page: str, module: str) -> None:
        install_example(DOCS / "how-to" / page, module, tmp_path / "site", monkeypatch)

    return installed


def test_the_engine_keeps_what_does_not_need_a_model(install: Install) -> None:
    install("add-an-engine.md", "constant")
    kept = check_engine("constant", {"text": "    pass\n"})
    assert "a resumed run asks for the rest" in kept.held
    assert set(kept.left_out.values()) == {"runs no model that could be compared"}


def test_the_task_keeps_the_contract(install: Install, tmp_path: Path) -> None:
    install("add-a-task.md", "oneliner")
    (tmp_path / "oneliner").mkdir()
    rows = [
        {"id": name, "question": "Add.", "declaration": f"def {name}(x):\n", "test": "assert True"}
        for name in "abc"
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "oneliner" / "test.jsonl").write_text(text)
    kept = check_task("oneliner", tmp_path)
    assert set(kept.left_out) == {"reference programs fare as they must"}


@pytest.mark.skipif(shutil.which("perl") is None, reason="needs perl: apt install perl")
def test_the_language_keeps_the_contract(install: Install) -> None:
    install("add-a-language.md", "perl")
    examples = Examples(
        right="sub twice { my ($n) = @_; return 2 * $n; }",
        wrong="sub twice { my ($n) = @_; return $n; }",
        endless="sub twice { while (1) {} }",
        broken="sub twice { my ($n = ; }",
        tests='twice(21) == 42 or die "twice";\n',
    )
    assert len(check_language("perl", examples).held) == len(LANGUAGE)
