"""The exception tree: statuses, messages, standard parents."""

from __future__ import annotations

import inspect
import pickle

import pytest

from astraios import errors
from astraios.errors import AstraiosError, UnknownNameError, UsageError, WorkError, did_you_mean

ALL = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, AstraiosError)
]
LEAVES = [kind for kind in ALL if not kind.__subclasses__() and kind is not UnknownNameError]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_drawn_in_the_tree(kind):
    assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize("kind", LEAVES)
def test_every_leaf_says_who_can_mend_it(kind):
    assert issubclass(kind, UsageError) != issubclass(kind, WorkError)
    assert kind.exit_status == (2 if issubclass(kind, UsageError) else 1)


@pytest.mark.parametrize("kind", LEAVES)
def test_every_leaf_is_a_standard_error_too(kind):
    standard = [base for base in kind.__mro__ if base.__module__ == "builtins"]
    assert set(standard) - {Exception, BaseException, object}


@pytest.mark.parametrize("kind", LEAVES)
def test_message_is_printed_as_written(kind):
    assert str(kind("a 'quoted' message\nof two lines")) == "a 'quoted' message\nof two lines"


@pytest.mark.parametrize("kind", LEAVES)
def test_error_survives_the_way_between_processes(kind):
    back = pickle.loads(pickle.dumps(kind("what was seen")))  # noqa: S301 -- our own bytes
    assert (type(back), str(back)) == (kind, "what was seen")


def test_unknown_name_survives_the_way_between_processes():
    error = UnknownNameError("method", "lorra", ("ia3", "lora"))
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
    assert (type(back), str(back)) == (UnknownNameError, str(error))


def test_unknown_name_lists_all_and_suggests_the_nearest():
    message = str(UnknownNameError("method", "lorra", ("ia3", "lora")))
    assert message == "unknown method 'lorra'; known: ia3, lora. Did you mean 'lora'?"


def test_unknown_name_without_any_known_one_says_none():
    assert str(UnknownNameError("view", "x", ())) == "unknown view 'x'; known: none."


@pytest.mark.parametrize(("name", "known"), [("LoRA", "lora"), ("vllm", "vLLM")])
def test_case_does_not_hide_the_nearest_name(name, known):
    assert did_you_mean(name, ("ia3", known)) == f" Did you mean {known!r}?"


def test_nothing_is_suggested_for_a_name_that_is_far_from_all():
    assert did_you_mean("quantum", ("lora", "ia3")) == ""
