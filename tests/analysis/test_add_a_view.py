"""The example of docs/how-to/add-a-view.md, installed as a project of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.analysis.examples import install_example

from astraios import registry
from astraios.analysis import views
from astraios.analysis.frames import read_frames
from astraios.analysis.report import write_report
from astraios.analysis.views import View

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-view.md"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_example(PAGE, "price", tmp_path / "site", monkeypatch)


@pytest.mark.usefixtures("installed")
def test_example_of_the_page_is_part_of_the_report(
    make_study: Callable[..., Path], tmp_path: Path
) -> None:
    study = make_study(methods=("fft",), n_problems=12)
    assert "price" in registry.names(views)
    view: View = registry.load(views, "view", "price")
    assert view.lacks(read_frames(study)) == ()
    paths = write_report(study, tmp_path / "out", formats=())
    lines = (paths.folder / "tables" / "price.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "method,price"
    assert lines[1].startswith("fft,0.")
    page = paths.index.read_text(encoding="utf-8")
    assert page.index('id="section-cost"') < page.index('<article id="price">')
