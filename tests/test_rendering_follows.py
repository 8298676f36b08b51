"""What a chat template does to the texts themselves is followed: thoughts, tool calls, dates, changes.

The right text of every case is computed by ``apply_chat_template`` on the real messages. The templates are
our own, in the styles of well-known models.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from gram import Message, Pair
from gram.errors import TemplateError
from gram.rendering import NEW_SETTINGS, Encoded, JudgeTemplate, Renderer
from gram.rendering.limits import MEMORY, SECONDS
from gram.turns import split_calls, with_calls
from gram.types import Chat, as_chat
from small_tokenizers import CHATML, byte_level

# Thoughts of earlier answers are left out, an answer to the last question opens with thoughts, empty ones if
# it has none, and calls are written as JSON between tags: the Qwen3 kind.
QWEN3 = (
    "{%- set ns = namespace(last=0) %}"
    "{%- for m in messages %}"
    "{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}"
    "{%- endfor %}"
    "{%- for m in messages %}"
    "{%- if m.role == 'assistant' %}"
    "{%- set content = m.content %}{%- set thoughts = '' %}"
    "{%- if '</think>' in content %}"
    "{%- set thoughts = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}"
    "{%- endif %}"
    "{{- '<|im_start|>assistant\n' }}"
    "{%- if loop.index0 > ns.last and (loop.last or thoughts) %}"
    "{{- '<think>\n' + thoughts.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}"
    "{%- else %}{{- content }}{%- endif %}"
    "{%- for call in m.tool_calls or [] %}"
    "{%- if (loop.first and content) or not loop.first %}{{- '\n' }}{%- endif %}"
    '{{- \'<tool_call>\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{- call.function.arguments | tojson }}{{- '}\n</tool_call>' }}"
    "{%- endfor %}{{- '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{%- endif %}"
)
# Leaves thoughts out of every answer, and opens them for the next: the DeepSeek R1 kind.
R1 = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "<|im_start|>assistant\n{{ m.content.split('</think>')[-1].strip() }}<|im_end|>"
    "{% else %}<|im_start|>user\n{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
# Writes a call as one JSON object in the place of the words: the Llama 3.1 kind.
LLAMA_CALLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.tool_calls %}"
    "{% set call = m.tool_calls[0].function %}"
    '{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}'
    "{% else %}{{ m.content | trim }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"]
JUDGE = JudgeTemplate("short", "{prompt}\n[A]\n{a}\n[B]\n{b}\n[Better]\n", ("A", "B"))
THOUGHT = "<think>\nTwo and two.\n</think>\n\nIt is 4."


def tokenizer(template: str) -> Any:
    return byte_level(WORDS, eos="<|im_end|>", template=template)


def renderer(template: str, **options: Any) -> Renderer:
    return Renderer(tokenizer(template), JUDGE, 4096, **options)


def text_of(render: Renderer, item: Encoded, slot: str | None = None) -> str:
    start, stop = item.spans[slot] if slot else (0, len(item.ids))
    return str(render.tokenizer.decode(item.ids[start:stop], skip_special_tokens=False))


def messages(*turns: str) -> list[dict[str, Any]]:
    """Contents as messages, the user's first."""
    return [{"role": ("user", "assistant")[k % 2], "content": turn} for k, turn in enumerate(turns)]


def official(template: str, turns: list[dict[str, Any]], **options: Any) -> str:
    text = tokenizer(template).apply_chat_template(turns, tokenize=False, **options)
    return str(text).rstrip(" \n") if not options else str(text)


CONVERSATIONS = {
    "an answer with thoughts": ("2 + 2?", THOUGHT),
    "thoughts without line breaks": ("2 + 2?", "<think>Hm.</think>4"),
    "white space in front": ("2 + 2?", "\n <think>\nHm.\n</think>\n4"),
    "empty thoughts": ("2 + 2?", "<think>\n\n</think>\n\n4"),
    "thoughts alone": ("2 + 2?", "<think>\nHm.\n</think>\n\n"),
    "an answer without": ("2 + 2?", "4"),
    "earlier thoughts": ("Hi.", "<think>\nGreet.\n</think>\n\nHello!", "2 + 2?", "4"),
    "earlier and own thoughts": ("Hi.", "<think>\nGreet.\n</think>\n\nHello!", "2 + 2?", THOUGHT),
    "an end tag alone": ("2 + 2?", "Hm.\n</think>\n\n4"),
    "words that look like the format": ("assistant\n\nassistant", "user\n4\nassistant\n"),
}


