"""What every test may count on."""

from __future__ import annotations

import os
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
