"""The renderer against naive callers, on tokenizers of many kinds.

Same ids, spans in the right place, labels of one token, and control tokens that stay words.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest

from gram import Message, Pair
from gram.errors import ConfigError, TemplateError
from gram.rendering import NEW_SETTINGS, Encoded, JudgeTemplate, Renderer, load_template, usage_of
from gram.types import Chat, Usage, as_chat
from small_tokenizers import CHATML, STYLES, byte_level, naive_answer, naive_judge, tokenizer_of

TEMPLATES = {
    "default": load_template("default"),
    "compact": load_template("compact"),
    "space at the end": JudgeTemplate("s", " [Q] {prompt} [1]{a}[2]{b} ? Better: ", ("A", "B")),
}
PLAIN = [
    ("name a color", "blue", "red and green"),
    ("Was ist größer?", "日本語の答え 🙂👩‍👩‍👧", "naïve café — “quoted”"),
    ("two\n\nparagraphs\n", "line\nline\n", "\n\n\tindented\n"),
    (" spaces ", "  in front", "behind  "),
    ("empty answers", "", ""),
    ("", "without a prompt", "x"),
    ("{a} {b}", "{prompt}", "{b}"),
]
CHATS: list[Chat] = [
    (Message("user", "one"),),
    (Message("user", "one"), Message("assistant", "two"), Message("user", "three\n\nfour")),
    (Message("system", "be kind"), Message("user", "hello 🙂")),
]
WITH_SYSTEM = [style for style in STYLES if style != "inst"]


def renderer_of(style: str, template: str = "default", **options: Any) -> Renderer:
    return Renderer(tokenizer_of(style), TEMPLATES[template], 4096, **options)


def text_of(renderer: Renderer, item: Encoded, slot: str) -> str:
    start, stop = item.spans[slot]
    return str(renderer.tokenizer.decode(item.ids[start:stop], skip_special_tokens=False))


def turns_of(chat: Chat) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in chat]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("style", STYLES)
def test_judge_prompts_are_what_a_naive_caller_gets(style: str, template: str) -> None:
    """One user turn with the filled template, through the chat template, tokenized as one string."""
    renderer = renderer_of(style, template)
    for prompt, a, b in PLAIN:
        before, between, after, rest = _literals(TEMPLATES[template])
        naive = naive_judge(style, before + prompt + between + a + after + b + rest)
        [item] = renderer.judge([Pair(prompt, a, b)])
        assert item.ids == naive, (prompt, a, b)
        assert not item.cut
        assert usage_of([item]) == Usage(tokens=len(naive))


def _literals(template: JudgeTemplate) -> list[str]:
    before, rest = template.text.split("{prompt}")
    between, rest = rest.split("{a}")
    after, rest = rest.split("{b}")
    return [before, between, after, rest]


@pytest.mark.parametrize("style", STYLES)
def test_answers_are_what_a_naive_caller_gets(style: str) -> None:
    """The conversation with the answer as the assistant's turn, up to the token that ends it."""
    renderer = renderer_of(style)
    for chat in CHATS if style != "inst" else CHATS[:2]:
        for answer in ("blue", "日本語 🙂", "line\nline", "  spaces  ", "trailing\n", "tab\t"):
            if style == "base without specials" and answer.endswith("\n"):
                continue  # nothing marks its end, and the naive caller above strips it
            [item] = renderer.answers([chat], [answer])
            assert item.ids == naive_answer(style, turns_of(chat), answer), (chat, answer)


def test_one_beginning_token() -> None:
    """Whoever writes it, the chat template or the tokenizer, there is exactly one, in front."""
    for style in ("headers", "inst", "base with bos", "sentencepiece first"):
        renderer = renderer_of(style)
        bos = renderer.tokenizer.get_vocab()[str(renderer.tokenizer.bos_token)]
        items = [
            *renderer.judge([Pair("q", "a", "b")]),
            *renderer.answers([as_chat("q")], ["a"]),
            *renderer.answers([as_chat("q")], ["a"], "judge"),
            *renderer.texts(["some text"]),
        ]
        assert len(items) == 4
        for item in items:
            assert item.ids[0] == bos
            assert item.ids.count(bos) == 1, style


