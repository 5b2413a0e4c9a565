"""The page in a real browser: no complaint in the console, and sorting, filtering, browsing work.

Chromium is driven over a pipe in its own protocol, so nothing beyond the standard library is
needed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
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
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

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
    found: list[str] = page.js(
        f"[...document.querySelectorAll('#{table} tbody tr')].map(r => r.cells[0].textContent)"
    )
    return found


def choose(page: Browser, field: str, value: str) -> None:
    page.js(
        f"(() => {{ const f = document.getElementById('{field}'); f.value = {json.dumps(value)};"
        " f.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def test_page_opens_without_complaint_and_loads_nothing_else(page: Browser) -> None:
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in page.requests if url.startswith("file:")]) == 1


def test_click_on_a_head_sorts_and_a_second_one_turns_the_order(page: Browser) -> None:
    page.js("document.querySelectorAll('#table-results th button')[4].click()")
    down = first_cells(page, "table-results")
    assert down[0] == "FFT"
    page.js("document.querySelectorAll('#table-results th button')[4].click()")
    assert first_cells(page, "table-results")[-1] == "FFT"
    assert page.js("document.querySelectorAll('#table-results th')[4].ariaSort") == "ascending"


def test_holes_stay_at_the_end_of_a_sorted_table(page: Browser) -> None:
    for _ in range(2):
        page.js("document.querySelectorAll('#table-results th button')[6].click()")
        assert first_cells(page, "table-results")[-1] == "FFT"  # no difference to itself


def test_browser_opens_with_the_base_beside_the_best(page: Browser) -> None:
    titles = page.js(
        "['left', 'right'].map(i => document.getElementById(i).selectedOptions[0].text)"
    )
    assert titles == ["Base (untuned)", "FFT"]
    assert page.js("document.getElementById('prompt').textContent").startswith("Question: ")
    assert "written by fft" in page.js("document.getElementById('right-cell').textContent")


def test_filter_keeps_the_problems_that_fit(page: Browser) -> None:
    choose(page, "filter", "right")
    signs = page.js("[...document.querySelectorAll('#list .pair')].map(i => i.textContent)")
    assert signs
    assert set(signs) == {"✗✓"}
    assert page.js("document.getElementById('count').textContent") == f"{len(signs)} of 40 problems"


def test_outcome_filter_speaks_of_the_left_side(page: Browser) -> None:
    choose(page, "filter", "left:timed_out")
    shown = page.js("document.querySelector('#left-cell .badge').textContent")
    assert shown == "✗ timed out"


def test_search_finds_by_id_and_says_when_nothing_fits(page: Browser) -> None:
    choose(page, "find", "minipack/39")
    assert page.js("document.querySelectorAll('#list li').length") == 1
    choose(page, "find", "no such text")
    assert page.js("document.getElementById('count').textContent") == "0 of 40 problems"
    assert page.js("document.getElementById('detail').hidden") is True


def test_next_and_arrow_keys_walk_through_the_problems(page: Browser) -> None:
    title = "document.getElementById('problem-title').textContent.split(' · ')[0]"
    page.js("document.getElementById('next').click()")
    assert page.js(title) == "minipack/1"
    page.js(
        "document.getElementById('list').dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'ArrowDown', bubbles: true}))"
    )
    assert page.js(title) == "minipack/2"
    assert page.js("document.getElementById('previous').disabled") is False


def test_task_choice_changes_the_problems(page: Browser) -> None:
    choose(page, "task", "2")
    assert page.js("document.getElementById('count').textContent") == "48 of 48 problems"


def test_theme_switch_changes_the_paper(page: Browser) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    before = page.js(paper)
    page.js("document.getElementById('theme').click()")
    assert page.js(paper) != before


def test_page_is_no_wider_than_a_phone(page: Browser) -> None:
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.call("Emulation.setDeviceMetricsOverride", **size)
    assert page.js("document.documentElement.scrollWidth") <= 390
    page.call("Emulation.clearDeviceMetricsOverride")


def test_hostile_completion_is_shown_and_not_run(
    chromium: Browser, make_study: Callable[..., Path]
) -> None:
    attack = "document.title='pwned'"
    evil = f'</script><script>{attack}</script><img src=x onerror="{attack}">'
    root = make_study(methods=("lora",), n_problems=3, completion=lambda *_: evil)
    chromium.open(write_report(root).index)
    assert chromium.js("document.querySelector('#left-cell pre').textContent") == evil
    assert "pwned" not in chromium.js("document.title")
    assert chromium.js("document.querySelectorAll('img').length") == 0
    assert chromium.complaints == []
