"""The report as files: complete, self-contained, safe against what it shows."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.analysis.browser import browser
from astraios.analysis.frames import read_frames
from astraios.analysis.report import ReportPaths, script_json, terminal_table, write_report
from astraios.errors import ConfigError, MissingDataError, RunError
from astraios.files import write_text
from astraios.runs import MANIFEST

MakeStudy = Callable[..., Path]
HOSTILE = (
    "</script><script>document.title='pwned'</script>"
    "<!--<script>--><img src=x onerror=\"document.title='pwned'\">\u2028${7*7}{{7*7}}\x00'\""
)


class Page(HTMLParser):
    """Elements, their attributes and the text of the page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self._open = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] += data
        else:
            self.text.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


def quickly(root: Path, out: Path | None = None) -> ReportPaths:
    """The report without the figures' other formats, which take most of its time."""
    return write_report(root, out, formats=("svg",))


def page_of(paths: ReportPaths) -> str:
    return paths.index.read_text(encoding="utf-8")


def test_every_table_and_figure_is_a_file(report: ReportPaths) -> None:
    tables = {path.name for path in report.tables}
    figures = {path.name for path in report.figures}
    assert {"results.csv", "results.md", "results.tex", "costs.csv"} <= tables
    assert sum(name.endswith(".svg") for name in figures) >= 4
    for stem in {Path(name).stem for name in figures}:
        assert {f"{stem}.{kind}" for kind in ("svg", "png", "pdf", "csv")} <= figures
    heads = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
    for path in report.figures:
        assert path.read_bytes().startswith(heads.get(path.suffix, b""))
    assert report.index.name == "index.html"


