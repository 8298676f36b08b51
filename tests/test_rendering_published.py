"""Finished conversations under the chat templates that models ship are what ``apply_chat_template`` writes.

The templates are those that TRL comes with, copies of the models' own; the right text of every case is
computed by transformers on the real messages.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from gram import Pair
from gram.errors import TemplateError
from gram.rendering import Encoded, JudgeTemplate, Renderer, dated
from gram.turns import with_calls
from small_tokenizers import byte_level

pytestmark = pytest.mark.skipif(find_spec("trl") is None, reason="needs the templates that TRL ships")

JUDGE = JudgeTemplate("short", "{prompt}\n[A]\n{a}\n[B]\n{b}\n[Better]\n", ("A", "B"))
ENDS = ("<|im_end|>", "<|eot_id|>", "<turn|>", "<|return|>", "<|user|>")
USER = {"role": "user", "content": "Warm?"}
SYSTEM = {"role": "system", "content": "Be kind."}
SWITCHED = ("glm4moe", "qwen3_8", "gemma4_v5", "qwen3", "qwen3_5_nothink", "nemotron_3_nano")


def said(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


@cache
def tokenizer(name: str) -> Any:
    """A small tokenizer with the template ``name`` and all that looks like a control token in it."""
    spec = find_spec("trl")
    assert spec is not None and spec.origin is not None
    template = (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_text()
    words = sorted({*re.findall(r"<\|?[a-z_]+\|?>", template), "<bos>"})
    end = next((word for word in ENDS if word in words), "<bos>")
    return byte_level(words, bos="<bos>", eos=end, template=template)


def renderer(name: str, **options: Any) -> Renderer:
    return Renderer(tokenizer(name), JUDGE, 4096, whole=True, **options)


def text_of(render: Renderer, item: Encoded, slot: str | None = None) -> str:
    start, stop = item.spans[slot] if slot else (0, len(item.ids))
    return str(render.tokenizer.decode(item.ids[start:stop], skip_special_tokens=False))


def official(name: str, chat: list[dict[str, Any]], **options: Any) -> str:
    words = tokenizer(name)
    return str(words.apply_chat_template(chat, tokenize=False, **dated(words), **options))


def rendered(render: Renderer, chat: list[dict[str, Any]]) -> Encoded:
    """The last turn of ``chat`` as an answer to those before it."""
    *before, last = chat
    answer = with_calls(last["content"], last.get("tool_calls", []))
    [item] = render.answers([before], [answer])
    return item


# The switch of thoughts


@pytest.mark.parametrize("name", SWITCHED)
def test_a_finished_conversation_is_not_told_to_switch_thoughts_off(name: str) -> None:
    """GLM 4.5 writes ``/nothink`` into user turns where it is told so, Qwen 3.8 leaves its system turn out:
    ``apply_chat_template`` tells neither of a conversation that is over. Judge prompts are told, as before.
    """
    for chat in ([USER, said("No.")], [SYSTEM, USER, said("No."), USER, said("Yes.")]):
        render = renderer(name)
        assert text_of(render, rendered(render, chat)) == official(name, chat)
    [item] = render.judge([Pair("Warm?", "No.", "Yes.")])
    content = "Warm?\n[A]\nNo.\n[B]\nYes.\n[Better]\n"
    asked = [{"role": "user", "content": content}]
    wanted = official(name, asked, add_generation_prompt=True, enable_thinking=False)
    assert text_of(render, item) == wanted


@pytest.mark.parametrize("name", SWITCHED)
def test_a_model_that_was_trained_before_is_told_as_then(name: str) -> None:
    """``switch: always``, which a ``gram.json`` without the setting means."""
    chat = [SYSTEM, USER, said("No."), USER, said("Yes.")]
    render = renderer(name, chat={"switch": "always"})
    assert text_of(render, rendered(render, chat)) == official(name, chat, enable_thinking=False)


def test_the_switch_matters() -> None:
    for name in ("glm4moe", "qwen3_8"):
        chat = [USER, said("No.")]
        assert official(name, chat) != official(name, chat, enable_thinking=False)


# Where an answer begins

ALL = sorted(
    path.stem
    for spec in [find_spec("trl")]
    if spec and spec.origin
    for path in (Path(spec.origin).parent / "chat_templates").glob("*.jinja")
    if not path.stem.endswith("_training")
    and path.stem not in ("idefics3", "llava_next", "smolvlm")  # which take no text, only parts
)
BARE = ("Yes.", "\nYes.", "\n\nYes.", " Yes.", "Yes.\n", "Yes. ")
EMPTY = ("<think>\n\n</think>\n\nYes.", "<think></think>\nYes.", "<think></think>Yes.")
THOUGHTFUL = ("<think>\nHm.\n</think>\n\nYes.", "<think>Hm.</think>Yes.", "\n<think>\nHm.\n</think>\nYes.")
BEFORE = {
    "a question": [USER],
    "white space around it": [{"role": "user", "content": "\nWarm?\n"}],
    "an earlier answer": [USER, said("No."), USER],
    "an earlier answer with thoughts": [USER, said("<think>\nHm.\n</think>\n\nNo."), USER],
    "thoughts without line breaks": [USER, said("<think>Hm.</think>No."), USER],
}


@pytest.mark.parametrize("name", ALL)
def test_equal_tokens_have_their_answer_in_one_place(name: str) -> None:
    """White space that a template removes and thoughts of earlier answers that it leaves out change nothing:
    where two prompts are the same tokens, the same of them are the answer. An answer without thoughts is
    its words; an empty block that the template writes is no part of it, so that it is none either where the
    answer brings it along. Thoughts belong to the answer wherever they are shown.
    """
    render = renderer(name)
    places: dict[tuple[int, ...], set[tuple[int, int]]] = {}
    for before in BEFORE.values():
        items = render.answers([before] * 12, [*BARE, *EMPTY, *THOUGHTFUL])
        for item in items:
            places.setdefault(tuple(item.ids), set()).add(item.spans["a"])
        for item in items[: len(BARE)]:
            assert text_of(render, item, "a").strip() == "Yes."
        for item in items[-len(THOUGHTFUL) :]:
            shown = text_of(render, item).count("Hm.") > text_of(render, items[0]).count("Hm.")
            assert text_of(render, item, "a").count("Hm.") == shown
    assert [found for found in places.values() if len(found) > 1] == []


# Empty turns of the system


@pytest.mark.parametrize("name", ALL)
def test_an_empty_turn_of_the_system_is_what_the_template_makes_of_it(name: str) -> None:
    """Phi-3.5, gpt-oss and LFM2 leave it out. Where a template refuses turns of the system, an empty one goes
    in front of the user's like others.
    """
    empty = {"role": "system", "content": ""}
    render = renderer(name, neutralise=False)
    for chat in ([empty, USER, said("No.")], [empty, USER, said("Yes."), USER, said("No.")]):
        item = rendered(render, chat)
        assert text_of(render, item, "a") == "No."
        try:
            right = official(name, chat)
        except Exception:  # jinja's own, and the templates'
            right = official(name, [{"role": "user", "content": "\n\nWarm?"}, *chat[2:]])
        assert text_of(render, item) == right
    long = [empty, {"role": "user", "content": "so and so " * 100}, said("No.")]
    short = Renderer(tokenizer(name), JUDGE, 150 + len(rendered(renderer(name), chat).ids))
    cut = rendered(short, long)
    assert len(cut.ids) <= short.max_length and text_of(short, cut, "a") == "No."


# Tool calls, replies and empty answers

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"at": "Oslo"}}}
CALLED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
LOOKED = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}
REPLY = {"role": "tool", "content": '4 "degrees"\nnow'}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "an empty answer": [USER, said("")],
    "a call and its reply": [USER, CALLED, REPLY, said("No.")],
    "words, a call and its reply": [SYSTEM, USER, LOOKED, REPLY, said("No.")],
    "an empty reply": [USER, CALLED, {"role": "tool", "content": ""}, said("No.")],
    "an answer that is a call": [USER, CALLED],
    "words and a call": [USER, LOOKED],
    "a second call": [USER, CALLED, REPLY, CALLED],
    "two replies, and a question": [USER, CALLED, REPLY, CALLED, REPLY, said("No."), USER, said("Yes.")],
}
TOOLS = (
    "llama3_1", "llama3_2", "gptoss", "gemma4", "gemma4_v5", "diffusion_gemma", "qwen3", "qwen2_5", "glm4moe",
    "qwen3_5_think", "nemotron_3_nano", "deepseekv3", "muse_glimmer",
)  # fmt: skip


def as_json(turn: dict[str, Any]) -> dict[str, Any]:
    """With the arguments of calls as JSON."""
    call = {"type": "function", "function": {"name": "weather", "arguments": '{"at": "Oslo"}'}}
    return turn | {"tool_calls": [call]} if "tool_calls" in turn else turn


@pytest.mark.parametrize("case", CONVERSATIONS)
@pytest.mark.parametrize("name", TOOLS)
def test_tool_calls_are_written_in_the_models_own_syntax(name: str, case: str) -> None:
    """Every character, and the answer is found: words at their end, a call as all that the model writes."""
    render = renderer(name, neutralise=False)
    chat = CONVERSATIONS[case]
    item = rendered(render, chat)
    if name == "deepseekv3":  # which puts strings together
        chat = [as_json(turn) for turn in chat]
    assert text_of(render, item) == official(name, chat)
    answer = text_of(render, item, "a")
    if "tool_calls" in chat[-1]:
        assert "weather" in answer and "Oslo" in answer
    else:
        assert answer.endswith(chat[-1]["content"])


def test_the_answer_is_scored_up_to_the_token_that_ends_it() -> None:
    """gpt-oss ends a call with ``<|call|>`` and an answer with ``<|return|>``, Gemma 4 a call with the token
    behind which its reply is written: each is scored with what it ends. The cue is no part of the answer.
    """
    wanted = {
        ("gptoss", "a call and its reply"): "No.<|return|>",
        ("gptoss", "a second call"): " to=functions.weather<|channel|>commentary json<|message|>"
        '{"at": "Oslo"}<|call|>',
        ("gemma4_v5", "a call and its reply"): "No.<turn|>",
        ("gemma4_v5", "an answer that is a call"): '<|tool_call>call:weather{at:<|"|>Oslo<|"|>}<tool_call|>'
        "<|tool_response>",
        ("llama3_1", "a call and its reply"): "No.<|eot_id|>",
        ("glm4moe", "an empty answer"): "\n<think></think>",
    }
    for (name, case), text in wanted.items():
        item = rendered(render := renderer(name, neutralise=False), CONVERSATIONS[case])
        start, stop = item.scored("a")
        assert render.tokenizer.decode(item.ids[start:stop]) == text, (name, case)


@pytest.mark.parametrize("name", ["gptoss", "gemma4_v5", "llama3_1"])
def test_a_long_reply_is_shortened_and_the_calls_stay(name: str) -> None:
    """A reply of some 300 tokens, of which two thirds must go: of the template nothing does."""
    long = {"role": "tool", "content": "so and so " * 100}
    render = Renderer(tokenizer(name), JUDGE, 200 + len(rendered(renderer(name), [USER, said("")]).ids))
    item = rendered(render, [USER, CALLED, long, said("No.")])
    text = text_of(render, item)
    assert len(item.ids) <= render.max_length and set(item.cut) == {"turn 2"}
    assert "weather" in text and "Oslo" in text and text_of(render, item, "a") == "No."


def test_a_reply_that_the_template_leaves_out_is_refused() -> None:
    """Gemma 4 writes a reply behind the call that it answers; without a call it would be lost in silence."""
    for name in ("gemma4_v5", "phi3"):
        with pytest.raises(TemplateError, match="does not show the turns"):
            rendered(renderer(name), [USER, said("Let me see."), REPLY, said("No.")])
    with pytest.raises(TemplateError, match="no previous assistant message with a tool call"):
        rendered(renderer("gptoss"), [USER, said("Let me see."), REPLY, said("No.")])
