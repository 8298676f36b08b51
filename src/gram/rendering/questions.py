"""The wording of typed questions: a state, a question with its options, and the cue for one label.

The state comes first, so that all questions about it begin alike and it is read once. The wording is one
jinja file, from which ``gram`` renders and which an exported ``decision_template.jinja`` holds, so that the
two cannot disagree. Knows questions and texts; knows no tokenizer and no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from gram.messages import Message, as_chat
from gram.rendering.pieces import Piece
from gram.rendering.template import transcript

if TYPE_CHECKING:
    from jinja2 import Template

QuestionKind: TypeAlias = Literal["noul", "choice", "score"]
Content: TypeAlias = "str | Mapping[str, Any] | Sequence[Any] | None"
"""A text, or a JSON object or list, which is shown as JSON; None: nothing."""

YES_NO = ("Yes", "No")
MOST_OPTIONS = 255
STATE, QUESTION = "state", "question"
"""Slots of a prompt: the state may be shortened, the question may not."""

_FILE = "question.jinja"
_HEAD = "[Text]\n"


@dataclass(frozen=True, slots=True)
class ShownQuestion:
    """A question as a model is shown it: its options in one order, each behind a label.

    Attributes:
        name: what errors call it.
        type: ``noul`` (true or false), ``choice`` or ``score``.
        options: what a client calls them: names of a choice, numbers of levels, ``true`` and ``false``.
        labels: of the options, in their order; the model answers with one.
        descriptions: of the options; of a score the level itself.
    """

    name: str
    type: QuestionKind
    instructions: Content
    options: Sequence[str]
    labels: Sequence[str]
    descriptions: Sequence[Content]


def letters() -> list[str]:
    """Labels that options may have, the usual ones first: A to Z, AA to ZZ.

    Example:
        >>> letters()[:3], letters()[26:29], len(letters())
        (['A', 'B', 'C'], ['AA', 'AB', 'AC'], 702)
    """
    return [*ascii_uppercase, *map("".join, product(ascii_uppercase, repeat=2))]


def state_text(state: object) -> str:
    """A state as a model is shown it: a text as it is, messages with their speakers, all else as JSON.

    Example:
        >>> turns = [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello."}]
        >>> print(state_text(turns))
        User: Hi!
        <BLANKLINE>
        Assistant: Hello.
        >>> state_text({"stars": 2, "text": "It broke."})
        '{"stars": 2, "text": "It broke."}'
    """
    if isinstance(state, str):
        return state
    if are_messages(state):
        return transcript(as_chat(cast("Sequence[Message]", state), "state"))
    return json.dumps(state, ensure_ascii=False)


def are_messages(state: object) -> bool:
    """Whether a state is a conversation: a list whose items are messages, or look like them."""
    return (
        isinstance(state, list | tuple)
        and len(state) > 0
        and all(isinstance(turn, Message) or _looks_like_one(turn) for turn in state)
    )


def _looks_like_one(turn: object) -> bool:
    if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
        return False
    return isinstance(turn.get("content"), str | list | tuple) or bool(turn.get("tool_calls"))


def question_text(question: ShownQuestion) -> str:
    r"""What stands behind the state: the question, its options, and the cue for a label.

    Example:
        >>> question = ShownQuestion("tone", "choice", "Tone?", ["calm", "angry"], "AB", ["polite", None])
        >>> print(question_text(question))
        <BLANKLINE>
        <BLANKLINE>
        [Question]
        Tone?
        <BLANKLINE>
        [Answers]
        A. calm: polite
        B. angry
        <BLANKLINE>
        [Best answer, A or B]
        <BLANKLINE>
    """
    content = asdict(question) | {"labels": list(question.labels)}
    module: Any = _template().module
    return str(module.asked(content))


def question_pieces(state: str, question: ShownQuestion) -> list[Piece]:
    """The content of a prompt: the state and the question as slots behind the head."""
    return [Piece(_HEAD), Piece(state, STATE), Piece(question_text(question), QUESTION)]


def in_jinja(pieces: Sequence[Piece]) -> str:
    """``decision_template.jinja`` for prompts whose pieces are like these: a chat format and our wording.

    Args:
        pieces: of any prompt of ``question_pieces`` within its chat format; where the format trims a
            content, the question has lost its last line break.
    """
    parts = [_source(), _STATE_IN_JINJA]
    for piece in pieces:
        if piece.slot == STATE:
            parts.append("{{- shown(state) -}}")
        elif piece.slot == QUESTION:
            trimmed = "" if piece.text.endswith("\n") else ".rstrip()"
            parts.append(f"{{{{- asked(question){trimmed} -}}}}")
        else:
            parts.append(f"{{{{- {json.dumps(piece.text, ensure_ascii=False)} -}}}}")
    return "\n".join(parts) + "\n"


_STATE_IN_JINJA = """\
{%- macro shown(state) -%}
    {%- set ns = namespace(chat=state is not string and state is not mapping and state | length > 0) -%}
    {%- for turn in state if ns.chat -%}
        {%- set ns.chat = turn is mapping and "role" in turn and turn.content is string -%}
    {%- endfor -%}
    {%- set names = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"} -%}
    {%- if not ns.chat -%}
        {{- text(state) -}}
    {%- elif state | length == 1 and state[0].role == "user" -%}
        {{- state[0].content -}}
    {%- else -%}
        {%- for turn in state -%}
            {{- "" if loop.first else "\\n\\n" -}}
            {{- names[turn.role] if turn.role in names else turn.role -}}
            {{- ": " ~ turn.content -}}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}"""


def _source() -> str:
    text = files("gram.rendering").joinpath("templates", _FILE).read_text(encoding="utf-8")
    return text.rstrip("\n")


@cache
def _template() -> Template:
    """Our wording, in the settings in which transformers compiles a chat template."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(_source())
