"""Near-duplicates: found where they are alike enough, never where they are not."""

from __future__ import annotations

import random

import pytest

from astraios.data.building.near_duplicates import RECALL, NearDuplicates, n_bands
from astraios.data.building.words import shingles

pytest.importorskip("rensa", reason="needs rensa: pip install 'astraios[data]'")


def search(texts, threshold=0.7, **options):
    """Number of each text -> what it was like, if it was like an earlier one."""
    kept = []
    made = {"size": 5, "permutations": 128, "seed": 0, **options}
    index = NearDuplicates(threshold=threshold, text_of=kept.__getitem__, **made)
    found = {}
    for number, text in enumerate(texts):
        kept.append(text)
        alike = index.add(number, text)
        if alike:
            found[number] = alike
    return found


def document(rng, n=120):
    return " ".join(f"w{rng.randrange(3_000)}" for _ in range(n))


def edited(rng, text, share):
    return " ".join(f"x{rng.random()}" if rng.random() < share else w for w in text.split())


def jaccard(one, other):
    a, b = shingles(one, 5), shingles(other, 5)
    return len(a & b) / len(a | b)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_pairs_are_found_by_their_exact_likeness(threshold):
    rng = random.Random("pairs")
    pairs = []
    for _ in range(150):
        text = document(rng)
        pairs.append((text, edited(rng, text, rng.choice([0.002, 0.01, 0.03, 0.08]))))
    for one, other in pairs:
        found = search([one, other], threshold)
        alike = jaccard(one, other)
        assert (1 in found) == (alike >= threshold)
        if found:
            assert found[1] == (0, alike)


def test_unrelated_texts_stay():
    rng = random.Random("unrelated")
    assert not search([document(rng) for _ in range(300)])


def test_equal_texts_are_alike_whatever_their_layout():
    text = "def add(a, b):\n    return a + b  # the sum of both"
    assert search([text, text.replace("    ", "\t").upper()]) == {1: (0, 1.0)}


def test_texts_without_words_are_compared_as_they_are():
    assert search(["{}", "[]", "{}"]) == {2: (0, 1.0)}


def test_a_chain_is_compared_with_those_that_stay():
    rng = random.Random("chain")
    first = document(rng, 200)
    chain = [first]
    for _ in range(12):
        chain.append(edited(rng, chain[-1], 0.02))
    found = search(chain)
    for number, (other, alike) in found.items():
        assert other not in found
        assert alike == jaccard(chain[number], chain[other]) >= 0.7
    assert 0 < len(found) < 12


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("permutations", [64, 128, 256])
def test_bands_find_what_is_just_alike_enough(threshold, permutations):
    bands = n_bands(threshold, permutations)
    assert permutations % bands == 0
    rows = permutations // bands
    assert 1 - (1 - threshold**rows) ** bands >= RECALL
