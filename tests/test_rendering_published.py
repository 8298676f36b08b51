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
