"""One worker in this process, as launchers without processes of their own have it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

from transformers.utils import logging

from astraios.config import parse_yaml
from astraios.records import RunKind
from astraios.studies.launchers import Setting
from astraios.studies.plan import plan
from astraios.studies.study import Study
from astraios.studies.worker import Worker

TEXT = """
name: small
base_models: [a/one]
methods: [lora]
tasks: [minipack-synthesize]
training: {optimization: {n_steps: 10, batch_size: 4, learning_rate: 0.001}}
"""


def test_a_worker_in_this_process_keeps_the_bars_of_libraries_off_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars: list[bool] = []

    def work(*_: object, **__: object) -> None:
        bars.append(logging.is_progress_bar_enabled())

    monkeypatch.setattr("astraios.studies.work.work", work)
    verbosity, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    try:
        with Worker(Setting(tmp_path, "none", None)) as worker:
            for job in plan(parse_yaml(TEXT, Study, (), source="study.yaml")):
                if job.kind is not RunKind.JUDGE:
                    worker.do(job)
    finally:
        logging.set_verbosity(verbosity)
        (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
    assert bars and not any(bars)
