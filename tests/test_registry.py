"""Parts are found by file name or entry point, and listing imports nothing."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import PathDistribution
from itertools import count

import pytest

from astraios import registry
from astraios.errors import ConfigError, UnknownNameError

serial = count()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Write files below a folder on the import path; `install.package(...)` makes a package."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        importlib.invalidate_caches()

    return write


@pytest.fixture
def package(install):
    """A package of two parts, `oak` and `yew`, a shared module and a package as third part."""
    name = f"fakeparts{next(serial)}"
    install(f"{name}/__init__.py", "")
    install(f"{name}/oak.py", "tree = 'an oak'")
    install(f"{name}/yew.py", "tree = 'a yew'")
    install(f"{name}/_bark.py", "raise RuntimeError('imported')")
    install(f"{name}/ash/__init__.py", "tree = 'an ash'")
    install(f"{name}/notes.txt", "")
    return importlib.import_module(name)


def claim(install, package, project, *points):
    """Install a project with entry points for `package`."""
    lines = "\n".join(points)
    install(f"{project}-1.0.dist-info/METADATA", f"Name: {project}\nVersion: 1.0\n")
    install(f"{project}-1.0.dist-info/entry_points.txt", f"[{package.__name__}]\n{lines}\n")


def test_names_are_the_public_modules_in_order(package):
    assert registry.names(package) == ("ash", "oak", "yew")


def test_listing_imports_nothing(package):
    registry.names(package)
    assert not [name for name in sys.modules if name.startswith(f"{package.__name__}.")]


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ('# Licence: MIT\n\n"""An elm.\n\nIt grows."""\n1 / 0', "An elm."),
        ('"""\nAn elm, é.\n"""', "An elm, é."),
        ("r'An \\elm.'", "An \\elm."),
        ("import os", ""),
        ("", ""),
    ],
)
def test_summary_is_the_first_line_of_the_docstring(package, install, text, summary):
    install(f"{package.__name__}/elm.py", text)
    assert registry.summary(package, "elm") == summary
    assert f"{package.__name__}.elm" not in sys.modules


def test_load_returns_what_the_module_exports(package):
    assert registry.load(package, "tree", "oak") == "an oak"


def test_load_imports_only_the_part_asked_for(package):
    registry.load(package, "tree", "oak")
    assert f"{package.__name__}.yew" not in sys.modules


def test_unknown_part_is_refused_with_the_nearest_name(package):
    with pytest.raises(UnknownNameError, match=r"unknown tree 'oaks'.*Did you mean 'oak'\?"):
        registry.load(package, "tree", "oaks")


@pytest.mark.parametrize("name", ["_bark", "", "oak.py", "../oak", "__init__"])
def test_what_is_not_a_public_module_is_no_part(package, name):
    with pytest.raises(UnknownNameError):
        registry.load(package, "tree", name)


def test_part_of_another_project_is_listed_and_loaded(package, install):
    install("forester.py", "elm = 'an elm'")
    claim(install, package, "forestry", "elm = forester:elm")
    assert registry.names(package) == ("ash", "elm", "oak", "yew")
    assert registry.load(package, "tree", "elm") == "an elm"


@pytest.mark.parametrize(
    ("text", "point", "why"),
    [
        ("1 / 0", "forester:elm", "ZeroDivisionError: division by zero"),
        ("import forester_notes", "forester:elm", "ImportError"),
        ("", "forester:elm", "'elm'"),
        ("", "forester", "'tree'"),
        ("", "forester.gone:elm", "'forester"),
    ],
)
def test_broken_part_of_another_project_is_named_with_its_project(
    package, install, monkeypatch, text, point, why
):
    monkeypatch.delitem(sys.modules, "forester", raising=False)
    install("forester_notes.py", "raise ImportError('nothing here')")
    install("forester.py", text)
    claim(install, package, "forestry", f"elm = {point}")
    with pytest.raises(ConfigError, match=f"'elm' .* of forestry, .*{why}.*uninstall forestry"):
        registry.load(package, "tree", "elm")


@pytest.mark.parametrize(
    ("text", "expected", "why"),
    [
        ("elm = 3", str, "is 3, and a str is expected"),
        ("elm = str", str, "is <class 'str'>, and a str is expected"),
        ("elm = 'x'", type[Exception], "is 'x', and a class derived from Exception is expected"),
        ("elm = int", type[Exception], "and a class derived from Exception is expected"),
    ],
)
def test_part_of_another_project_of_the_wrong_type_is_named_with_what_is_expected(
    package, install, monkeypatch, text, expected, why
):
    monkeypatch.delitem(sys.modules, "forester", raising=False)
    install("forester.py", text)
    claim(install, package, "forestry", "elm = forester:elm")
    with pytest.raises(ConfigError, match=f"'elm' .* of forestry, which .*{why}; .*uninstall fore"):
        registry.load(package, "tree", "elm", expected)


def test_library_that_a_part_of_another_project_needs_is_told_as_of_ours(
    package, install, monkeypatch
):
    monkeypatch.delitem(sys.modules, "forester", raising=False)
    install("forester.py", "import no_such_library")
    claim(install, package, "forestry", "elm = forester:elm")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        registry.load(package, "tree", "elm")


def test_project_that_is_installed_while_we_run_is_found(package, install, tmp_path):
    for folder in (tmp_path, tmp_path / package.__name__):
        os.utime(folder, (0, 0))  # clocks of file systems tick slowly
    assert registry.names(package) == ("ash", "oak", "yew")
    claim(install, package, "forestry", "elm = forester:elm")
    install(f"{package.__name__}/fir.py", "tree = 'a fir'")
    assert registry.names(package) == ("ash", "elm", "fir", "oak", "yew")


def test_what_is_installed_is_read_once(package, install, monkeypatch):
    claim(install, package, "forestry", "elm = forester:elm")
    registry.names(package)
    monkeypatch.setattr(PathDistribution, "read_text", lambda *_: pytest.fail("read again"))
    assert registry.names(package) == ("ash", "elm", "oak", "yew")


def test_entry_point_may_not_take_the_name_of_a_part(package, install):
    claim(install, package, "forestry", "oak = forester:elm")
    with pytest.raises(ConfigError, match="'oak' is both built in and the entry point 'forester:"):
        registry.names(package)


def test_two_projects_may_not_claim_one_name(package, install):
    claim(install, package, "forestry", "elm = forester:elm")
    claim(install, package, "gardening", "elm = gardener:elm")
    with pytest.raises(ConfigError, match="'elm' is the entry point of two installed projects"):
        registry.names(package)
