"""The original's rows, against a second computation from their description."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.data.blocks import Blocks
from astraios.data.config import PackConfig
from astraios.data.constant_length import Block, buffers, measure
from astraios.data.pack import encoder, pack
from astraios.data.tokens import Encoder, TrainingText
from astraios.errors import DataError

from ._tokenizers import TEXTS, Letters, bpe, rows, write_corpus

END = 0


def recomputed(
    texts: list[str],
    ids_of: Callable[[str], list[int]],
    length: int,
    size: float,
    seed: int,
    n_rows: int | None,
) -> list[list[int]]:
    """The blocks in order; `n_rows` of an endless stream, or those of one pass."""
    before = random.getstate()
    random.seed(seed)
    seen: list[list[int]] = []
    waiting, more = list(texts), True
    while more and (n_rows is None or len(seen) < n_rows):
        held: list[str] = []
        while sum(map(len, held)) < size:
            if not waiting and n_rows is None:
                more = False
                break
            waiting = waiting or list(texts)
            held.append(waiting.pop(0))
        stream = [token for text in held for token in [*ids_of(text), END]]
        blocks = [stream[at : at + length] for at in range(0, len(stream), length)]
        if blocks and len(blocks[-1]) < length:
            del blocks[-1]
        random.shuffle(blocks)
        seen += blocks
    random.setstate(before)
    return seen[:n_rows]


def letters(text: str) -> list[int]:
    return [ord(letter) + 1 for letter in text]


def blocks_of(
    texts: list[str], length: int, size: float, seed: int, n_rows: int | None
) -> Iterator[Block]:
    made = Encoder(Letters(), lambda record: TrainingText("", "", ()), "all")
    given = [TrainingText(f"r{n}", text, ((0, len(text)),)) for n, text in enumerate(texts)]
    n = 0
    for buffer in buffers(
        lambda: iter(given), made, length, size, seed, endless=n_rows is not None
    ):
        for block in buffer.blocks:
            if n == n_rows:
                return
            yield block
            n += 1
        if n == n_rows:
            return


drawn = st.lists(st.text("abc", min_size=1, max_size=30), min_size=1, max_size=20)


@given(drawn, st.integers(1, 20), st.floats(1, 300), st.integers(0, 9))
def test_one_pass_gives_the_blocks_of_the_original(
    texts: list[str], length: int, size: float, seed: int
) -> None:
    made = [block.ids.tolist() for block in blocks_of(texts, length, size, seed, None)]
    assert made == recomputed(texts, letters, length, size, seed, None)


@given(drawn, st.integers(1, 20), st.floats(40, 300), st.integers(0, 9), st.integers(1, 60))
def test_an_endless_stream_gives_the_blocks_of_the_original(
    texts: list[str], length: int, size: float, seed: int, n_rows: int
) -> None:
    made = [block.ids.tolist() for block in blocks_of(texts, length, size, seed, n_rows)]
    assert made == recomputed(texts, letters, length, size, seed, n_rows)


@given(drawn, st.integers(1, 20), st.floats(1, 300))
def test_a_block_names_the_texts_whose_tokens_it_holds(
    texts: list[str], length: int, size: float
) -> None:
    closed = {f"r{n}": [*letters(text), END] for n, text in enumerate(texts)}
    for block in blocks_of(texts, length, size, 0, None):
        assert block.lengths.sum() == length
        parts, at = [], 0
        for n in block.lengths.tolist():
            parts.append(block.ids[at : at + n].tolist())
            at += n
        for name, part in zip(block.names, parts, strict=True):
            whole = closed[name]
            assert any(whole[i : i + len(part)] == part for i in range(len(whole)))


@pytest.mark.parametrize("n_rows", [None, 1, 70])
@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("measured", [None, 2.5])
def test_a_packing_holds_the_blocks_of_the_original(
    tmp_path: Path, n_rows: int | None, seed: int, measured: float | None
) -> None:
    tokenizer = bpe()
    answers = [f"{text} {number}" * (number % 3 + 1) for number in range(11) for text in TEXTS]
    corpus = write_corpus(tmp_path / "texts", rows(answers), rows(answers[:9]))
    config = PackConfig(
        corpus=str(corpus),
        tokenizer="small",
        template="question_answer",
        loss_on="all",
        layout="constant_length",
        block_length=32,
        n_buffered=6,
        n_rows=n_rows,
        characters_per_token=measured,
        seed=seed,
    )
    report = pack(config, tmp_path / "packed", tokenizer=tokenizer)

    def ids_of(text: str) -> list[int]:
        found: list[int] = tokenizer(text)["input_ids"]
        return found

    texts = [f"Question: ask\n\nAnswer: {answer}" for answer in answers]
    ratio = measured or sum(map(len, texts)) / sum(len(ids_of(text)) for text in texts)
    for split, texts_in, n in (("train", texts, n_rows), ("validation", texts[:9], None)):
        expected = recomputed(texts_in, ids_of, 32, 32 * ratio * 6, seed, n)
        found = Blocks(tmp_path / "packed", split)
        assert [row.ids.tolist() for row in found] == expected
        assert all(row.labels.tolist() == row.ids.tolist() for row in found)
        assert all(row.positions.tolist() == list(range(32)) for row in found)
    assert report.characters_per_token == pytest.approx(ratio)
    assert report.train.utilisation == 1
    assert n_rows is None or report.train.n_rows == n_rows


def test_every_token_is_in_a_row_or_counted_as_left_over(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "texts", rows(TEXTS * 20), rows(TEXTS))
    config = PackConfig(
        corpus=str(corpus), tokenizer="x", layout="constant_length", block_length=16, n_buffered=3
    )
    report = pack(config, tmp_path / "packed", tokenizer=bpe()).train
    made = encoder(config, bpe())
    from astraios.data.sources import find_corpus

    texts = [made.write(r) for r in find_corpus(config.corpus).records("train", 0, None)]
    assert report.n_tokens + report.n_left_over == len(made.encode(texts).ids)
    assert report.n_left_over > 0


def test_answers_alone_count_where_the_original_tokenizes_apart(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "texts", rows(["abc"] * 9), rows(["abc"] * 9))
    config = PackConfig(
        corpus=str(corpus),
        tokenizer="x",
        template="question_answer",
        boundary="apart",
        layout="constant_length",
        block_length=8,
    )
    pack(config, tmp_path / "packed", tokenizer=Letters())
    found = Blocks(tmp_path / "packed", "train")
    text = [*letters("Question: ask\n\nAnswer: abc"), END]
    counts = [False] * (len(text) - 5) + [True] * 5  # from the space on
    pairs = {tuple(zip(text * 9, counts * 9, strict=True))[at : at + 8] for at in range(0, 232, 8)}
    rows_found = {
        tuple(zip(row.ids.tolist(), (row.labels == row.ids).tolist(), strict=True)) for row in found
    }
    assert rows_found <= pairs


def test_a_stream_that_never_fills_a_block_is_given_up() -> None:
    with pytest.raises(DataError, match="gave no block of 100 tokens; raise n_buffered"):
        list(blocks_of(["ab"], 100, 3, 0, 1))


def test_texts_without_characters_fill_no_buffer() -> None:
    with pytest.raises(DataError, match="no text to fill a buffer with"):
        list(blocks_of([""], 10, 30, 0, 1))


def test_a_corpus_shorter_than_a_row_is_told(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "texts", rows(["abc"]), rows(["abc"]))
    config = PackConfig(corpus=str(corpus), tokenizer="x", layout="constant_length", loss_on="all")
    with pytest.raises(DataError, match=r"the 1 train records .* do not fill one row"):
        pack(config, tmp_path / "packed", tokenizer=Letters())


@pytest.mark.parametrize("closed", [True, False])
def test_only_end_of_text_tokens_that_are_added_are_left_out_of_the_measure(closed: bool) -> None:
    made = Encoder(Letters(), lambda record: TrainingText("", "", ()), "all")
    given = [TrainingText(text, text, ((0, len(text)),), closed) for text in ("ab", "abcd")]
    assert measure(given, made) == 1  # a letter is a token
