"""Stage 2: predict the label token of a judge prompt, with label smoothing (arXiv 2506.14175, fine-tuning).

The loss is a softmax over the two label logits, smoothed by ``eps``: a regularised Bradley-Terry loss on
their difference (docs/theory.md). Every pair is trained in both orders unless asked otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gram.engine.base import Engine
from gram.engine.segments import forked
from gram.objectives.formulas import check_smoothing, smoothed_label_loss
from gram.objectives.objective import (
    PLAIN,
    Batch,
    Objective,
    Sample,
    Sums,
    TokenRow,
    collapsed,
    correct_sum,
    cut_tokens,
    lead_sum,
)
from gram.rendering import Renderer
from gram.types import Preference


class Judge(Objective[Preference]):
    """Smoothed two-label cross-entropy, mean per pair.

    Metrics: ``accuracy`` of the probability averaged over the orders, and ``margin``, the lead of the better
    answer in nats, averaged over the orders.

    Args:
        renderer: of the judge prompt; its label tokens are read here.
        label_smoothing: ``eps``, the probability given to the other label.
        both_orders: train each pair both ways, at half weight each. False trains it only as it is given;
            where the data mostly put the better answer first, the model then learns to prefer the first
            place (experiments/claims/order_bias.py).
    """

    name = "preference"
    unit = "pair"

    def __init__(
        self,
        renderer: Renderer,
        *,
        label_smoothing: float,
        both_orders: bool = True,
        engine: Engine = PLAIN,
    ) -> None:
        super().__init__(engine)
        check_smoothing(label_smoothing)
        self._renderer = renderer
        self._eps = label_smoothing
        self._orders = 2 if both_orders else 1
        self._labels = renderer.label_ids

    def encode(self, examples: Sequence[Preference]) -> list[Sample]:
        as_given = self._renderer.judge([example.pair for example in examples])
        swapped = self._renderer.judge([example.pair.swapped() for example in examples])
        samples = []
        for example, first, second in zip(examples, as_given, swapped, strict=True):
            both = tuple(forked(TokenRow(p.ids), p.branches, p.looking) for p in (first, second))
            rows = both[: self._orders]
            samples.append(
                Sample(rows, example.p_a, cut=cut_tokens(first), collapsed=collapsed(first, second))
            )
        return samples

    def count(self, batch: Batch) -> Tensor:
        return torch.tensor(len(batch["target"]), device=batch["target"].device)

    def loss_sum(self, model: nn.Module, batch: Batch) -> Sums:
        logits = self._engine.next_logits(model, batch, self._labels)  # (m * orders, 2)
        target = batch["target"]  # (m,)
        # The rows of a pair follow each other: as given, then swapped, where the first label means b.
        row_target = torch.stack([target, 1 - target], dim=1)[:, : self._orders].flatten()  # (m * orders,)
        loss = smoothed_label_loss(logits, row_target, self._eps) / self._orders
        odds = (logits[:, 0] - logits[:, 1]).detach().view(-1, self._orders)  # (m, orders)
        odds = torch.cat([odds[:, :1], -odds[:, 1:]], dim=1)  # of a over b, in both orders
        accuracy = correct_sum(odds.sigmoid().mean(dim=1) - 0.5, target)
        return Sums(loss, {"accuracy": accuracy, "margin": lead_sum(odds.mean(dim=1), target)})
