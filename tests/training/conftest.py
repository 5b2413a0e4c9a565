"""What every test of training may count on."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(scope="session", autouse=True)
def libraries_set_aside() -> None:
    """Every start of a training collects garbage; what the libraries hold is none, and is much."""
    gc.collect()
    gc.freeze()
