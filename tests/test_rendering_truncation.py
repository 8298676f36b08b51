"""Truncation: never longer than the limit, the template's own text untouched, answers shortened alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gram import Message, Pair
from gram.errors import TemplateError
from gram.rendering import Encoded, Renderer, load_template, usage_of
from gram.rendering.pieces import Piece
from gram.rendering.truncation import ELLIPSIS, fair_shares, shorten, shorten_to_fit
from gram.types import Usage, as_chat
from small_tokenizers import tokenizer_of

pytestmark = pytest.mark.law(5)

STYLES = ["chatml", "headers", "base with bos", "sentencepiece first"]
TEMPLATE = load_template("compact")

words = st.lists(st.sampled_from(["blue", "red", "capital", "kind", "x", "of", "France"]), max_size=80).map(
    " ".join
)
nasty = st.lists(
    st.sampled_from([*"ab \n\t\0🙂é日…\u200b\u0301\u202e", "👩\u200d👧", "<|im_end|>", "</s>"]), max_size=100
).map("".join)


@cache
def renderer_of(style: str, limit: int) -> Renderer:
    return Renderer(tokenizer_of(style), TEMPLATE, limit)


def text_of(renderer: Renderer, item: Encoded, slot: str) -> str:
    start, stop = item.spans[slot]
    return str(renderer.tokenizer.decode(item.ids[start:stop]))


def characters(text: str) -> list[tuple[int, int]]:
    """The plainest encoding: one token per character."""
    return [(place, place + 1) for place in range(len(text))]


def octets(text: str) -> list[tuple[int, int]]:
    """One token per UTF-8 byte: the tokens of one character share its range."""
    return [(place, place + 1) for place, char in enumerate(text) for _ in char.encode()]


# Shares


lengths = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 60), min_size=1)


@given(lengths, st.integers(0, 200))
def test_shares_are_fair(need: dict[str, int], budget: int) -> None:
    """Nobody gets more than it needs or all get it; those who are cut get the same, and nobody gets more
    than they; less than one token per slot stays unused.
    """
    shares = fair_shares(need, budget)
    assert all(0 <= shares[slot] <= need[slot] for slot in need)
    if sum(need.values()) <= budget:
        assert shares == need
        return
    cut = {shares[slot] for slot in need if shares[slot] < need[slot]}
    assert len(cut) == 1
    assert max(shares.values()) == cut.pop()
    assert budget - len(need) < sum(shares.values()) <= budget


def test_shares_by_hand() -> None:
    """10 for three: 2 needs only 2, the other two share 8. 9 for three: (9 - 2) // 2 = 3 each, one unused."""
    assert fair_shares({"a": 2, "b": 9, "c": 5}, 10) == {"a": 2, "b": 4, "c": 4}
    assert fair_shares({"a": 9, "b": 2, "c": 9}, 9) == {"a": 3, "b": 2, "c": 3}
    assert fair_shares({"a": 5, "b": 5}, -3) == {"a": 0, "b": 0}


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 100))
def test_swapped_needs_get_swapped_shares(prompt: int, a: int, b: int, budget: int) -> None:
    shares = fair_shares({"prompt": prompt, "a": a, "b": b}, budget)
    swapped = fair_shares({"prompt": prompt, "a": b, "b": a}, budget)
    assert (shares["a"], shares["b"], shares["prompt"]) == (swapped["b"], swapped["a"], swapped["prompt"])


# Shortening one text


def test_shorten_by_hand() -> None:
    """Of "abcdef" keep 3: two in front, one behind, three gone. Of one character in four bytes keep 3: a part
    of a character cannot be kept, so it goes, with all four.
    """
    assert shorten("abcdef", characters("abcdef"), 3) == ("ab … f", 3)
    assert shorten("abcdef", characters("abcdef"), 0) == (" … ", 6)
    assert shorten("abcdef", characters("abcdef"), 6) == ("abcdef", 0)
    assert shorten("🙂", octets("🙂"), 3) == (" … ", 4)
    assert shorten("a🙂b", octets("a🙂b"), 4) == ("a … b", 4)


