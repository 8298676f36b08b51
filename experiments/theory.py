"""The theory in one picture, drawn from the loss functions themselves (docs/theory.md derives what it shows).

Claim (arXiv 2506.14175, fine-tuning): smoothed cross-entropy of two labels is a regularised ranking loss.
Every curve is a value of ``gram.objectives.formulas`` or its gradient by autograd; no formula is typed again.

Expectation: the two forms, their gradients, and the gradient at the optima (``largest_gaps``) are apart by
rounding only.

Command: python experiments/theory.py [--output docs/images/theory.png] [--smoke]
Cost: two seconds of one core (``--smoke``: fewer points).
Measured: 9e-16, 2e-16 and 7e-16, in double precision; tests/test_theory_script.py holds it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gram.objectives.formulas import optimal_margin, smoothed_label_loss, smoothed_ranking_loss
from gram.plots import FAINT, INK, PALETTE, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMOOTHINGS = (0.0, 0.05, 0.1, 0.2)
ANSWERS = (2, 4, 8, 16)
EPS = 0.1  # where one value has to do
Loss = Callable[[Tensor], Tensor]


def generative(d: Tensor, eps: float) -> Tensor:
    """Sum of the judge's cross-entropy over label logits (d, 0), the first label being right."""
    return smoothed_label_loss(torch.stack((d, torch.zeros_like(d)), dim=1), torch.ones_like(d), eps)


def ranking(d: Tensor, eps: float) -> Tensor:
    """Sum of the smoothed ranking loss at margins d, the first answer being better."""
    return smoothed_ranking_loss(d, torch.ones_like(d), eps)


def listwise(d: Tensor, eps: float, answers: int) -> Tensor:
    """Sum of the cross-entropy over ``answers`` labels, the right one ahead of each other one by d."""
    logits = torch.cat((d[:, None], d.new_zeros(len(d), answers - 1)), dim=1)
    target = torch.zeros_like(logits)
    target[:, 0] = 1.0
    return smoothed_label_loss(logits, target, eps)


def values(loss: Loss, x: Tensor) -> Tensor:
    """The loss at each x by itself."""
    return torch.stack([loss(one[None]) for one in x])


def gradient(loss: Loss, x: Tensor) -> Tensor:
    """Its derivative at each x, by autograd."""
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(x), x)
    return found


