"""Checks of what the model is shown: chat template, judge template, beginning, labels, length."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gram.doctor.examples import EASY
from gram.doctor.facts import Facts
from gram.doctor.finding import Finding, error, ok, warning
from gram.errors import TemplateError
from gram.rendering import Piece, dated, opened_thoughts
from gram.types import Pair

# Marks that some family writes as single tokens; [INST] and the like are words in some families.
_MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|<(?:start|end)_of_turn>|<｜[^｜<>]{1,40}｜>")
_USER = {"role": "user", "content": "Why?"}
_ASSISTANT = {"role": "assistant", "content": "Because."}
_SYSTEM = {"role": "system", "content": "Be kind."}


def chat_template(facts: Facts) -> Iterator[Finding]:
    """Is there one that ends, in the tokens of this tokenizer, with a cue for the assistant?"""
    template = facts.chat_template
    if template is None:
        yield ok("none: turns are plain text, as of a base model")
        return
    open_text, text = template.text([_USER], True), template.text([_USER], False)
    if open_text == text:
        says = "prompts end without the cue for the assistant: the template passes over add_generation_prompt"
        do = "end the template with {% if add_generation_prompt %} and the beginning of an assistant's turn"
        yield error(says, do) if facts.in_judge_prompt else warning(says, do)
    known = facts.tokenizer.get_vocab()
    conversation = template.text([_USER, _ASSISTANT], False) + open_text
    strange = sorted({mark for mark in _MARK.findall(conversation) if mark not in known})
    if strange:
        pieces = len(facts.tokenizer(strange[0], add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]
        yield warning(
            f"it writes {', '.join(strange)}, and this tokenizer has no such tokens (the first becomes "
            f"{pieces}): it is the template of another model",
            "take the chat template of the model that was trained (chat_template.jinja)",
        )
    if open_text != text and not strange:
        yield ok(f"ends with {open_text[-24:]!r}")


def roles(facts: Facts) -> Iterator[Finding]:
    """Which turns does the chat template refuse? A judge is shown the whole conversation as one turn."""
    template = facts.chat_template
    if template is None or facts.in_judge_prompt:
        return
    refused = []
    for what, turns in (
        ("system turns", [_SYSTEM, _USER]),
        ("longer conversations", [_USER, _ASSISTANT, _USER]),
    ):
        try:
            template.text([*turns, _ASSISTANT], False)
        except TemplateError:
            refused.append(what)
    if "longer conversations" in refused:
        yield error(
            "the chat template refuses conversations of several turns: such rows cannot be scored",
            "mend the template, or keep to prompts of one turn",
        )
    if "system turns" in refused:
        yield warning(
            "the chat template refuses system turns: their text is put in front of the first user turn",
            "nothing, if the model was trained so; else leave system prompts out",
        )
    if not refused:
        yield ok("system turns and longer conversations are taken")


def date(facts: Facts) -> Iterator[Finding]:
    """Does the chat template write today's date?"""
    if facts.chat_template is None:
        return
    day = facts.chat.get("date")
    if not dated(facts.tokenizer):
        yield ok("the chat template asks for none")
    elif facts.manifest is not None and "date" in facts.manifest.chat:
        yield ok(f"the chat template asks for one, and is told {day}, as in training")
    else:
        yield warning(
            f"the chat template asks for today's date. Here it is always told {day}; elsewhere prompts, and "
            "scores with them, change every day",
            f"have other programs tell it {day} too (strftime_now), or take the date out of the template",
        )


