"""A study as a folder that one can read, send and publish.

    report/
      index.html          everything in one file: works offline, without scripts, on paper
      methods.md, .tex    the methods section, written from the manifests
      tables/             <view>.csv, .md, .tex
      figures/            <view>.svg, .png, .pdf and the .csv with the numbers behind them

Completions are untrusted text. They stand on the page as data that no HTML parser can take for
markup, the script writes them as text nodes only, and the page's own policy lets no script run but
ours and loads nothing from anywhere.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from astraios import registry
from astraios.analysis import style, views
from astraios.analysis.answer import Answer, answer
from astraios.analysis.browser import browser
from astraios.analysis.captions import sandbox
from astraios.analysis.figures import FORMATS, Figure, drawn, inline
from astraios.analysis.frames import Frames, read_frames
from astraios.analysis.page import PageTable, mark, page_table
from astraios.analysis.prose import Prose, prose
from astraios.analysis.provenance import provenance
from astraios.analysis.tables import Table
from astraios.analysis.views import SECTIONS, View
from astraios.errors import ConfigError, RunError
from astraios.files import fill_folder

HERO = "quality"
"""The view whose figure stands on the first screen."""
FIRST_TABLE = "results"
TERMINAL = ("model", "method", "trainable", "validation_loss", "pass", "over_base", "over_fft")
"""Columns of the results table that fit a terminal."""
WIDE = 9.0
"""Inches from which a figure leaves no room for a caption beside it."""
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class TerminalTable:
    """The results for a terminal or for another program."""

    answer: str
    """The answer in one sentence."""
    rows: tuple[dict[str, Any], ...]
    """One per model and method: plain values, missing ones None; rates are fractions."""
    text: str
    """The same as aligned columns."""

    def __str__(self) -> str:
        return f"{self.answer}\n\n{self.text}" if self.text else self.answer


@dataclass(frozen=True)
class ReportPaths:
    """What `write_report` wrote."""

    folder: Path
    index: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]
    results: TerminalTable
    """As `terminal_table` gives them, without reading all again."""


@dataclass(frozen=True)
class _Shown:
    """A rendered view on the page."""

    name: str
    title: str
    table: PageTable | None = None
    figure: Markup | None = None
    caption: str = ""
    files: tuple[str, ...] = ()
    wide: bool = False
    """A figure that needs the whole width, its caption below."""


@dataclass(frozen=True)
class _Section:
    """A part of the page."""

    name: str
    title: str
    shown: tuple[_Shown, ...]
    lacking: tuple[str, ...]
    """Views that this study cannot fill, and what they need."""


def write_report(
    root: Path, out: Path | None = None, formats: Iterable[str] = FORMATS
) -> ReportPaths:
    """Write the report of the study in `root` to `out` (by default `root/report`), atomically.

    Only sealed runs count. What is not there yet is named on the page; equal runs give equal bytes.

    Args:
        root: the study's folder.
        out: the folder to write; an older report in it is replaced.
        formats: files that figures are written as, out of `FORMATS`; the page has them in any case.

    Raises:
        ConfigError: if there is no such format.
        MissingDataError: if `root` is no folder or holds no runs.
        DataError: if a record is torn or of another version.
        RunError: if `out` is a file, or holds something that is no report.
        StorageError: if it cannot be written.
    """
    formats = tuple(formats)
    for kind in formats:
        if kind not in FORMATS:
            raise ConfigError(f"unknown format of figures {kind!r}; known: {', '.join(FORMATS)}")
    folder = out or root / "report"
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{str(folder)!r} is a file; name a folder for the report")
    if folder.exists() and not (folder / "index.html").exists() and any(folder.iterdir()):
        raise RunError(
            f"{str(folder)!r} holds files that are no report and would be lost; "
            "choose an empty or new folder"
        )
    frames = read_frames(root)
    looks = style.looks(frames.methods)
    shown: dict[str, list[_Shown]] = {name: [] for name in SECTIONS}
    lacking: dict[str, list[str]] = {name: [] for name in SECTIONS}
    with fill_folder(folder) as scratch:
        for name, view in _views():
            section = view.section if view.section in SECTIONS else "more"
            lacks = view.lacks(frames)
            if lacks:
                lacking[section].append(f"{view.title} (needs {' and '.join(lacks)})")
                continue
            rendered = view.render(frames)
            if isinstance(rendered, Table):
                shown[section].append(_save_table(scratch, name, view, rendered, looks))
            else:
                shown[section].append(_save_figure(scratch, name, view, rendered, looks, formats))
        sections = tuple(
            _Section(name, title, tuple(shown[name]), tuple(lacking[name]))
            for name, title in SECTIONS.items()
            if shown[name] or lacking[name]
        )
        written = prose(frames)
        (scratch / "methods.md").write_text(written.markdown, encoding="utf-8")
        (scratch / "methods.tex").write_text(written.latex, encoding="utf-8")
        page = _page(frames, sections, written, looks)
        (scratch / "index.html").write_text(page, encoding="utf-8")
    return ReportPaths(
        folder,
        folder / "index.html",
        tuple(sorted((folder / "tables").glob("*"))),
        tuple(sorted((folder / "figures").glob("*"))),
        _results(frames),
    )


def terminal_table(root: Path) -> TerminalTable:
    """The results of the study in `root`, for printing at the end of a command.

    Raises:
        MissingDataError: if `root` is no folder or holds no runs.
    """
    return _results(read_frames(root))


def _results(frames: Frames) -> TerminalTable:
    said = answer(frames)
    view: View = registry.load(views, "view", FIRST_TABLE)
    if view.lacks(frames):
        return TerminalTable(said.headline, (), "")
    table = view.render(frames)
    if not isinstance(table, Table):  # an outside view cannot take this name; for the type checker
        raise TypeError(f"view {FIRST_TABLE!r} is no table")
    known = {column.key for column in table.columns}
    rows = tuple(table.plain(row) for row in table.rows)
    return TerminalTable(said.headline, rows, table.text([key for key in TERMINAL if key in known]))


def _views() -> list[tuple[str, View]]:
    found = [(name, registry.load(views, "view", name)) for name in registry.names(views)]
    return sorted(found, key=lambda item: (item[1].place, item[0]))


def _save_table(
    folder: Path, name: str, view: View, table: Table, looks: Mapping[str, style.Look]
) -> _Shown:
    tables = folder / "tables"
    tables.mkdir(exist_ok=True)
    (tables / f"{name}.csv").write_text(table.csv(), encoding="utf-8")
    (tables / f"{name}.md").write_text(f"# {view.title}\n\n{table.markdown()}", encoding="utf-8")
    (tables / f"{name}.tex").write_text(table.latex(name), encoding="utf-8")
    files = tuple(f"tables/{name}.{kind}" for kind in ("csv", "md", "tex"))
    return _Shown(name, view.title, page_table(table, looks), None, table.caption, files)


def _save_figure(
    folder: Path,
    name: str,
    view: View,
    figure: Figure,
    looks: Mapping[str, style.Look],
    formats: tuple[str, ...],
) -> _Shown:
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    made = drawn(figure, name, formats)
    for kind in formats:
        (figures / f"{name}.{kind}").write_bytes(made[kind])
    figure.data.to_csv(figures / f"{name}.csv", index=False, lineterminator="\n")
    # The drawing is our own and holds names and numbers only, escaped by matplotlib.
    picture = Markup(inline(made["svg"].decode(), figure, name, looks))
    files = tuple(f"figures/{name}.{kind}" for kind in (*formats, "csv"))
    return _Shown(name, view.title, None, picture, figure.caption, files, figure.width > WIDE)


def _page(
    frames: Frames, sections: tuple[_Section, ...], written: Prose, looks: Mapping[str, style.Look]
) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    said: Answer = answer(frames)
    problems = browser(frames, said.best)
    settings = provenance(frames)
    every = [item for section in sections for item in section.shown]
    return environment.get_template("report.html").render(
        study=frames.study.name or frames.root.resolve().name,
        finished=max((run.manifest.finished or "" for run in frames.sealed), default=""),
        n_runs=len(frames.sealed),
        sandbox=sandbox(frames),
        answer=said,
        notes=frames.notes,
        hero=next((item for item in every if item.name == HERO), None),
        sections=[
            replace(one, shown=tuple(item for item in one.shown if item.name != HERO))
            for one in sections
        ],
        looks=list(looks.values()),
        marks=[mark(look) for look in looks.values()],
        browser=problems,
        browser_json=script_json(problems.data) if problems else "",
        how=written,
        shared=settings.shared,
        differing=page_table(settings.differing, looks) if settings.differing else None,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(sha256(script.encode()).digest()).decode(),
    )


def script_json(value: Any) -> Markup:
    """`value` as JSON that is safe inside a `<script>` element, whatever text it holds.

    An HTML parser ends a script at `</script` and changes its mind at `<!--`, also inside JSON
    strings; so no `<`, `>` or `&` is left, nor the line ends that JSON allows and JavaScript did
    not.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)
