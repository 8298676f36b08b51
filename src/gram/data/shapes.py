"""The forms of rows in which well-known preference data are published, one entry of the table each.

Knows those data sets' columns; what is common to all rows is in ``forms``. To add a data set, add an entry to
``SHAPES``, a row to its test, and a line to docs/data-formats.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gram.data.asked import Fields, check_no_tools, is_asked, prompt_from, whole_prompt, with_system
from gram.data.chats import (
    answer_of,
    answers_of,
    check_prompt,
    conversation_of,
    messages_of,
    prompt_of,
    text_of,
)
from gram.data.forms import Form, Rated, differs, form, labeled, name_of, truth
from gram.data.labels import number, probability
from gram.errors import DataError
from gram.types import Chat, Contest, Message, Preference

_WINNERS = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5, "both_bad": 0.5, "bothbad": 0.5}


def _pair(
    fields: Fields, prompt: Chat, names: tuple[str, str], p_a: float, margin: float = 0.0
) -> Preference:
    """A labeled pair whose two answers stand in the columns ``names``."""
    a, b = answers_of({name: fields[name] for name in names}, prompt)
    named = {**_beside(fields), "id": name_of(fields, "id") or name_of(fields, "question_id")}
    return labeled(named, prompt, a, differs(b, a, names[1]), p_a, margin)


def _prompt_in(fields: Fields, name: str) -> Chat:
    """The prompt in a column that is the question in this shape alone."""
    return whole_prompt(fields, prompt_of(fields[name], name), name, fields[name])


def _beside(fields: Fields) -> dict[str, Any]:
    """The fields that every labeled pair may have; a cell of any other that is unreadable stays unread."""
    names = ("id", "question_id", "subset", "group", "source", "margin", "system", "system_prompt", "tools")
    return {name: fields[name] for name in names if name in fields}


def _sign(value: float) -> float:
    """P(first is better) of a number that is above 0 where the first is: 1, 0, or 0.5 for 0."""
    return 0.5 if value == 0 else float(value > 0)


def _choice(fields: Fields, field: str) -> float:
    """P(first is better) of the number of the better answer, 0 or 1."""
    value = number(fields, field)
    if value not in (0, 1):
        raise DataError(f"expected 0 or 1, the number of the better answer, got {value:g}", field=field)
    return 1.0 - value


def _winner(fields: Fields) -> float:
    winner = fields["winner"]
    if not isinstance(winner, str) or winner.strip().lower() not in _WINNERS:
        raise DataError(f"expected one of {', '.join(_WINNERS)}, got {winner!r}", field="winner")
    return _WINNERS[winner.strip().lower()]


def _strength(field: str, one: str, other: str) -> Callable[[Fields], Preference]:
    """HelpSteer: from -3 (the first is much better) to 3 (the second is)."""

    def read(fields: Fields) -> Preference:
        value = number(fields, field)
        prompt = prompt_from(fields) if is_asked(fields) else _prompt_in(fields, "context")
        return _pair(fields, prompt, (one, other), _sign(-value), abs(value))

    return read


def _arena(fields: Fields) -> Preference:
    """Two conversations that must agree up to their last answers."""
    p_a = _winner(fields)
    names = ("conversation_a", "conversation_b")
    return _last_answers(fields, [_turns(fields[name], name) for name in names], names, p_a)


def _turns(value: object, field: str) -> Chat:
    """A conversation, which may be written as JSON."""
    if isinstance(value, str):
        value = _parsed(value, field)
    prompt, answer = conversation_of(value, field)
    return (*prompt, Message("assistant", answer))


def _last_answers(fields: Fields, sides: Sequence[Chat], names: tuple[str, str], p_a: float) -> Preference:
    one, other = sides
    if one[:-1] != other[:-1]:
        reason = f"differs from {names[0]!r} before the last answer: the two answers have no common prompt"
        raise DataError(reason, field=names[1])
    prompt = whole_prompt(fields, one[:-1], names[0])
    answers = {names[0]: one[-1], names[1]: other[-1]}
    return _pair(_beside(fields) | answers, prompt, names, p_a)


def _parsed(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise DataError("expected a list, written as JSON", field=field) from None


def _arena_55k(fields: Fields) -> Preference:
    """Questions and answers of all turns, each a list of strings that is written as JSON."""
    votes = [truth(fields, f"winner_{side}") for side in ("model_a", "model_b", "tie")]
    if sum(votes) != 1:
        raise DataError(
            "expected one of winner_model_a, winner_model_b and winner_tie", field="winner_model_a"
        )
    turns = {name: _strings(fields[name], name) for name in ("prompt", "response_a", "response_b")}
    sides = []
    for name in ("response_a", "response_b"):
        if len(turns[name]) != len(turns["prompt"]):
            raise DataError(f"{len(turns[name])} answers for {len(turns['prompt'])} questions", field=name)
        pairs = zip(turns["prompt"], turns[name], strict=True)
        sides.append(tuple(m for q, a in pairs for m in (Message("user", q), Message("assistant", a))))
    check_prompt(sides[0][:-1], "prompt")
    return _last_answers(fields, sides, ("response_a", "response_b"), votes[0] + 0.5 * votes[2])


def _strings(value: object, field: str) -> list[str]:
    values = _parsed(value, field) if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise DataError("expected a list of one or more strings", field=field)
    return [text_of(text, f"{field}[{k}]") for k, text in enumerate(values)]


def _ppe(fields: Fields) -> Preference:
    p_a = _winner(fields)
    return _pair(fields, prompt_from(fields), ("response_1", "response_2"), p_a)


def _ultrafeedback(fields: Fields) -> Rated:
    """Every completion is a candidate; the labeled pair is the best against the worst."""
    prompt = prompt_from(fields)
    answers: dict[str, object] = {}
    scores: list[float] = []
    completions = fields["completions"]
    if not isinstance(completions, list) or len(completions) < 2:
        raise DataError("expected a list of two or more completions", field="completions")
    for place, completion in enumerate(completions):
        field = f"completions[{place}]"
        if not isinstance(completion, Mapping):
            raise DataError(f"expected an object, got {type(completion).__name__}", field=field)
        answers[f"{field}.response"] = completion.get("response")
        names = ("fine-grained_score", "overall_score")  # of the second some are known to be wrong
        name = next((name for name in names if completion.get(name) is not None), names[1])
        scores.append(number({f"{field}.{name}": completion.get(name)}, f"{field}.{name}"))
    texts = answers_of(answers, prompt)
    best = max(range(len(scores)), key=scores.__getitem__)
    worst = min((k for k in range(len(scores)) if k != best), key=scores.__getitem__)
    contest = Contest(with_system(fields, prompt), tuple(texts), name_of(fields, "id"))
    gap = scores[best] - scores[worst]
    pair = {**_beside(fields), "id": contest.id}
    differs(texts[worst], texts[best], f"completions[{worst}].response")
    return Rated(labeled(pair, prompt, texts[best], texts[worst], _sign(gap), gap), contest)


def _safe_rlhf(fields: Fields) -> Preference:
    field = "better_response_id" if "better_response_id" in fields else "safer_response_id"
    p_a = _choice(fields, field)
    return _pair(fields, prompt_from(fields), ("response_0", "response_1"), p_a)


def _webgpt(fields: Fields) -> Preference:
    question = fields["question"]
    text = question.get("full_text") if isinstance(question, Mapping) else question
    gap = number(fields, "score_0") - number(fields, "score_1")
    answers = ("answer_0", "answer_1")
    named = _beside(fields) | {name: fields[name] for name in answers}
    if isinstance(question, Mapping) and isinstance(question.get("id"), str):
        named.setdefault("id", question["id"])
    if isinstance(question, Mapping):
        prompt = whole_prompt(fields, prompt_of(text, "question.full_text"), "question")
    else:
        prompt = prompt_from(fields)
    return _pair(named, prompt, answers, _sign(gap), abs(gap))


def _openai(fields: Fields) -> Preference:
    source = fields["input"]
    if not isinstance(source, Mapping):
        raise DataError(f"expected an object with messages, got {type(source).__name__}", field="input")
    check_no_tools(source.get("tools"), "input.tools")
    turns = check_prompt(messages_of(source.get("messages"), "input.messages"), "input.messages")
    prompt = whole_prompt(fields, turns, "input")
    return _pair(fields, prompt, ("preferred_output", "non_preferred_output"), 1.0)


def _swift(fields: Fields) -> Preference:
    turns, good = conversation_of(fields["messages"], "messages")
    prompt = whole_prompt(fields, turns, "messages")
    p_a = probability(fields, "p_chosen") if "p_chosen" in fields else 1.0
    if "rejected_messages" in fields:
        names = ("messages", "rejected_messages")
        bad = Message("assistant", answer_of(fields[names[1]], names[1], turns))
    else:
        names = ("messages", "rejected_response")
        bad = fields[names[1]]
    answers = {names[0]: Message("assistant", good), names[1]: bad}
    return _pair(_beside(fields) | answers, prompt, names, p_a)


def _summaries(fields: Fields) -> Preference:
    """The post as the question, in the words of the paper's own prompt."""
    info, summaries = fields["info"], fields["summaries"]
    if not isinstance(info, Mapping):
        raise DataError(f"expected an object, got {type(info).__name__}", field="info")
    if not isinstance(summaries, list) or len(summaries) != 2:
        raise DataError("expected two summaries", field="summaries")
    heads = (
        ("SUBREDDIT: r/", "subreddit"),
        ("TITLE: ", "title"),
        ("POST: ", "post"),
        ("ARTICLE: ", "article"),
    )
    parts = [f"{head}{text_of(info[name], f'info.{name}')}" for head, name in heads if info.get(name)]
    if not (info.get("post") or info.get("article")):
        raise DataError("there is neither a post nor an article", field="info")
    prompt = whole_prompt(fields, (Message("user", "\n".join([*parts, "TL;DR:"])),), "info")
    first, second = (f"summaries[{k}].text" for k in (0, 1))
    texts = {
        name: summary.get("text") if isinstance(summary, Mapping) else summary
        for name, summary in zip((first, second), summaries, strict=True)
    }
    named = _beside(fields) | texts | {"id": fields.get("id") or info.get("id") or ""}
    return _pair(named, prompt, (first, second), _choice(fields, "choice"))


