"""Benchmark files from the Hugging Face hub, where no folder of data was given."""

from __future__ import annotations

from pathlib import Path

from astraios.errors import MissingDataError


def hub_files(what: str, hub: str, files: str, remedy: str, revision: str | None = None) -> Path:
    """The folder that holds `files` of the data set `hub`, which are loaded if need be.

    A whole snapshot is asked for and not a file: it fails at once where the network does, while a
    file is tried six times, with two lines of complaint each.

    Args:
        what: name of the benchmark, for messages.
        files: path inside the data set; stars stand for anything.
        remedy: what to do instead of loading.

    Raises:
        MissingDataError: if they are neither here nor to be had.
    """
    source = f"{files} of the Hugging Face data set {hub}"
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingDataError(
            f"{what}: no data folder was given, and huggingface_hub, which would load "
            f"{source}, is not installed; install it, or {remedy}"
        ) from None
    try:
        found = snapshot_download(hub, repo_type="dataset", revision=revision, allow_patterns=files)
        folder = Path(found)
        if not any(folder.glob(files)):  # a part of the data set was loaded before, and now offline
            raise FileNotFoundError(files)
    except Exception as error:  # its errors have no common root: httpx, OSError and ValueError
        raise MissingDataError(
            f"{what}: no data folder was given, and {source} could not be loaded "
            f"({type(error).__name__}); check the network, or {remedy}"
        ) from error
    return folder