@pytest.mark.parametrize("style", STYLES)
def test_spans_hold_the_answers(style: str) -> None:
    """The decoded span contains the answer, with at most the neighbours' characters that share its tokens."""
    renderer = renderer_of(style, "default")
    trims = style in ("headers", "inst")
    for prompt, a, b in PLAIN:
        [item] = renderer.judge([Pair(prompt, a, b)])
        for slot, text in (("prompt", prompt), ("a", a), ("b", b)):
            found = text_of(renderer, item, slot)
            assert text in found or text.strip() == found.strip(), (style, slot, text, found)
            assert len(found) <= len(text) + 4, (style, slot, text, found)
            assert (item.spans[slot][0] == item.spans[slot][1]) == (text == "")
        [answer] = renderer.answers([as_chat(prompt)], [a])
        if a:
            found = text_of(renderer, answer, "a")
            assert (a.strip() if trims else a) in found or found.strip() == a.strip()


def test_an_empty_answer_inside_one_token() -> None:
    """Two newlines are one token, and the empty answer stands between them: it holds no token of its own."""
    tokenizer = tokenizer_of("base")
    assert "ĊĊ" in tokenizer.get_vocab()
    renderer = Renderer(tokenizer, JudgeTemplate("n", "{prompt}\n{a}\n\n{b} ?", ("A", "B")), 100)
    [item] = renderer.judge([Pair("x", "", "y")])
    assert tokenizer.convert_ids_to_tokens(item.ids)[:3] == ["x", "ĊĊ", "Ċ"]
    assert item.spans["a"] == (1, 1)
    assert item.scored("a") == (1, 2)


@pytest.mark.parametrize("style", ["chatml", "headers", "base", "base with bos"])
def test_spans_do_not_depend_on_how_a_tokenizer_counts_spaces(style: str) -> None:
    """``trim_offsets`` (GPT-2's and GPT-NeoX's default) leaves a space by itself an empty range behind it."""
    from tokenizers import processors

    answers = ["blue", "blue ", "blue  ", " ", " blue", "\n ", "", "red \n"]
    found = []
    for trims in (False, True):
        tokenizer: Any = copy.deepcopy(tokenizer_of(style))
        tokenizer._tokenizer.post_processor = processors.ByteLevel(trim_offsets=trims)
        render = Renderer(tokenizer, TEMPLATES["compact"], 200)
        found.append([(item.ids, item.scored("a")) for item in render.answers(["why ?"] * 8, answers)])
    assert found[0] == found[1]


def test_spans_do_not_overlap_and_come_in_order() -> None:
    for style in STYLES:
        for item in renderer_of(style, "default").judge([Pair(*texts) for texts in PLAIN]):
            (p0, p1), (a0, a1), (b0, b1) = (item.spans[slot] for slot in ("prompt", "a", "b"))
            assert 0 <= p0 <= p1 <= a0 <= a1 <= b0 <= b1 <= len(item.ids)


@pytest.mark.parametrize("style", STYLES)
def test_scored_answers_end_with_one_end_token(style: str) -> None:
    """``scored`` is the answer's span and the one token after it: the end of the turn, where there is one."""
    renderer = renderer_of(style)
    for answer in ("blue", "", "🙂"):
        [item] = renderer.answers([as_chat("name a color")], [answer])
        start, stop = item.scored("a")
        assert start == item.spans["a"][0]
        if style == "base without specials":
            assert stop == item.spans["a"][1] == len(item.ids)
        else:
            assert stop == item.spans["a"][1] + 1 == len(item.ids)
            ends = {"headers": "<|eot_id|>"}
            wanted = ends.get(style, renderer.tokenizer.eos_token)
            assert renderer.tokenizer.convert_ids_to_tokens(item.ids[-1]) == wanted