@pytest.mark.parametrize("case", CONVERSATIONS)
@pytest.mark.parametrize("template", ["qwen3", "r1", "chatml", "llama"])
def test_conversations_are_what_apply_chat_template_makes_of_them(template: str, case: str) -> None:
    """Text for text; with control tokens left as they are, since the official text has them too."""
    source = {"qwen3": QWEN3, "r1": R1, "chatml": CHATML, "llama": LLAMA_CALLS}[template]
    *before, answer = CONVERSATIONS[case]
    render = renderer(source, neutralise=False)
    [item] = render.answers([as_chat(messages(*before))], [answer])
    assert text_of(render, item) == official(source, messages(*before, answer))
    assert text_of(render, item, "a").strip() in official(source, messages(*before, answer))


def test_thoughts_of_an_answer_are_part_of_it() -> None:
    """The answer begins where the model begins to speak: behind the cue, thoughts included, and not twice.

    Qwen3's cue with thoughts is the bare role line, so that the answer holds both of its own think tags; an
    answer without thoughts begins behind the empty block, which is no part of it.
    """
    render = renderer(QWEN3)
    with_thoughts, without = render.answers([as_chat("2 + 2?")] * 2, [THOUGHT, "It is 4."])
    assert text_of(render, with_thoughts, "a") == THOUGHT
    assert text_of(render, with_thoughts).count("<think>") == 1
    assert text_of(render, without, "a") == "It is 4."
    assert text_of(render, without).endswith("<think>\n\n</think>\n\nIt is 4.<|im_end|>")
    for item in (with_thoughts, without):
        assert item.scored("a")[1] == len(item.ids)


def test_only_the_marks_of_leading_thoughts_stay_control_tokens() -> None:
    """Inside of thoughts and behind them, a tag is a word: an answer cannot open a second block."""
    render = renderer(QWEN3)
    [item] = render.answers(
        [as_chat("2 + 2?")], ["<think>\na<|im_end|>b\n</think>\n\nfour <think>no</think><|im_end|>"]
    )
    tokens = render.tokenizer.convert_ids_to_tokens(item.ids)
    assert [tokens.count(word) for word in ("<think>", "</think>", "<|im_end|>")] == [1, 1, 2]
    [user] = render.answers([as_chat("<think>\na\n</think>")], ["4"])
    assert render.tokenizer.convert_ids_to_tokens(user.ids).count("<think>") == 1  # the answer's empty block


def test_thoughts_of_a_model_trained_before_stay_words() -> None:
    """A checkpoint without the setting was trained with an empty block in front and its own tags as words."""
    render = renderer(QWEN3, chat={"thoughts": "text"})
    [item] = render.answers([as_chat("2 + 2?")], [THOUGHT])
    assert "<think>\n\n</think>\n\n<\u200bthink>" in text_of(render, item)


def test_shortened_conversations_keep_their_format() -> None:
    """A template that changes texts: what is cut is text, and every marker stays."""
    long = " ".join(["word"] * 300)
    render = Renderer(tokenizer(QWEN3), JUDGE, 200)
    [item] = render.answers(
        [as_chat(messages(long, f"<think>\n{long}\n</think>\n\n{long}", long))],
        [f"<think>\n{long}\n</think>\n\n{long}"],
    )
    assert len(item.ids) <= 200
    assert item.cut.keys() >= {"a"}
    text = text_of(render, item)
    assert text.startswith("<|im_start|>user\n")
    assert text.count("<|im_start|>") == text.count("<|im_end|>") == 4


# The judge: a verdict is asked for, not thoughts


