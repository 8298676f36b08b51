"""Answers of servers to label log-probabilities: pure functions over the documented shapes.

Knows JSON and labels; knows no server and no prompt. What a server did not tell is an error or a bound,
never a number.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from gram.errors import ScoringError

_NEVER = -9998.0  # OpenAI writes -9999.0 for what it does not tell
_ROUNDING = 0.01  # by which listed probabilities may add up to more than 1
SMALLEST = 1.2e-38
"""At most so much is a probability that a server rounded to 0 (the smallest normal number of 32 bits)."""


class NoVerdictError(ScoringError):
    """An answer in which the labels cannot be read."""


class UnlistedError(NoVerdictError):
    """An answer that lists likely tokens, and neither label among them."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a server tells of the first token that it would write.

    Attributes:
        top: the likeliest tokens and their log-probabilities, in any order; a text may stand for several.
        sampled: the token that was drawn, where it may be listed for that alone: in the older shape.
    """

    top: tuple[tuple[str, float], ...]
    sampled: tuple[str, float] | None = None

    @property
    def likeliest(self) -> str:
        """The token that the model would say."""
        return max(self.top, key=lambda entry: entry[1])[0]

    def undrawn(self, most: int) -> Listing:
        """The likeliest tokens alone, so that what is drawn changes no number.

        The older shape adds the drawn token to the likeliest: it is the least of more than ``most``. Where
        fewer are listed, the server has a limit of its own, and the least may be such a token.

        Example:
            >>> five = Listing((("A", -0.5), ("B", -1.5), ("C", -9.0)), ("C", -9.0))
            >>> five.undrawn(2).top, five.undrawn(3) == Listing(five.top)
            ((('A', -0.5), ('B', -1.5)), True)
        """
        least = min(value for _, value in self.top)
        if self.sampled is None or len(self.top) == most:
            return Listing(self.top)
        drawn = self.sampled[0]
        return Listing(tuple(entry for entry in self.top if entry[0] != drawn or entry[1] > least))


@dataclass(frozen=True, slots=True)
class LabelReading:
    """Log-probabilities of the two labels.

    Attributes:
        bounded: one of the two is only known to be at most this, and less than the other.
    """

    values: tuple[float, float]
    bounded: bool = False


def read_listing(answer: Any, *, by_id: bool = False) -> Listing:
    """The listing in an answer of chat completions or completions, of either shape.

    Args:
        by_id: name tokens ``token_id:NUMBER``, by the ``id`` of each entry, which llama.cpp tells.

    Raises:
        NoVerdictError: there are no log-probabilities, or something else in their place.

    Example:
        >>> top = [{"token": "B", "logprob": -2.0}, {"token": "A", "logprob": -0.5}]
        >>> content = [{"token": "A", "logprob": -0.5, "top_logprobs": top}]
        >>> read_listing({"choices": [{"logprobs": {"content": content}}]}).likeliest
        'A'
        >>> old = {"tokens": [" A"], "token_logprobs": [-0.5], "top_logprobs": [{" A": -0.5, " B": -2.0}]}
        >>> read_listing({"choices": [{"logprobs": old}]}).top
        ((' A', -0.5), (' B', -2.0))
    """
    logprobs = _logprobs(answer)
    try:
        if "content" in logprobs:
            first = logprobs["content"][0]
            top = [
                (f"token_id:{entry['id']}" if by_id else entry["token"], entry["logprob"])
                for entry in first["top_logprobs"]
            ]
            sampled = None
        else:
            top = list(logprobs["top_logprobs"][0].items())
            sampled = _entry((logprobs["tokens"][0], logprobs["token_logprobs"][0]))
    except (KeyError, IndexError, TypeError, AttributeError):
        raise NoVerdictError(
            "the answer has log-probabilities of another form than OpenAI's, or of no token"
        ) from None
    if not top:
        raise NoVerdictError("the server ignores top_logprobs: it lists no token but the one it drew")
    return Listing(tuple(map(_entry, top)), sampled)


def read_labels(listing: Listing, names: Sequence[Collection[str]]) -> LabelReading:
    """The log-probabilities of the two labels, or one of them and a bound for the other.

    Of a label that is not listed two things are known: it is no likelier than the least of the k likeliest,
    and it has at most what all that are listed leave over. So p <= min(p_k, 1 - sum p), while the other label
    is among the k: the log-odds have the right sign, and the true ones are at least as far from 0.

    Args:
        listing: of the likeliest alone: see ``Listing.undrawn``.
        names: of each label, the texts under which it may be listed.

    Raises:
        UnlistedError: neither label is listed.
        NoVerdictError: the numbers are no log-probabilities.

    Example:
        A has 0.6; C and D have 0.2 and 0.1. B is not listed: it has at most 0.1, of them and of what is left.

        >>> top = (("A", math.log(0.6)), ("C", math.log(0.2)), ("D", math.log(0.1)))
        >>> reading = read_labels(Listing(top), ({"A"}, {"B"}))
        >>> [round(math.exp(value), 3) for value in reading.values], reading.bounded
        ([0.6, 0.1], True)
    """
    told = [entry for entry in listing.top if entry[1] > _NEVER]
    if not told:
        raise NoVerdictError("the server lists no token with a probability")
    least = min(value for _, value in told)
    total = math.fsum(math.exp(value) for _, value in told)
    if total > 1 + _ROUNDING:
        raise NoVerdictError(
            f"the listed probabilities add up to {total:.3g}: these are no log-probabilities of a token"
        )
    found = [_sum([value for name, value in told if name in label]) for label in names]
    first, second = found
    if first is None and second is None:
        raise UnlistedError(
            f"neither label is among the {len(listing.top)} likeliest tokens (it would say "
            f"{listing.likeliest!r}): use a template that the model follows (template=), or a server that "
            "tells the probability of any token"
        )
    if first is not None and second is not None:
        return LabelReading((first, second))
    left = 1.0 - total
    bound = min(least, math.log(left)) if left > 0 else least
    return LabelReading((bound if first is None else first, bound if second is None else second), True)


def read_echoed(answer: Any, place: int | None, prompt: str, label: str) -> float:
    """The log-probability of a label that stood at the end of a prompt which the server echoes.

    Args:
        place: of the label among the tokens; None: where the prompt's text ends.

    Raises:
        NoVerdictError: the server does not echo, or the label is no token of its own there.
    """
    logprobs = _logprobs(answer)
    try:
        offsets, values = logprobs.get("text_offset") or [], logprobs["token_logprobs"]
        if place is None:
            place = offsets.index(len(prompt))
            if logprobs["tokens"][place] != label:
                raise ValueError
        value = values[place]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise NoVerdictError(f"the label {label!r} is no token of its own behind the prompt") from None
    return _entry((label, value))[1]


def read_probabilities(values: Sequence[Any], smallest: float = SMALLEST) -> LabelReading:
    """The reading of two probabilities.

    Args:
        smallest: more than what a server may have rounded to 0.

    Raises:
        NoVerdictError: no probabilities, or both are 0.

    Example:
        >>> read_probabilities([0.5, 0.0], smallest=1e-4).values[1] == math.log(1e-4)
        True
    """
    if len(values) != 2 or not all(isinstance(p, int | float) and 0 <= p <= 1 + _ROUNDING for p in values):
        raise NoVerdictError(f"expected the probabilities of two labels, got {list(values)!r:.100}")
    first, second = (float(p) for p in values)
    if max(first, second) <= smallest or first + second > 1 + _ROUNDING:
        raise NoVerdictError(f"{first:g} and {second:g} are no probabilities of two labels")
    return LabelReading(
        (math.log(max(first, smallest)), math.log(max(second, smallest))), min(first, second) < smallest
    )


def _logprobs(answer: Any) -> Any:
    try:
        logprobs = answer["choices"][0].get("logprobs")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise NoVerdictError(f"no answer of OpenAI's form: {str(answer)[:100]}") from None
    if not logprobs:
        raise NoVerdictError(
            "the server ignores logprobs, or offers none for this model: a judge cannot be read from its text"
        )
    return logprobs


def _entry(entry: tuple[Any, Any]) -> tuple[str, float]:
    token, value = entry
    if isinstance(token, str) and isinstance(value, int | float) and not math.isnan(value) and value < 0.01:
        return token, float(value)
    raise NoVerdictError(f"token {token!r:.40} with log-probability {value!r:.40}")


def _sum(values: Sequence[float]) -> float | None:
    """Log of the sum of probabilities: tokens of one text stand for it together."""
    if not values:
        return None
    most = max(values)
    return most + math.log(math.fsum(math.exp(value - most) for value in values))
