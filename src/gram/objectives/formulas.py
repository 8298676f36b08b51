"""The loss formulas: pure functions of tensors, each the sum over its rows.

Does not know models, tokenizers, batches or means. Sums are returned on purpose: whoever knows how many
examples one optimiser step holds divides once, so that batch size, accumulation and process count cannot
change the training. ``docs/theory.md`` derives the formulas and ``tests/test_formulas.py`` proves them.

Legend, used everywhere below:
    n    rows: pairs, label positions or answers
    q    (n,) probability that answer ``a`` is the better one: 1 or 0 for a hard label, 0.5 for a tie
    eps  smoothing: the assumed probability that a label is wrong, 0 <= eps < 0.5
    t    (n,) the smoothed label, ``q (1 - eps) + (1 - q) eps``
    d    (n,) how far the model prefers ``a`` over ``b``, in nats

A loss is a 0-dim float32 tensor (float64 for float64 inputs), whatever the precision of the model.
Rows that do not match one another raise ``ValueError`` instead of broadcasting. "Paper" is arXiv 2506.14175.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from gram.errors import ConfigError


def check_smoothing(eps: float) -> None:
    """Refuse a smoothing that is no probability of a wrong label.

    With half of the labels wrong they carry no information; with more, they point to the worse answer.

    Raises:
        ConfigError: ``eps`` lies outside [0, 0.5), or is not a number.
    """
    if not 0.0 <= eps < 0.5:
        raise ConfigError(f"label smoothing must be at least 0 and below 0.5, got {eps}")


def optimal_margin(eps: float, labels: int = 2) -> float:
    """The margin ``d`` at which the smoothed loss of a hard label is least: ``log((1 - eps)(k - 1) / eps)``.

    With k ``labels`` it is the lead, in nats, of the right label over each of the others. It is infinite for
    ``eps = 0`` (Bradley-Terry), where every larger margin has a smaller loss.

    Raises:
        ConfigError: ``eps`` lies outside [0, 0.5).

    Example:
        >>> round(optimal_margin(0.1), 4), optimal_margin(0.0)  # log(0.9 / 0.1), and no optimum
        (2.1972, inf)
    """
    check_smoothing(eps)
    return math.log((1.0 - eps) * (labels - 1) / eps) if eps > 0.0 else math.inf


def smoothed_label_loss(label_logits: Tensor, target: Tensor, eps: float) -> Tensor:
    """Cross-entropy of a judge's label words, with smoothed labels (paper: fine-tuning, stage 2).

    For two labels and a hard label this is ``-(1 - eps) log p(w) - eps log p(l)``, with ``w`` the better
    answer's label and ``l`` the worse one's. With k labels the
    probability ``eps`` of a wrong label is shared evenly by the k - 1 others, which is
    ``torch.nn.CrossEntropyLoss(label_smoothing=eps * k / (k - 1))``: twice ``eps`` for two labels.

    Args:
        label_logits: (n, k) logits of the label words at the verdict position.
        target: (n, k) label probabilities, rows summing to 1; or, for k = 2, (n,) ``q`` of label 0.
        eps: smoothing.

    Raises:
        ConfigError: ``eps`` lies outside [0, 0.5).
        ValueError: the shapes do not fit.

    Example:
        One pair, label word 0 ahead by 2 nats, and rightly so: 0.9 * 0.1269 + 0.1 * 2.1269.

        >>> logits, target = torch.tensor([[2.0, 0.0]]), torch.tensor([1.0])  # (1, 2) and (1,)
        >>> round(smoothed_label_loss(logits, target, eps=0.1).item(), 4)
        0.3269
    """
    check_smoothing(eps)
    logits = _at_least_float32(label_logits)  # (n, k)
    target = target.to(logits)
    if target.ndim == 1:
        target = torch.stack((target, 1.0 - target), dim=1)  # (n, 2)
    if logits.ndim != 2 or logits.shape[1] < 2 or target.shape != logits.shape:
        raise ValueError(f"logits {tuple(label_logits.shape)} and target {tuple(target.shape)} do not fit")
    smoothed = (1.0 - eps) * target + eps * (1.0 - target) / (logits.shape[1] - 1)  # (n, k)
    return -(smoothed * log_softmax(logits, dim=1)).sum()


def smoothed_ranking_loss(d: Tensor, q: Tensor, eps: float) -> Tensor:
    """The same loss written with the margin: Bradley-Terry plus a price on confidence.

    ``-t log sigmoid(d) - (1 - t) log sigmoid(-d)``, which for ``q = 1`` is ``-log sigmoid(d) + eps d``
    (paper: label smoothing as a regularised ranking loss). Its gradient is ``sigmoid(d) - t``, its optimum
    ``log(t / (1 - t))``. ``d`` may be any difference of scores: two label logits, two answers'
    log-likelihoods, with or without a reference model's difference subtracted (DPO).

    Args:
        d: (n,) score of ``a`` minus score of ``b``.
        q: (n,) probability that ``a`` is better.
        eps: smoothing.

    Raises:
        ConfigError: ``eps`` lies outside [0, 0.5).

    Example:
        The pair of ``smoothed_label_loss``, whose logits differ by 2: 0.1269 + 0.1 * 2.

        >>> round(smoothed_ranking_loss(torch.tensor([2.0]), torch.tensor([1.0]), eps=0.1).item(), 4)
        0.3269
    """
    d = _at_least_float32(d)  # (n,)
    return _soft_choice(logsigmoid(d), logsigmoid(-d), _smoothed(q.to(d), eps))


def bradley_terry_loss(
    scores_a: Tensor, scores_b: Tensor, q: Tensor, margin: Tensor | None = None, centring: float = 0.0
) -> Tensor:
    """The discriminative baseline's loss on scalar scores, as TRL's ``RewardTrainer`` defines it.

    For ``q = 1``: ``-log sigmoid(r_a - r_b - margin) + centring (r_a + r_b)^2``. The margin is subtracted
    from the lead of the answer that the label calls better. The first term depends on the difference of the
    two scores only; the second one pulls their mean to zero.

    Args:
        scores_a: (n,) scores of the answers ``a``.
        scores_b: (n,) scores of the answers ``b``.
        q: (n,) probability that ``a`` is better.
        margin: (n,) by how much the better answer is better, at least 0; ``None``: no margin.
        centring: weight of the second term.

    Example:
        >>> a, b, q = torch.tensor([1.0]), torch.tensor([-1.0]), torch.tensor([1.0])
        >>> round(bradley_terry_loss(a, b, q).item(), 4)  # -log sigmoid(2)
        0.1269
        >>> round(bradley_terry_loss(a, b, q, margin=torch.tensor([2.0])).item(), 4)  # -log sigmoid(0)
        0.6931
    """
    a, b = _at_least_float32(scores_a), _at_least_float32(scores_b)  # (n,) each
    required_lead = torch.zeros_like(a) if margin is None else margin.to(a)  # (n,)
    ranking = _soft_choice(logsigmoid(a - b - required_lead), logsigmoid(b - a - required_lead), q.to(a))
    return ranking + centring * (a + b).square().sum()


def smoothed_answer_cross_entropy(logp_a: Tensor, logp_b: Tensor, q: Tensor, eps: float) -> Tensor:
    """Cross-entropy of both answers, each weighted by the probability that it is the better one.

    ``t CE(y_a) + (1 - t) CE(y_b)``, with ``CE(y) = -logp(y)``. Unlike the ranking loss it raises the
    likelihood of both answers, and its gradient does not fade once the pair is ranked right.

    Args:
        logp_a: (n,) log p(y_a | x), or another ``answer_scores``.
        logp_b: (n,) the same for ``y_b``.
        q: (n,) probability that ``a`` is better.
        eps: smoothing.

    Raises:
        ConfigError: ``eps`` lies outside [0, 0.5).

    Example:
        >>> a, b, q = torch.tensor([-1.0]), torch.tensor([-3.0]), torch.tensor([1.0])
        >>> round(smoothed_answer_cross_entropy(a, b, q, eps=0.1).item(), 4)  # 0.9 * 1 + 0.1 * 3
        1.2
    """
    a, b = _at_least_float32(logp_a), _at_least_float32(logp_b)  # (n,) each
    return _soft_choice(a, b, _smoothed(q.to(a), eps))


def answer_scores(token_logprobs: Tensor, mask: Tensor, length_power: float = 0.0) -> Tensor:
    """The likelihood reward of n answers, in nats: summed token log-probabilities over length ** power.

    Power 0 is the log-likelihood of the answer, 1 its mean per token. A row without any token scores 0.

    Args:
        token_logprobs: (n, T) log-probability of each token; what stands outside the mask is not read.
        mask: (n, T) true where a token belongs to the answer.
        length_power: exponent of the length.

    Returns:
        (n,) scores, float32 or float64.

    Example:
        >>> logprobs, mask = torch.tensor([[-1.0, -2.0, -3.0]]), torch.tensor([[1, 1, 0]])
        >>> answer_scores(logprobs, mask).tolist(), answer_scores(logprobs, mask, length_power=1.0).tolist()
        ([-3.0], [-1.5])
    """
    mask = mask.bool()  # (n, T)
    total = _at_least_float32(token_logprobs).masked_fill(~mask, 0.0).sum(dim=1)  # (n,)
    if length_power == 0.0:
        return total
    length = mask.sum(dim=1).clamp(min=1).to(total)  # (n,)
    return total / length**length_power


def _smoothed(q: Tensor, eps: float) -> Tensor:
    check_smoothing(eps)
    return q * (1.0 - eps) + (1.0 - q) * eps


def _soft_choice(logp_a: Tensor, logp_b: Tensor, t: Tensor) -> Tensor:
    if not logp_a.shape == logp_b.shape == t.shape:
        raise ValueError(f"rows differ: {tuple(logp_a.shape)}, {tuple(logp_b.shape)}, {tuple(t.shape)}")
    # Both terms have the same sign, so that large |d| lose no digits to cancellation, as they would in the
    # equal formula -log sigmoid(d) + (1 - t) d.
    return -(t * logp_a + (1.0 - t) * logp_b).sum()


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