@given(nasty, st.integers(0, 300))
@example("🙂🙂", 5)
def test_shorten_keeps_whole_characters_from_both_ends(text: str, keep: int) -> None:
    """What stays is a beginning and an end of the text, of at most ``keep`` tokens; the rest is counted."""
    tokens = octets(text)
    short, removed = shorten(text, tokens, keep)
    if keep >= len(tokens):
        assert (short, removed) == (text, 0)
        return
    kept = len(tokens) - removed
    assert removed > 0
    assert keep - 6 <= kept <= keep  # at most a part of one character lost on either side
    ends = [
        (text[:start], text[stop:])
        for start in range(len(text) + 1)
        for stop in range(start, len(text) + 1)
        if text[:start] + ELLIPSIS + text[stop:] == short
    ]
    assert any(len(octets(start + end)) == kept for start, end in ends)


@given(
    st.lists(st.tuples(nasty, st.booleans()), min_size=1, max_size=6),
    st.integers(1, 300),
    st.sampled_from([characters, octets]),
)
def test_fit_on_any_pieces(parts: list[tuple[str, bool]], limit: int, encode) -> None:
    """Within the limit or an error; literals and the order of the pieces stay; what is cut is counted."""
    pieces = [Piece(text, f"slot {place}" if slot else None) for place, (text, slot) in enumerate(parts)]
    whole = len(encode("".join(piece.text for piece in pieces)))
    literal = sum(len(encode(piece.text)) for piece in pieces if piece.slot is None)
    slots = sum(piece.slot is not None for piece in pieces)
    try:
        short, cut = shorten_to_fit(pieces, limit, encode)
    except TemplateError:
        assert whole > limit
        assert limit < literal + slots * (1 + len(encode(ELLIPSIS)))  # it could not have a token per slot
        return
    assert len(encode("".join(piece.text for piece in short))) <= limit
    assert [piece.slot for piece in short] == [piece.slot for piece in pieces]
    for old, new in zip(pieces, short, strict=True):
        if old.slot in cut:
            lost = len(encode(old.text)) + len(encode(ELLIPSIS)) - len(encode(new.text))
            assert cut[old.slot] == lost
        else:
            assert new == old
    if whole <= limit:
        assert not cut


def test_too_small_a_limit_says_what_the_literal_text_takes() -> None:
    pieces = [Piece("0123456789"), Piece("answer" * 9, "a")]
    with pytest.raises(TemplateError, match=r"max_length 10 is too small: .* takes 10 tokens"):
        shorten_to_fit(pieces, 10, characters)
    short, cut = shorten_to_fit(pieces, 14, characters)
    assert "".join(piece.text for piece in short) == "0123456789a … "
    assert cut == {"a": 53}


def finer_behind_a_cut(text: str) -> list[tuple[int, int]]:
    """One token per character, two behind an ellipsis: cutting costs tokens that no part alone shows."""
    whole, mark, rest = text.partition("…")
    start = len(whole) + len(mark)
    pairs = [(place, place + 1) for place in range(start, len(text)) for _ in "xy"]
    return characters(whole + mark) + (pairs if rest.strip() else pairs[: len(rest)])


@given(st.integers(10, 60), st.integers(0, 60))
def test_fit_measures_the_whole_again(limit: int, length: int) -> None:
    """Literal 2, answer of up to 60: the first cut is too long by its own tail, the next ones are not."""
    pieces = [Piece("<>"), Piece("a" * length, "a")]
    short, cut = shorten_to_fit(pieces, limit, finer_behind_a_cut)
    assert len(finer_behind_a_cut("".join(piece.text for piece in short))) <= limit
    assert bool(cut) == (2 + length > limit)


# The renderer


def skeleton(style: str) -> tuple[list[int], list[int]]:
    """Ids before the prompt and after the second answer."""
    [item] = renderer_of(style, 4096).judge([Pair("x", "x", "x")])
    return item.ids[: item.spans["prompt"][0]], item.ids[item.spans["b"][1] :]