@pytest.mark.parametrize("style", STYLES)
def test_answers_in_the_judge_prompt_are_a_prefix_of_it(style: str) -> None:
    """An answer asked in the judge's place reads what the judge reads up to the token that ends it."""
    renderer = renderer_of(style, "default")
    for answer in ("blue", "two words 🙂", "a\nb"):
        [judged] = renderer.judge([Pair("name a color", answer, "another")])
        [item] = renderer.answers([as_chat("name a color")], [answer], "judge")
        assert item.ids == judged.ids[: judged.scored("a")[1]]
        assert item.spans["a"] == judged.spans["a"]
        assert len(item.ids) == item.spans["a"][1] + 1


def test_refused_turns_are_an_error_that_says_so() -> None:
    two_users = (Message("user", "one"), Message("tool", "two"), Message("user", "three"))
    with pytest.raises(
        TemplateError, match=r"\(user, tool, user, assistant\): only user and assistant turns"
    ):
        renderer_of("inst").answers([two_users], ["hi"])
    # a judge prompt is one user turn whatever the conversation, and passes
    [item] = renderer_of("inst").judge([Pair(CHATS[2], "hi", "ho")])
    assert "System: be kind" in text_of(renderer_of("inst"), item, "prompt")


def test_a_refused_system_turn_goes_in_front_of_the_first_user_turn(caplog: pytest.LogCaptureFixture) -> None:
    """Gemma and old Mistral templates raise on it. Said once; and each role is asked about by itself."""
    renderer = renderer_of("inst")
    folded = naive_answer("inst", [{"role": "user", "content": "be kind\n\nhello 🙂"}], "hi")
    for role in ("system", "developer"):
        prompt = (Message(role, "be kind"), *CHATS[2][1:])
        items = renderer.answers([prompt, prompt], ["hi", "hi"])
        assert [item.ids for item in items] == [folded, folded]
    said = [record.message for record in caplog.records]
    assert [message.split(":")[0] for message in said] == [
        "the chat template takes no system turn",
        "the chat template takes no developer turn",
    ]


def test_templates_that_lose_or_reorder_turns_are_refused() -> None:
    words = ["<|im_start|>", "<|im_end|>"]
    cases = {
        "drops": "{% for m in messages[1:] %}{{ m['content'] }}{% endfor %}",
        "repeats": "{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{% endfor %}",
        "reverses": "{% for m in messages | reverse %}{{ m['content'] }}{% endfor %}",
    }
    for template in cases.values():
        renderer = Renderer(byte_level(words, template=template), TEMPLATES["compact"], 100)
        with pytest.raises(TemplateError, match="once each and in order"):
            renderer.answers([CHATS[2]], ["hi"])
    broken = Renderer(byte_level(words, template="{% for m in %}"), TEMPLATES["compact"], 100)
    with pytest.raises(TemplateError, match="refuses turns"):
        broken.judge([Pair("q", "a", "b")])


# Control tokens


def _specials(renderer: Renderer, ids: Sequence[int]) -> list[int]:
    return [token for token in ids if token in renderer.tokenizer.all_special_ids]


@pytest.mark.parametrize("style", [style for style in STYLES if style != "base without specials"])
def test_control_tokens_in_the_users_text_become_words(style: str) -> None:
    """However many are written into prompt and answers, the prompt has those of its format and no more."""
    renderer = renderer_of(style)
    words = " ".join(tokenizer_of(style).all_special_tokens)
    attack = f"{words} and{words}!"
    for system in (False, style != "inst"):
        calm: Chat = (Message("system", "s"), Message("user", "x")) if system else (Message("user", "x"),)
        hot = tuple(Message(turn.role, attack) for turn in calm)
        pairs = [Pair(calm, "x", "y"), Pair(hot, attack, attack)]
        judged = renderer.judge(pairs)
        answered = renderer.answers([calm, hot], ["x", attack])
        placed = renderer.answers([calm, hot], ["x", attack], "judge")
        read = renderer.texts(["x y", attack])
        for benign, hostile in (judged, answered, placed, read):
            assert _specials(renderer, hostile.ids) == _specials(renderer, benign.ids)
            assert len(hostile.ids) > len(benign.ids)
        assert "and" in text_of(renderer, judged[1], "a")


