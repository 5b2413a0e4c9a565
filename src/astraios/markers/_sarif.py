"""Findings in SARIF 2.1.0, the format that analysers report in (OASIS standard, 2020).

Only what decides is read: `runs[].results[]` with `ruleId`, `message.text` and the first location.
A result that its tool marks as suppressed, or as anything but a failure, is none.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from astraios.errors import WorkError
from astraios.records import Finding

__all__ = ["read_sarif"]

VERSION = "2.1.0"


def read_sarif(text: bytes, where: str, cwe: str) -> dict[str, list[Finding]]:
    """File name, without folders -> its findings in the order of lines.

    Args:
        text: the report.
        where: what to call it in messages.
        cwe: the weakness that was looked for.

    Raises:
        WorkError: if it is no report of this version, or says that the tool failed.
    """
    report = _parsed(text, where)
    found: dict[str, list[Finding]] = defaultdict(list)
    runs = report.get("runs")
    if not isinstance(runs, list) or not runs:
        raise WorkError(f"{where}: no 'runs' in the report; the analysis did not finish")
    for run in runs:
        _refuse_failed(run, where)
        for result in _results(run, where):
            finding = _finding(result, where, cwe)
            found[finding.file].append(finding)
    return {name: sorted(own, key=lambda one: (one.line, one.rule)) for name, own in found.items()}


def _parsed(text: bytes, where: str) -> dict[str, Any]:
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WorkError(f"{where}: not JSON ({error}); the analysis did not finish") from None
    if not isinstance(report, dict):
        raise WorkError(f"{where}: expected a SARIF report, found {type(report).__name__}")
    if report.get("version") != VERSION:
        raise WorkError(f"{where}: SARIF {report.get('version')!r}, expected {VERSION}")
    return report


def _refuse_failed(run: Any, where: str) -> None:
    if not isinstance(run, dict):
        raise WorkError(f"{where}: a run that is no object")
    for invocation in run.get("invocations") or []:
        if invocation.get("executionSuccessful") is False:
            notes = invocation.get("toolExecutionNotifications") or [{}]
            said = notes[0].get("message", {}).get("text", "")
            raise WorkError(f"{where}: the tool says that it failed: {said[:300]}")


def _results(run: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    results = run.get("results")
    if not isinstance(results, list):
        raise WorkError(f"{where}: a run without 'results'; the analysis did not finish")
    for result in results:
        is_failure = result.get("kind", "fail") == "fail"
        if is_failure and not result.get("suppressions"):
            yield result


def _finding(result: dict[str, Any], where: str, cwe: str) -> Finding:
    rule = result.get("ruleId") or (result.get("rule") or {}).get("id")
    try:
        place = result["locations"][0]["physicalLocation"]
        uri = str(place["artifactLocation"]["uri"])
        line = int(place.get("region", {}).get("startLine", 1))
    except (KeyError, IndexError, TypeError, ValueError):
        raise WorkError(f"{where}: a result of {rule!r} does not say where it is") from None
    return Finding(
        rule=str(rule or ""),
        cwe=cwe,
        file=PurePosixPath(uri).name,
        line=line,
        message=str(result.get("message", {}).get("text", "")),
    )