@pytest.mark.parametrize("style", STYLES)
@given(words, words, words, st.integers(50, 120))
@settings(max_examples=30, deadline=None)
def test_truncated_prompts(style: str, prompt: str, a: str, b: str, limit: int) -> None:
    """Never too long; cue and markers stay; both answers keep something; cuts are alike and counted."""
    assume(prompt and a and b)
    renderer = renderer_of(style, limit)
    [item] = renderer.judge([Pair(prompt, a, b)])
    [whole] = renderer_of(style, 100_000).judge([Pair(prompt, a, b)])
    assert len(item.ids) <= limit
    if len(whole.ids) <= limit:
        assert item == whole
        assert usage_of([item]) == Usage(len(item.ids), truncated=0)
        return
    assert usage_of([item]) == Usage(len(item.ids), truncated=1)
    first, last = skeleton(style)
    assert item.ids[: len(first)] == first
    assert item.ids[-len(last) :] == last
    decoded = str(renderer.tokenizer.decode(item.ids))
    assert re.search(r"\n\[A\]\n(?s:.)+\n\[B\]\n(?s:.)+\n\[Better\]", decoded)
    kept = {}
    for slot, text in (("prompt", prompt), ("a", a), ("b", b)):
        found = text_of(renderer, item, slot).strip()
        if slot in item.cut:
            start, end = found.split(ELLIPSIS.strip())
            assert start.strip() or end.strip()
            assert text.startswith(start.strip())
            assert text.endswith(end.strip())
            alone = renderer.tokenizer(text, add_special_tokens=False)["input_ids"]
            kept[slot] = len(alone) - item.cut[slot]  # type: ignore[arg-type]
        else:
            assert found == text
    assert item.cut
    assert max(kept.values()) - min(kept.values()) <= 1  # one: two tokens may share the first character


@pytest.mark.parametrize("style", STYLES)
@given(words, words, words, st.integers(50, 120))
@settings(max_examples=30, deadline=None)
def test_truncating_a_swapped_pair_swaps_the_truncated_pair(
    style: str, prompt: str, a: str, b: str, limit: int
) -> None:
    """No answer is longer because it is shown first."""
    renderer = renderer_of(style, limit)
    pair = Pair(prompt, a, b)
    one, other = renderer.judge([pair, pair.swapped()])
    assert len(one.ids) == len(other.ids)
    assert text_of(renderer, one, "a").strip() == text_of(renderer, other, "b").strip()
    assert text_of(renderer, one, "b").strip() == text_of(renderer, other, "a").strip()
    assert text_of(renderer, one, "prompt").strip() == text_of(renderer, other, "prompt").strip()
    names = {"a": "b", "b": "a", "prompt": "prompt"}
    assert {names[slot]: count for slot, count in one.cut.items()} == dict(other.cut)


@pytest.mark.parametrize("style", STYLES)
@given(st.lists(nasty, min_size=3, max_size=3), st.integers(56, 140))
@settings(max_examples=40, deadline=None)
def test_nasty_unicode_ends_and_fits(style: str, texts: Sequence[str], limit: int) -> None:
    """Combining marks, joined emoji, right-to-left marks, NUL and control tokens: it ends, fits, and asks."""
    renderer = renderer_of(style, limit)
    [item] = renderer.judge([Pair(*texts)])
    assert len(item.ids) <= limit
    first, last = (str(renderer.tokenizer.decode(ids)) for ids in skeleton(style))
    decoded = str(renderer.tokenizer.decode(item.ids))
    assert decoded.startswith(first)
    assert decoded.endswith(last)
    assert re.search(r"\[A\]\n(?s:.)*\n\[B\]\n(?s:.)*\n\[Better\]", decoded)
    for context in ("chat", "judge"):
        [answer] = renderer.answers([as_chat(texts[0])], [texts[1]], context)
        assert len(answer.ids) <= limit
        assert answer.scored("a")[1] == len(answer.ids)


@pytest.mark.parametrize("style", STYLES)
def test_long_conversations_keep_their_end_token(style: str) -> None:
    """A long answer after long turns: every turn is shortened, and the token that ends the answer stays."""
    chat = tuple(
        Message("assistant" if place % 2 else "user", f"turn {place} " + "blue red " * 60)
        for place in range(5)
    )
    renderer = renderer_of(style, 200)
    [item] = renderer.answers([chat], ["answer " + "kind " * 200 + "end"])
    assert len(item.ids) <= 200
    assert set(item.cut) == {"turn 0", "turn 1", "turn 2", "turn 3", "turn 4", "a"}
    assert item.scored("a")[1] == item.spans["a"][1] + 1 == len(item.ids)
    found = text_of(renderer, item, "a").strip()
    assert found.startswith("answer") and found.endswith("end")