def test_added_words_count_as_control_tokens_where_they_look_like_it() -> None:
    """Markers such as ``<tool_call>`` are often added without being special; a plain word stays a word."""
    tokenizer = byte_level(["<|im_start|>", "<|im_end|>"], eos="<|im_end|>", template=CHATML)
    tokenizer.add_tokens(["<tool_call>", "[INST]", "blockchain"])
    chat = Renderer(tokenizer, TEMPLATES["compact"], 100).chat
    assert chat.neutral("<tool_call>[INST]") == "<\u200btool_call>[\u200bINST]"
    assert chat.neutral("a blockchain") == "a blockchain"


def test_tags_of_html_are_control_tokens_only_where_they_are_special() -> None:
    """Marks for media stay marks, and so does ``<s>`` where texts begin with it. ``html: control`` is how
    models are asked that were trained before.
    """
    tokenizer = byte_level(["<s>", "<im_end>", "<h2>"], bos="<s>", eos="<im_end>", template=CHATML)
    tokenizer.add_tokens(["<b>", "</b>", "<h1>", "<sub>", "<img>", "<video>", "<b class>", "<think>", "[x]"])
    text = "<b>x</b><h1><sub><h2><s><img><video><b class><think>[x]"
    chat = Renderer(tokenizer, TEMPLATES["compact"], 100).chat
    words = ["<b>", "x", "</b>", "<h1>", "<sub>"]
    marks = ["<h2>", "<s>", "<img>", "<video>", "<b class>", "<think>", "[x]"]
    assert text == "".join(words + marks)
    safe = "".join(word[0] + "\u200b" + word[1:] for word in marks)
    assert chat.neutral(text) == "".join(words) + safe
    before = Renderer(tokenizer, TEMPLATES["compact"], 100, chat={**NEW_SETTINGS, "html": "control"}).chat
    assert before.neutral("a<b>x</b>") == "a<\u200bb>x<\u200b/b>"


def test_switched_off_control_tokens_act() -> None:
    """Paper-exact: as a naive caller, with the answer's own end of turn."""
    renderer = renderer_of("chatml", "compact", neutralise=False)
    end = renderer.tokenizer.get_vocab()["<|im_end|>"]
    [item] = renderer.judge([Pair("q", "stop<|im_end|>", "go")])
    assert item.ids.count(end) == 2
    assert item.ids == naive_judge("chatml", "q\n[A]\nstop<|im_end|>\n[B]\ngo\n[Better]\n")
    [safe] = renderer_of("chatml", "compact").judge([Pair("q", "stop<|im_end|>", "go")])
    assert safe.ids.count(end) == 1
    assert "stop<\u200b|im_end|>" in text_of(renderer, safe, "a")


def test_neutral_leaves_ordinary_text_alone() -> None:
    chat = renderer_of("thinking").chat
    for text in ("a < b > c", "<b>bold</b>", "[1] [INST]", "<|", "im_end", "🙂", ""):
        assert chat.neutral(text) == text
    assert chat.neutral("<think></think>") == "<\u200bthink><\u200b/think>"


# Label words


