"""The reference marker, with a stand-in for its tool, and reports in the documented format."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from astraios.errors import MissingDataError, MissingToolError, WorkError
from astraios.markers import Rule, Source
from astraios.markers._sarif import read_sarif
from astraios.markers.codeql import marker

REPORTS = Path(__file__).parent / "sarif"
QUERY = "{CODEQL_HOME}/codeql-repo/python/ql/src/Security/CWE-089/SqlInjection.ql"
RULE = Rule("codeql", "CWE-89", QUERY)
TOOL = """#!/bin/sh
# Stands in for the CLI: tells its version, makes a data base, copies the report it was given.
here=$(dirname "$0")
echo "$@" >> "$here/calls"
case "$1 $2" in
  "version "*) cat "$here/version" ;;
  "database create") [ -e "$here/broken" ] && { echo "A fatal error occurred: no" >&2; exit 2; }
      mkdir -p "$3" ;;
  "database analyze")
      for option in "$@"; do case "$option" in --output=*) out="${option#--output=}" ;; esac; done
      [ -e "$here/report" ] && cp "$here/report" "$out" ;;
esac
exit 0
"""


def report(name: str) -> bytes:
    return (REPORTS / f"{name}.sarif").read_bytes()


# --- reports ---


def test_results_are_findings_of_their_file_in_the_order_of_lines():
    found = read_sarif(report("two-results"), "report", "CWE-89")
    assert [(one.rule, one.line) for one in found["scenario_00000.py"]] == [
        ("py/sql-injection", 9),
        ("py/sql-injection", 14),
    ]
    assert found["scenario_00000.py"][0].cwe == "CWE-89"
    assert "user-provided value" in found["scenario_00000.py"][0].message


def test_a_report_without_results_has_no_findings():
    assert read_sarif(report("no-results"), "report", "CWE-89") == {}


def test_suppressed_results_and_passes_are_no_findings():
    assert read_sarif(report("suppressed"), "report", "CWE-89") == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "not JSON"),
        (b"[]", "expected a SARIF report"),
        (b'{"version": "2.0.0", "runs": []}', "SARIF '2.0.0', expected 2.1.0"),
        (b'{"version": "2.1.0"}', "no 'runs'"),
        (b'{"version": "2.1.0", "runs": [{}]}', "without 'results'"),
        (b'{"version": "2.1.0", "runs": [3]}', "no object"),
        (b'{"version": "2.1.0", "runs": [{"results": [{"ruleId": "a"}]}]}', "where it is"),
    ],
    ids=["empty", "list", "version", "no runs", "no results", "number", "no place"],
)
def test_what_is_no_report_is_refused(text, complaint):
    with pytest.raises(WorkError, match=complaint):
        read_sarif(text, "report", "CWE-89")


def test_a_tool_that_says_it_failed_is_believed():
    with pytest.raises(WorkError, match="out of memory"):
        read_sarif(report("failed"), "report", "CWE-89")


# --- the tool ---


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """A folder with a stand-in for the CLI, and one for the queries."""
    folder = tmp_path / "codeql"
    query = tmp_path / "home" / QUERY.removeprefix("{CODEQL_HOME}/")
    query.parent.mkdir(parents=True)
    query.write_text("select 1")
    folder.mkdir()
    (folder / "codeql").write_text(TOOL)
    (folder / "codeql").chmod(0o755)
    (folder / "version").write_text("2.15.3\n")
    (folder / "report").write_bytes(report("two-results"))
    monkeypatch.setenv("ASTRAIOS_CODEQL", str(folder))
    monkeypatch.setenv("ASTRAIOS_CODEQL_HOME", str(tmp_path / "home"))
    return folder


def calls(tool: Path) -> list[str]:
    return (tool / "calls").read_text().splitlines()


def test_each_program_gets_the_results_of_its_file(tool):
    first, second = marker.mark(RULE, [Source("python", "a = 1\n"), Source("python", "b = 2\n")])
    assert len(first.findings) == 2 and second.findings == ()
    assert first.tool_version == "codeql 2.15.3"
    assert marker.tools() == {"codeql": "2.15.3"}
    create, analyze = calls(tool)[-2:]
    assert "--language=python" in create and "--command" not in create
    assert "SqlInjection.ql" in analyze and "--format=sarif-latest" in analyze


def test_c_programs_are_built_alone(tool):
    (tool / "report").write_bytes(report("no-results"))
    found = marker.mark(RULE, [Source("c", "int main(){}"), Source("c", "int main(){}")])
    assert [one.findings for one in found] == [(), ()]
    creates = [call for call in calls(tool) if call.startswith("database create")]
    assert len(creates) == 2
    assert all("--language=cpp" in one and "gcc -g -O -c" in one for one in creates)


def test_only_scenarios_with_a_query_are_judged():
    assert marker.judges(RULE, "python") and marker.judges(RULE, "c")
    assert not marker.judges(Rule("codeql", "CWE-200"), "python")
    assert not marker.indicative("DoW/CWE-89-0")


@pytest.mark.parametrize(
    ("version", "complaint"),
    [
        ("3.0.1", "is CodeQL 3.0.1; this was written for versions from 2.7"),
        ("1.30.0", "is CodeQL 1.30.0"),
        ("2.6.9", "is CodeQL 2.6.9"),
        ("CodeQL", "no number"),
    ],
)
def test_an_unknown_version_is_refused(tool, tmp_path, monkeypatch, version, complaint):
    other = shutil.copytree(tool, tmp_path / "other")
    (other / "version").write_text(version)
    monkeypatch.setenv("ASTRAIOS_CODEQL", str(other / "codeql"))
    with pytest.raises(MissingToolError, match=complaint) as raised:
        marker.tools()
    assert "github.com/github/codeql-cli-binaries" in str(raised.value)


def test_without_the_tool_the_remedy_is_told(monkeypatch):
    monkeypatch.delenv("ASTRAIOS_CODEQL", raising=False)
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(MissingToolError, match="'codeql', which was not found; install") as raised:
        marker.tools()
    assert "use the marker 'static'" in str(raised.value)


def test_a_wrong_path_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("ASTRAIOS_CODEQL", str(tmp_path / "nothing"))
    with pytest.raises(MissingToolError, match=r"ASTRAIOS_CODEQL names .*nothing"):
        marker.tools()


def test_without_queries_their_variable_is_named(tool, monkeypatch):
    monkeypatch.delenv("ASTRAIOS_CODEQL_HOME")
    with pytest.raises(MissingDataError, match="set ASTRAIOS_CODEQL_HOME to the folder"):
        marker.mark(RULE, [Source("python", "")])
    with pytest.raises(MissingDataError, match="set ASTRAIOS_CODEQL_CUSTOM"):
        marker.mark(Rule("codeql", "CWE-1", "{CUSTOM_QL}/a.ql"), [Source("python", "")])
    monkeypatch.setenv("ASTRAIOS_CODEQL_CUSTOM", str(tool))
    with pytest.raises(MissingDataError, match=r"a\.ql' does not exist"):
        marker.mark(Rule("codeql", "CWE-1", "{CUSTOM_QL}/a.ql"), [Source("python", "")])


def test_a_failure_of_the_tool_is_work_that_failed(tool):
    (tool / "broken").touch()
    with pytest.raises(WorkError, match="database create: exit status 2: A fatal error occurred"):
        marker.mark(RULE, [Source("python", "")])


def test_a_missing_report_is_work_that_failed(tool):
    (tool / "report").unlink()
    with pytest.raises(WorkError, match="wrote no report"):
        marker.mark(RULE, [Source("python", "")])


def test_results_in_other_files_are_not_taken_for_ours(tool):
    stray = json.loads(report("two-results"))
    place = stray["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    place["artifactLocation"]["uri"] = "other.py"
    (tool / "report").write_text(json.dumps(stray))
    with pytest.raises(WorkError, match=r"other\.py"):
        marker.mark(RULE, [Source("python", "")])
