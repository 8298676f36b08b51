"""The laws of the loss formulas; ``docs/theory.md`` derives what is checked here.

Identities are checked in float64, where they hold to rounding; what float32 adds (range, tails) has tests
of its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, one_hot

from gram.errors import ConfigError
from gram.objectives import formulas
from gram.objectives.formulas import (
    answer_scores,
    bradley_terry_loss,
    check_smoothing,
    optimal_margin,
    smoothed_answer_cross_entropy,
    smoothed_label_loss,
    smoothed_ranking_loss,
)

pytestmark = pytest.mark.law(2, 4)

EPS = (0.0, 0.01, 0.1, 0.3, 0.49)
PairLoss = Callable[[Tensor, Tensor, Tensor], Tensor]  # (for a, for b, q) -> sum

# Every loss of a pair in one shape, so that a law is stated once. (n,), (n,), (n,) -> 0-dim.
PAIR_LOSSES: dict[str, PairLoss] = {
    "label": lambda a, b, q: smoothed_label_loss(torch.stack((a, b), dim=1), q, 0.1),
    "ranking": lambda a, b, q: smoothed_ranking_loss(a - b, q, 0.1),
    "bradley_terry": lambda a, b, q: bradley_terry_loss(a, b, q),
    "bradley_terry_full": lambda a, b, q: bradley_terry_loss(a, b, q, torch.full_like(a, 0.5), 0.01),
    "answer_cross_entropy": lambda a, b, q: smoothed_answer_cross_entropy(a, b, q, 0.1),
}
each_pair_loss = pytest.mark.parametrize("loss", PAIR_LOSSES.values(), ids=PAIR_LOSSES.keys())
each_eps = pytest.mark.parametrize("eps", EPS)


def normal(*shape: int, scale: float = 3.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value_and_grad(loss: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    value = loss(x)
    (grad,) = torch.autograd.grad(value, x)
    return value.detach(), grad


# --- The central claim: smoothing two labels is a regularised Bradley-Terry loss ---


def test_the_three_forms_of_one_number() -> None:
    """By hand, d = log 3 and eps = 0.1, so p(w) = 3/4 and p(l) = 1/4.

    Labels:  -0.9 log(3/4) - 0.1 log(1/4) = 0.9 * 0.287682 + 0.1 * 1.386294 = 0.397543
    Ranking: -log sigmoid(log 3) + 0.1 log 3 = 0.287682 + 0.109861          = 0.397543
    """
    d, one = torch.tensor([math.log(3.0)]), torch.ones(1)
    logits = torch.tensor([[math.log(3.0) + 5.0, 5.0]])
    assert smoothed_label_loss(logits, one, 0.1).item() == pytest.approx(0.397543, abs=1e-6)
    assert smoothed_ranking_loss(d, one, 0.1).item() == pytest.approx(0.397543, abs=1e-6)


@each_eps
def test_two_smoothed_labels_are_bradley_terry_plus_eps_times_the_margin(eps: float) -> None:
    """Value and gradient of -(1-eps) log p(w) - eps log p(l), against -log sigmoid(d) + eps d, 500 rows.

    d = z_w - z_l, so the gradient by z_w is the gradient by d, and the one by z_l its negative.
    """
    logits = normal(500, 2)
    d = logits[:, 0] - logits[:, 1]
    ones = torch.ones(500, dtype=torch.float64)

    label, label_grad = value_and_grad(lambda z: smoothed_label_loss(z, ones, eps), logits)
    regularised, d_grad = value_and_grad(lambda d: (-logsigmoid(d) + eps * d).sum(), d)
    ranking, ranking_grad = value_and_grad(lambda d: smoothed_ranking_loss(d, ones, eps), d)

    torch.testing.assert_close(label, regularised)
    torch.testing.assert_close(ranking, regularised)
    torch.testing.assert_close(label_grad, torch.stack((d_grad, -d_grad), dim=1))
    torch.testing.assert_close(ranking_grad, d_grad)


@each_eps
def test_the_gradient_is_sigmoid_minus_smoothed_label(eps: float) -> None:
    d, q = normal(200), uniform(200)
    _, grad = value_and_grad(lambda d: smoothed_ranking_loss(d, q, eps), d)
    torch.testing.assert_close(grad, torch.sigmoid(d) - (q * (1 - eps) + (1 - q) * eps))


def test_without_smoothing_it_is_bradley_terry() -> None:
    a, b, q = normal(300), normal(300, seed=2), uniform(300)
    pairs = torch.stack((a, b), dim=1)
    torch.testing.assert_close(smoothed_label_loss(pairs, q, 0.0), bradley_terry_loss(a, b, q))
    torch.testing.assert_close(smoothed_ranking_loss(a - b, q, 0.0), bradley_terry_loss(a, b, q))
    hard = -logsigmoid(a - b).sum()
    torch.testing.assert_close(bradley_terry_loss(a, b, torch.ones_like(a)), hard)


@pytest.mark.parametrize("eps", EPS[1:])
@pytest.mark.parametrize("q", (1.0, 0.7, 0.0))
def test_the_optimum_is_the_log_odds_of_the_smoothed_label(eps: float, q: float) -> None:
    """Ternary search of a convex function; for q = 1 the optimum is log((1 - eps) / eps)."""
    label = torch.tensor([q], dtype=torch.float64)

    def at(d: float) -> float:
        return smoothed_ranking_loss(torch.tensor([d], dtype=torch.float64), label, eps).item()

    low, high = -30.0, 30.0
    for _ in range(120):
        third = (high - low) / 3
        low, high = (low + third, high) if at(low + third) > at(high - third) else (low, high - third)
    t = q * (1 - eps) + (1 - q) * eps
    expected = math.log(t / (1 - t))
    assert low == pytest.approx(expected, abs=1e-5)
    if q == 1.0:
        assert expected == pytest.approx(optimal_margin(eps), abs=1e-12)

    best = torch.tensor([expected], dtype=torch.float64)
    _, grad = value_and_grad(lambda d: smoothed_ranking_loss(d, label, eps), best)
    assert grad.item() == pytest.approx(0.0, abs=1e-12)


K = (2, 3, 5, 9)


@each_eps
@pytest.mark.parametrize("k", K)
def test_many_labels_are_a_softmax_ranking_plus_a_price_on_the_mean_lead(eps: float, k: int) -> None:
    """log(1 + sum exp(-d_i)) + eps mean d_i, with d_i = z_w - z_i; for k = 2 it is the ranking loss."""
    z = normal(50, k)
    target = one_hot(torch.arange(50) % k, k).double()
    rights = target.bool()
    leads = z[rights][:, None] - z[~rights].view(50, k - 1)
    wanted = (torch.log1p(torch.exp(-leads).sum(dim=1)) + eps * leads.mean(dim=1)).sum()
    torch.testing.assert_close(smoothed_label_loss(z, target, eps), wanted)
    if k == 2:
        torch.testing.assert_close(wanted, smoothed_ranking_loss(leads[:, 0], torch.ones(50), eps))


@pytest.mark.parametrize("eps", EPS[1:])
@pytest.mark.parametrize("k", K)
def test_the_best_lead_of_many_answers(eps: float, k: int) -> None:
    """At d* = log((1 - eps)(k - 1) / eps) over each rival: no gradient, and the least loss."""
    best = optimal_margin(eps, k)
    z = torch.zeros(1, k, dtype=torch.float64)
    z[0, 0] = best
    target = one_hot(torch.tensor([0]), k).double()
    value, grad = value_and_grad(lambda x: smoothed_label_loss(x, target, eps), z)
    assert grad.abs().max() < 1e-12
    assert value.item() == pytest.approx(-(1 - eps) * math.log(1 - eps) - eps * math.log(eps / (k - 1)))
    around = normal(200, k, scale=0.5) + z
    assert all(smoothed_label_loss(one[None], target, eps) >= value - 1e-12 for one in around)
    sure = torch.tensor(best).sigmoid().item()
    assert sure == pytest.approx((1 - eps) * (k - 1) / ((1 - eps) * (k - 1) + eps), rel=1e-5)
    assert sure == pytest.approx(1 - eps, rel=1e-5) if k == 2 else sure > 1 - eps
    assert optimal_margin(eps, 2 * (k - 1) + 1) == pytest.approx(best + math.log(2))


def test_two_of_many_labels_are_bradley_terry() -> None:
    z = normal(6)
    p = z.softmax(dim=0)
    torch.testing.assert_close(p[0] / (p[0] + p[1:]), torch.sigmoid(z[0] - z[1:]))


def test_plackett_luce_is_a_sum_of_first_choices() -> None:
    """Over all 24 orders of four answers the probabilities exp(-loss) sum to one; a first choice adds up
    those of the orders that begin with it; the last stage is Bradley-Terry.
    """
    z = normal(4)

    def cost(order: tuple[int, ...]) -> Tensor:
        stages = [z[list(order[r:])][None] for r in range(3)]
        return torch.stack(
            [smoothed_label_loss(s, one_hot(torch.tensor([0]), s.shape[1]).double(), 0.0) for s in stages]
        ).sum()

    orders = {order: torch.exp(-cost(order)) for order in itertools.permutations(range(4))}
    torch.testing.assert_close(torch.stack(list(orders.values())).sum(), torch.ones((), dtype=torch.float64))
    for best in range(4):
        begun = torch.stack([p for order, p in orders.items() if order[0] == best]).sum()
        torch.testing.assert_close(begun, z.softmax(dim=0)[best])
    by_hand = sum(
        torch.log1p(torch.exp(z[list((3, 1, 0, 2)[r + 1 :])] - z[(3, 1, 0, 2)[r]]).sum()) for r in range(3)
    )
    torch.testing.assert_close(cost((3, 1, 0, 2)), by_hand)
    last = -logsigmoid(z[0] - z[2])
    pair = smoothed_label_loss(z[[0, 2]][None], torch.tensor([[1.0, 0.0]]).double(), 0.0)
    torch.testing.assert_close(pair, last)


def test_the_whole_vocabulary_pushes_the_other_words_down() -> None:
    """By the logit of each other word the full loss has the gradient p(v), together 1 - m."""
    z = normal(1, 30)
    target = torch.zeros_like(z)
    target[0, :2] = torch.tensor([0.9, 0.1])
    value, grad = value_and_grad(lambda x: smoothed_label_loss(x, target, 0.0), z)
    p = z.softmax(dim=1)
    torch.testing.assert_close(grad[0, 2:], p[0, 2:])
    mass = p[0, :2].sum()
    torch.testing.assert_close(grad[0, 2:].sum(), 1 - mass)
    torch.testing.assert_close(
        value, smoothed_label_loss(z[:, :2], torch.ones(1), 0.1).detach() - torch.log(mass)
    )


def test_optimal_margin_by_hand() -> None:
    """eps = 0.1: log 9 = 2.197225. eps = 0: nothing stops the margin."""
    assert optimal_margin(0.1) == pytest.approx(2.197225, abs=1e-6)
    assert optimal_margin(0.0) == math.inf


@each_eps
@pytest.mark.parametrize("k", (2, 3, 5))
def test_torch_smooths_k_labels_by_k_over_k_minus_1_times_eps(eps: float, k: int) -> None:
    """torch gives s/k to every label, the right one included: eps = s (k-1) / k, so s = 2 eps for k = 2."""
    logits, target = normal(100, k), torch.arange(100) % k
    expected = cross_entropy(logits, target, label_smoothing=eps * k / (k - 1), reduction="sum")
    torch.testing.assert_close(smoothed_label_loss(logits, one_hot(target, k), eps), expected)


def test_the_whole_vocabulary_adds_only_a_mass_term() -> None:
    """Smoothed loss over V = 12 words, two of them labels: the two-label loss minus log m."""
    logits, labels = normal(40, 12), [3, 7]
    logp = logits.log_softmax(dim=1)[:, labels]
    whole = -(0.9 * logp[:, 0] + 0.1 * logp[:, 1]).sum()
    log_mass = logp.logsumexp(dim=1).sum()
    q = torch.ones(40, dtype=torch.float64)
    torch.testing.assert_close(whole, smoothed_label_loss(logits[:, labels], q, 0.1) - log_mass)


def test_one_label_probability_and_two_are_the_same() -> None:
    logits, q = normal(50, 2), uniform(50)
    both = torch.stack((q, 1 - q), dim=1)
    torch.testing.assert_close(smoothed_label_loss(logits, q, 0.1), smoothed_label_loss(logits, both, 0.1))


# --- Laws of every loss of a pair ---


@each_pair_loss
def test_swapping_answers_and_label_changes_nothing(loss: PairLoss) -> None:
    a, b, q = normal(100), normal(100, seed=2), uniform(100)
    torch.testing.assert_close(loss(a, b, q), loss(b, a, 1 - q))


@each_pair_loss
def test_a_soft_label_mixes_the_hard_ones(loss: PairLoss) -> None:
    a, b, q = normal(1), normal(1, seed=2), torch.tensor([0.3], dtype=torch.float64)
    mixed = 0.3 * loss(a, b, torch.ones_like(q)) + 0.7 * loss(a, b, torch.zeros_like(q))
    torch.testing.assert_close(loss(a, b, q), mixed)


@each_pair_loss
def test_a_loss_is_a_sum_over_rows(loss: PairLoss) -> None:
    a, b, q = normal(10), normal(10, seed=2), uniform(10)
    parts = loss(a[:3], b[:3], q[:3]) + loss(a[3:], b[3:], q[3:])
    assert loss(a, b, q).shape == ()
    torch.testing.assert_close(loss(a, b, q), parts)


@each_pair_loss
def test_gradients_agree_with_finite_differences(loss: PairLoss) -> None:
    a, b = normal(6).requires_grad_(), normal(6, seed=2).requires_grad_()
    q = uniform(6).requires_grad_()
    assert torch.autograd.gradcheck(loss, (a, b, q))


@each_pair_loss
@pytest.mark.parametrize("q", (0.0, 0.5, 1.0))
def test_extremes_stay_finite(loss: PairLoss, q: float) -> None:
    a = torch.tensor([1e4, -1e4, 0.0], requires_grad=True)
    value = loss(a, torch.zeros(3), torch.full((3,), q))
    (grad,) = torch.autograd.grad(value, a)
    assert value.isfinite()
    assert grad.isfinite().all()


@each_pair_loss
def test_half_precision_is_summed_in_float32(loss: PairLoss) -> None:
    """4096 rows in bfloat16, whose own sum would stall at 256 times a row.

    The scores are whole numbers, so that ``a - b``, which the caller forms, is exact in bfloat16 too.
    """
    a, b, q = normal(4096).round(), normal(4096, seed=2).round(), uniform(4096).float()
    value = loss(a.bfloat16(), b.bfloat16(), q)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(a, b, q.double()).item(), rel=1e-5)


@each_pair_loss
def test_rows_that_do_not_match_are_refused(loss: PairLoss) -> None:
    """An (n, 1) label would broadcast to (n, n) and give a plausible wrong number."""
    a, b, q = normal(4), normal(4, seed=2), uniform(4)
    with pytest.raises(ValueError, match=r"differ|fit"):
        loss(a, b, q[:, None])


# --- Numbers of single formulas ---


@pytest.mark.parametrize(
    ("d", "q", "eps", "expected"),
    [
        (1e4, 1.0, 0.1, 1e3),  # 0 + 0.1 * 1e4
        (-1e4, 1.0, 0.1, 9e3),  # 1e4 - 0.1 * 1e4
        (1e4, 0.5, 0.1, 5e3),
        (20.0, 1.0, 0.0, 2.0611537e-9),  # log(1 + e^-20), not 0
        (-20.0, 0.0, 0.0, 2.0611537e-9),  # the mirror image; 20 - 20 would have given 0
    ],
)
def test_tails_of_the_ranking_loss_in_float32(d: float, q: float, eps: float, expected: float) -> None:
    value = smoothed_ranking_loss(torch.tensor([d]), torch.tensor([q]), eps)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_bradley_terry_by_hand() -> None:
    """r = (2, 1), margin 0.5, centring 0.01: -log sigmoid(0.5) + 0.01 * 9 = 0.474077 + 0.09 = 0.564077.

    The other answer held to be better: -log sigmoid(-1 - 0.5) + 0.09 = 1.701413 + 0.09 = 1.791413.
    """
    a, b, margin = torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([0.5])
    won = bradley_terry_loss(a, b, torch.ones(1), margin, centring=0.01)
    lost = bradley_terry_loss(a, b, torch.zeros(1), margin, centring=0.01)
    assert won.item() == pytest.approx(0.564077, abs=1e-6)
    assert lost.item() == pytest.approx(1.791413, abs=1e-6)


def test_centring_alone_pulls_the_sum_of_scores_to_zero() -> None:
    """The ranking part does not see a shift of both scores; the centring part grows as (a + b)^2."""
    a, b, q = normal(20), normal(20, seed=2), uniform(20)
    torch.testing.assert_close(bradley_terry_loss(a + 5, b + 5, q), bradley_terry_loss(a, b, q))
    added = bradley_terry_loss(a, b, q, centring=0.3) - bradley_terry_loss(a, b, q)
    torch.testing.assert_close(added, 0.3 * ((a + b) ** 2).sum())


def test_answer_cross_entropy_by_hand() -> None:
    """t = 0.9 for q = 1, eps = 0.1: 0.9 * 2 + 0.1 * 5 = 2.3. Its gradient is (-t, -(1 - t)) wherever."""
    scores = torch.tensor([-2.0, -5.0])
    one = torch.ones(1)
    value, grad = value_and_grad(lambda s: smoothed_answer_cross_entropy(s[:1], s[1:], one, 0.1), scores)
    assert value.item() == pytest.approx(2.3)
    torch.testing.assert_close(grad, torch.tensor([-0.9, -0.1]))


@pytest.mark.parametrize(
    ("power", "expected"), [(0.0, [-6.0, -4.0]), (1.0, [-2.0, -4.0]), (0.5, [-6.0 / math.sqrt(3.0), -4.0])]
)
def test_answer_scores_by_hand(power: float, expected: list[float]) -> None:
    """Row 1 has tokens -1, -2, -3; row 2 has -4 and two positions of padding."""
    logprobs = torch.tensor([[-1.0, -2.0, -3.0], [-4.0, -9.0, -9.0]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    torch.testing.assert_close(answer_scores(logprobs, mask, power), torch.tensor(expected))


def test_answer_scores_do_not_read_outside_the_mask() -> None:
    logprobs = torch.tensor([[-1.0, -math.inf], [-2.0, math.nan]], requires_grad=True)
    mask = torch.tensor([[True, False], [True, False]])
    scores = answer_scores(logprobs, mask, 1.0)
    (grad,) = torch.autograd.grad(scores.sum(), logprobs)
    torch.testing.assert_close(scores, torch.tensor([-1.0, -2.0]))
    torch.testing.assert_close(grad, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))


@pytest.mark.parametrize("power", (0.0, 0.5, 1.0))
def test_an_answer_without_tokens_scores_zero(power: float) -> None:
    assert answer_scores(torch.full((1, 3), -7.0), torch.zeros(1, 3), power).tolist() == [0.0]


# --- Bad input ---

NEED_SMOOTHING: dict[str, Callable[[float], object]] = {
    "check": check_smoothing,
    "optimum": optimal_margin,
    "label": lambda eps: smoothed_label_loss(torch.zeros(1, 2), torch.ones(1), eps),
    "ranking": lambda eps: smoothed_ranking_loss(torch.zeros(1), torch.ones(1), eps),
    "answers": lambda eps: smoothed_answer_cross_entropy(torch.zeros(1), torch.zeros(1), torch.ones(1), eps),
}


@pytest.mark.parametrize("eps", (-0.01, 0.5, 1.0, math.nan))
@pytest.mark.parametrize("use", NEED_SMOOTHING.values(), ids=NEED_SMOOTHING.keys())
def test_a_smoothing_that_makes_no_sense_is_refused(use: Callable[[float], object], eps: float) -> None:
    with pytest.raises(ConfigError, match=r"label smoothing must be .* got"):
        use(eps)


@pytest.mark.parametrize(
    ("logits", "target"), [((3, 2), (2,)), ((3, 3), (3,)), ((3, 3), (3, 2)), ((3, 1), (3, 1)), ((3,), (3,))]
)
def test_label_shapes_that_do_not_fit_are_refused(logits: tuple[int, ...], target: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        smoothed_label_loss(torch.zeros(logits), torch.ones(target), 0.1)


def test_every_public_formula_is_tested_here() -> None:
    public = {n for n, f in vars(formulas).items() if getattr(f, "__module__", "") == formulas.__name__}
    assert {name for name in public if not name.startswith("_")} <= set(globals())
