"""The laws of the synthetic world: an exact gold reward, honest labels, streams and splits that keep apart.

No model is trained here. Where a test compares a mean with its expectation, the docstring derives the number
and the tolerance is about five standard errors; the seeds are fixed, so that a test never passes by luck.
"""

from __future__ import annotations

import re
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gram.demo.world import ENTITIES, FAMILIES, STYLES, Split, World
from gram.errors import ConfigError
from gram.types import Chat, Preference, ResponsePair

WORLD = World(11)
MANY = 4000


def ask(family: str, entities: list[str]) -> str:
    return f"What is the {family} of {' '.join(entities)}?"


def reply(style: tuple[str, str, str], entities: list[str], values: list[str]) -> str:
    opening, between, end = style
    return opening + between.join(f" {e} {v}" for e, v in zip(entities, values, strict=True)) + end


def wrong_value(world: World, family: str, entity: str, pick: int = 0) -> str:
    return [value for value in FAMILIES[family] if value != world.facts[family][entity]][pick]


def golds(world: World, pairs: list[ResponsePair]) -> np.ndarray:
    """(n, 2) gold of the first and of the second answer."""
    return np.array([[world.gold(p.prompt, p.first), world.gold(p.prompt, p.second)] for p in pairs])


# --- the world itself


def test_the_words_are_unambiguous() -> None:
    """No word plays two parts, so that reading an answer by its words alone cannot go wrong."""
    openers = [word for style in STYLES for part in style for word in re.findall(r"\w+", part)]
    words = [*ENTITIES, *FAMILIES, *chain.from_iterable(FAMILIES.values()), *openers]
    assert len(words) == len(set(words))


def test_a_seed_is_a_world() -> None:
    again, other = World(WORLD.seed), World(WORLD.seed + 1)
    assert again.facts == WORLD.facts
    assert again.unlabeled_pairs(50) == WORLD.unlabeled_pairs(50)
    assert again.preferences(50, split="test") == WORLD.preferences(50, split="test")
    assert again.contests(5, candidates=4) == WORLD.contests(5, candidates=4)
    assert other.facts != WORLD.facts
    assert other.seen_families != WORLD.seen_families
    assert other.unlabeled_pairs(50) != WORLD.unlabeled_pairs(50)


def test_facts_name_one_value_of_the_family_for_every_entity() -> None:
    assert set(WORLD.facts) == set(FAMILIES)
    for family, facts in WORLD.facts.items():
        assert set(facts) == set(ENTITIES)
        assert set(facts.values()) <= set(FAMILIES[family])


@pytest.mark.parametrize("seed", range(5))
def test_half_of_the_families_gets_labels(seed: int) -> None:
    world = World(seed)
    assert len(world.seen_families) == len(world.unseen_families) == len(FAMILIES) // 2
    assert {*world.seen_families, *world.unseen_families} == set(FAMILIES)


@pytest.mark.parametrize(
    "options",
    [{"entities_per_prompt": 0}, {"entities_per_prompt": len(ENTITIES) + 1}, {"weak": 0.99}, {"strong": 1.1}],
)
def test_an_impossible_world_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        World(0, **options)  # pyright: ignore[reportArgumentType]


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(ConfigError, match="weather"):
        WORLD.unlabeled_pairs(1, ["home", "weather"])


# --- gold


@given(
    family=st.sampled_from(sorted(FAMILIES)),
    entities=st.lists(st.sampled_from(ENTITIES), min_size=4, max_size=4, unique=True),
    right=st.lists(st.booleans(), min_size=4, max_size=4),
    picks=st.lists(st.integers(0, 4), min_size=4, max_size=4),
    order=st.permutations(range(4)),
)
def test_gold_counts_right_values_in_every_style_and_order(
    family: str, entities: list[str], right: list[bool], picks: list[int], order: list[int]
) -> None:
    """k of 4 values right is k/4, whatever the style, the wrong values and the order of the answer."""
    values = [
        WORLD.facts[family][entity] if ok else wrong_value(WORLD, family, entity, pick)
        for entity, ok, pick in zip(entities, right, picks, strict=True)
    ]
    for style in STYLES:
        answer = reply(style, [entities[i] for i in order], [values[i] for i in order])
        assert WORLD.gold(ask(family, entities), answer) == sum(right) / 4