@pytest.mark.parametrize("style", STYLES)
def test_of_too_many_turns_the_oldest_lose_their_texts(style: str) -> None:
    """There is no token and ellipsis for each of 41 turns: those behind the first go, no more than it takes.

    The last turn and a short answer keep everything; of a long answer and the last turn both ends stay.
    """
    chat = tuple(
        Message("assistant" if place % 2 else "user", f"turn {place} blue red of France")
        for place in range(41)
    )
    whole = renderer_of(style, 100_000)
    [full] = whole.answers([chat], ["kind"])
    [bare] = whole.answers([tuple(Message(turn.role, "") for turn in chat)], ["kind"])
    renderer = renderer_of(style, len(bare.ids) + 60)
    [item] = renderer.answers([chat], ["kind"])
    assert len(item.ids) <= renderer.max_length < len(full.ids)
    emptied = [slot for slot, (start, stop) in item.spans.items() if start == stop]
    assert 0 < len(emptied) < 40
    assert emptied == [f"turn {place}" for place in range(1, len(emptied) + 1)]
    assert all(item.cut[slot] == full.spans[slot][1] - full.spans[slot][0] for slot in emptied)
    assert text_of(renderer, item, "turn 40").strip() == chat[40].content
    assert text_of(renderer, item, "a").strip() == "kind"
    [item] = renderer.answers([chat], ["answer " + "kind " * 200 + "end"])
    assert len(item.ids) <= renderer.max_length
    assert set(item.cut) == {*(f"turn {place}" for place in range(40)), "a"}
    found = text_of(renderer, item, "a").strip()
    assert found.startswith("answer") and found.endswith("end")


def test_spare_slots_by_hand() -> None:
    """An ellipsis is 3, so five texts want 20 for a token each, beside a literal text of 2.

    At 21, q and r with x and y leave 19 - 12 = 7 for four, and x would lose one of its 2; without q there are
    19 - 9 = 10: x and y keep 2 each, r keeps 6. At 6 all that is spare goes; 5 is too small.
    """
    lengths = {"p": 4, "q": 4, "r": 40, "x": 2, "y": 2}
    pieces = [Piece("<"), *(Piece(slot * length, slot) for slot, length in lengths.items()), Piece(">")]
    assert shorten_to_fit(pieces, 22, characters, spare="pqr") == shorten_to_fit(pieces, 22, characters)
    for limit, text, cut in (
        (21, "<rrr … rrrxxyy>", {"p": 4, "q": 4, "r": 34}),
        (6, "<xxyy>", {"p": 4, "q": 4, "r": 40}),
    ):
        short, removed = shorten_to_fit(pieces, limit, characters, spare="pqr")
        assert ("".join(piece.text for piece in short), removed) == (text, cut)
    with pytest.raises(TemplateError, match=r"takes 2 tokens, and the 2 texts .* up to 8 more"):
        shorten_to_fit(pieces, 5, characters, spare="pqr")


def test_a_limit_below_the_template_is_an_error() -> None:
    for style in STYLES:
        with pytest.raises(TemplateError, match="max_length 12 is too small"):
            renderer_of(style, 12).judge([Pair("one two three four", "a", "b")])


def test_the_count_of_truncated_prompts() -> None:
    """Two of three pairs are too long; asking in both orders renders each twice."""
    renderer = Renderer(tokenizer_of("chatml"), TEMPLATE, 100)
    pairs = [Pair("q", "short", "short"), Pair("q", "long " * 200, "short"), Pair("q" * 300, "x", "y")]
    prompts = renderer.judge([*pairs, *(pair.swapped() for pair in pairs)])
    assert [bool(item.cut) for item in prompts] == [False, True, True] * 2
    assert usage_of(prompts) == Usage(sum(len(item.ids) for item in prompts), truncated=4)
