"""Keys, tokens, passwords in addresses, e-mail addresses and public IPv4 addresses in a text.

Patterns of our own, each of a form that its issuer documents and that prose and code do not take by
chance. `detect-secrets` finds more by entropy and by words such as `password =`; on instruction
records most of that is not secret (digests, examples), and a filter that drops rows has to be one
whose every hit can be explained.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Literal

Kind = Literal["secret", "email", "address"]

_B = r"(?<![A-Za-z0-9_-])"
_E = r"(?![A-Za-z0-9_-])"
_ESCAPED = r"\\{1,4}[nrt]"
"""An end of line as JSON and strings in code write it, or such a string within another."""

SECRETS = MappingProxyType(
    {
        "private key": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
        rf"(?:\s|{_ESCAPED})*(?:[A-Za-z0-9+/=:,\s-]|{_ESCAPED}){{40}}",
        "AWS access key": rf"{_B}(?:AKIA|ASIA)[A-Z2-7]{{16}}{_E}",
        "AWS secret key": r"(?i:aws.{0,20}?secret.{0,20}?)[=:]\s*[\"']?[A-Za-z0-9/+]{40}"
        r"(?![A-Za-z0-9/+=])",
        "GitHub token": rf"{_B}(?:gh[pousr]_[A-Za-z0-9]{{36,}}|github_pat_[A-Za-z0-9_]{{60,}}){_E}",
        "GitLab token": rf"{_B}gl(?:pat|dt|rt|ptt)-[A-Za-z0-9_-]{{20,}}{_E}",
        "Google API key": rf"{_B}AIza[A-Za-z0-9_-]{{35}}{_E}",
        "Google OAuth secret": rf"{_B}GOCSPX-[A-Za-z0-9_-]{{28}}{_E}",
        "Hugging Face token": rf"{_B}hf_[A-Za-z]{{34}}{_E}",
        "npm token": rf"{_B}npm_[A-Za-z0-9]{{36}}{_E}",
        "OpenAI or Anthropic key": rf"{_B}sk-(?:proj-|svcacct-|ant-(?:api|admin)\d\d-)?"
        rf"(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{{40,}}{_E}",
        "PyPI token": rf"{_B}pypi-AgE[A-Za-z0-9_-]{{50,}}{_E}",
        "SendGrid key": rf"{_B}SG\.[A-Za-z0-9_-]{{22}}\.[A-Za-z0-9_-]{{43}}{_E}",
        "Slack token": rf"{_B}xox[abeoprs]-(?:\d+-)+[A-Za-z0-9-]{{10,}}{_E}",
        "Slack webhook": r"https://hooks\.slack\.com/services/T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/"
        r"[A-Za-z0-9]{20,}",
        "Stripe key": rf"{_B}(?:sk|rk)_live_[A-Za-z0-9]{{20,}}{_E}",
        "Azure storage key": r"AccountKey=[A-Za-z0-9+/]{86}==",
        "JSON web token": rf"{_B}eyJ[A-Za-z0-9_-]{{10,}}\.eyJ[A-Za-z0-9_-]{{10,}}\."
        rf"[A-Za-z0-9_-]{{20,}}{_E}",
        "password in an address": r"(?i:\b[a-z][a-z0-9+.-]{2,20}://)[^\s:/@\"'<>{}$%\[\]]{1,64}:"
        r"(?!(?i:pass|password|passwd|pwd|secret|x+|\*+)@)[^\s/@\"'<>{}$%\[\]]{3,64}@"
        r"(?!(?i:localhost|127\.0\.0\.1|host\b|example|[\w.-]+\.example))[\w.-]+",
    }
)
"""Name -> pattern of what gives access to something."""

EXAMPLE_DOMAINS = frozenset(
    {
        "example.com", "example.net", "example.org", "example.edu", "domain.com", "email.com",
        "localhost.localdomain", "users.noreply.github.com", "noreply.github.com",
    }
)  # fmt: skip
"""Domains of e-mail addresses that belong to nobody, their subdomains included (RFC 2606, and what
is used in its place)."""
ACCOUNTS = frozenset({"git", "hg", "svn"})
"""Local parts that are a server's account, as in `git@host:owner/name`, and nobody's."""
FILE_ENDINGS = frozenset(
    {
        "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "js", "ts", "mjs", "css", "json", "html",
        "tgz", "gz", "zip", "tar", "whl", "jar",
    }
)  # fmt: skip
"""Ends of names of files and packages, such as `icon@2x.png`."""
EXAMPLE_ENDINGS = (".example", ".test", ".invalid", ".localhost", ".local")
_EMAIL = re.compile(
    r"(?<![\w.+-])(?<!://)(?P<local>\w[\w.+-]{0,63})@"
    r"(?P<domain>(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24})"
    r"(?![\w-]|\.\w)",
    re.ASCII,
)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)", re.ASCII)
_COMPILED = MappingProxyType({name: re.compile(pattern) for name, pattern in SECRETS.items()})
_HINTS = re.compile(
    r"PRIVATE KEY|AKIA|ASIA|(?i:aws)|gh[pousr]_|github_pat_|gl(?:pat|dt|rt|ptt)-|AIza|GOCSPX|hf_"
    r"|npm_|sk-|pypi-|SG\.|xox|hooks\.slack|_live_|AccountKey|eyJ|://"
)
"""One of these is in whatever a pattern finds: most texts are searched once, not twenty times."""


@dataclass(frozen=True)
class Found:
    """Something in a text; never what it is, so that a report gives nothing away."""

    kind: Kind
    name: str
    at: int
    """Its first character, counted from 0."""


def scan(text: str) -> Iterator[Found]:
    """What is found in a text: secrets, then e-mail addresses, then public IPv4 addresses."""
    if _HINTS.search(text):
        for name, pattern in _COMPILED.items():
            for match in pattern.finditer(text):
                yield Found("secret", name, match.start())
    if "@" in text:
        for match in _EMAIL.finditer(text):
            if not _is_nobody(match["local"].lower(), match["domain"].lower()):
                yield Found("email", "e-mail address", match.start())
    for match in _IPV4.finditer(text):
        if _is_public(match.group()):
            yield Found("address", "public IPv4 address", match.start())


def _is_nobody(local: str, domain: str) -> bool:
    return (
        local in ACCOUNTS
        or domain.rpartition(".")[2] in FILE_ENDINGS
        or domain.endswith(EXAMPLE_ENDINGS)
        or any(domain == example or domain.endswith("." + example) for example in EXAMPLE_DOMAINS)
    )


def _is_public(text: str) -> bool:
    try:
        address = IPv4Address(text)
    except ValueError:  # a number above 255, or a leading zero: a version, not an address
        return False
    return address.is_global and not address.is_multicast
