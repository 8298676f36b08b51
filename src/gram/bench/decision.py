"""transformers' own ``pipeline("decision")`` on our judge prompts: one prompt after the other.

It asks a typed question about a state and reads the logits of the options' labels at the last token of a
prompt. Here the state is the prompt, and every pair, in both orders, is a question with two options, the
answers. Its template is ours in its own language, so that it reads the same tokens and the same two logits.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from gram.errors import ConfigError
from gram.rendering import Renderer
from gram.rendering.template import transcript
from gram.types import FloatArray, Pair

_SLOTS = {
    "prompt": "{{ state }}",
    "a": "{{ question.descriptions[0] }}",
    "b": "{{ question.descriptions[1] }}",
}


def pipeline_is_there() -> bool:
    """Whether this transformers has the pipeline."""
    return find_spec("transformers.decision") is not None


class Decisions:
    """The pipeline, and one request with all pairs in both orders.

    Args:
        model: with stock attention, in the precision it is asked in.
        pairs: of one prompt.

    Raises:
        ConfigError: the pairs have several prompts.
    """

    def __init__(self, model: Any, renderer: Renderer, pairs: Sequence[Pair]) -> None:
        from transformers import pipeline
        from transformers.decision import DecisionConfig

        prompts = {pair.prompt for pair in pairs}
        if len(prompts) != 1:
            raise ConfigError(f"a request to the pipeline has one prompt, got pairs of {len(prompts)}")
        labels = renderer.template.labels
        make: Any = pipeline  # its overloads name no task of this kind yet
        self._pipeline = make(
            "decision",
            model=model,
            tokenizer=copy.deepcopy(renderer.tokenizer),  # the pipeline adds tokens of its own
            decision_config=DecisionConfig(labels={"choice": list(labels)}, chat_template=in_jinja(renderer)),
        )
        orders = [*pairs, *(pair.swapped() for pair in pairs)]
        questions = {
            str(number): {"type": "choice", "criteria": dict(zip(labels, (pair.a, pair.b), strict=True))}
            for number, pair in enumerate(orders)
        }
        self._label = labels[0]
        [prompt] = prompts
        self._request = {"state": transcript(prompt), "questions": questions}
        self._inputs = self._pipeline.preprocess(self._request)

    @property
    def ids(self) -> list[list[int]]:
        """Token ids of each prompt: as given, then swapped."""
        return [inputs["input_ids"][0].tolist() for inputs, _ in self._inputs["prompts"]]

    def ask(self) -> FloatArray:
        """(n,) P(first label) of each prompt, from token ids: rendering is left out, as it is of ours."""
        answers = self._pipeline.postprocess(self._pipeline.forward(self._inputs))
        return np.array([answer["probabilities"][self._label] for answer in answers.values()])


def in_jinja(renderer: Renderer) -> str:
    """The judge prompt, chat format included, in the language of ``decision_template.jinja``."""
    example = Pair("Why?", a="Yes.", b="No.")
    pieces = renderer.chat.wrap([("user", renderer.template.pieces(example))], open_answer=True)
    return "".join(
        _SLOTS[piece.slot] if piece.slot else f"{{{{ {json.dumps(piece.text, ensure_ascii=False)} }}}}"
        for piece in pieces
    )
