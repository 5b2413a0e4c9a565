"""Checks of Python programs, by following data through the syntax tree."""

from __future__ import annotations

from astraios.markers._static import Check
from astraios.markers._static.python_html import html
from astraios.markers._static.python_injection import command, sql
from astraios.markers._static.python_paths import path
from astraios.markers._static.python_permissions import permissions
from astraios.markers._static.python_secrets import hard_coded, kept_badly
from astraios.markers._static.python_serialised import serialised
from astraios.markers._static.python_urls import url

CHECKS: dict[str, Check] = {
    "CWE-20": url,
    "CWE-22": path,
    "CWE-78": command,
    "CWE-79": html,
    "CWE-89": sql,
    "CWE-502": serialised,
    "CWE-522": kept_badly,
    "CWE-732": permissions,
    "CWE-798": hard_coded,
}
