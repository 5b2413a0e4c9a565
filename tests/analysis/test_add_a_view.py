"""The example of docs/how-to/add-a-view.md, installed as a project of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from astraios import registry
from astraios.analysis import views
from astraios.analysis.frames import read_frames
from astraios.analysis.report import write_report
from astraios.analysis.views import View

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-view.md"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's module as `my_project.price`, with the page's entry point."""
    text = PAGE.read_text(encoding="utf-8")
    (module,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (points,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    group, name, value = re.findall(r'"([\w.]+)"\]\n(\w+) = "([\w.]+)"', points)[0]
    site = tmp_path / "site"
    package = site / "my_project"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "price.py").write_text(module, encoding="utf-8")
    info = site / "my_project-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_project\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(site)


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
