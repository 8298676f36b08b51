"""Fine-tuning by likelihood: the smoothed ranking loss on a difference of answer log-likelihoods.

With d = beta * (score(y_a) - score(y_b)) and score = log p(y given x) / length**power, optionally minus
the same score under a frozen reference model: then it is DPO (arXiv 2305.18290) with smoothed labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from gram.asking import Context
from gram.engine.base import Engine
from gram.errors import ConfigError
from gram.objectives.formulas import (
    answer_scores,
    check_smoothing,
    smoothed_answer_cross_entropy,
    smoothed_ranking_loss,
)
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

Form: TypeAlias = Literal["ranking", "cross_entropy"]


class Likelihood(Objective[Preference]):
    """Smoothed loss on answer log-likelihoods, mean per pair.

    Args:
        renderer: renders the answers in their prompts.
        label_smoothing: ``eps``.
        beta: slope of the log-odds in the score difference.
        length_power: 0 scores the sum of log-probabilities, 1 their mean.
        form: ``ranking``: -log sigmoid(d) + eps*d. ``cross_entropy``: (1-eps) CE(better) + eps CE(worse).
        context: where the answer stands, see ``Renderer.answers``.
        reference: a frozen model whose score is subtracted (ranking only).
    """

    name = "likelihood"
    unit = "pair"

    def __init__(
        self,
        renderer: Renderer,
        *,
        label_smoothing: float,
        beta: float = 1.0,
        length_power: float = 0.0,
        form: Form = "ranking",
        context: Context = "chat",
        reference: nn.Module | None = None,
        engine: Engine = PLAIN,
    ) -> None:
        super().__init__(engine)
        check_smoothing(label_smoothing)
        if beta <= 0:
            raise ConfigError(f"beta must be positive, got {beta}")
        if reference is not None and form != "ranking":
            raise ConfigError("a reference model belongs to the ranking form of the likelihood loss")
        self._renderer = renderer
        self._eps = label_smoothing
        self._beta = beta
        self._power = length_power
        self._form = form
        self._context: Context = context
        self._reference = reference.eval().requires_grad_(False) if reference is not None else None

    def encode(self, examples: Sequence[Preference]) -> list[Sample]:
        prompts = [example.pair.prompt for example in examples]
        first = self._renderer.answers(prompts, [example.pair.a for example in examples], self._context)
        second = self._renderer.answers(prompts, [example.pair.b for example in examples], self._context)
        samples = []
        for example, a, b in zip(examples, first, second, strict=True):
            rows = tuple(TokenRow(item.ids, (item.scored("a"),)) for item in (a, b))
            samples.append(Sample(rows, example.p_a, cut=cut_tokens(a, b), collapsed=collapsed(a, b)))
        return samples

    def count(self, batch: Batch) -> Tensor:
        return torch.tensor(len(batch["target"]), device=batch["target"].device)

    def loss_sum(self, model: nn.Module, batch: Batch) -> Sums:
        logprobs, scored = self._engine.token_logprobs(model, batch)  # (2m, T) each
        a, b = answer_scores(logprobs, scored, self._power).view(-1, 2).unbind(dim=1)  # (m,) each
        difference = a - b
        if self._reference is not None:
            with torch.no_grad():
                reference = self._reference.to(logprobs.device)
                ra, rb = (
                    answer_scores(*self._engine.token_logprobs(reference, batch), self._power)
                    .view(-1, 2)
                    .unbind(1)
                )
            difference = difference - (ra - rb)
        target = batch["target"]
        if self._form == "ranking":
            loss = smoothed_ranking_loss(self._beta * difference, target, self._eps)
        else:
            loss = smoothed_answer_cross_entropy(a, b, target, self._eps)
        lead = self._beta * difference.detach()
        return Sums(loss, {"accuracy": correct_sum(lead, target), "margin": lead_sum(lead, target)})
