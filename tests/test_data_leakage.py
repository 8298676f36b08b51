"""Leaks are found whatever order, case or white space hides them, and nothing else is called one."""

from __future__ import annotations

from gram.data import Leak, find_leaks, shared_prompts
from gram.types import Pair, Preference


def pref(prompt: str, a: str, b: str, group: str = "") -> Preference:
    return Preference(Pair(prompt, a, b), 1.0, group=group)


def test_the_same_pair_in_other_clothes() -> None:
    train = [pref("Why is it so?", "Because.", "No idea.")]
    asked = pref("why  is it\nSO?", "no idea.", " because. ")
    assert find_leaks(train, [asked]) == [Leak("pair", train[0], asked)]


def test_a_shared_prompt_alone_is_no_leak() -> None:
    train = [pref("Write one statement.", "Cats purr.", "Cats bark.")]
    assert find_leaks(train, [pref("Write one statement.", "Dogs bark.", "Dogs purr.")]) == []
    assert find_leaks(train, [pref("Write one statement.", "Cats purr.", "Dogs purr.")]) == []
    assert find_leaks(train, [pref("Write two statements.", "Cats purr.", "Cats bark.")]) == []


def test_a_shared_group_is_a_leak_and_no_group_is_not_shared() -> None:
    train = [pref("p", "a", "b", "src/1"), pref("p", "c", "d")]
    asked = [pref("q", "e", "f", "src/1"), pref("q", "g", "h", "other/1"), pref("q", "i", "j")]
    assert find_leaks(train, asked) == [Leak("group", train[0], asked[0])]


def test_each_held_out_pair_is_one_leak_the_nearest_kind() -> None:
    train = [pref("p q", "a", "b", "g"), pref("p q", "c", "d", "g")]
    leaks = find_leaks(train, [train[1], pref("x", "y", "z", "g")])
    assert [(leak.kind, leak.train) for leak in leaks] == [("pair", train[1]), ("group", train[0])]


def test_shared_prompts_are_counted_once_and_single_words_not() -> None:
    train = [pref("Why is it so?", "a", "b"), pref("Hello", "a", "b")]
    held_out = [
        pref("why is it so?", "c", "d"),
        pref("Why is it so?", "e", "f"),
        pref("Hello", "c", "d"),
        pref("What else?", "c", "d"),
    ]
    assert shared_prompts(train, held_out) == 1


def test_a_constant_prompt_is_not_shared_but_a_much_judged_question_is() -> None:
    """11 questions under one prompt are a task (more than 10); 11 judgements of one group are a question."""
    train = [pref("Write one statement.", "a", "b")]
    task = [pref("Write one statement.", f"a{k}", f"b{k}") for k in range(11)]
    assert shared_prompts(train, task) == 0
    assert shared_prompts(train, task[:10]) == 1
    question = [pref("Write one statement.", f"a{k}", f"b{k}", "g") for k in range(11)]
    assert shared_prompts(train, question) == 1