def _shp(fields: Fields) -> Preference:
    """Stanford Human Preferences: ``labels`` is 1 where the first comment is the better one."""
    value = number(fields, "labels")
    if value not in (0, 1):
        raise DataError(f"expected 0 or 1, got {value:g}", field="labels")
    prompt = _prompt_in(fields, "history")
    return _pair(fields, prompt, ("human_ref_A", "human_ref_B"), value)


def _llmbar(fields: Fields) -> Preference:
    value = number(fields, "label")
    if value not in (1, 2):
        raise DataError(f"expected 1 or 2, the number of the better output, got {value:g}", field="label")
    return _pair(fields, prompt_from(fields), ("output_1", "output_2"), 2.0 - value)


def _better(one: str, other: str) -> Callable[[Fields], Preference]:
    """Two columns of which the first is the better answer by its name."""
    return lambda fields: _pair(fields, prompt_from(fields), (one, other), 1.0)


SHAPES: tuple[Form, ...] = (
    form(
        "response_1 response_2 preference_strength",
        _strength("preference_strength", "response_1", "response_2"),
        "HelpSteer2-Preference",
        asked=True,
    ),
    form(
        "context response1 response2 overall_preference",
        _strength("overall_preference", "response1", "response2"),
        "HelpSteer3-Preference",
    ),
    form("conversation_a conversation_b winner", _arena, "Chatbot Arena (33k, 100k, 140k)"),
    form(
        "prompt response_a response_b winner_model_a winner_model_b winner_tie",
        _arena_55k,
        "Chatbot Arena (55k)",
    ),
    form("response_1 response_2 winner", _ppe, "PPE human preference", asked=True),
    form("completions", _ultrafeedback, "UltraFeedback (raw)", asked=True),
    form("response_0 response_1 better_response_id", _safe_rlhf, "PKU-SafeRLHF", asked=True),
    form("response_0 response_1 safer_response_id", _safe_rlhf, "PKU-SafeRLHF, safety alone", asked=True),
    form("question answer_0 answer_1 score_0 score_1", _webgpt, "WebGPT comparisons"),
    form("input preferred_output non_preferred_output", _openai, "OpenAI preference fine-tuning"),
    form("messages rejected_response", _swift, "ms-swift", others="p_chosen"),
    form("messages rejected_messages", _swift, "ms-swift, whole conversations", others="p_chosen"),
    form("query response rejected_response", _better("response", "rejected_response"), "ms-swift, older"),
    form("info summaries choice", _summaries, "OpenAI summarize from feedback"),
    form("history human_ref_A human_ref_B labels", _shp, "SHP"),
    form("question response_j response_k", _better("response_j", "response_k"), "Stack Exchange, paired"),
    form("input output_1 output_2 label", _llmbar, "LLMBar"),
)
"""In this order; the first that fits decides."""
