"""Token by token: the log-probability of each token of an answer, and the text that it writes.

Knows renderers and runners; knows no kind of model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gram.asking import Context
from gram.engine.base import TokenRow
from gram.engine.runner import Runner
from gram.errors import ScoringError
from gram.rendering import Renderer, usage_of
from gram.tokens import TokenLogprobs
from gram.types import PromptLike, Usage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_HALF = "\ufffd"  # what a tokenizer writes for bytes that are no character yet


def read_tokens(
    renderer: Renderer, runner: Runner, prompt: PromptLike, response: str, context: Context = "chat"
) -> tuple[TokenLogprobs, Usage]:
    """The tokens of an answer, and the usage for them. See ``TokenReader``.

    Args:
        context: where the answer stands, see ``Renderer.answers``.
    """
    [answer] = renderer.answers([prompt], [response], context)
    row = TokenRow(answer.ids, (answer.scored("a"),))
    values = runner.token_logprobs(row)
    if not np.isfinite(values).all():
        raise ScoringError("the model gave no finite log-probability for a token of the answer")
    texts = tuple(_texts(renderer.tokenizer, [answer.ids[place] for place in row.scored]))
    return TokenLogprobs(texts, tuple(map(float, values)), answer.tokens_cut), usage_of([answer])


def _texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> Iterator[str]:
    """What each token writes. A token writes a space, or half a character, only behind others: so each is
    decoded behind the one before it, and a character stands with the token that completes it."""

    def text(start: int, stop: int) -> str:
        return str(tokenizer.decode(list(ids[start:stop]), clean_up_tokenization_spaces=False))

    behind, shown = 0, 0  # the first token of the window, and the first one not shown yet
    for stop in range(1, len(ids) + 1):
        before, now = text(behind, shown), text(behind, stop)
        if now.endswith(_HALF) and stop < len(ids):
            yield ""
        else:
            yield now[len(before) :]
            behind, shown = shown, stop