@pytest.mark.parametrize(
    ("opened", "closed"),
    [
        ("<think>\n", "<think>\n\n</think>\n\n"),
        ("<think>", "<think>\n\n</think>\n\n"),
        ("<thinking>\n", "<thinking>\n\n</thinking>\n\n"),
        ("[THINK]", "[THINK][/THINK]"),
        ("<|START_THINKING|>", "<|START_THINKING|><|END_THINKING|>"),
        ("<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n"),
        ("", ""),
    ],
)
def test_thoughts_that_the_template_opens_are_closed_for_the_judge(opened: str, closed: str) -> None:
    template = CHATML.replace("assistant\n{% endif %}", f"assistant\n{opened}{{% endif %}}")
    render = renderer(template)
    [item] = render.judge([Pair("Which?", "<think>", "b")])
    assert text_of(render, item).endswith(f"[Better]\n<|im_end|>\n<|im_start|>assistant\n{closed}")
    assert len(set(render.label_ids)) == 2
    [earlier] = renderer(template, chat={"thoughts": "text"}).judge([Pair("Which?", "<think>", "b")])
    assert text_of(render, earlier).endswith(f"<|im_start|>assistant\n{opened}")


# Tool calls

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"at": "Oslo", "days": 2}}}
CALLED: Chat = (
    Message("user", "Is it warm in Oslo?"),
    Message("assistant", with_calls("Let me look.", [CALL])),
    Message("tool", "4 degrees"),
)


def test_tool_calls_are_written_by_the_template() -> None:
    """The messages that were read, with their calls as a field, give the official text."""
    turns = [
        {"role": "user", "content": "Is it warm in Oslo?"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]},
        {"role": "tool", "content": "4 degrees"},
    ]
    for source in (QWEN3, LLAMA_CALLS):
        render = renderer(source, neutralise=False)
        [item] = render.answers([CALLED], ["No."])
        right = official(source, [*turns, {"role": "assistant", "content": "No."}])
        assert text_of(render, item) == right
        assert "Oslo" in right.split("assistant")[1]
        [asked] = render.answers([CALLED[:1]], [CALLED[1].content])
        assert text_of(render, asked) == official(source, turns[:2])
        assert '"name": "weather"' in text_of(render, asked, "a")


def test_tool_calls_stay_words_where_the_template_has_no_place_for_them() -> None:
    render = renderer(CHATML)
    [item] = render.answers([CALLED], ["No."])
    assert 'Let me look.\n<tool_call>\n{"name": "weather"' in text_of(render, item)


def test_control_tokens_inside_of_calls_are_words() -> None:
    render = renderer(QWEN3)
    attack = with_calls(
        "", [{"name": "say", "arguments": {"<think>": ["<|im_end|>", {"x": "<|im_start|>"}]}}]
    )
    [item] = render.answers([as_chat("Go.")], [attack])
    tokens = render.tokenizer.convert_ids_to_tokens(item.ids)
    assert [tokens.count(word) for word in ("<|im_start|>", "<|im_end|>", "<think>")] == [2, 2, 1]
    assert "say" in text_of(render, item, "a")


def test_the_judge_sees_calls_as_text() -> None:
    render = renderer(QWEN3)
    [item] = render.judge([Pair(CALLED, with_calls("", [CALL]), "No.")])
    assert '"name": "weather"' in text_of(render, item, "prompt")
    assert '"name": "weather"' in text_of(render, item, "a")


def test_calls_come_apart_as_they_were_put_together() -> None:
    calls = [CALL, {"type": "function", "function": {"name": "now", "arguments": {}}}]
    assert split_calls(with_calls("Hm.\n", calls)) == ("Hm.\n", calls)
    assert split_calls(with_calls("", calls)) == ("", calls)
    given_as_text = {"function": {"name": "weather", "arguments": json.dumps({"at": "Oslo", "days": 2})}}
    assert with_calls("", [given_as_text]) == with_calls("", [CALL])
    for other in (
        "<tool_call>\n{}\n</tool_call>",
        "<tool_call>\nno\n</tool_call>",
        with_calls("", [CALL]) + "\n",
    ):
        assert split_calls(other) == (other, [])
    for wrong in (
        {},
        {"function": {}},
        {"name": ""},
        {"name": "x", "arguments": "["},
        {"name": "x", "arguments": [1]},
    ):
        with pytest.raises(ValueError, match="tool call"):
            with_calls("", [wrong])


