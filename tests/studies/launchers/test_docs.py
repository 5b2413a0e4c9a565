"""The launcher of docs/how-to/add-a-launcher.md works as printed, and as an entry point."""

from __future__ import annotations

from pathlib import Path

import pytest
from cheap_jobs import ended, fill, grid, job, records, setting
from tests.analysis.examples import install_example

from astraios import registry
from astraios.errors import ConfigError, UnknownNameError
from astraios.studies import launchers
from astraios.studies.launchers import Launcher, Phase
from astraios.studies.presets import read_study
from astraios.studies.run import run_study

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "how-to" / "add-a-launcher.md"


@pytest.fixture
def serial(tmp_path, monkeypatch):
    """The example as an installed project would bring it."""
    install_example(PAGE, "serial", tmp_path / "site", monkeypatch)
    return registry.load(launchers, "launcher", "serial")


def test_the_example_does_what_a_launcher_does(tmp_path, serial):
    events = []
    jobs = [*grid(2), job("fails", ends="fails"), job("next", "fails")]
    serial.launch(jobs, setting(tmp_path / "study"), events.append)
    found = ended(events)
    assert found.pop("fails") is Phase.FAILED and found.pop("next") is Phase.SKIPPED
    assert set(found.values()) == {Phase.DONE}
    for one in grid(2):
        fill(one, setting(tmp_path / "whole"), lambda *told: None, None)
    assert records(tmp_path / "study", grid(2)) == records(tmp_path / "whole", grid(2))


def test_every_launcher_has_a_section_and_its_options_a_line():
    text = (DOCS / "launchers.md").read_text()
    for name in registry.builtin_names(launchers):
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        found = registry.load(launchers, "launcher", name)
        assert isinstance(found, Launcher)
        assert section, name
        for option in found.Options.model_fields:
            assert f"`{option}`" in section, f"{name}: {option}"


def test_an_unknown_launcher_or_option_is_refused_before_anything_is_made(tmp_path):
    study = read_study("embedded-quick")
    with pytest.raises(UnknownNameError, match=r"unknown launcher 'lokal'.*Did you mean 'local'\?"):
        run_study(study, tmp_path / "a", launcher="lokal")
    with pytest.raises(ConfigError, match="options of launcher 'ray': unknown field 'adress'"):
        run_study(study, tmp_path / "a", launcher="ray", launcher_options={"adress": "auto"})
    assert not (tmp_path / "a").exists()
