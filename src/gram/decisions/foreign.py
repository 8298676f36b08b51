"""Prompts of a model's own decision template, rendered by transformers as its decision pipeline does.

The template is somebody's program, so that a state is the only part of it that can be shortened, and only a
text. Every question is asked by itself, also where a template could show several: one must not change
another's answer. Knows transformers' ``decision`` module, which versions before 5.23 lack.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gram.decisions.decider import Asked
from gram.decisions.folder import DecisionFiles
from gram.decisions.prompts import check_count
from gram.errors import CheckpointError, ConfigError, DataError
from gram.rendering import Encoded
from gram.rendering.limits import trial
from gram.rendering.questions import STATE, YES_NO, QuestionKind, letters
from gram.rendering.truncation import shorten

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MOST_ROUNDS = 20
_SAMPLE = {
    "name": "q",
    "type": "choice",
    "instructions": "Which?",
    "options": ["x", "y"],
    "labels": ["A", "B"],
    "descriptions": [None, None],
}


class ForeignPrompts:
    """A ``Prompter`` for a folder with ``decision.json`` or ``decision_template.jinja``.

    Args:
        tokenizer: is not changed; the pipeline adds tokens to one of its own.
        max_length: most tokens in a prompt.

    Raises:
        ConfigError: this transformers has no decision pipeline, or the folder asks for an adapter in it.
        CheckpointError: the template takes too long, too much memory, or writes too much.
    """

    def __init__(self, files: DecisionFiles, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        if find_spec("transformers.decision") is None:
            raise ConfigError(
                f"{files.source}: has a decision template, which transformers reads from version 5.23 on"
            )
        if files.adapter:
            raise ConfigError(
                f"{files.source}: its decisions are those of the adapter in '{files.adapter}', which is not "
                "loaded with it: merge the two with peft, and save them with the decision files in one folder"
            )
        from transformers.decision import DecisionConfig

        self._config = DecisionConfig(
            labels={str(kind): labels for kind, labels in files.labels.items()},
            temperature={str(kind): value for kind, value in files.temperature.items()},
            chat_template=files.template,
            noul_options=list(files.noul_options),
            sanitize_control_tokens=files.sanitize_control_tokens,
        )
        self._files = files
        self._tokenizer: Any = copy.deepcopy(tokenizer)
        self._max_length = max_length
        self._ids: dict[tuple[str, ...], list[int]] = {}
        if files.template is not None and (reason := trial(self._sample)):
            raise CheckpointError(f"{files.source}: its decision template {reason}; it is not used")

    def prompts(self, state: object, asked: Sequence[Asked]) -> list[Encoded]:
        """As ``Prompter``.

        Raises:
            DataError: a question leaves no room for the state, or the state is too long and no text.
            CheckpointError: the template fails.
        """
        return [self._fitting(state, one) for one in asked]

    def label_ids(self, kind: QuestionKind, count: int, name: str) -> list[int]:
        from transformers.decision import label_token_ids

        labels = self._labels(kind)
        check_count(count, len(labels), name)
        key = tuple(self._in_order(kind, labels)[:count])
        if key not in self._ids:
            try:
                self._ids[key] = label_token_ids(self._tokenizer, key)
            except ValueError as error:
                raise CheckpointError(f"{self._files.source}: {error}") from None
        return self._ids[key]

    def temperature(self, kind: QuestionKind) -> float:
        return float(self._files.temperature.get(kind, 1.0))

    def _labels(self, kind: QuestionKind) -> list[str]:
        return self._files.labels.get(kind) or (list(YES_NO) if kind == "noul" else letters()[:26])

    def _in_order(self, kind: QuestionKind, labels: list[str]) -> list[str]:
        """Labels by place; of a noul by ours, where true comes first: theirs may be shown the other way."""
        turned = kind == "noul" and self._files.noul_options[0] == "false"
        return labels[1::-1] if turned else labels

    def _prompt(self, state: object, questions: dict[str, Any]) -> list[int]:
        """Ids up to the token behind which the answer stands."""
        [(inputs, _)] = self._config.prepare_inputs({"state": state, "questions": questions}, self._tokenizer)
        return inputs["input_ids"][0, : int(inputs["marks"][0])].tolist()

    def _sample(self, messages: Sequence[dict[str, str]], open_answer: bool) -> str:
        """The template's text for a short state: for the trial, whose process must not use a tokenizer."""
        return self._tokenizer.apply_chat_template(
            [{"role": "user", "content": ""}],
            chat_template=self._files.template,
            state=messages[0]["content"],
            question=_SAMPLE,
            questions=[_SAMPLE],
            tokenize=False,
            add_generation_prompt=open_answer,
            enable_thinking=False,
        )

    def _fitting(self, state: object, one: Asked) -> Encoded:
        questions = {one.name: _as_json(one)}
        ids = self._rendered(state, questions)
        if len(ids) <= self._max_length:
            return Encoded(ids, {})
        if not isinstance(state, str):
            raise DataError(
                f"takes {len(ids)} of the {self._max_length} tokens that the model reads, with the question "
                f"'{one.name}'; only a text can be shortened for this model's own template",
                field=STATE,
            )
        encoded = self._tokenizer(state, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = encoded["offset_mapping"]
        keep = len(offsets) - (len(ids) - self._max_length)
        for _ in range(_MOST_ROUNDS):
            if keep < 1:
                break
            text, removed = shorten(state, offsets, keep)
            ids = self._rendered(text, questions)
            if len(ids) <= self._max_length:
                return Encoded(ids, {}, {STATE: removed})
            keep -= len(ids) - self._max_length
        raise DataError(
            f"leaves no room for the state within the {self._max_length} tokens that the model reads: "
            "shorten its instructions or options",
            field=f"questions.{one.name}",
        )

    def _rendered(self, state: object, questions: dict[str, Any]) -> list[int]:
        try:
            return self._prompt(state, questions)
        except Exception as error:  # templates raise whatever they like, jinja2's own errors among it
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{self._files.source}: its decision template fails: {reason}") from error


def _as_json(one: Asked) -> dict[str, Any]:
    """The question as the pipeline takes it, its options in the order asked."""
    question, order = one.question, one.order
    shown = {question.options[option]: question.descriptions[option] for option in order}
    criteria: Any = list(shown.values()) if question.type == "score" else shown
    return {"type": question.type, "instructions": question.instructions, "criteria": criteria}