def mass_term(other: Tensor, words: int = 98, d: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    """What a softmax over the whole vocabulary adds, as the logit ``other`` of ``words`` other words falls.

    Returns:
        The mass of the two labels; the loss over the vocabulary minus that over the labels; and the sum of
        the gradients by the other words' logits: three (n,).
    """
    mass, added, pushed = [], [], []
    labels = torch.tensor([d, 0.0], dtype=torch.float64)
    target = torch.zeros(1, words + 2, dtype=torch.float64)
    target[0, :2] = torch.tensor([1 - EPS, EPS])
    for level in other:
        logits = torch.cat((labels, level.expand(words))).requires_grad_()
        whole = smoothed_label_loss(logits[None], target, eps=0.0)
        (by_logit,) = torch.autograd.grad(whole, logits)
        mass.append(logits.detach().softmax(dim=0)[:2].sum())
        added.append(whole.detach() - generative(labels[:1], EPS))
        pushed.append(by_logit[2:].sum())
    return torch.stack(mass), torch.stack(added), torch.stack(pushed)


def largest_gaps(d: Tensor) -> dict[str, float]:
    """How far is apart what should be equal: both forms, their gradients, those at the optima and 0."""
    losses, gradients, optima = [], [], []
    for eps in SMOOTHINGS:
        one, two = (lambda x, e=eps: generative(x, e)), (lambda x, e=eps: ranking(x, e))
        losses.append((values(one, d) - values(two, d)).abs().max())
        gradients.append((gradient(one, d) - gradient(two, d)).abs().max())
        for answers in ANSWERS if eps else ():
            best = torch.tensor([optimal_margin(eps, answers)], dtype=d.dtype)
            optima.append(gradient(lambda x, e=eps, k=answers: listwise(x, e, k), best).abs().max())
    found = {"loss": losses, "gradient": gradients, "gradient_at_optimum": optima}
    return {name: float(torch.stack(gaps).max()) for name, gaps in found.items()}


def draw(path: Path, points: int) -> None:
    """The picture: six panels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.6, 7.4), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.14)
    axes = figure.subplots(2, 3).flatten()
    d = torch.linspace(-4, 8, points, dtype=torch.float64)
    both_losses(axes[0], d)
    both_gradients(axes[1], d)
    regulariser(axes[2], d)
    label_mass(axes[3], points)
    many_answers(axes[4], torch.linspace(-2, 10, points, dtype=torch.float64))
    many_optima(axes[5], points)
    for ax in axes:
        ax.legend(frameon=False, fontsize=8.5, labelcolor=INK, handlelength=1.8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def both_losses(ax: Axes, d: Tensor) -> None:
    style(ax, "a  Two forms, one loss")
    for eps, colour in zip(SMOOTHINGS, PALETTE, strict=False):
        wide: dict[str, Any] = {"color": colour, "linewidth": 6, "alpha": 0.3, "solid_capstyle": "butt"}
        ax.plot(d, values(lambda x, e=eps: generative(x, e), d), **wide)
        ax.plot(
            d, values(lambda x, e=eps: ranking(x, e), d), color=colour, linewidth=1.4, label=f"ε = {eps:g}"
        )
    ax.plot([], [], color=FAINT, linewidth=6, alpha=0.4, label="cross-entropy of two labels")
    ax.plot([], [], color=FAINT, linewidth=1.4, label="ranking loss + ε d")
    ax.set(xlabel="margin d of the better answer", ylabel="loss", ylim=(0, 4.2))


def both_gradients(ax: Axes, d: Tensor) -> None:
    style(ax, "b  Their gradient, σ(d) − (1 − ε)")
    ax.axhline(0, color=FAINT, linewidth=0.9)
    for eps, colour in zip(SMOOTHINGS, PALETTE, strict=False):
        wide: dict[str, Any] = {"color": colour, "linewidth": 6, "alpha": 0.3, "solid_capstyle": "butt"}
        ax.plot(d, gradient(lambda x, e=eps: generative(x, e), d), **wide)
        line = gradient(lambda x, e=eps: ranking(x, e), d)
        ax.plot(d, line, color=colour, linewidth=1.4, label=f"ε = {eps:g}")
        if eps:
            ax.plot(optimal_margin(eps), 0, "o", color=colour, markersize=6, markeredgecolor="white")
    ax.set(xlabel="margin d", ylabel="gradient by d")


def regulariser(ax: Axes, d: Tensor) -> None:
    style(ax, f"c  A price on the margin (ε = {EPS:g})")
    bare = values(lambda x: ranking(x, 0.0), d)
    smoothed = values(lambda x: ranking(x, EPS), d)
    best = optimal_margin(EPS)
    least = float(ranking(torch.tensor([best], dtype=d.dtype), EPS))
    ax.plot(d, bare, color=PALETTE[0], label="−log σ(d), Bradley-Terry")
    ax.plot(d, smoothed - bare, color=PALETTE[1], label="what smoothing adds: ε d")
    ax.plot(d, smoothed, color=PALETTE[2], linewidth=2.2, label="their sum")
    ax.plot([best, best], [-0.5, least], color=FAINT, linewidth=1, linestyle="--")
    ax.plot(best, least, "o", color=PALETTE[2], markersize=7, markeredgecolor="white")
    ax.annotate(f"d* = log((1 − ε)/ε) = {best:.2f}", (best, least), (best - 0.2, 1.35), fontsize=9, color=INK,
                arrowprops={"arrowstyle": "-", "color": FAINT})  # fmt: skip
    ax.set(xlabel="margin d", ylabel="loss", ylim=(-0.5, 4.2))


def label_mass(ax: Axes, points: int) -> None:
    style(ax, "d  The whole vocabulary adds −log m")
    mass, added, pushed = mass_term(torch.linspace(3.0, -9.0, points, dtype=torch.float64))
    ax.plot(mass, added, color=PALETTE[0], label="loss of all words less that of two")
    ax.plot(mass, pushed, color=PALETTE[5], label="push on the other words, 1 − m")
    ax.axhline(0, color=PALETTE[2], linewidth=2, label="with the two-label loss, both 0")
    ax.set(xlabel="probability m of the two label words", ylabel="nats", xlim=(0, 1.02), ylim=(-0.2, 4.2))


def many_answers(ax: Axes, d: Tensor) -> None:
    style(ax, f"e  n answers, n label words (ε = {EPS:g})")
    for answers, colour in zip(ANSWERS, PALETTE, strict=False):
        ax.plot(d, values(lambda x, k=answers: listwise(x, EPS, k), d), color=colour, label=f"n = {answers}")
        best = optimal_margin(EPS, answers)
        least = float(listwise(torch.tensor([best], dtype=d.dtype), EPS, answers))
        ax.plot(best, least, "o", color=colour, markersize=7, markeredgecolor="white")
    ax.set(xlabel="margin d of the best answer over each other", ylabel="loss", ylim=(0, 4.2))


def many_optima(ax: Axes, points: int) -> None:
    style(ax, "f  Best margin, log((1 − ε)(n − 1)/ε)")
    smoothing = torch.linspace(0.005, 0.3, points)
    for answers, colour in zip(ANSWERS, PALETTE, strict=False):
        best = [optimal_margin(float(eps), answers) for eps in smoothing]
        ax.plot(smoothing, best, color=colour, label=f"n = {answers}")
    ax.set(xlabel="smoothing ε", ylabel="best margin", ylim=(0, None))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("docs/images/theory.png"))
    parser.add_argument("--smoke", action="store_true", help="fewer points")
    options = parser.parse_args()
    points = 41 if options.smoke else 401
    draw(options.output, points)
    gaps = largest_gaps(torch.linspace(-4, 8, points, dtype=torch.float64))
    print(json.dumps({"output": str(options.output), "largest_gaps": gaps}))


if __name__ == "__main__":
    main()
