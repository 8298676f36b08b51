"""The texts inside training records, for a tokenizer to learn from. Knows records, and no tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gram.objectives.language import Unlabeled
from gram.types import Answer, Preference, ResponsePair, Text


def texts_of(records: Iterable[Preference | Unlabeled]) -> Iterator[str]:
    """The texts inside records, for a tokenizer to learn from.

    Example:
        >>> list(texts_of([Text("plain text"), Answer(prompt=(), response="an answer")]))
        ['plain text', 'an answer']
    """
    for record in records:
        match record:
            case Text():
                yield record.text
            case Answer():
                yield from (turn.content for turn in record.prompt)
                yield record.response
            case ResponsePair():
                yield from (turn.content for turn in record.prompt)
                yield from (record.first, record.second)
            case Preference():
                yield from (turn.content for turn in record.pair.prompt)
                yield from (record.pair.a, record.pair.b)
