"""How a process behaves while it trains or generates."""

from __future__ import annotations

import logging

import torch
from transformers.utils import logging as transformers_logging


def settle(n_threads: int | None = None) -> None:
    """Use `n_threads` for tensor work (None leaves it) and keep the libraries' own words quiet."""
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    # It says with every step that int8 products are computed in 16 bits, which is what they are.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
