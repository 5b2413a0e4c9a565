"""Rust: cargo's two calls for each program, ours, and the floor below both.

cargo           `cargo check` and `cargo test --bin test` as the BigCode metric runs them, offline,
                in a package whose crates are compiled already; each program replaces `src/test.rs`.
                The crate rand is our stand-in (the metric pins 0.4, which no distribution has)
rustc --test    the one call of the compiler inside `cargo test`, and the harness it makes
ours            the sandbox; passes are not checked twice
ours, control   the same, and each pass must fail tests that nothing can pass
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from _measuring import Judge, ours, references, take_turns, without_long

from astraios.languages._rust_programs import REGISTRY
from astraios.languages.rust import language
from astraios.records import Program

PACKAGE = """\
[package]
name = "plain"
version = "0.1.0"
edition = "2021"

[[bin]]
name = "test"
path = "src/test.rs"

[dependencies]
rand = { path = "rand" }
regex = { version = "1", default-features = false, features = ["std", "unicode"] }
md5 = "0.7"
"""
OFFLINE = f"""\
[source.crates-io]
replace-with = "packaged"
[source.packaged]
directory = "{REGISTRY}"
"""


def measure(n: int) -> list[dict[str, Any]]:
    """A row for each way of judging `n` references, right and wrong ones."""
    programs = without_long(references("rust", n))
    with ExitStack() as stack:
        arms: dict[str, Judge] = {
            "cargo": stack.enter_context(cargo()),
            "rustc --test": rustc,
            "ours": stack.enter_context(ours(control=False)),
            "ours, control": stack.enter_context(ours(control=True)),
        }
        return take_turns(arms, programs)


def text_of(program: Program) -> str:
    return f"{program.code}\n{program.tests}"


@contextmanager
def cargo() -> Iterator[Judge]:
    """One package for all programs, as a metric that reuses its folder would have."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "src").mkdir()
        (home / ".cargo").mkdir()
        (home / ".cargo/config.toml").write_text(OFFLINE)
        (home / "Cargo.toml").write_text(PACKAGE)
        with resources.as_file(
            resources.files("astraios.languages").joinpath("drivers/rust")
        ) as driver:
            shutil.copytree(driver, home / "rand")

        def judge(programs: Sequence[Program]) -> list[bool]:
            passed = []
            for program in programs:
                (home / "src/test.rs").write_text(text_of(program))
                passed.append(
                    _goes_well(["cargo", "check", "--offline"], home)
                    and _goes_well(["cargo", "test", "--offline", "--bin", "test"], home)
                )
            return passed

        yield judge


def rustc(programs: Sequence[Program]) -> list[bool]:
    """Compile with the test harness of Rust, run, look at the status."""
    made = dict(language.recipe().folders)["made"]
    options = [
        "--edition=2021", "--test", "-Awarnings", "-Cembed-bitcode=no", "-Cdebuginfo=2",
        f"--extern=rand={made}/librand.rlib", f"--extern=regex={made}/libregex.rlib",
        f"--extern=md5={made}/libmd5.rlib", f"-Ldependency={made}/deps", "-Cprefer-dynamic",
        "-o", "test", "test.rs",
    ]  # fmt: skip
    environment = {"LD_LIBRARY_PATH": f"{made}:{dict(language.recipe().folders)['libraries']}"}
    passed = []
    for program in programs:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "test.rs").write_text(text_of(program))
            passed.append(
                _goes_well(["rustc", *options], Path(folder))
                and _goes_well(["./test"], Path(folder), **environment)
            )
    return passed


def _goes_well(command: Sequence[str], folder: Path, **environment: str) -> bool:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    return done.returncode == 0
