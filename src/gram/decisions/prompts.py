"""Our own prompts for typed questions: the renderer's wording, and letters or Yes and No as labels.

Knows one renderer; knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gram.decisions.decider import Asked
from gram.errors import DataError
from gram.rendering import Encoded, Renderer
from gram.rendering.questions import (
    MOST_OPTIONS,
    YES_NO,
    QuestionKind,
    ShownQuestion,
    letters,
    state_text,
)


class OwnPrompts:
    """A ``Prompter`` for models that bring no decision template.

    Labels are words of one token in their place: Yes and No of a noul (letters, where these are more than one
    token), and A, B, C, ... of choices and scores.

    Args:
        temperatures: by type of question; 1 for those that are not there.
    """

    def __init__(self, renderer: Renderer, temperatures: Mapping[QuestionKind, float] | None = None) -> None:
        self._renderer = renderer
        self._temperatures = temperatures or {}
        self._found: dict[QuestionKind, dict[str, int]] = {}

    def prompts(self, state: object, asked: Sequence[Asked]) -> list[Encoded]:
        return self._renderer.questions(state_text(state), [self._shown(one) for one in asked])

    def label_ids(self, kind: QuestionKind, count: int, name: str) -> list[int]:
        ids = list(self._labels(kind).values())
        check_count(count, len(ids), name)
        return ids[:count]

    def temperature(self, kind: QuestionKind) -> float:
        return self._temperatures.get(kind, 1.0)

    def labels(self, kind: QuestionKind) -> list[str]:
        """The labels of a type of question, in the order of places."""
        return list(self._labels(kind))

    def _shown(self, one: Asked) -> ShownQuestion:
        question, order = one.question, one.order
        return ShownQuestion(
            one.name,
            question.type,
            question.instructions,
            [question.options[option] for option in order],
            self.labels(question.type)[: len(order)],
            [question.descriptions[option] for option in order],
        )

    def _labels(self, kind: QuestionKind) -> dict[str, int]:
        """Labels and their token ids."""
        if kind not in self._found:
            words = YES_NO if kind == "noul" else letters()
            sample = ShownQuestion("", kind, "Which?", ["x", "y"], list(words[:2]), ["x", "y"])
            found = self._renderer.one_token_words(sample, words)
            if kind == "noul" and len(found) < len(YES_NO):
                found = self._labels("choice")
            most = len(YES_NO) if kind == "noul" else MOST_OPTIONS
            self._found[kind] = dict(list(found.items())[:most])
        return self._found[kind]


def check_count(count: int, labels: int, name: str) -> None:
    """Refuse more options than there are labels.

    Raises:
        DataError: naming the question.
    """
    if count > labels:
        raise DataError(
            f"has {count} options, and the model has {labels} labels of one token", field=f"questions.{name}"
        )
