"""Workflow, Dockerfile, pre-commit, citation and bounds agree with the rest of the repository."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml
from tests.docs.pages import tool

from .conftest import REPOSITORY

MAKEFILE = (REPOSITORY / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
LOCK = dict(
    line.split("==")
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
)


def workflow() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text())
    return loaded


def commands() -> list[str]:
    """What the workflow runs."""
    return [
        step["run"] for job in workflow()["jobs"].values() for step in job["steps"] if "run" in step
    ]


# --- the workflow -----------------------------------------------------------------------------


def test_the_workflow_runs_on_changes_and_each_week() -> None:
    # YAML 1.1 reads the key `on` as true
    assert set(workflow()[True]) == {"push", "pull_request", "schedule", "workflow_dispatch"}
    assert workflow()["permissions"] == {"contents": "read"}


def test_targets_and_files_that_the_workflow_names_exist() -> None:
    text = "\n".join(commands())
    assert set(re.findall(r"\bmake (?:--silent )?([a-z-]+)", text)) <= TARGETS
    for script in re.findall(r"^\.ci/\w+", text, re.MULTILINE):
        assert (REPOSITORY / script).stat().st_mode & 0o100, f"{script} cannot be executed"
    assert set(re.findall(r"\.\[(\w+)\]", text)) <= set(PROJECT["optional-dependencies"])


def test_a_change_passes_check_test_docs_and_dist() -> None:
    run = (REPOSITORY / ".ci/run").read_text()
    assert re.search(r"for target in check test;", run)
    told = "\n".join(commands())
    assert ".ci/run" in told
    assert {"docs", "dist", "lowest", "test-slow"} <= set(
        re.findall(r"make (?:--silent )?([a-z-]+)", told)
    )


def test_every_job_has_a_limit_and_pinned_actions() -> None:
    for name, job in workflow()["jobs"].items():
        assert job["timeout-minutes"] <= 180, name
        for step in job["steps"]:
            assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])


def test_tried_pythons_are_allowed_and_the_lowest_is_tried() -> None:
    floor = PROJECT["requires-python"].removeprefix(">=")
    strategies = [job.get("strategy", {}).get("matrix", {}) for job in workflow()["jobs"].values()]
    tried = {version for matrix in strategies for version in matrix.get("python", ())}
    assert floor == min(tried, key=lambda version: int(version.split(".")[1]))
    classified = {text.rpartition(" ")[2] for text in PROJECT["classifiers"] if "3." in text}
    assert tried <= classified
    bounds = next(matrix["include"] for matrix in strategies if "include" in matrix)
    assert {one["versions"]: one["python"] for one in bounds}["lowest"] == floor


# --- bounds and versions ----------------------------------------------------------------------


def test_lowest_versions_are_those_of_the_project() -> None:
    found = tool("lowest").lowest()
    assert found["pydantic"] == "2.10"
    assert found["transformers"] == "5.23"
    assert set(tool("lowest").lowest([])) == {
        re.split(r"[>=]", text)[0] for text in PROJECT["dependencies"]
    }
    done = subprocess.run(
        [sys.executable, "tools/lowest.py", "quant"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert "bitsandbytes==0.49.*" in lines
    assert all(re.fullmatch(r"[\w.-]+==[\d.]+\.\*", line) for line in lines)


def test_known_good_versions_keep_the_bounds() -> None:
    known = {name.lower().replace("_", "-"): version for name, version in LOCK.items()}
    numbers = tool("lowest").parts
    checked = 0
    for name, lowest in tool("lowest").lowest().items():
        version = known.get(name.lower().replace("_", "-"))
        if version is not None:
            checked += 1
            assert numbers(re.match(r"[\d.]*\d", version)[0]) >= numbers(lowest), name  # type: ignore[index]
    assert checked > 30


# --- Dockerfile and pre-commit ----------------------------------------------------------------


def test_the_image_is_made_of_files_that_are_here_and_sent() -> None:
    lines = (REPOSITORY / "Dockerfile").read_text().splitlines()
    copied = {word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]}
    sent = {
        line[1:] for line in (REPOSITORY / ".dockerignore").read_text().split() if line[0] == "!"
    }
    assert copied
    for name in copied:
        assert (REPOSITORY / name).exists(), name
        assert name.split("/")[0] in sent, f".dockerignore keeps {name} back"
    licences = PROJECT["license-files"]
    assert {"pyproject.toml", PROJECT["readme"], *licences} <= copied


def test_the_image_has_an_allowed_python_and_existing_extras() -> None:
    text = (REPOSITORY / "Dockerfile").read_text()
    version = re.search(r"^FROM python:([\d.]+)-", text, re.MULTILINE)
    assert version
    assert version[1] in {t.rpartition(" ")[2] for t in PROJECT["classifiers"] if "3." in t}
    extra = re.search(r"^ARG EXTRAS=(\w+)", text, re.MULTILINE)
    assert extra
    assert extra[1] in PROJECT["optional-dependencies"]
    assert re.search(r"^USER (?!root)", text, re.MULTILINE)


def test_one_script_brings_the_toolchains_everywhere() -> None:
    script = (REPOSITORY / ".ci/toolchains").read_text()
    for tool_ in ("javac", "node", "g++", "go", "rustc"):
        assert re.search(rf"^needs {re.escape(tool_)} ", script, re.MULTILINE)
    for user in ("Dockerfile", "Makefile", ".ci/run", ".github/workflows/ci.yml"):
        assert ".ci/toolchains" in (REPOSITORY / user).read_text(), user


def test_hooks_run_the_tools_that_make_check_runs() -> None:
    loaded = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    hooks = [hook for source in loaded["repos"] for hook in source["hooks"]]
    assert [source["repo"] for source in loaded["repos"]] == ["local"]
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe
    due = [re.sub(r" --check| \.$", "", line) for line in re.findall(r"\$\(BIN\)/(.*)", recipe[1])]
    assert [re.sub(r"^\.venv/bin/| \.$", "", hook["entry"]) for hook in hooks] == [
        line.removesuffix(" .") for line in due
    ]
    assert all(hook["language"] == "system" for hook in hooks)


# --- citation ---------------------------------------------------------------------------------


def test_the_citation_has_what_its_format_asks_for() -> None:
    """Citation File Format 1.2.0, the keys that are required and those of the references."""
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "cff-version"} <= cited.keys()
    assert cited["type"] in ("software", "dataset")
    assert cited["license"] == PROJECT["license"]
    paper = cited["preferred-citation"]
    assert {"type", "title", "authors"} <= paper.keys()
    known = {"family-names", "given-names", "name-particle", "name-suffix", "orcid", "name"}
    for author in (*cited["authors"], *paper["authors"]):
        assert author
        assert author.keys() <= known
    assert re.fullmatch(r"10\.\d{4,9}/\S+", paper["doi"])
    assert PROJECT["urls"]["Paper"] == paper["url"]


def test_files_that_the_notice_names_exist() -> None:
    text = (REPOSITORY / "NOTICE").read_text()
    for path in re.findall(r"\b(?:src|docs)/[\w/.-]+\w", text):
        assert Path(REPOSITORY / path).exists(), path
