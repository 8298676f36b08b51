"""An answer read token by token: what a language model gives each of its tokens, and who can tell.

Knows numbers and texts; knows no tokenizer and no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from gram.types import PromptLike


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """The k tokens of an answer, the one that ends it included.

    Attributes:
        texts: (k,) what each token writes; empty where a character goes on in the next one.
        values: (k,) natural-log probability of each token, given the prompt and the tokens before it.
        cut: tokens that prompt and answer lost to fit the model.

    Example:
        >>> tokens = TokenLogprobs(("It", " is"), (-1.5, -0.25))
        >>> sum(tokens.values)
        -1.75
    """

    texts: tuple[str, ...]
    values: tuple[float, ...]
    cut: int = 0


@runtime_checkable
class TokenReader(Protocol):
    """Anything that can tell how likely each token of an answer is: likelihood models, and judges."""

    def token_logprobs(self, prompt: PromptLike, response: str) -> TokenLogprobs:
        """The tokens of one answer, read where the model's answers stand.

        Raises:
            WrongTypeError: the prompt or the response cannot be read.
            ConfigError: there is no language model in reach that could tell.
            ScoringError: the model gave a number that is not finite.
        """
        ...
