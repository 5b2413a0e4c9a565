"""`astraios eval` with a model behind a server: a real HTTP server, and no weights here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..generation.server.running import Running

TASK = ("--task", "minipack-validation", "--limit-problems", "2", "--n-samples", "2")
HOW = ("--temperature", "0.5", "--engine", "openai", "--no-parity", "--sandbox", "best", "--json")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    spec = {"models": {"me/letters": {}}, "n_positions": 9000}
    with Running(tmp_path_factory.mktemp("server"), spec) as running:
        yield running


@pytest.fixture
def run(astraios, server, tmp_path):
    server.control()

    def evaluate(*more: str):
        options = (*TASK, *HOW, "--url", server.url, "--out", str(tmp_path / "runs"))
        return astraios("eval", "me/letters", *options, *more)

    return evaluate


def test_a_served_model_is_generated_judged_and_scored(run, server, tmp_path):
    said = run()
    assert said.status == 0, said.stderr
    (one,) = json.loads(said.stdout)["runs"]
    assert sum(one["outcomes"].values()) == 4
    manifest = json.loads((Path(one["run"]) / "manifest.json").read_text())
    assert manifest["config"]["engine"] == "openai"
    assert server.url not in "".join(p.read_text() for p in (tmp_path / "runs").rglob("*.json"))
    n_asked = len(server.seen())
    again = run()
    assert json.loads(again.stdout) == json.loads(said.stdout)
    assert len(server.seen()) == n_asked


def test_a_server_that_fails_leaves_faults_and_the_command_ends_with_1(run, server):
    server.control(bad={"": ["500"] * 1000})
    said = run("engine_options.n_tries=1", "engine_options.first_pause_s=0")
    assert said.status == 1
    server.control()
    assert run().status == 0


def test_an_engine_without_an_address_is_told(astraios, tmp_path):
    said = astraios("eval", "me/letters", *TASK, *HOW, "--out", str(tmp_path / "runs"))
    assert said.status == 2
    assert "engine_options.url=URL" in said.stderr


def test_the_served_name_tells_runs_apart(run):
    runs = [
        json.loads(run(f"engine_options.model={name}", "--dry-run").stdout)["runs"][0]["run"]
        for name in ("a", "b")
    ]
    assert runs[0] != runs[1]


def test_a_run_that_was_not_compared_is_not_done_where_that_is_wanted(astraios, run, server):
    (one,) = json.loads(run("--generate-only").stdout)["runs"]

    def state(*more: str) -> str:
        out = str(Path(one["run"]).parents[3])
        how = [word for word in HOW if word != "--no-parity"]
        options = (*TASK, *how, "--url", server.url, "--out", out, "--dry-run", *more)
        (found,) = json.loads(astraios("eval", "me/letters", *options).stdout)["runs"]
        assert found["run"] == one["run"]
        return found["state"]

    assert state() == "to be compared"
    assert state("--no-parity") == "generated"