def test_file_in_the_place_of_the_report_is_kept(study: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(RunError, match="mine' is a file; name a folder"):
        write_report(study, tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "mine"


def test_formats_of_figures_can_be_chosen(make_study: MakeStudy) -> None:
    root = make_study(methods=("lora",), n_problems=3)
    paths = write_report(root, formats=("pdf",))
    assert {path.suffix for path in paths.figures} == {".pdf", ".csv"}
    assert "<svg role=" in page_of(paths)
    with pytest.raises(ConfigError, match="unknown format of figures 'gif'; known: svg, png, pdf"):
        write_report(root, formats=("gif",))


def test_files_linked_from_the_page_exist(report: ReportPaths) -> None:
    links = re.findall(r'href="((?:tables|figures)/[^"]+)"', page_of(report))
    assert links
    assert all((report.folder / link).exists() for link in links)


def test_page_names_no_address_outside_itself(report: ReportPaths) -> None:
    source = page_of(report)
    assert "http:" not in source
    assert "https:" not in source
    assert "@import" not in source
    for tag, attributes in Page(source).elements:
        for name in ("src", "href", "xlink:href", "action"):
            value = attributes.get(name) or ""
            known = ("#", "tables/", "figures/", "methods.", "data:,")
            assert not value or value.startswith(known), (tag, value)
            assert "//" not in value, (tag, value)


def test_page_reads_without_scripts(report: ReportPaths) -> None:
    text = " ".join(Page(page_of(report)).text)
    for said in ("FFT scores highest", "29,184", "Holm", "n = 40 problems", "Sandbox: namespaces"):
        assert said in text


def test_anchors_of_the_page_lead_somewhere_and_ids_are_unique(report: ReportPaths) -> None:
    elements = Page(page_of(report)).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in elements:
        for name in ("href", "xlink:href"):
            target = attributes.get(name) or ""
            if target.startswith("#"):
                assert target[1:] in ids


def test_equal_runs_give_an_equal_report(study: Path, report: ReportPaths, tmp_path: Path) -> None:
    again = quickly(study, tmp_path / "again")
    names = sorted(path.relative_to(again.folder) for path in again.folder.rglob("*.*"))
    kept = (path for path in report.folder.rglob("*.*") if path.suffix not in {".png", ".pdf"})
    assert names == sorted(path.relative_to(report.folder) for path in kept)
    for name in names:
        if name.name != "index.html":  # it links to what the other has not got
            assert (again.folder / name).read_bytes() == (report.folder / name).read_bytes(), name
    pages = [
        re.sub(r'<a href="figures/[^"]*(png|pdf)".*?</a> · ', "", page_of(paths))
        for paths in (again, report)
    ]
    assert pages[0] == pages[1]


def test_hostile_completions_stay_data(make_study: MakeStudy) -> None:
    root = make_study(methods=("lora",), n_problems=3, completion=lambda *_: HOSTILE)
    page = Page(page_of(quickly(root)))
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert not [tag for tag, attributes in page.elements if "onerror" in attributes]
    data = json.loads(page.scripts[0])
    assert HOSTILE in data["texts"]


def test_hostile_names_stay_text(make_study: MakeStudy) -> None:
    evil = "<img src=x onerror=alert(1)>$a$"
    root = make_study(methods=("fft", evil), n_problems=3)
    paths = quickly(root)
    page = Page(page_of(paths))
    assert not [tag for tag, attributes in page.elements if "onerror" in attributes]
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert "<img" not in (paths.folder / "figures" / "quality.svg").read_text()


@given(st.text())
def test_json_in_a_script_element_comes_back_whole(text: str) -> None:
    packed = str(script_json({"a": text}))
    assert not set("<>&\u2028\u2029") & set(packed)
    assert json.loads(packed) == {"a": text}


def test_policy_allows_only_the_report_s_own_script(report: ReportPaths) -> None:
    (policy,) = [
        attributes["content"] or ""
        for tag, attributes in Page(page_of(report)).elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='(;|$)", policy)


def test_study_without_verdicts_gives_an_honest_report(make_study: MakeStudy) -> None:
    text = " ".join(Page(page_of(quickly(make_study(judged=False)))).text)
    assert "No generations have been judged yet" in text
    assert "21 of 21 cells have no result yet" in text
    assert "Loss while tuning" in text


def test_study_with_a_file_and_no_runs_gives_an_honest_report(tmp_path: Path) -> None:
    write_text(tmp_path / "study.yaml", "name: begun\nmethods: [lora]\n")
    assert "No generations have been judged yet" in page_of(quickly(tmp_path))


def test_half_done_study_shows_holes(make_study: MakeStudy) -> None:
    root = make_study(methods=("fft", "lora"), n_problems=6)
    shutil.rmtree(root / "eval/tiny/lora")
    source = page_of(quickly(root))
    assert "3 of 6 cells have no result yet: LoRA on minipack-synthesize (tiny)" in source
    results = (root / "report/tables/results.csv").read_text().splitlines()
    assert "lora,29184,0.0428531,0.243321,,,,,,,,,,,,," in results[-1]


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="holds no runs"):
        quickly(tmp_path)
    assert not (tmp_path / "report").exists()


def test_folder_with_other_files_is_not_overwritten(study: Path, tmp_path: Path) -> None:
    write_text(tmp_path / "thesis.tex", "years of work")
    with pytest.raises(RunError, match="no report and would be lost"):
        quickly(study, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_failed_report_leaves_the_old_one(make_study: MakeStudy) -> None:
    root = make_study(methods=("lora",), n_problems=3)
    before = page_of(quickly(root))
    (path,) = root.glob("eval/tiny/lora/seed0/minipack-fix-*/judged-*/verdicts.jsonl")
    path.write_bytes(b"broken\n")
    with pytest.raises(Exception, match="not a Verdict record"):
        quickly(root)
    assert (root / "report/index.html").read_text(encoding="utf-8") == before


@pytest.mark.slow
def test_report_folder_does_not_disturb_the_next_report(make_study: MakeStudy) -> None:
    root = make_study(methods=("lora",), n_problems=3)
    files = set(root.rglob("*"))
    first = page_of(quickly(root))
    assert files < set(root.rglob("*"))
    assert page_of(quickly(root)) == first


def test_report_names_no_absolute_path(study: Path, report: ReportPaths) -> None:
    for path in report.folder.rglob("*.*"):
        assert str(study.parent).encode() not in path.read_bytes()


def test_browser_takes_problems_evenly_from_every_task(study: Path) -> None:
    small = browser(read_frames(study), budget=60_000)
    assert small is not None
    assert small.n_left_out > 0
    assert {problem["task"] for problem in small.data["problems"]} == {0, 1, 2}
    assert f"taken evenly from {small.n_problems + small.n_left_out}" in small.note


def test_browser_shows_completion_verdict_prompt_and_reference(study: Path) -> None:
    whole = browser(read_frames(study), "fft")
    assert whole is not None
    assert whole.n_left_out == 0
    data = whole.data
    problem = next(p for p in data["problems"] if p["id"] == "minipack/7")
    arm = [a["title"] for a in data["arms"]].index("LoRA")
    ((outcome, _, completion, finish),) = problem["cells"][arm]
    assert outcome in {"passed", "failed", "timed_out"}
    assert data["texts"][completion].startswith("\n    # written by lora")
    assert finish == "stop"
    assert data["texts"][problem["prompt"]] == "Question: minipack/7 2"
    assert data["texts"][problem["reference"]] == "    return sorted(xs)\n"
    assert [data["arms"][place]["title"] for place in data["open"]] == ["Base (untuned)", "FFT"]


def test_long_completions_are_cut_and_counted(make_study: MakeStudy) -> None:
    root = make_study(methods=("lora",), n_problems=3, completion=lambda m, p: f"{m}{p}" * 900)
    found = browser(read_frames(root), budget=10**9)
    assert found is not None
    assert "texts of more than 6,000 characters are cut" in found.note
    assert max(map(len, found.data["texts"])) < 6_100


def test_terminal_table_has_a_row_per_method_and_the_answer(study: Path) -> None:
    table = terminal_table(study)
    assert [row["method"] for row in table.rows][:3] == ["base", "fft", "lora"]
    assert table.rows[2]["trainable"] == 29_184
    assert table.rows[2]["pass_low"] < table.rows[2]["pass"] < table.rows[2]["pass_high"]
    assert table.rows[0]["over_base"] is None
    assert "Base (untuned)" in table.text
    assert str(table).startswith("FFT scores highest")
    assert max(map(len, table.text.splitlines())) <= 120


def test_terminal_table_of_a_study_without_verdicts_says_so(make_study: MakeStudy) -> None:
    table = terminal_table(make_study(judged=False))
    assert table.rows == ()
    assert str(table) == "No generations have been judged yet, so there is no winner to name."


def test_graded_generations_alone_give_a_report(make_study: MakeStudy, tmp_path: Path) -> None:
    root = make_study(methods=("lora",), n_problems=5)
    (judged,) = root.glob("eval/tiny/lora/seed0/minipack-synthesize-*/judged-*")
    graded = tmp_path / "graded" / "my-outputs-0123456789ab"
    shutil.copytree(judged, graded)
    shutil.copy(judged.parent / "samples.jsonl", graded / "samples.jsonl")
    assert (graded / MANIFEST).exists()
    text = " ".join(Page(page_of(quickly(graded, tmp_path / "out"))).text)
    assert "imported alone was judged" in text
    assert "Imported generations: my-outputs." in text
