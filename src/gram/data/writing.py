"""Labeled pairs as rows of the forms that trainers read: TRL, OpenRLHF, LLaMA-Factory, HH, ms-swift.

Every row is read again by this package before it is given out, so that no text is lost on the way. Knows one
pair and one row; knows no files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from gram.data.row import Row
from gram.data.rows import to_preference
from gram.errors import DataError
from gram.types import Chat, Message, Pair, Preference

Target: TypeAlias = Literal["trl", "openrlhf", "llama-factory", "hh", "ms-swift"]
TARGETS: tuple[Target, ...] = get_args(Target)

_HH_NAMES = {"user": "Human", "assistant": "Assistant"}
_SHAREGPT_NAMES = {"user": "human", "assistant": "gpt", "tool": "observation"}


@dataclass(frozen=True, slots=True)
class Written:
    """One pair in a trainer's form.

    Attributes:
        row: the columns that the trainer reads.
        preference: the pair as it stands in ``row``: the better answer first, ``p_a`` at least 0.5.
        stripped: whether white space around turns was lost, as HH's form has no place for it.
    """

    row: dict[str, Any]
    preference: Preference
    stripped: bool


def written(preference: Preference, target: Target) -> Written:
    """``preference`` in the form of ``target``; of a tie, ``a`` stands as the better answer.

    Raises:
        DataError: the form has no place for a turn of the prompt, or the row would be read as another pair.

    Example:
        >>> pair = Preference(Pair("2 + 2?", a="5", b="4"), p_a=0.0)
        >>> written(pair, "ms-swift").row["rejected_response"]
        '5'
        >>> written(pair, "hh").row["chosen"]
        '\\n\\nHuman: 2 + 2?\\n\\nAssistant: 4'
    """
    ordered = preference if preference.p_a >= 0.5 else preference.swapped()
    kept = _stripped(ordered) if target == "hh" else ordered
    row = _FORMS[target](kept.pair)
    if read_again({**row, **beside(kept)}) != kept:
        raise DataError(
            f"a row of {target} cannot hold this text: it would be read as another prompt or other answers"
        )
    return Written(row, kept, stripped=kept != ordered)


def beside(preference: Preference) -> dict[str, Any]:
    """What a pair has besides its texts, as columns: ``p_chosen``, ``margin``, ``id``, ``subset``, ``group``.

    Example:
        >>> beside(Preference(Pair("2 + 2?", a="4", b="5"), p_a=0.75, id="7"))
        {'p_chosen': 0.75, 'margin': 0.0, 'id': '7', 'subset': '', 'group': ''}
    """
    return {
        "p_chosen": preference.p_a,
        "margin": preference.margin,
        "id": preference.id,
        "subset": preference.subset,
        "group": preference.group,
    }


PLAIN: Mapping[str, Any] = {"p_chosen": 1.0, "margin": 0.0, "id": "", "subset": "", "group": ""}
"""The columns of ``beside`` where nothing is to be said: a column that is so in every row is left out."""


def read_again(row: dict[str, Any]) -> Preference | None:
    """The labeled pair of a row, or None if it holds none."""
    try:
        return to_preference(Row(row, "", 0))
    except DataError:
        return None


def _stripped(preference: Preference) -> Preference:
    pair = preference.pair
    prompt = tuple(Message(turn.role, turn.content.strip()) for turn in pair.prompt)
    return replace(preference, pair=Pair(prompt, pair.a.strip(), pair.b.strip()))


def _trl(pair: Pair) -> dict[str, Any]:
    """Conversational, with the prompt by itself."""
    return {
        "prompt": _messages(pair.prompt),
        "chosen": _messages([Message("assistant", pair.a)]),
        "rejected": _messages([Message("assistant", pair.b)]),
    }


def _openrlhf(pair: Pair) -> dict[str, Any]:
    """Two whole conversations, for ``--data.apply_chat_template`` without a prompt key."""
    chosen, rejected = ([*pair.prompt, Message("assistant", text)] for text in (pair.a, pair.b))
    return {"chosen": _messages(chosen), "rejected": _messages(rejected)}


def _swift(pair: Pair) -> dict[str, Any]:
    return {
        "messages": _messages([*pair.prompt, Message("assistant", pair.a)]),
        "rejected_response": pair.b,
    }


def _llama_factory(pair: Pair) -> dict[str, Any]:
    """ShareGPT's turns; LLaMA-Factory passes over conversations whose turns do not alternate."""
    prompt = pair.prompt
    system = prompt[0].content if prompt[0].role == "system" else ""
    turns = prompt[1:] if prompt[0].role == "system" else prompt
    for place, turn in enumerate(turns):
        wanted = ("assistant",) if place % 2 else ("user", "tool")
        if turn.role not in wanted:
            raise DataError(
                f"turn {place + 1} is of the {turn.role}: LLaMA-Factory passes over conversations that do "
                "not alternate between the user (or a tool) and the assistant",
                field="prompt",
            )
    row: dict[str, Any] = {
        "conversations": [{"from": _SHAREGPT_NAMES[turn.role], "value": turn.content} for turn in turns],
        "chosen": {"from": "gpt", "value": pair.a},
        "rejected": {"from": "gpt", "value": pair.b},
    }
    return row | {"system": system}


def _hh(pair: Pair) -> dict[str, Any]:
    for turn in pair.prompt:
        if turn.role not in _HH_NAMES:
            raise DataError(
                f"a turn of the {turn.role} has no place in an HH transcript, which has a human and an "
                "assistant only",
                field="prompt",
            )
    before = "".join(f"\n\n{_HH_NAMES[turn.role]}: {turn.content}" for turn in pair.prompt)
    return {
        "chosen": f"{before}\n\nAssistant: {pair.a}",
        "rejected": f"{before}\n\nAssistant: {pair.b}",
    }


def _messages(turns: Chat | list[Message]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


_FORMS: Mapping[Target, Callable[[Pair], dict[str, Any]]] = {
    "trl": _trl,
    "openrlhf": _openrlhf,
    "llama-factory": _llama_factory,
    "hh": _hh,
    "ms-swift": _swift,
}
