"""A tiny random model of the StarCoder architecture, and its kin."""

from __future__ import annotations

from typing import Any

import pytest

from astraios.testing import tiny_batch, tiny_config, tiny_model


@pytest.fixture(scope="session", autouse=True)
def _quiet_progress() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("peft")
    from transformers.utils import logging

    logging.disable_progress_bar()


@pytest.fixture(name="tiny_config")
def _tiny_config() -> Any:
    return tiny_config


@pytest.fixture(name="tiny_model")
def _tiny_model() -> Any:
    return tiny_model


@pytest.fixture
def model() -> Any:
    """A fresh multi-query GPTBigCode."""
    return tiny_model()


@pytest.fixture
def batch() -> Any:
    """Token ids and mask of three rows of which two are left-padded."""
    return tiny_batch()
