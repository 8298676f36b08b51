"""Judge prompts in the fan layout: the template's text, and answers whose tokens depend on nothing else."""

from __future__ import annotations

import itertools

import pytest

from conftest import make_preferences
from gram import Pair
from gram.errors import TemplateError
from gram.modeling.loading import LoadedModel
from gram.rendering import Encoded, FanRenderer, JudgeTemplate, Renderer, load_template
from gram.rendering.fan import LOOKING
from small_tokenizers import STYLES, tokenizer_of

PAIRS = [item.pair for item in make_preferences(12)]


def fan_of(preset: LoadedModel, max_length: int = 512, template: str = "compact") -> FanRenderer:
    return FanRenderer(preset.tokenizer, load_template(template), max_length)


def parts(item: Encoded) -> list[list[int]]:
    """Head, first branch, joint, second branch, and the tail with the looking tokens."""
    assert item.branches is not None
    (a, b), (c, d) = item.branches
    return [item.ids[:a], item.ids[a:b], item.ids[b:c], item.ids[c:d], item.ids[d:]]


def test_the_text_is_that_of_the_sequence(preset: LoadedModel, renderer: Renderer) -> None:
    """Decoded, both layouts are one text: the template stands in one place only."""
    fan = fan_of(preset)
    for pair, other in zip(fan.judge(PAIRS), renderer.judge(PAIRS), strict=True):
        texts = [preset.tokenizer.decode(item.ids) for item in (pair, other)]
        assert texts[0] == texts[1]
        assert pair.looking == LOOKING and not pair.cut
        answers = [preset.tokenizer.decode(pair.ids[slice(*pair.spans[slot])]) for slot in "ab"]
        assert answers == [preset.tokenizer.decode(other.ids[slice(*other.spans[slot])]) for slot in "ab"]
    assert fan.label_ids == renderer.label_ids


@pytest.mark.parametrize("style", STYLES)
def test_an_answer_has_the_same_tokens_everywhere(style: str) -> None:
    """At both places, beside answers of any length; also where a space is put in front of texts."""
    fan = FanRenderer(tokenizer_of(style), load_template("default"), 400)
    answers = ["blue", "  red", "Paris\n\nis it.", "two words here", "long " * 200, "- a\n- b"]
    pairs = list(itertools.permutations(answers, 2))
    found = fan.judge([Pair("name a color", a, b) for a, b in pairs])
    tokens: dict[str, set[tuple[int, ...]]] = {answer: set() for answer in answers}
    rest = set()
    for (a, b), item in zip(pairs, found, strict=True):
        assert len(item.ids) <= 400
        head, first, joint, second, tail = parts(item)
        tokens[a].add(tuple(first))
        tokens[b].add(tuple(second))
        rest.add((*head, -1, *joint, -1, *tail))
    assert [len(found) for found in tokens.values()] == [1] * len(answers) and len(rest) == 1
    whole = "".join(str(fan.tokenizer.decode(ids)) for ids in parts(found[0]))
    assert "[Answer A]\nblue\n\n[Answer B]" in whole.replace("  ", " ")


def test_line_breaks_behind_both_answers_are_read_with_them(preset: LoadedModel) -> None:
    """``{a}\\n[B]\\n{b}\\n[Better]``: the line break in front of both brackets belongs to the branches."""
    [item] = fan_of(preset).judge([Pair("what ?", "the silver .", "bread")])
    _, first, joint, second, _ = (preset.tokenizer.decode(ids) for ids in parts(item))
    assert (first, joint, second) == ("the silver .\n", "[B]\n", "bread\n")
    assert preset.tokenizer.decode(item.ids[slice(*item.spans["a"])]) == "the silver ."


def test_truncation_looks_at_one_answer_and_the_prompt_only(preset: LoadedModel) -> None:
    """60 tokens. An answer is cut the same beside a short and a long one, and at both places."""
    fan = fan_of(preset, 60)
    long, short = "the quiet river and the old tower . " * 20, "bread"
    prompt = "what is the window of the school ?"
    items = fan.judge([Pair(prompt, long, short), Pair(prompt, short, long), Pair(prompt, long, long + "!")])
    assert all(len(item.ids) <= 60 for item in items)
    assert parts(items[0])[1] == parts(items[1])[3] == parts(items[2])[1]
    assert items[0].cut["a"] == items[1].cut["b"] > 0 and "b" not in items[0].cut
    [wordy] = fan.judge([Pair(prompt * 20, short, short + "!")])
    assert len(wordy.ids) <= 60 and set(wordy.cut) == {"prompt"}


def test_an_answer_in_its_judge_context_is_the_branch(preset: LoadedModel) -> None:
    """What stage 1 is trained on: head and answer, with the one token that ends it."""
    fan = fan_of(preset)
    [answer] = fan.answers(["what ?"], ["bread and silver"], "judge")
    head, first, *_ = parts(fan.judge([Pair("what ?", "bread and silver", "x")])[0])
    assert answer.ids == head + first and answer.scored("a") == (len(head), len(head + first))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{a}\n{b}\n{prompt}\n", r"needs \{prompt\} in front of both answers"),
        ("{prompt}\n{a}\n{b}", "needs text behind both answers"),
    ],
)
def test_templates_that_do_not_fork_are_refused(text: str, reason: str) -> None:
    """With a tokenizer without a chat template, so that nothing stands behind the last answer."""
    fan = FanRenderer(tokenizer_of("base"), JudgeTemplate("odd", text, ("A", "B")), 200)
    with pytest.raises(TemplateError, match=reason):
        fan.judge([Pair("p", "x", "y")])


def test_too_small_a_limit_is_an_error(preset: LoadedModel) -> None:
    with pytest.raises(TemplateError, match="max_length 20 is too small for the fan layout"):
        fan_of(preset, 20).judge([Pair("what ? " * 9, "bread " * 9, "silver " * 9)])
