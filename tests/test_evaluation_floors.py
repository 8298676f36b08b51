"""Floors: what the length and single words give away."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from gram.evaluation import bag_of_words, floors, length_rule
from gram.statistics import credit
from gram.types import FloatArray, Pair, Preference

pytestmark = pytest.mark.law(7)

WORDS = [f"word{i}" for i in range(300)]


def rows(n: int, seed: int, *, good: str = "", length: int = 12, groups: int = 0) -> list[Preference]:
    """Random answers; with ``good``, the better answer holds that word. Half of the rows have a right."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        better, worse = (" ".join(rng.choice(WORDS, length)) for _ in range(2))
        row = Preference(
            Pair(f"question {i}", f"{better} {good}".strip(), worse),
            1.0,
            f"r{i}",
            group=f"g{i % groups}" if groups else "",
        )
        out.append(row if rng.random() < 0.5 else row.swapped())
    return out


def right(p_a: FloatArray, preferences: list[Preference]) -> float:
    return float(np.mean(credit(p_a, np.array([row.p_a for row in preferences]))))


def test_length_rule() -> None:
    pairs = [Pair("q", "longer", "short"), Pair("q", "ab", "abc"), Pair("q", "same", "size")]
    assert list(length_rule([Preference(pair, 1.0) for pair in pairs])) == [1.0, 0.0, 0.5]


def test_a_telling_word_is_found_with_and_without_training_rows() -> None:
    train, test = rows(300, 1, good="please"), rows(200, 2, good="please")
    assert right(bag_of_words(test, train), test) > 0.97
    assert right(bag_of_words(test), test) > 0.97


def test_a_telling_length_is_found() -> None:
    """Answers of 5 to 30 random words, the longer one labeled better: no single word tells."""
    rng = np.random.default_rng(3)
    pairs = [
        Pair(f"question {i}", *(" ".join(rng.choice(WORDS, rng.integers(5, 30))) for _ in range(2)))
        for i in range(400)
    ]
    preferences = [Preference(pair, float(len(pair.a) > len(pair.b))) for pair in pairs]
    assert right(bag_of_words(preferences), preferences) > 0.9


def test_random_answers_give_nothing_away() -> None:
    """600 fair coin flips: 0.5 +- 3 * 0.0204."""
    preferences = rows(600, 4)
    assert abs(right(bag_of_words(preferences), preferences) - 0.5) < 0.062


def test_swapping_the_answers_turns_the_probability() -> None:
    train, test = rows(100, 5, good="yes"), rows(50, 6, good="yes")
    swapped = [row.swapped() for row in test]
    turned_train = [row.swapped() if i % 2 else row for i, row in enumerate(train)]
    assert bag_of_words(swapped, train) == pytest.approx(1 - bag_of_words(test, train))
    assert bag_of_words(test, turned_train) == pytest.approx(bag_of_words(test, train))
    assert bag_of_words(swapped) == pytest.approx(1 - bag_of_words(test))


def test_no_row_is_judged_by_what_its_group_taught() -> None:
    """One answer of a row holds a word that only its group has; it is the better one in every second group.

    Folds cut through the groups learn what each word means there; folds cut between them know nothing: 0.5
    +- 3 * 0.025 on 400 rows. The extra word says nothing through its length either.
    """
    mixed, grouped = [], []
    for i, row in enumerate(rows(400, 7, length=2)):
        group, mark_a = i % 40, (row.p_a == 1.0) == (i % 2 == 0)
        a = f"{row.pair.a} mark{group}" if mark_a else row.pair.a
        b = row.pair.b if mark_a else f"{row.pair.b} mark{group}"
        mixed.append(replace(row, pair=Pair(f"question {i}", a, b)))
        grouped.append(replace(mixed[-1], group=f"g{group}"))
    assert right(bag_of_words(mixed), mixed) > 0.8
    assert abs(right(bag_of_words(grouped), grouped) - 0.5) < 0.075
    same_prompt = [replace(row, pair=Pair(row.group, row.pair.a, row.pair.b), group="") for row in grouped]
    assert abs(right(bag_of_words(same_prompt), same_prompt) - 0.5) < 0.075


def test_rows_of_one_group_cannot_teach_each_other() -> None:
    assert list(bag_of_words(rows(20, 8, good="yes", groups=1))) == [0.5] * 20


def test_both_floors_by_name() -> None:
    test = rows(30, 9, good="yes")
    got = floors(test, rows(30, 10, good="yes"))
    assert list(got) == ["length", "bag of words"]
    assert got["length"] == pytest.approx(length_rule(test))
    assert floors([])["bag of words"].shape == (0,)


def test_odd_texts_are_no_trouble() -> None:
    odd = [
        Preference(Pair("q", "", "\x00\u200b x"), 1.0),
        Preference(Pair("r", "é 漢字 🙂", " \n"), 0.0),
        Preference(Pair("s", "same", "same"), 0.5),
    ]
    assert np.isfinite(bag_of_words(odd)).all()


def test_the_same_in_every_process() -> None:
    """Python salts hash() per process; the features must not depend on it."""
    code = (
        "from gram.evaluation import bag_of_words; from gram.types import Pair, Preference\n"
        "rows = [Preference(Pair(f'q{i}', f'good word{i % 7}', f'bad word{i % 5}'), float(i % 3 > 0))"
        " for i in range(30)]\n"
        "print(bag_of_words(rows).tolist())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
