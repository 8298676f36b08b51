"""One row -> one example: which of the known forms it is, told from its fields, and what it means.

Knows no files, splits or sampling. ``docs/data-formats.md`` lists every form with an example; the table
``_FORMS`` below is the same list. ``parse`` reads any form; the ``to_...`` functions turn the result into
what one caller needs, and raise when a row has another form. All errors are ``DataError`` with file and line,
and with the field if one is to blame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from gram.data.chats import answer_of, conversation_of, implicit_prompt, prompt_of, text_of
from gram.data.labels import bradley_terry, number, probability, vote_share
from gram.data.published import read_published
from gram.data.sources import Row
from gram.errors import DataError
from gram.types import Answer, Chat, Contest, Message, Pair, Preference, ResponsePair, Text

Example: TypeAlias = Preference | ResponsePair | Contest | Answer | Text
Language: TypeAlias = ResponsePair | Answer | Text
Fields: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scorable:
    """Something a model can score, with the id of its row ("" if it has none)."""

    id: str
    item: Pair | Contest | Answer


def parse(row: Row) -> Example:
    """The example that ``row`` holds.

    Example:
        >>> parse(Row({"text": "Salt dissolves in water."}, "rows.jsonl", 1))
        Text(text='Salt dissolves in water.', id='')

    Raises:
        DataError: the fields are those of no known form, or a field cannot be used.
    """
    fields = {name: value for name, value in row.values.items() if value is not None}
    try:
        for names, convert in _FORMS:
            if names <= fields.keys():
                return convert(fields)
        raise DataError(f"no known form of row; {_field_names(row)} (see docs/data-formats.md)")
    except DataError as error:
        raise _with_place(row, error) from None


def to_preference(row: Row) -> Preference:
    """A labeled pair. Of ``chosen`` and ``rejected``, ``pair.a`` is the chosen one and ``p_a`` is 1, or the
    probability that the row's votes or ``p_chosen`` give.

    Example:
        >>> row = Row({"prompt": "2 + 2?", "a": "4", "b": "5", "p_a": 0.9}, "rows.jsonl", 1)
        >>> to_preference(row).p_a
        0.9
    """
    record = parse(row)
    if isinstance(record, Preference):
        return record
    if isinstance(record, ResponsePair) and "a" in row.values:
        raise _with_place(row, DataError("missing: this pair has no label", field="p_a"))
    raise _unfit(row, "a labeled pair")


def to_language(row: Row, pairing: Callable[[Contest], list[ResponsePair]]) -> list[Language]:
    """What stage 1 can learn from the row: unlabeled pairs, one answer, or plain text.

    ``pairing`` picks the pairs among several answers and their order. A labeled pair loses its label and
    is paired in the same way, so that the order does not show which answer was chosen. Responses of which
    no two differ give one ``Answer``.
    """
    record = parse(row)
    if isinstance(record, Preference):
        record = Contest(record.pair.prompt, (record.pair.a, record.pair.b), record.id)
    if isinstance(record, Contest):
        return [*pairing(record)] or [Answer(record.prompt, record.responses[0], record.id)]
    return [record]


def to_contest(row: Row) -> Contest:
    """The candidates to rank: a row with ``responses``.

    Example:
        >>> to_contest(Row({"prompt": "2 + 2?", "responses": ["4", "5"]}, "rows.jsonl", 1)).responses
        ('4', '5')
    """
    record = parse(row)
    if isinstance(record, Contest):
        return record
    raise _unfit(row, "candidates ('prompt' and 'responses')")


def to_scorable(row: Row) -> Scorable:
    """What ``gram score`` scores. A label is not looked at; ``a`` is the chosen answer if there is one."""
    match parse(row):
        case Preference(pair=pair, id=name):
            return Scorable(name, pair)
        case ResponsePair(prompt, first, second, name):
            return Scorable(name, Pair(prompt, first, second))
        case Contest() | Answer() as record:
            return Scorable(record.id, record)
        case _:
            raise _unfit(row, "a pair, candidates or an answer")


def _unfit(row: Row, expectation: str) -> DataError:
    return _with_place(row, DataError(f"expected {expectation}; {_field_names(row)}"))


def _field_names(row: Row) -> str:
    names = (name if value is not None else f"{name} (null)" for name, value in sorted(row.values.items()))
    return f"the fields found are: {', '.join(names) or 'none'}"


def _with_place(row: Row, error: DataError) -> DataError:
    return DataError(error.reason, file=row.file, line=row.line, field=error.field)


# Forms: each converts a row's fields, of which none is null


def _preference(fields: Fields) -> Preference:
    chosen, rejected = fields["chosen"], fields["rejected"]
    if "prompt" in fields:
        prompt = prompt_of(fields["prompt"])
        good, bad = answer_of(chosen, "chosen", prompt), answer_of(rejected, "rejected", prompt)
    else:
        prompt, good, bad = implicit_prompt(chosen, rejected)
    if "p_chosen" in fields:
        p_a = probability(fields, "p_chosen")
    elif {"votes_chosen", "votes_rejected"} <= fields.keys():
        p_a = vote_share(fields, "votes_chosen", "votes_rejected")
    else:
        p_a = 1.0
    return _labeled(fields, prompt, good, _differs(bad, good, "rejected"), p_a)


def _soft_preference(label: Callable[[Fields], float]) -> Callable[[Fields], Preference]:
    def read(fields: Fields) -> Preference:
        p_a = label(fields)
        pair = _pair(fields)
        return _labeled(fields, pair.prompt, pair.first, pair.second, p_a)

    return read


def _pair(fields: Fields) -> ResponsePair:
    prompt = prompt_of(fields["prompt"])
    a, b = answer_of(fields["a"], "a", prompt), answer_of(fields["b"], "b", prompt)
    return ResponsePair(_with_system(fields, prompt), a, _differs(b, a, "b"), _name(fields, "id"))


def _contest(fields: Fields) -> Contest:
    prompt, responses = prompt_of(fields["prompt"]), fields["responses"]
    if not isinstance(responses, list) or not responses:
        raise DataError("expected a list of one or more responses", field="responses")
    answers = tuple(answer_of(value, f"responses[{k}]", prompt) for k, value in enumerate(responses))
    return Contest(_with_system(fields, prompt), answers, _name(fields, "id"))


def _answer(field: str) -> Callable[[Fields], Answer]:
    def read(fields: Fields) -> Answer:
        prompt = prompt_of(fields["prompt"])
        answer = answer_of(fields[field], field, prompt)
        return Answer(_with_system(fields, prompt), answer, _name(fields, "id"))

    return read


def _conversation(fields: Fields) -> Answer:
    prompt, answer = conversation_of(fields["messages"], "messages")
    return Answer(_with_system(fields, prompt), answer, _name(fields, "id"))


def _text(fields: Fields) -> Text:
    text = text_of(fields["text"], "text")
    if not text.strip():
        raise DataError("the text is empty", field="text")
    return Text(text, _name(fields, "id"))


def _published(fields: Fields) -> Preference | ResponsePair:
    parts = (text_of(fields.get(name, ""), name) for name in ("instruction", "input", "output"))
    question, a, b, p_a = read_published(*parts)
    source = "output" if p_a is None else "instruction"
    prompt = prompt_of(question, "instruction")
    for answer, name in ((a, "A"), (b, "B")):
        if not answer:
            raise DataError(f"answer {name} is empty", field=source)
    _differs(b, a, source)
    if p_a is not None:
        return _labeled(fields, prompt, a, b, p_a)
    return ResponsePair(_with_system(fields, prompt), a, b, _name(fields, "id"))


_FORMS: tuple[tuple[frozenset[str], Callable[[Fields], Example]], ...] = (
    (frozenset({"chosen", "rejected"}), _preference),
    (frozenset({"prompt", "a", "b", "p_a"}), _soft_preference(partial(probability, field="p_a"))),
    (
        frozenset({"prompt", "a", "b", "votes_a", "votes_b"}),
        _soft_preference(partial(vote_share, one="votes_a", other="votes_b")),
    ),
    (
        frozenset({"prompt", "a", "b", "score_a", "score_b"}),
        _soft_preference(partial(bradley_terry, one="score_a", other="score_b")),
    ),
    (frozenset({"prompt", "a", "b"}), _pair),
    (frozenset({"prompt", "responses"}), _contest),
    (frozenset({"prompt", "response"}), _answer("response")),
    (frozenset({"prompt", "completion"}), _answer("completion")),
    (frozenset({"instruction", "output"}), _published),
    (frozenset({"messages"}), _conversation),
    (frozenset({"text"}), _text),
)


# Parts that forms share


def _labeled(fields: Fields, prompt: Chat, a: str, b: str, p_a: float) -> Preference:
    group, source = _name(fields, "group"), fields.get("source")
    return Preference(
        Pair(_with_system(fields, prompt), a, b),
        p_a,
        id=_name(fields, "id"),
        subset=_name(fields, "subset"),
        # group ids are only unique within their source: "7" of one is not "7" of another
        group=f"{source}/{group}" if group and isinstance(source, str) else group,
        margin=number(fields, "margin") if "margin" in fields else 0.0,
    )


def _differs(answer: str, other: str, field: str) -> str:
    if answer.strip() == other.strip():
        raise DataError("the two answers are equal", field=field)
    return answer


def _with_system(fields: Fields, prompt: Chat) -> Chat:
    system = text_of(fields.get("system", ""), "system")
    if not system.strip():
        return prompt
    if prompt[0].role == "system":
        raise DataError("the prompt has a system turn already", field="system")
    return (Message("system", system), *prompt)


def _name(fields: Fields, field: str) -> str:
    value = fields.get(field, "")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_of(value, field)
