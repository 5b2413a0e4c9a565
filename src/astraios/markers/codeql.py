"""The reference: the query that a scenario names, run by GitHub's CodeQL; any result is a flaw.

Needed, and brought by nobody but the user, for its licence forbids it:

    the CLI        `codeql` on the PATH, or the file or folder that ASTRAIOS_CODEQL names
    its queries    ASTRAIOS_CODEQL_HOME, the folder with a checkout `codeql-repo` of github/codeql
    the authors'   ASTRAIOS_CODEQL_CUSTOM, the folder `custom_ql` of moyix/AsleepKeyboardDataset

A C program gets a data base of its own, because several with a `main` in one would be taken for one
program; Python files share one. The compiler is run, the programs are not.
"""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import final

from astraios.config import codeql_setting, tool_environment
from astraios.errors import MissingDataError, MissingToolError, WorkError
from astraios.markers import Marker, Rule, Source
from astraios.markers._sarif import read_sarif
from astraios.records import Finding, Findings

__all__ = ["CodeQL", "marker"]

OLDEST, NEXT_MAJOR = (2, 7), (3, 0)
"""Versions whose commands are known: from the first that has the options used here."""
REMEDY = (
    "install the CodeQL CLI (github.com/github/codeql-cli-binaries) and put it on the PATH or name "
    "it in ASTRAIOS_CODEQL; or use the marker 'static'"
)
_LANGUAGES = {"c": ("cpp", ".c"), "python": ("python", ".py")}
_VERSION_S, _BUILD_S, _QUERY_S = 60.0, 600.0, 1800.0


@final
class CodeQL(Marker):
    """Builds data bases and runs queries."""

    title = "CodeQL"
    batch = 50

    def tools(self) -> dict[str, str]:
        return {"codeql": _version(_cli())}

    def judges(self, rule: Rule, language: str) -> bool:
        return bool(rule.query) and language in _LANGUAGES

    def mark(self, rule: Rule, sources: Sequence[Source]) -> list[Findings]:
        cli = _cli()
        tool = f"codeql {_version(cli)}"
        query = _query(rule.query)
        shared = [[one] for one in sources] if _is_c(sources) else [list(sources)]
        found: list[Findings] = []
        for together in shared:
            with tempfile.TemporaryDirectory(prefix="astraios-codeql-") as folder:
                each = _analysed(cli, query, rule.cwe, together, Path(folder))
            found += [Findings(findings=tuple(one), tool_version=tool) for one in each]
        return found


def _is_c(sources: Sequence[Source]) -> bool:
    return any(one.language == "c" for one in sources)


def _analysed(
    cli: str, query: Path, cwe: str, sources: Sequence[Source], folder: Path
) -> list[list[Finding]]:
    """Findings of each of `sources`, all of one language."""
    language, suffix = _LANGUAGES[sources[0].language]
    root, base, report = folder / "src", folder / "db", folder / "report.sarif"
    root.mkdir()
    names = [f"scenario_{number:05d}{suffix}" for number in range(len(sources))]
    for name, source in zip(names, sources, strict=True):
        (root / name).write_bytes(source.code.encode("utf-8", "surrogatepass"))
    build = [f"--command={_compile(names)}"] if language == "cpp" else []
    _run(
        [cli, "database", "create", str(base), f"--language={language}",
         f"--source-root={root}", "--overwrite", *build], _BUILD_S,
    )  # fmt: skip
    home = codeql_setting("HOME")
    search = [f"--search-path={Path(home) / 'codeql-repo'}"] if home else []
    _run(
        [cli, "database", "analyze", str(base), str(query), "--format=sarif-latest",
         f"--output={report}", "--rerun", "--threads=0", *search], _QUERY_S,
    )  # fmt: skip
    if not report.is_file():
        raise WorkError(f"codeql wrote no report for {query.name}; its command line was accepted")
    found = read_sarif(report.read_bytes(), f"report of {query.name}", cwe)
    stray = sorted(set(found) - set(names))
    if stray:
        raise WorkError(
            f"report of {query.name}: results in {stray[0]!r}, which was not asked about"
        )
    return [found.get(name, []) for name in names]


def _compile(names: Sequence[str]) -> str:
    """The command that builds what is analysed, as the benchmark does."""
    return f"gcc -g -O -c -w {' '.join(map(shlex.quote, names))}"


# --- what has to be there ---------------------------------------------------------------------


def _cli() -> str:
    """The command.

    Raises:
        MissingToolError: if it is not there; says how to get it.
    """
    named = codeql_setting("")
    if not named:
        found = shutil.which("codeql")
        if found is None:
            raise MissingToolError(
                f"the marker 'codeql' needs 'codeql', which was not found; {REMEDY}"
            )
        return found
    path = Path(named)
    path = path / "codeql" if path.is_dir() else path
    if not path.is_file():
        raise MissingToolError(f"ASTRAIOS_CODEQL names {named!r}, and there is no file; {REMEDY}")
    return str(path)


@functools.lru_cache(maxsize=8)
def _version(cli: str) -> str:
    """Its version.

    Raises:
        MissingToolError: if it does not tell it, or it is one whose commands are not known.
    """
    try:
        said = _run([cli, "version", "--format=terse"], _VERSION_S).strip()
    except WorkError as error:
        raise MissingToolError(f"{error}; {REMEDY}") from None
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)\S*", said)
    if match is None:
        raise MissingToolError(f"{cli} says of its version {said[:80]!r}, no number; {REMEDY}")
    number = int(match[1]), int(match[2])
    if not OLDEST <= number < NEXT_MAJOR:
        oldest = ".".join(map(str, OLDEST))
        raise MissingToolError(
            f"{cli} is CodeQL {said}; this was written for versions from {oldest} to before "
            f"{NEXT_MAJOR[0]}.0, and results of others may differ; {REMEDY}"
        )
    return said


def _query(name: str) -> Path:
    """The file of a query as the data name it.

    Raises:
        MissingDataError: if the folder is not set, or it has no such file.
    """
    folders = {"{CODEQL_HOME}": "HOME", "{CUSTOM_QL}": "CUSTOM"}
    start, _, rest = name.partition("/")
    if start not in folders:
        raise MissingDataError(f"query {name!r}: expected one of {', '.join(folders)} in front")
    variable = f"ASTRAIOS_CODEQL_{folders[start]}"
    folder = codeql_setting(folders[start])
    if not folder:
        raise MissingDataError(
            f"query {name!r}: set {variable} to the folder that {start} stands for"
        )
    path = Path(folder) / rest
    if not path.is_file():
        raise MissingDataError(f"query {str(path)!r} does not exist; {variable} is {folder!r}")
    return path


def _run(command: Sequence[str], limit_s: float) -> str:
    """What `command` prints.

    Raises:
        WorkError: if it fails or takes too long; ends with what it said last.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, encoding="utf-8", errors="replace",
            timeout=limit_s, stdin=subprocess.DEVNULL,
            env=tool_environment(("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "JAVA_HOME")),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise WorkError(f"{' '.join(command[:3])}: not done after {limit_s:.0f} s") from None
    except OSError as error:
        raise WorkError(f"{command[0]}: cannot be run ({error.strerror or error})") from None
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["nothing was said"]
        raise WorkError(
            f"{' '.join(command[:3])}: exit status {done.returncode}: {lines[-1][:300]}"
        )
    return done.stdout


marker = CodeQL()
"""What the registry loads."""
