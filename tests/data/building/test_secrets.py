"""What counts as a secret, an e-mail address, a public address; and what only looks like one.

The keys below are made up: each has the form of its kind and opens nothing. They are put together
here, so that nobody's scanner takes this file for a leak.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.data.building.secrets import SECRETS, scan

A = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0"


def join(*parts):
    return "".join(parts)


FORMS = {
    "private key": join("-----BEGIN RSA PRIV", "ATE KEY-----\nMIIEowIBAAKCAQEA", A * 2, "\n"),
    "AWS access key": join("AK", "IAQ2W3E4R5T6Y7U2I3"),
    "AWS secret key": join("aws_secret_access_key = ", A),
    "GitHub token": join("gh", "p_", A[:36]),
    "GitLab token": join("glp", "at-", A[:20]),
    "Google API key": join("AI", "za", A[:35]),
    "Google OAuth secret": join("GOC", "SPX-", A[:28]),
    "Hugging Face token": join("h", "f_", "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH"),
    "npm token": join("np", "m_", A[:36]),
    "OpenAI or Anthropic key": join("s", "k-proj-", A, A),
    "PyPI token": join("py", "pi-AgEIcHlwaS5vcmc", A, A),
    "SendGrid key": join("S", "G.", A[:22], ".", A, A[:3]),
    "Slack token": join("xo", "xb-1234567890-1234567890-", A[:24]),
    "Slack webhook": join("https://hooks.sl", "ack.com/services/T0ABCDEFG/B0ABCDEFG/", A[:24]),
    "Stripe key": join("sk_li", "ve_", A[:24]),
    "Azure storage key": join("Account", "Key=", A, A, A[:6], "=="),
    "JSON web token": join("eyJ", A[:20], ".eyJ", A[:30], ".", A[:27]),
    "password in an address": join("postgres://admin:", "s3cr3tw0rd@db.inside.net/main"),
}


def names(text):
    return [found.name for found in scan(text)]


def test_every_form_has_a_case():
    assert FORMS.keys() == SECRETS.keys()


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("around", ["{}", 'key = "{}"\n', "use {} now", "({})", "é {}."])
def test_a_form_is_found_where_it_stands(name, around):
    text = around.format(FORMS[name])
    (found,) = (f for f in scan(text) if f.kind == "secret")
    assert found.name == name
    assert text[found.at :].startswith(FORMS[name][:4])


@pytest.mark.parametrize("end", ["\\n", "\\r\\n", "\\\\n", "\n    "])
@pytest.mark.parametrize("n_first", [10, 64])
def test_a_private_key_is_found_whatever_its_lines_end_in(end, n_first):
    key = join("-----BEGIN PRIV", "ATE KEY-----", end, A[:n_first], end, A, end, "-----END")
    assert names(f'{{"private_key": "{key}"}}') == ["private key"]


@pytest.mark.parametrize(
    "text",
    [
        "sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "task-force-sk-learn-estimator-with-a-long-hyphenated-name-in-it-and-more",
        "password = 'hunter2'",
        "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\\n...\\n-----END PRIVATE KEY-----",
        "ghp_short",
        "hf_hub_download(repo_id='owner/name', filename='config.json')",
        "npm_config_registry=https://registry.example/",
        "postgres://user:password@localhost/db",
        "postgres://{user}:{password}@{host}/db",
        "https://host.domain:8080/path@2",
        "git+ssh://git@github.com/owner/name",
        "eyJhbGciOiJIUzI1NiJ9",
        "AKIA is how they begin",
    ],
)
def test_what_opens_nothing_is_left_alone(text):
    assert not [found for found in scan(text) if found.kind == "secret"]


@pytest.mark.parametrize(
    "text",
    [
        "ada@lovelace.org", "Mail <grace.hopper+navy@ships.navy.mil>.", "mailto:x_y@sub.do-main.io",
        "_bob@acme.com", "/bob@acme.com", "//bob@acme.com", "digit@acme.com", "bob@js.acme.com",
    ],
)  # fmt: skip
def test_addresses_of_people_are_found(text):
    assert names(text) == ["e-mail address"]


@pytest.mark.parametrize(
    "text",
    [
        "ada@example.com", "a@mail.example.org", "x@y.test", "me@localhost", "@decorator.name",
        "12345+ada@users.noreply.github.com", "a @ b.c", "matrix @ other.T", "user@host",
        "git@v1.2.3", "pkg@1.0.0", "@media screen.and", "root@10.0.0.1",
        "git@github.com:user/repo.git", "ssh -T git@github.com", "hg@bitbucket.org:a/b",
        "git+ssh://git@github.com/a/b", "ssh://deploy@host.acme.com/a", "icon@2x.png",
        "img/Icon@2x.PNG", "pkg@npm.js", "foo@1.2.3.tgz", "https://cdn.acme.com/npm/a@next.min.js",
    ],
)  # fmt: skip
def test_addresses_of_nobody_are_not(text):
    assert "e-mail address" not in names(text)


@pytest.mark.parametrize("text", ["93.184.216.34", "http://8.8.8.8:80/"])
def test_public_addresses_are_found(text):
    assert names(text) == ["public IPv4 address"]


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "10.1.2.3", "192.168.1.1", "203.0.113.9", "0.0.0.0", "300.1.2.3", "1.2.3.4.5",
     "v1.2.3.4", "224.0.0.1", "1.02.3.4"],
)  # fmt: skip
def test_private_addresses_and_versions_are_not(text):
    assert not names(text)


@given(st.text())
def test_any_text_can_be_searched(text):
    for found in scan(text):
        assert 0 <= found.at < len(text)


@pytest.mark.parametrize(
    "text",
    [
        "a@" * 20_000, "a." * 20_000 + "@", "a" * 50_000 + "@", "aws" * 20_000, "x://" * 20_000,
        "-----BEGIN " + "A " * 30_000,
        "-----BEGIN PRIVATE KEY-----" + "\\n" * 30_000 + ".",
        "xoxb-" + "1-" * 30_000, "1." * 30_000, "a@" + "b." * 30_000,
        "sk-" + "a-" * 30_000, "://a:" * 10_000 + "@",
    ],
)  # fmt: skip
def test_no_text_takes_long(text):
    list(scan(text))  # a pattern that tries every way would not end