def test_gold_cannot_be_bought() -> None:
    """Silence, foreign text, values without an entity, another family's truth and other entities earn 0; of
    contradicting claims only the first counts."""
    home, entities = WORLD.facts["home"], ["frog", "stone", "apple", "river"]
    prompt = ask("home", entities)
    for worthless in (
        "",
        "I cannot say.",
        "Ünïcode 🙂 日本語",
        " ".join(FAMILIES["home"]),
        reply(STYLES[0], entities, [WORLD.facts["food"][entity] for entity in entities]),
        reply(STYLES[0], ["moon", "horse"], [home["moon"], home["horse"]]),
    ):
        assert WORLD.gold(prompt, worthless) == 0
    wrong = wrong_value(WORLD, "home", "frog")
    assert WORLD.gold(prompt, f"frog {wrong}, frog {home['frog']}") == 0
    assert WORLD.gold(prompt, f"frog {home['frog']}, frog {wrong}") == 0.25


def test_gold_reads_a_chat_like_a_string() -> None:
    pair = WORLD.unlabeled_pairs(1)[0]
    assert WORLD.gold(pair.prompt, pair.first) == WORLD.gold(pair.prompt[-1].content, pair.first)


def test_gold_of_a_foreign_prompt_is_an_error_not_a_zero() -> None:
    for prompt in ("How are you?", "What is the weather of frog?", "what is the home of frog"):
        with pytest.raises(ValueError, match="not a prompt of this world"):
            WORLD.gold(prompt, "frog pond")


# --- policies and unlabeled pairs


def test_perfect_and_hopeless_policies_are_exact() -> None:
    """With strong = 1 and weak = 0 a correlated pair holds the golds 1 and 0, without exception."""
    world = World(3, strong=1.0, weak=0.0)
    both = golds(world, world.unlabeled_pairs(300))
    assert set(both.ravel()) == {0.0, 1.0}
    assert np.all(both.sum(axis=1) == 1)
    first = both[:, 0].mean()
    assert 0.35 < first < 0.65  # the order is shuffled: 0.5, five standard errors are 0.14


@pytest.mark.parametrize("correlated", [True, False])
def test_the_second_answer_tells_about_the_first_only_when_correlated(correlated: bool) -> None:
    """Given their policies the answers are independent, with expected golds s = 0.99 and w = 0.25.

    Correlated, one of each: cov = s w - ((s + w) / 2)^2 = -((s - w) / 2)^2 = -0.1369. Independent: 0. The
    mean gold is (s + w) / 2 = 0.62 both times. One answer's gold has a standard deviation below 0.40, so that
    of 4000 pairs the covariance has a standard error below 0.0026 and each mean one below 0.0064.
    """
    both = golds(WORLD, WORLD.unlabeled_pairs(MANY, correlated=correlated))
    assert both.mean(axis=0) == pytest.approx([0.62, 0.62], abs=0.032)
    expected = -0.1369 if correlated else 0.0
    assert np.cov(both.T)[0, 1] == pytest.approx(expected, abs=0.013)


def test_style_says_nothing_about_quality() -> None:
    """About 2000 answers a style, standard deviation below 0.40: five standard errors are 0.045."""
    pairs = WORLD.unlabeled_pairs(MANY)
    gold_of: dict[str, list[float]] = {style[0]: [] for style in STYLES}
    for pair in pairs:
        for answer in (pair.first, pair.second):
            opening = next(opening for opening in gold_of if answer.startswith(opening))
            gold_of[opening].append(WORLD.gold(pair.prompt, answer))
    for values in gold_of.values():
        assert len(values) == pytest.approx(2000, abs=200)  # five standard errors of a fair draw are 194
        assert np.mean(values) == pytest.approx(0.62, abs=0.045)


def test_unlabeled_pairs_stay_in_the_families_asked_for() -> None:
    """The control of the demonstration stands on this: stage 1 can be kept from families."""
    pairs = WORLD.unlabeled_pairs(500, WORLD.seen_families)
    assert {family_of(pair.prompt) for pair in pairs} == set(WORLD.seen_families)
    assert {family_of(pair.prompt) for pair in WORLD.unlabeled_pairs(500)} == set(FAMILIES)


# --- labels


