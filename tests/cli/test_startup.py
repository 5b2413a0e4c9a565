"""What the command line imports before it works: nothing heavy for help and for lists."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "peft", "pandas", "polars", "scipy", "matplotlib", "libcst")

ASK = """
import json, sys
from astraios.cli import main
sys.argv = ["astraios", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
sys.stderr.write(json.dumps(sorted(sys.modules)))
"""


def imported(*words: str) -> tuple[str, set[str]]:
    """What `astraios WORDS` prints, and the modules that are there at its end."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, *words], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout, set(json.loads(done.stderr))


@pytest.mark.parametrize(
    ("words", "shown"),
    [(("--help",), "import-outputs"), (("list",), "starcoder"), (("study", "--help"), "resume")],
    ids=["help", "list", "study-help"],
)
def test_help_and_lists_import_nothing_heavy(words: tuple[str, ...], shown: str) -> None:
    printed, modules = imported(*words)
    assert shown in printed
    assert not modules & set(HEAVY)


def test_help_reads_no_config_and_no_record() -> None:
    _, modules = imported("--help")
    assert not modules & {"pydantic", "yaml", "numpy", "astraios.records", "astraios.config"}