def thoughts(facts: Facts) -> Iterator[Finding]:
    """Does the chat template make the assistant begin inside of thoughts?"""
    template = facts.chat_template
    if template is None or not facts.in_judge_prompt:
        return
    mark = opened_thoughts(template.text([_USER], True))
    if mark is None:
        yield ok("the assistant's turn begins outside of thoughts")
    elif facts.chat.get("thoughts") == "text":
        yield error(
            f"the chat template opens {mark}, and gram.json (chat.thoughts: text) leaves it open: labels are "
            "read inside of thoughts",
            "train again with this version, or set chat.thoughts to template and compare the label mass",
        )
    else:
        yield warning(
            f"the chat template opens {mark} for the assistant. In judge prompts it is closed at once: the "
            "verdict comes without the thoughts that the model was trained to have",
            "look at label_mass and orders below; prefer a model, or its mode, without thoughts",
        )


def prompts(facts: Facts) -> Iterator[Finding]:
    """Is the judge prompt the one of the training?"""
    template, manifest, pair = facts.prompts.template, facts.manifest, EASY[0]
    if facts.in_judge_prompt:  # a template that changes what the turns hold is refused
        facts.prompts.chat.wrap([("user", template.pieces(pair))], open_answer=True)
    else:
        turns = [("user", [Piece(pair.prompt[0].content, "x")]), ("assistant", [Piece(pair.a, "a")])]
        facts.prompts.chat.wrap(turns, open_answer=False)
    if not facts.in_judge_prompt:
        yield ok("answers stand in the chat format")
    elif manifest is None or template.hash == manifest.template_hash:
        yield ok(f"template {template.name}")
    else:
        yield warning(
            f"asked with template {template.name}, trained with {manifest.template.get('name')}: that is "
            "another question than the one it has learned",
            "leave --template out",
        )


def begin_tokens(facts: Facts) -> Iterator[Finding]:
    """Do prompts begin with one beginning-of-sequence token, if the model has one?"""
    tokenizer, chat = facts.tokenizer, facts.prompts.chat
    bos = tokenizer.bos_token_id
    if bos is None:
        yield ok("the tokenizer has no bos token")
        return
    ids = facts.rendered(EASY[0])[0].ids
    if ids[:2] == [bos, bos]:
        yield error(
            f"every prompt begins with {tokenizer.bos_token} twice",
            "take one out of the chat template",
        )
    elif chat.text_begin and ids[:1] != [bos]:
        yield warning(
            f"plain text begins with {tokenizer.bos_token}, and prompts of the chat template do not: the "
            "model has hardly seen such beginnings",
            "begin the chat template with {{ bos_token }}, as in the model's own one",
        )
    elif chat.text_begin and facts.chat_template is not None:
        yield ok(
            f"one {tokenizer.bos_token}, which the template writes; other programs must encode its text with "
            "add_special_tokens=False, or there will be two"
        )
    else:
        yield ok("prompts begin as plain text does")


def label_tokens(facts: Facts) -> Iterator[Finding]:
    """Is each label one token in its place, and the one of the training?"""
    if facts.kind != "judge":
        return
    words = facts.tokenizer.convert_ids_to_tokens(list(facts.label_tokens))
    yield ok(f"{' and '.join(map(repr, words))}, one token each in their place")


def cue(facts: Facts) -> Iterator[Finding]:
    """Does a prompt that is far too long keep its end, where the verdict is asked for, and both answers?"""
    renderer = facts.prompts
    long = " ".join(["word"] * renderer.max_length)
    cut = facts.rendered(Pair(long, long, f"{long}."))
    whole = facts.rendered(Pair("Why?", "So.", "No."))
    last = "b" if facts.kind == "judge" else "a"
    for short, full in zip(cut, whole, strict=True):
        end = full.ids[full.spans[last][1] :]
        kept = all(stop > start for slot, (start, stop) in short.spans.items() if slot in ("a", "b"))
        if len(short.ids) > renderer.max_length or short.ids[len(short.ids) - len(end) :] != end or not kept:
            yield error(
                f"a prompt cut to {renderer.max_length} tokens loses its end or an answer",
                "report it: gram should never cut so",
            )
            return
    yield ok(f"kept, with both answers, in prompts cut to {renderer.max_length} tokens")
