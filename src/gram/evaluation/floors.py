"""Two rules that understand nothing, shown beside every model: answer length and a bag of words.

A model near such a floor may have learned no more than a preference for length or for certain words. Both
floors look at the answers only, never at the prompt. Knows no model under test and no records.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gram.data.folds import folds
from gram.types import FloatArray, Preference, sigmoid

DIMENSIONS = 2**17  # hashed words and word pairs; one feature more for the length
RIDGE = 1.0
FOLDS = 5

_WORD = re.compile(r"\w+|[^\w\s]")


def floors(preferences: Sequence[Preference], train: Sequence[Preference] = ()) -> dict[str, FloatArray]:
    """Both floors, by name: (n,) probabilities that answer a is the better one.

    Example:
        >>> from gram.types import Pair
        >>> list(floors([Preference(Pair("2 + 2?", a="It is 4.", b="5"), p_a=1.0)]))
        ['length', 'bag of words']
    """
    return {"length": length_rule(preferences), "bag of words": bag_of_words(preferences, train)}


def length_rule(preferences: Sequence[Preference]) -> FloatArray:
    """(n,) 1 where answer a has more characters, 0 where b has, 0.5 where they are equally long.

    Example:
        >>> from gram.types import Pair
        >>> length_rule([Preference(Pair("2 + 2?", a="It is 4.", b="5"), p_a=1.0)]).tolist()
        [1.0]
    """
    difference = [len(preference.pair.a) - len(preference.pair.b) for preference in preferences]
    return 0.5 * (1.0 + np.sign(np.array(difference, dtype=float)))


def bag_of_words(preferences: Sequence[Preference], train: Sequence[Preference] = ()) -> FloatArray:
    """(n,) probability that a beats b, by a logistic regression on words, word pairs and length.

    The features of a pair are those of a minus those of b and there is no intercept, so swapping the answers
    of a row turns its probability. Deterministic, numpy only; a few seconds for 10,000 pairs.

    Args:
        preferences: the rows to judge.
        train: labeled rows to learn from. Without any, the rows themselves serve, in five folds cut between
            groups (``Preference.group``, or else the prompt): no row is judged by a regression that has seen
            its group. Rows that all belong to one group get 0.5.

    Example:
        >>> from gram.types import Pair
        >>> rows = [Preference(Pair("Why?", a="Thank you!", b="Go away!!!"), p_a=1.0)] * 20
        >>> bool(bag_of_words([rows[0].swapped()], train=rows)[0] < 0.5)
        True
    """
    rows = _differences(preferences)
    if train:
        weights = _regression(_differences(train), np.array([row.p_a for row in train]))
        return sigmoid(rows.times(weights))
    labels = np.array([row.p_a for row in preferences])
    fold = folds(preferences, FOLDS)
    p_a = np.full(len(preferences), 0.5)
    if len(np.unique(fold)) < 2:
        return p_a
    for k in np.unique(fold):
        weights = _regression(rows.select(fold != k), labels[fold != k])
        p_a[fold == k] = sigmoid(rows.times(weights))[fold == k]
    return p_a


def _sums(place: npt.NDArray[np.int64], value: FloatArray, n: int) -> FloatArray:
    """(n,) sums of the values by place."""
    return np.asarray(np.bincount(place, weights=value, minlength=n), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Sparse:
    """An (n, DIMENSIONS + 1) matrix by its nonzero entries."""

    n: int
    row: npt.NDArray[np.int64]
    column: npt.NDArray[np.int64]
    value: FloatArray

    def times(self, weights: FloatArray) -> FloatArray:
        return _sums(self.row, self.value * weights[self.column], self.n)

    def transposed_times(self, x: FloatArray) -> FloatArray:
        return _sums(self.column, self.value * x[self.row], DIMENSIONS + 1)

    def select(self, keep: npt.NDArray[np.bool_]) -> _Sparse:
        entry = keep[self.row]
        renumbered = np.cumsum(keep) - 1
        return _Sparse(int(keep.sum()), renumbered[self.row[entry]], self.column[entry], self.value[entry])


def _differences(preferences: Sequence[Preference]) -> _Sparse:
    """Features of a minus features of b: log(1 + count) of each hashed word and word pair, and log length."""
    a = [preference.pair.a for preference in preferences]
    b = [preference.pair.b for preference in preferences]
    key_a, value_a = _features(a)
    key_b, value_b = _features(b)
    key, place = np.unique(np.concatenate([key_a, key_b]), return_inverse=True)
    value = _sums(place, np.concatenate([value_a, -value_b]), len(key))
    key, value = key[value != 0], value[value != 0]
    return _Sparse(len(preferences), key // (DIMENSIONS + 1), key % (DIMENSIONS + 1), value)


def _features(texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Flat positions in the (n, DIMENSIONS + 1) matrix and the values there."""
    width = DIMENSIONS + 1
    keys = [np.empty(0, dtype=np.int64)]
    for row, text in enumerate(texts):
        words = np.array([_hash(word) for word in _WORD.findall(text.lower())], dtype=np.int64)
        pairs = words[:-1] * 31 + words[1:]
        keys.append(row * width + np.concatenate([words, pairs]) % DIMENSIONS)
    key, count = np.unique(np.concatenate(keys), return_counts=True)
    length = np.array([len(text) for text in texts], dtype=float)
    last = np.arange(len(texts), dtype=np.int64) * width + DIMENSIONS
    return np.concatenate([key, last]), np.log1p(np.concatenate([count, length]))


@lru_cache(maxsize=2**17)
def _hash(word: str) -> int:
    return _crc(word)


def _crc(text: str) -> int:
    # Not hash(): Python salts it anew in every process.
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def _regression(x: _Sparse, y: FloatArray) -> FloatArray:
    """Weights that minimise the summed cross-entropy plus RIDGE/2 |w|^2, by Newton's method.

    Stops when the gradient is 1% of what it was: far below what more rows would change.
    """
    weights = np.zeros(DIMENSIONS + 1)
    start = None
    for _ in range(20):
        p = sigmoid(x.times(weights))
        gradient = x.transposed_times(p - y) + RIDGE * weights
        size = float(np.linalg.norm(gradient))
        start = size if start is None else start
        if size <= 0.01 * start:
            break
        weights = weights - _solve(x, p * (1 - p), gradient)
    return weights


def _solve(x: _Sparse, curvature: FloatArray, b: FloatArray) -> FloatArray:
    """(x' diag(curvature) x + RIDGE I)^-1 b by conjugate gradients, the diagonal as preconditioner."""
    squares = _sums(x.column, x.value**2 * curvature[x.row], DIMENSIONS + 1)
    inverse = 1.0 / (squares + RIDGE)
    solution = np.zeros_like(b)
    residual = b
    direction = inverse * residual
    product = start = float(residual @ direction)
    for _ in range(50):
        if product <= 1e-2 * start:
            break
        image = x.transposed_times(curvature * x.times(direction)) + RIDGE * direction
        step = product / float(direction @ image)
        solution = solution + step * direction
        residual = residual - step * image
        previous, product = product, float(residual @ (inverse * residual))
        direction = inverse * residual + product / previous * direction
    return solution