def test_labels_are_hard_and_agree_with_gold() -> None:
    for row in WORLD.preferences(500, split="train"):
        gain = WORLD.gold(row.pair.prompt, row.pair.a) - WORLD.gold(row.pair.prompt, row.pair.b)
        assert gain != 0
        assert row.p_a == float(gain > 0)


def test_the_better_answer_stands_in_either_place() -> None:
    """A fair coin over 4000 rows: five standard errors are 0.04."""
    labels = [row.p_a for row in WORLD.preferences(MANY, split="train")]
    assert np.mean(labels) == pytest.approx(0.5, abs=0.04)


def test_preferences_name_their_half_and_family_and_have_ids_of_their_own() -> None:
    rows = WORLD.preferences(400, split="test")
    assert len({row.id for row in rows}) == 400
    for row in rows:
        half, family = row.subset.split("/")
        assert family == family_of(row.pair.prompt)
        assert family in (WORLD.seen_families if half == "seen" else WORLD.unseen_families)
    assert {row.subset for row in WORLD.preferences(200, ["home"], split="test")} <= {
        "seen/home",
        "unseen/home",
    }


def test_contests_hold_the_candidates_asked_for() -> None:
    contests = WORLD.contests(40, WORLD.unseen_families, candidates=8)
    assert len({contest.id for contest in contests}) == 40
    for contest in contests:
        assert len(contest.responses) == 8
        assert family_of(contest.prompt) in WORLD.unseen_families
    best = [max(WORLD.gold(c.prompt, response) for response in c.responses) for c in contests]
    average = [np.mean([WORLD.gold(c.prompt, response) for response in c.responses]) for c in contests]
    assert np.mean(best) > np.mean(average) + 0.2  # there is something to choose


# --- streams and splits


def test_drawing_more_does_not_change_what_came_before() -> None:
    assert WORLD.unlabeled_pairs(80)[:30] == WORLD.unlabeled_pairs(30)
    assert WORLD.contests(20, candidates=4)[:5] == WORLD.contests(5, candidates=4)
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        assert WORLD.preferences(80, split=split)[:30] == WORLD.preferences(30, split=split)


def test_one_stream_does_not_disturb_another() -> None:
    """What a world returns does not depend on what was drawn from it before."""
    busy = World(WORLD.seed)
    busy.contests(7, candidates=3)
    busy.preferences(9, split="train")
    busy.unlabeled_pairs(13, correlated=False)
    assert busy.unlabeled_pairs(30) == WORLD.unlabeled_pairs(30)
    assert busy.preferences(30, split="test") == WORLD.preferences(30, split="test")


def test_train_and_test_share_no_prompt() -> None:
    """A prompt belongs to one split for ever, across every kind of record."""

    def prompts(rows: list[Preference]) -> set[Chat]:
        return {row.pair.prompt for row in rows}

    train = {pair.prompt for pair in WORLD.unlabeled_pairs(MANY)}
    train |= {pair.prompt for pair in WORLD.unlabeled_pairs(500, correlated=False)}
    train |= prompts(WORLD.preferences(1000, split="train"))
    train |= {contest.prompt for contest in WORLD.contests(300, candidates=2, split="train")}
    test = prompts(WORLD.preferences(1000, split="test"))
    test |= {contest.prompt for contest in WORLD.contests(300, candidates=2)}
    assert len(train) > 1000 and len(test) > 300
    assert not train & test


def family_of(prompt: Chat) -> str:
    return prompt[-1].content.split()[3]


@pytest.mark.parametrize("count", range(2, len(ENTITIES) - 1))
def test_a_set_of_entities_belongs_to_one_split(count: int) -> None:
    """Whatever the order in which they are asked; and every family has sets on both sides."""
    world = World(3, entities_per_prompt=count)
    sets: dict[Split, set[tuple[str, frozenset[str]]]] = {"train": set(), "test": set()}
    splits: tuple[Split, Split] = ("train", "test")
    for split in splits:
        for row in world.preferences(600, split=split):
            words = row.pair.prompt[0].content.rstrip("?").split()
            sets[split].add((words[3], frozenset(words[5:])))
    assert not sets["train"] & sets["test"]
    assert all({family for family, _ in questions} == set(FAMILIES) for questions in sets.values())
