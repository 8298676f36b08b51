"""The instruction/input/output rows in which GRAM's own training data are published.

Knows the markers of that format (README of the authors' repository, NiuTrans/GRAM) and nothing of other
row forms or of judge templates: what stands around the markers is not looked at.

- fine-tuning: ``instruction`` is a whole judge prompt with question and both answers, ``output`` is A or B;
- pre-training: ``instruction`` is the question, ``output`` holds both answers between the markers.
"""

from __future__ import annotations

import re

from gram.errors import DataError

_QUESTION = "[User Question]"
_MARKERS = tuple(f"[The {end} of Assistant {name}'s Answer]" for name in "AB" for end in ("Start", "End"))
_ANSWERS = re.compile("(.*?)".join(re.escape(marker) for marker in _MARKERS), re.DOTALL)
_LETTERS = {"A": 1.0, "B": 0.0}


def read_published(instruction: str, extra: str, output: str) -> tuple[str, str, str, float | None]:
    """The question, answer A, answer B, and the probability that A is better (None: not labeled).

    Args:
        extra: the ``input`` field, which goes on where the question ends.
    """
    label = _LETTERS.get(output.strip())
    field = "output" if label is None else "instruction"
    text = output if label is None else instruction
    for marker in _MARKERS:
        if (count := text.count(marker)) != 1:
            raise DataError(f"expected the marker {marker!r} once, found it {count} times", field=field)
    match = _ANSWERS.search(text)
    if match is None:
        raise DataError("the markers around the two answers are not in their order", field=field)
    question = instruction if label is None else text[: match.start()]
    _, mark, after = question.partition(_QUESTION)
    if not mark:
        raise DataError(f"the marker {_QUESTION!r} is missing", field="instruction")
    question = "\n".join(part for part in (_unwrap(after), extra.strip()) if part)
    return question, _unwrap(match[1]), _unwrap(match[3]), label


def _unwrap(text: str) -> str:
    r"""``text`` without the line breaks that set it off from the markers.

    The published cleaning script writes some of them as a backslash and an ``n``. Such a pair is dropped
    only where it touches the marker itself, so that an answer may begin with ``\nabla``; and the
    published example has no break at all before the end of answer A.
    """
    while text.startswith(r"\n"):
        text = text[2:]
    while text.endswith(r"\n"):
        text = text[:-2]
    return text.strip()
