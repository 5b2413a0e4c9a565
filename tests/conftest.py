"""What every test may count on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Read when torch is loaded, which happens later, if at all: one thread a process, so that test
# workers do not fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Derandomised: a change fails because of what it changes. No deadline: machines are busy at times.
settings.register_profile(
    "astraios",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=(HealthCheck.too_slow,),
)
settings.load_profile("astraios")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of benchmark data and reference values that is not part of the repository."""
    named = os.environ.get("ASTRAIOS_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no reference data: {folder} is not a folder; set ASTRAIOS_SHARED")
    return folder


@pytest.fixture(scope="session", autouse=True)
def toolchains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What compilers make once, for all tests; programs of root run as others, who must read it.

    Also keeps what fixtures of a whole session judge out of the user's cache.
    """
    with tempfile.TemporaryDirectory(prefix="astraios-toolchains-") as folder:
        Path(folder).chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ASTRAIOS_CACHE", _cache(tmp_path_factory, Path(folder)))
            patch.setenv("ASTRAIOS_SANDBOX", os.environ.get("ASTRAIOS_SANDBOX", "best"))
            yield Path(folder)


@pytest.fixture(autouse=True)
def cache_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, toolchains: Path
) -> Path:
    """A verdict cache for every test alone: each runs its programs, whatever ran before it."""
    folder = _cache(tmp_path_factory, toolchains)
    monkeypatch.setenv("ASTRAIOS_CACHE", folder)
    return Path(folder)


def _cache(tmp_path_factory: pytest.TempPathFactory, toolchains: Path) -> str:
    folder = tmp_path_factory.mktemp("cache")
    (folder / "toolchains").symlink_to(toolchains)
    return str(folder)