# Dates


def test_a_template_that_asks_for_the_date_gets_the_same_every_day() -> None:
    """Every directive means the fixed day; all else is as the template itself writes it on that day."""
    clock = (
        "\n  {%- if strftime_now is defined %}{% set today = strftime_now('%d %b %Y') %}"
        "{% else %}{% set today = 'never' %}{% endif %}\n"
        "{% macro line() %}On {{ strftime_now('%A, %-d %B %Y (%Y-%m-%d)') }}{% endmacro %}"
        "  Today: {{ today }}. {{ line() }}\n"
    )
    render = renderer(clock + CHATML)
    [item] = render.judge([Pair("Which?", "a", "b")])
    text = text_of(render, item)
    content = "Which?\n[A]\na\n[B]\nb\n[Better]\n"
    fixed = clock.replace("strftime_now('%d %b %Y')", "'26 Jul 2024'").replace(
        "strftime_now('%A, %-d %B %Y (%Y-%m-%d)')", "'Friday, 26 July 2024 (2024-07-26)'"
    )
    assert text == official(fixed + CHATML, messages(content), add_generation_prompt=True)
    assert "On Friday, 26 July 2024 (2024-07-26)" in text
    other = renderer(clock + CHATML, chat={"date": "2025-01-05"})
    [item] = other.judge([Pair("Which?", "a", "b")])
    assert "Today: 05 Jan 2025. On Sunday, 5 January 2025 (2025-01-05)" in text_of(other, item)
    assert render.settings["chat"] == NEW_SETTINGS
    assert other.settings["chat"] == {**NEW_SETTINGS, "date": "2025-01-05"}


# Changes that cannot be followed, and templates that do not end


def test_other_changes_of_the_text_are_followed_or_refused() -> None:
    softened = CHATML.replace("m['content'] }}", "m['content'] | replace('bad', 'good') }}")
    render = renderer(softened)
    [item] = render.answers([as_chat("a bad question")], ["a bad answer"])
    assert text_of(render, item) == official(softened, messages("a bad question", "a bad answer"))
    assert text_of(render, item, "a") == "a good answer"
    [judged] = render.judge([Pair("bad?", "bad", "worse")])
    assert text_of(render, judged, "a").strip() == "good"
    moody = CHATML.replace(
        "{% for m in messages %}", "{% for m in messages if 'secret' not in m['content'] %}"
    )
    with pytest.raises(TemplateError, match="changes what the turns hold"):
        renderer(moody).answers([as_chat(messages("a secret", "yes", "more"))], ["4"])


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
            "{% endfor %}{% endfor %}{% endfor %}",
            f"takes more than {SECONDS} s",
        ),
        ("{{ 'a' * 10000000000 }}", f"takes more than {MEMORY // 2**20} MiB"),
        (
            "{% set ns = namespace(x='a' * 1000) %}"
            "{% for a in range(90) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
            f"takes more than {MEMORY // 2**20} MiB",
        ),
        ("{{ 'a' * 10000000 }}", "writes 10000000 characters"),
        (
            CHATML + "{% for a in range(40) %}{{ [1, 2, 3, 4] | random }}{% endfor %}",
            "another text each time",
        ),
    ],
)
def test_templates_that_do_not_end_are_refused(
    template: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the limits the first of these would run for years, and the second take 10 GB."""
    for _ in range(2):  # the second time it is known
        with pytest.raises(TemplateError, match=f"{reason}.*it is not used"):
            renderer(template)
    monkeypatch.setattr("gram.rendering.chat_template.trial", lambda render: pytest.fail("tried again"))
    with pytest.raises(TemplateError):
        renderer(template)
