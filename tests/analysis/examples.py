"""Examples of how-to pages, installed as a reader would have them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest


def install_example(page: Path, module: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module on a how-to page as `my_project.<module>`, with the page's entry point."""
    text = page.read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (points,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    ((group, name, value),) = re.findall(r'"([\w.]+)"\]\n(\w+) = "([\w.:]+)"', points)
    package = site / "my_project"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / f"{module}.py").write_text(source, encoding="utf-8")
    info = site / "my_project-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_project\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(site)
    for loaded in ("my_project", f"my_project.{module}"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)