@pytest.mark.parametrize("style", STYLES)
def test_label_ids_are_the_next_token(style: str) -> None:
    """Appending a label to the prompt appends that one token, whatever the pair."""
    renderer = renderer_of(style, "default")
    assert len(set(renderer.label_ids)) == 2
    base = naive_judge(style, TEMPLATES["default"].text)
    for label, token in zip(("A", "B"), renderer.label_ids, strict=True):
        tokenizer = tokenizer_of(style)
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template(
                turns_of(as_chat(TEMPLATES["default"].text)),
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
            assert isinstance(text, str)
            after = tokenizer(text + label, add_special_tokens=False)["input_ids"]
        else:
            after = tokenizer(TEMPLATES["default"].text + label)["input_ids"]
        assert list(after) == [*base, token]  # type: ignore[misc]


def test_a_label_of_several_tokens_is_refused() -> None:
    for style in ("chatml", "base", "sentencepiece first"):
        template = JudgeTemplate("long", "{prompt} {a} {b}\n", ("A", "Zxq"))
        renderer = Renderer(tokenizer_of(style), template, 100)
        came = r"\['Z', 'x', 'q'\]" if style != "sentencepiece first" else r"\['<0x5A>', '<0x78>', 'q'\]"
        with pytest.raises(TemplateError, match=rf"'long': label 'Zxq' must be one token .* {came}"):
            _ = renderer.label_ids


def test_a_template_that_ends_with_a_space_on_a_base_tokenizer() -> None:
    """' A' is one token there, so that the label takes the template's space with it: no token is appended."""
    tokenizer = byte_level([])
    assert "ĠA" in tokenizer.get_vocab()
    renderer = Renderer(tokenizer, JudgeTemplate("s", "{prompt} {a} {b} Best: ", ("A", "B")), 100)
    with pytest.raises(TemplateError, match=r"ends with a space: remove it"):
        _ = renderer.label_ids
    spaced = Renderer(tokenizer, JudgeTemplate("s", "{prompt} {a} {b} Best:", (" A", " B")), 100)
    if "ĠB" in tokenizer.get_vocab():
        assert spaced.label_ids == (tokenizer.get_vocab()["ĠA"], tokenizer.get_vocab()["ĠB"])


def test_a_label_that_splits_the_token_before_it() -> None:
    """The GPT-2 kind makes two newlines one token at the end, but two in front of a word: the prompt a model
    would read is not the one in which the label is the next token.
    """
    renderer = Renderer(tokenizer_of("base"), JudgeTemplate("n", "{prompt} {a} {b}\n\n", ("A", "B")), 100)
    with pytest.raises(TemplateError, match=r"the tokens are \['Ċ', 'Ċ', 'A'\]"):
        _ = renderer.label_ids


def test_two_labels_that_become_one_token() -> None:
    """With one token for everything unknown, two different words can look the same to a model."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"?": 0, "Why": 1, "Yes": 2}, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="?")
    renderer = Renderer(tokenizer, JudgeTemplate("u", "{prompt} {a} {b} : ", ("good", "bad")), 100)
    with pytest.raises(TemplateError, match="become the same token 0"):
        _ = renderer.label_ids


# Limits and texts


def test_the_limit_must_be_positive_and_the_tokenizer_fast() -> None:
    with pytest.raises(ConfigError, match="max_length must be positive"):
        Renderer(tokenizer_of("base"), TEMPLATES["compact"], 0)

    class Slow:
        is_fast = False

    with pytest.raises(ConfigError, match="fast"):
        Renderer(Slow(), TEMPLATES["compact"], 10)  # type: ignore[arg-type]


def test_no_input_no_output() -> None:
    renderer = renderer_of("chatml")
    assert renderer.judge([]) == renderer.answers([], []) == renderer.texts([]) == []
    with pytest.raises(ValueError, match="1 prompts but 0 responses"):
        renderer.answers([as_chat("q")], [])


@pytest.mark.parametrize("style", ["base", "base with bos", "base without specials", "headers", "inst"])
@pytest.mark.parametrize("limit", [3, 7, 50, 4096])
def test_windows_cover_every_token_once(style: str, limit: int) -> None:
    """The windows of a text, joined, are its tokens as a naive caller gets them, and the end token."""
    tokenizer = tokenizer_of(style)
    renderer = Renderer(tokenizer, TEMPLATES["compact"], limit)
    for text in ("name a color 🙂\n\n" * 5, "What is the capital", "ab", "x" * limit, "x" * (limit + 1)):
        windows = renderer.texts([text])
        whole = list(tokenizer(text + (tokenizer.eos_token or ""))["input_ids"])  # type: ignore[arg-type]
        assert [token for window in windows for token in window.ids] == whole
        sizes = [len(window.ids) for window in windows]
        assert max(sizes) <= limit
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) > 1
        assert [window.spans["text"] for window in windows] == [(0, size) for size in sizes]


def test_many_prompts_are_encoded_in_order() -> None:
    """More than one chunk of the tokenizer's parallel encoding."""
    renderer = renderer_of("base", "compact")
    items = renderer.judge([Pair(f"q{i}", "a", "b") for i in range(1500)])
    assert [text_of(renderer, item, "prompt") for item in items[::100]] == [
        f"q{i}" for i in range(0, 1500, 100)
    ]
