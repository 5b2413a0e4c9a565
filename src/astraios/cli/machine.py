"""What `astraios doctor` finds: libraries, toolchains, sandbox, accelerators, data."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from astraios import languages, registry
from astraios.config import data_dir
from astraios.errors import AstraiosError
from astraios.sandbox import levels, probe

Row = dict[str, str]
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "ray", "datasets")


def rows() -> list[Row]:
    """One row a fact: what, `yes`, `no` or a value, and a remark."""
    return [*_machine(), *_libraries(), *_toolchains(), *_sandbox(), *_accelerators(), _data()]


def _row(what: str, state: str, remark: str = "") -> Row:
    return {"what": what, "state": state, "remark": remark}


def _machine() -> list[Row]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return [
        _row("python", platform.python_version(), platform.platform()),
        _row("cores", str(os.cpu_count())),
        _row("disk", f"{free:.0f} GiB", "free in this folder"),
    ]


def _libraries() -> list[Row]:
    found = []
    for name in LIBRARIES:
        try:
            found.append(_row(f"library {name}", version(name)))
        except PackageNotFoundError:
            extra = {"bitsandbytes": "quant", "ray": "ray"}.get(name, "train")
            remark = f"pip install 'astraios[{extra}]'" if name != "datasets" else "optional"
            found.append(_row(f"library {name}", "no", remark))
    return found


def _toolchains() -> list[Row]:
    found = []
    for name in registry.names(languages):
        try:
            tools = registry.load(languages, "language", name, languages.Language).toolchain()
        except AstraiosError as error:
            found.append(_row(f"language {name}", "no", str(error)))
        else:
            listed = ", ".join(f"{tool} {tool_version}" for tool, tool_version in tools.items())
            found.append(_row(f"language {name}", "yes", listed))
    return found


def _sandbox() -> list[Row]:
    found = probe()
    works = {report.level for report in found if report.works}
    chosen = next((level for level in levels.BY_AUTO if level in works), "none")
    return [
        *(
            _row(f"sandbox {one.level}", "yes" if one.works else "no", one.reason or one.title)
            for one in found
        ),
        _row(
            "sandbox, by default",
            chosen,
            "what programs run in unless --sandbox names another level",
        ),
    ]


def _accelerators() -> list[Row]:
    try:
        import torch
    except ImportError:
        return [_row("accelerator", "no", "torch is not installed")]
    if not torch.cuda.is_available():
        return [_row("accelerator", "no", "training and generation run on the CPU")]
    return [
        _row(f"accelerator cuda:{at}", "yes", torch.cuda.get_device_name(at))
        for at in range(torch.cuda.device_count())
    ]


def _data() -> Row:
    try:
        found = data_dir()
    except AstraiosError as error:
        return _row("data", "no", str(error))
    if found is None:
        return _row("data", "hub", "no --data-dir, no ASTRAIOS_DATA: the Hugging Face hub is asked")
    return _row("data", "yes", f"{found}: {', '.join(sorted(p.name for p in found.iterdir()))}")
