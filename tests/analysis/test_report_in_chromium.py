"""The page in a real browser: no complaint in the console, and all that moves works.

Chromium is driven over a pipe in its own protocol, so nothing beyond the standard library is
needed. Starting it and opening the page cost most of the time, so a test walks through one part of
the page from beginning to end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from astraios.analysis.report import ReportPaths, write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs 'chromium' on the path (Debian: apt-get install chromium)"
)


class Browser:
    """One page of a headless Chromium."""

    def __init__(self, profile: Path) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        flags = (
            "--headless --no-sandbox --disable-gpu --no-first-run --disable-dev-shm-usage "
            "--disable-background-networking --disable-component-update --disable-sync "
            "--remote-debugging-pipe"
        )
        # The protocol wants descriptors 3 and 4.
        command = f'exec "$0" {flags} --user-data-dir="$1" about:blank 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, str(CHROMIUM), str(profile)],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._unread = b""
        self._n_calls = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._n_calls += 1
        message: dict[str, Any] = {"id": self._n_calls, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._n_calls:
                assert "error" not in answer, answer
                found: dict[str, Any] = answer["result"]
                return found
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            part = os.read(self._read, 1 << 16)
            assert part, "chromium died"
            self._unread += part
        message, _, self._unread = self._unread.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def open(self, page: Path) -> None:
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def js(self, expression: str) -> Any:
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """A real key press, to whatever has the focus."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def texts(self, selector: str) -> list[str]:
        """Texts of the elements that are laid out."""
        shown = f"[...document.querySelectorAll({json.dumps(selector)})]"
        found: list[str] = self.js(
            f"{shown}.filter(e => e.getClientRects().length).map(e => e.textContent)"
        )
        return found

    def text(self, name: str) -> str:
        """Text of the element with this id."""
        return str(self.js(f"document.getElementById({json.dumps(name)}).textContent"))

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """Console messages, log entries (policy violations too) and uncaught exceptions."""
        kinds = {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"}
        return [event for event in self.events if event.get("method") in kinds]

    @property
    def requests(self) -> list[str]:
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def close(self) -> None:
        self._session = None
        self.call("Browser.close")  # a killed browser leaves its temporary folders behind
        self._process.wait()
        os.close(self._write)
        os.close(self._read)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def page(chromium: Browser, report: ReportPaths) -> Browser:
    chromium.open(report.index)
    return chromium


def first_cells(page: Browser, table: str) -> list[str]:
    return page.texts(f"#{table} tbody tr td:first-child")


def choose(page: Browser, field: str, value: str) -> None:
    page.js(
        f"(() => {{ const f = document.getElementById('{field}'); f.value = {json.dumps(value)};"
        " f.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def test_page_opens_quietly_and_every_part_has_a_name(page: Browser) -> None:
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in page.requests if url.startswith("file:")]) == 1
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {"button", "link", "combobox", "searchbox", "listbox", "navigation", "image", "region"}
    unnamed = [
        node
        for node in nodes
        if node.get("role", {}).get("value") in named and not node.get("name", {}).get("value")
    ]
    assert unnamed == []
    levels = page.js("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_tables_sort_by_their_heads_and_holes_stay_last(page: Browser) -> None:
    heads = page.texts("#table-results th")
    rate, over = heads.index("pass@1 %"), heads.index("Δ FFT")

    def click(place: int) -> None:
        page.js(f"document.querySelectorAll('#table-results th button')[{place}].click()")

    click(rate)
    assert first_cells(page, "table-results")[0] == "FFT"
    click(rate)
    assert first_cells(page, "table-results")[-1] == "FFT"
    assert (
        page.js(f"document.querySelectorAll('#table-results th')[{rate}].ariaSort") == "ascending"
    )
    for _ in range(2):
        click(over)
        assert first_cells(page, "table-results")[-1] == "FFT"  # no difference to itself


def test_rows_and_methods_are_filtered(page: Browser) -> None:
    page.js(
        "(() => { const f = document.querySelector('#outcomes input');"
        " f.value = 'lora fix'; f.dispatchEvent(new Event('input')); })()"
    )
    assert page.texts("#table-outcomes tbody td:nth-child(-n+2)") == ["LoRA", "minipack-fix"]
    assert "1 of 24 rows" in page.js("document.querySelector('#outcomes .tools').textContent")
    for name in ("FFT", "LoRA"):
        page.js(
            "[...document.querySelectorAll('#legend button')]"
            f".find(b => b.textContent === '{name}').click()"
        )
    assert first_cells(page, "table-results") == ["FFT", "LoRA"]
    dimmed = "[...document.querySelectorAll('.plot .dim')].map(e => e.dataset.m)"
    assert not {"1", "2"} & set(page.js(dimmed))
    assert set(page.js(dimmed)) >= {"3", "4", "5"}
    pressed = page.js("document.querySelectorAll('#legend [aria-pressed=true]').length")
    assert pressed == 2
    page.js("document.getElementById('every').click()")
    assert page.js(dimmed) == []
    assert len(first_cells(page, "table-results")) == 8


def test_marks_of_figures_speak_to_pointer_and_keys(page: Browser) -> None:
    page.js("document.querySelector('#quality svg').focus()")
    page.press("ArrowRight")
    assert page.js("document.getElementById('tip').hidden") is False
    first = page.text("tip")
    assert "trained parameters" in first
    page.press("ArrowRight")
    assert page.text("tip") != first
    page.press("Escape")
    assert page.js("document.getElementById('tip').hidden") is True
    place = (
        "(() => { const mark = document.querySelector('#quality g[id*=tip-] use');"
        " mark.scrollIntoView({block: 'center', behavior: 'instant'});"
        " const box = mark.getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    hidden = (
        "new Promise(done => setTimeout(() => done(document.getElementById('tip').hidden), 50))"
    )
    for _ in range(100):  # a busy machine may still be drawing, and the page moves while it does
        x, y = page.js(place)
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        if page.js(hidden) is False:
            break
    assert page.js(hidden) is False
    assert page.text("tip") == first


def test_problems_are_found_and_read_by_keyboard(page: Browser) -> None:
    titles = page.js(
        "['left', 'right'].map(i => document.getElementById(i).selectedOptions[0].text)"
    )
    assert titles == ["Base (untuned)", "FFT"]
    assert page.text("prompt").startswith("Question: ")
    assert "written by fft" in page.text("right-cell")
    title = "document.getElementById('problem-title').textContent.split(' · ')[0]"
    page.js("document.getElementById('next').click()")
    assert page.js(title) == "minipack/1"
    page.js("document.getElementById('list').focus()")
    page.press("ArrowDown")
    assert page.js(title) == "minipack/2"
    assert page.js("document.getElementById('previous').disabled") is False
    page.press("End")
    assert page.js(title) == "minipack/39"
    assert page.js("document.querySelector('#list [aria-selected=true]').id") == page.js(
        "document.getElementById('list').getAttribute('aria-activedescendant')"
    )
    choose(page, "filter", "right")
    signs = page.texts("#list .pair")
    assert set(signs) == {"✗✓"}
    assert page.text("count") == f"{len(signs)} of 40 problems"
    choose(page, "filter", "left:timed_out")
    assert page.js("document.querySelector('#left-cell .badge').textContent") == "✗ timed out"
    choose(page, "filter", "all")
    choose(page, "find", "minipack/39")
    assert len(page.texts("#list li")) == 1
    choose(page, "find", "no such text")
    assert page.text("count") == "0 of 40 problems"
    assert page.js("document.getElementById('detail').hidden") is True
    choose(page, "find", "")
    choose(page, "task", "2")
    assert page.text("count") == "48 of 48 problems"
    choose(page, "part", "part:typos")
    assert page.text("count") == "12 of 48 problems"


def test_methods_are_copied_as_they_stand(chromium: Browser, page: Browser) -> None:
    page.call("Browser.grantPermissions", permissions=["clipboardReadWrite"])
    page.call("Page.bringToFront")
    page.js("document.querySelector('[data-copy=text-latex]').click()")
    copied = page.js(
        "new Promise(done => setTimeout(() => navigator.clipboard.readText().then(done), 50))"
    )
    assert copied == page.text("text-latex")
    assert copied.startswith("\\section{Methods}")


def test_paper_and_phone(page: Browser) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.js(paper)
    page.js("document.getElementById('theme').click()")
    dark = page.js(paper)
    assert dark != light
    page.js("document.getElementById('theme').click()")
    page.call(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    page.js("delete document.documentElement.dataset.theme")
    assert page.js(paper) == dark
    page.call("Emulation.setEmulatedMedia", media="print", features=[])
    assert page.js(paper) == "rgb(255, 255, 255)"
    hidden = "[...document.querySelectorAll('.rail, #problems, .tools, .paste, .files')]"
    assert page.js(f"{hidden}.filter(e => e.getClientRects().length).length") == 0
    assert "Cost" in page.texts("h2")
    assert page.js("getComputedStyle(document.querySelector('.tall')).maxHeight") == "none"
    page.call("Emulation.setEmulatedMedia", media="", features=[])
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.call("Emulation.setDeviceMetricsOverride", **size)
    assert page.js("document.documentElement.scrollWidth") <= 390
    page.call("Emulation.clearDeviceMetricsOverride")


def test_page_without_scripts_has_all_but_the_browser(
    chromium: Browser, report: ReportPaths
) -> None:
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(report.index)
        assert chromium.texts("#table-results tbody td:first-child")
        assert chromium.texts("#prose p")
        assert chromium.texts("figcaption")
        assert chromium.texts("main button") == []
        assert "Browsing needs scripts" in " ".join(
            chromium.texts("#problems noscript, noscript p")
        )
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)


def test_hostile_completion_is_shown_and_not_run(
    chromium: Browser, make_study: Callable[..., Path]
) -> None:
    attack = "document.title='pwned'"
    evil = f'</script><script>{attack}</script><img src=x onerror="{attack}">'
    root = make_study(methods=("lora",), n_problems=3, completion=lambda *_: evil)
    chromium.open(write_report(root, formats=("svg",)).index)
    assert chromium.js("document.querySelector('#left-cell pre').textContent") == evil
    assert "pwned" not in chromium.js("document.title")
    assert chromium.js("document.querySelectorAll('img').length") == 0
    assert chromium.complaints == []
