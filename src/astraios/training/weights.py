"""Which weights a folder has: what tells them from others of the same name, without loading them.

Marks of folders need neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from astraios.errors import MissingDataError
from astraios.files import readable

_CONFIG = "config.json"
_PART = 4096
_N_PARTS = 1024
"""Parts of a weight file that are looked at, evenly spaced; a file of no more is read whole."""


def weights_mark(source: str | Path, revision: str | None = None) -> str:
    """Of a hub id, the commit it stands for here; of a folder, a hash of its config and weights.

    Of a large file a sample of 4 MiB is hashed: training changes weights everywhere.

    Raises:
        MissingDataError: if there is no such model here or on the hub.
    """
    folder = Path(source)
    if folder.is_dir():
        return _mark([folder / _CONFIG, *sorted(folder.glob("*.safetensors"))])
    from transformers.utils import cached_file

    try:
        found = cached_file(str(source), _CONFIG, revision=revision)
    except OSError as error:
        raise MissingDataError(
            f"base model {str(source)!r} was found neither as a local folder nor on the Hugging "
            f"Face hub ({str(error).splitlines()[0]})"
        ) from error
    return Path(str(found)).parent.name  # snapshots/<commit>/config.json


def adapter_mark(folder: Path) -> str:
    """A hash of the config and the weights of an adapter's folder, taken as `weights_mark` does."""
    names = ("adapter_config.json", "astraios.json", _CONFIG)
    weights = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    return _mark([*(folder / name for name in names), *sorted(weights)])


def _mark(files: Iterable[Path]) -> str:
    whole = sha256()
    for path in files:
        if path.is_file():
            whole.update(f"{path.name} {_hash(path)}\n".encode())
    return whole.hexdigest()[:16]


def _hash(path: Path) -> str:
    size = path.stat().st_size
    n_parts = min(_N_PARTS, -(-size // _PART))
    hashed = sha256(str(size).encode())
    with readable(path) as file:
        for part in range(n_parts):
            file.seek((size - _PART) * part // (n_parts - 1) if n_parts > 1 else 0)
            hashed.update(file.read(_PART))
    return hashed.hexdigest()
