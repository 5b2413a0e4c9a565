"""What wheel and sdist hold."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path, PurePosixPath

import pytest

import astraios

from .conftest import REPOSITORY

WASTE = re.compile(r"__pycache__|\.py[co]$|\.so$|_cache/|^\.venv|^runs/|^site/|\.DS_Store|~$")


@pytest.fixture(scope="module")
def packed(wheel: Path) -> dict[str, bytes]:
    """Name -> bytes of every file in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def information(packed: dict[str, bytes]) -> dict[str, bytes]:
    """What the wheel says of itself, by file name."""
    return {PurePosixPath(name).name: text for name, text in packed.items() if "dist-info/" in name}


def test_the_wheel_holds_the_package_whole_and_nothing_else(packed: dict[str, bytes]) -> None:
    source = REPOSITORY / "src"
    due = {
        path.relative_to(source).as_posix()
        for path in (source / "astraios").rglob("*")
        if path.is_file() and not WASTE.search(path.as_posix())
    }
    assert {name for name in packed if "dist-info/" not in name} == due
    assert "astraios/py.typed" in due
    assert {PurePosixPath(name).suffix for name in due} >= {".csv", ".rs", ".yaml", ".js", ".txt"}


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < 2_000_000


def test_the_wheel_says_what_it_is(information: dict[str, bytes]) -> None:
    told = message_from_bytes(information["METADATA"])
    assert told["Version"] == astraios.__version__
    assert told["License-Expression"] == "MIT"
    assert set(told.get_all("License-File") or ()) == {"LICENSE", "NOTICE"}
    assert {"LICENSE", "NOTICE"} <= set(information)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert set(told.get_all("Provides-Extra") or ()) == set(project["optional-dependencies"])
    assert information["entry_points.txt"].decode().split() == [
        *("[console_scripts]", "astraios", "=", "astraios.cli:main"),
        *("[pytest11]", "astraios", "=", "astraios.testing.plugin"),
    ]


def test_the_core_needs_no_torch(information: dict[str, bytes]) -> None:
    needed = message_from_bytes(information["METADATA"]).get_all("Requires-Dist") or []
    core = {re.split(r"[^\w-]", text)[0].lower() for text in needed if "extra ==" not in text}
    heavy = {"torch", "transformers", "peft", "accelerate", "tokenizers", "pyarrow", "datasets"}
    assert core
    assert not core & heavy


def test_the_sdist_holds_what_is_committed(sdist: Path) -> None:
    if not (REPOSITORY / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs the repository and git, to know what is committed")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    committed = {name for name in listed.stdout.split("\0") if (REPOSITORY / name).is_file()}
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert committed - names == set()
    assert [name for name in names if WASTE.search(name)] == []


def test_the_version_is_said_in_one_place_and_cited_right() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "src/astraios/__init__.py"
    cited = re.search(r"^version: (.+)$", (REPOSITORY / "CITATION.cff").read_text(), re.M)
    assert cited
    assert cited[1] == astraios.__version__
