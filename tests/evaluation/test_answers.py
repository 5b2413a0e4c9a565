"""Samples on disk as answers, one problem at a time."""

from __future__ import annotations

import pytest

from astraios.errors import DataError, MissingDataError
from astraios.evaluation.answers import Answers
from astraios.records import Finish

IDS = ("a", "b")


def texts(answers, problem_id):
    return [(answer.index, answer.turns) for answer in answers.of(problem_id)]


def test_answers_come_by_index_whatever_the_order_on_disk(tmp_path, toy):
    made = [toy.sample("b", 1, "w"), toy.sample("a", 0, "x"), toy.sample("b", 0, "y")]
    answers = Answers(toy.write_samples(tmp_path, made), IDS)
    assert texts(answers, "a") == [(0, ("x",))]
    assert texts(answers, "b") == [(0, ("y",)), (1, ("w",))]
    assert (len(answers), answers.counts) == (3, (1, 2))


def test_turns_of_an_answer_are_joined(tmp_path, toy):
    made = [
        toy.sample("a", 0, "second", turn=1),
        toy.sample("a", 1, "other"),
        toy.sample("a", 1, "another", turn=1),
        toy.sample("a", 0, "first"),
    ]
    answers = Answers(toy.write_samples(tmp_path, made), IDS)
    assert texts(answers, "a") == [(0, ("first", "second")), (1, ("other", "another"))]


def test_parts_of_several_workers_are_read_as_one(tmp_path, toy):
    toy.write_samples(tmp_path, [toy.sample("a", 1, "y")], "samples-1.jsonl")
    toy.write_samples(tmp_path, [toy.sample("a", 0, "x")], "samples-0.jsonl")
    assert texts(Answers(tmp_path, IDS), "a") == [(0, ("x",)), (1, ("y",))]


def test_other_problems_are_left_out(tmp_path, toy):
    toy.write_samples(tmp_path, [toy.sample("a", 0, "x"), toy.sample("z", 0, "y")])
    assert len(Answers(tmp_path, IDS)) == 1


def test_a_limit_takes_the_first_answers_of_each_problem(tmp_path, toy):
    toy.write_samples(tmp_path, [toy.sample("a", n, str(n)) for n in (4, 0, 2)])
    answers = Answers(tmp_path, IDS, limit_samples=2)
    assert texts(answers, "a") == [(0, ("0",)), (2, ("2",))]
    assert len(answers) == 2


def test_given_samples_are_final_texts(tmp_path, toy):
    made = [toy.sample("a", 0, "x", finish=Finish.GIVEN), toy.sample("b", 0, "y")]
    answers = Answers(toy.write_samples(tmp_path, made), IDS)
    assert [next(answers.of(name)).final for name in IDS] == [True, False]


def test_separators_inside_a_text_end_no_line(tmp_path, toy):
    text = "a\u2028b\x85c\r\nd"
    answers = Answers(toy.write_samples(tmp_path, [toy.sample("a", 0, text)]), IDS)
    assert texts(answers, "a") == [(0, (text,))]


def test_a_torn_last_line_is_no_sample(tmp_path, toy):
    toy.write_samples(tmp_path, [toy.sample("a", 0, "x")])
    with (tmp_path / "samples.jsonl").open("a") as out:
        out.write('{"problem_id": "a", "ind')
    assert len(Answers(tmp_path, IDS)) == 1


def test_a_sample_that_is_there_twice_is_refused(tmp_path, toy):
    toy.write_samples(tmp_path, [toy.sample("a", 3, "x"), toy.sample("a", 3, "y")])
    with pytest.raises(DataError, match="sample 3, turn 0 of problem 'a' is there twice"):
        Answers(tmp_path, IDS)


def test_a_missing_first_turn_is_refused(tmp_path, toy):
    toy.write_samples(tmp_path, [toy.sample("a", 0, "x", turn=1)])
    with pytest.raises(DataError, match="an earlier one is missing"):
        list(Answers(tmp_path, IDS).of("a"))


def test_a_line_that_is_no_sample_is_refused_with_its_number(tmp_path, toy):
    toy.write_samples(tmp_path, [toy.sample("a", 0, "x")])
    with (tmp_path / "samples.jsonl").open("a") as out:
        out.write('{"problem_id": "a"}\n')
    with pytest.raises(DataError, match=r"samples\.jsonl:2: not a sample \(index"):
        Answers(tmp_path, IDS)


def test_a_folder_without_samples_is_refused(tmp_path):
    with pytest.raises(MissingDataError, match=r"holds no samples\.jsonl"):
        Answers(tmp_path, IDS)
