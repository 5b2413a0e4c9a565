"""How tokens are drawn."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from astraios.generation.engines._sampling import Drawing, stream, uniforms  # noqa: E402

pytestmark = pytest.mark.train

logits = st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=200)


def draws(values, drawing, n):
    """`n` tokens from the same logits, each from a stream of its own."""
    logits_NV = torch.tensor(values).repeat(n, 1)
    streams_N = torch.tensor([stream(0, "p", i, 0) for i in range(n)])
    return drawing(logits_NV, streams_N, torch.zeros(n, dtype=torch.long))


def nucleus(values, temperature, top_p):
    """Most probable tokens until their sum is `top_p`, one by one."""
    probabilities = (torch.tensor(values).double() / temperature).softmax(-1).tolist()
    kept, mass = {}, 0.0
    for p, token in sorted(((p, i) for i, p in enumerate(probabilities)), key=lambda x: -x[0]):
        if mass >= top_p:
            break
        kept[token] = p
        mass += p
    return {token: p / mass for token, p in kept.items()}


@settings(max_examples=100, deadline=None)
@given(logits)
def test_greedy_takes_the_first_of_the_largest(values):
    tokens = draws(values, Drawing(0), 2).tolist()
    assert tokens == [values.index(max(values))] * 2


@settings(max_examples=100, deadline=None)
@given(logits, st.floats(0.05, 3), st.floats(0.05, 0.99))
def test_only_tokens_of_the_nucleus_are_drawn(values, temperature, top_p):
    drawn = set(draws(values, Drawing(temperature, top_p), 64).tolist())
    allowed = nucleus(values, temperature, min(top_p + 1e-5, 1.0))
    least = min(allowed.values())
    close = {i for i, x in enumerate(values) if any(abs(x - values[k]) < 1e-4 for k in allowed)}
    assert drawn <= set(allowed) | close
    assert least > 0


@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.5])
@pytest.mark.parametrize("n_tokens", [8, 300])
def test_frequencies_follow_the_probabilities(top_p, n_tokens):
    torch.manual_seed(0)
    values = (2 * torch.randn(n_tokens)).tolist()
    n = 20_000
    expected = nucleus(values, 0.8, top_p)
    counts = torch.bincount(draws(values, Drawing(0.8, top_p), n), minlength=n_tokens)
    for token in range(n_tokens):
        p = expected.get(token, 0.0)
        assert abs(counts[token].item() - n * p) <= 5 * (n * p * (1 - p)) ** 0.5 + (3 if p else 0)


@pytest.mark.parametrize("temperature", [1e-30, 1e-6])
def test_the_coldest_temperatures_are_greedy(temperature):
    values = [1.0, 900.0, 899.0]
    assert draws(values, Drawing(temperature, 1.0), 50).unique().tolist() == [1]


def test_logits_that_are_no_numbers_give_no_token():
    for drawing in (Drawing(0), Drawing(0.5, 0.9), Drawing(0.5, 1.0)):
        assert draws([0.0, float("nan"), 1.0], drawing, 3).tolist() == [-1, -1, -1]


def test_a_token_that_is_ruled_out_is_never_drawn():
    values = [float("-inf"), 0.0, float("-inf"), 0.0]
    for top_p in (0.9, 1.0):
        assert draws(values, Drawing(1.0, top_p), 500).unique().tolist() == [1, 3]


def test_random_numbers_are_uniform_and_independent_of_each_other():
    streams_N = torch.tensor([stream(0, f"p{i}", 0, 0) for i in range(400)])
    numbers = torch.stack(
        [uniforms(streams_N, torch.full((400,), step)) for step in range(100)], dim=1
    )
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = torch.histc(numbers.float(), bins=20, min=0, max=1)
    assert (counts - 2000).abs().max() < 5 * 2000**0.5
    together = torch.corrcoef(numbers)
    assert together.fill_diagonal_(0).abs().max() < 0.55  # 80 000 pairs of 100 numbers


def test_every_part_of_the_key_gives_another_stream():
    keys = [
        (s, p, i, t) for s in range(3) for p in ("a", "b", "1") for i in range(5) for t in (0, 1)
    ]
    assert len({stream(*key) for key in keys}) == len(keys)


def test_random_numbers_are_those_of_splitmix64():
    def plain(state, count):
        mask = 2**64 - 1
        z = (state + (count + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 11) / 2**53

    for state in (0, 1, -1, 2**63 - 1, -(2**63), stream(1, "p", 2, 3)):
        for count in (0, 1, 1000):
            number = uniforms(torch.tensor([state]), torch.tensor([count])).item()
            assert number == plain(state, count)


def test_streams_never_change():
    # Another value would mean that a resumed run no longer continues an old one.
    assert stream(0, "HumanEval/0", 0, 0) == 717846332718557525
