"""From run folders to tables, figures and one HTML page.

    frames.py       sealed runs -> data frames; reading.py counts their verdicts
    comparison.py   data frames -> intervals and paired differences
    metrics/        one file per number beside a task's primary one
    views/          one file per table or figure
    answer.py       the one sentence a reader came for
    report.py       all of it as a folder one can publish

Reads run records only: no model, task or benchmark is ever loaded, and torch is not needed.
"""
