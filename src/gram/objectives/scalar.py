"""The discriminative baseline: a scalar head trained with the Bradley-Terry loss, margin and centring.

With a text regulariser (GRM, arXiv 2406.10216) the body stays a language model while it learns to score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from gram.engine.base import Engine
from gram.errors import ConfigError
from gram.objectives.formulas import (
    answer_scores,
    bradley_terry_loss,
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

TextForm: TypeAlias = Literal["sft", "dpo"]

_DPO_SLOPE = 0.1  # beta of the reference-free DPO form, as in the paper


class Scalar(Objective[Preference]):
    """Bradley-Terry loss on the scores of the two answers, mean per pair.

    Args:
        renderer: the answers stand in its chat format, each with its end token.
        centring: coefficient on the squared sum of both scores (arXiv 2312.09244); 0 switches it off.
        margin: require the better answer to lead by the margin that the data give (Llama 2, arXiv
            2307.09288, section 3.2.2).
        text_regulariser: alpha of GRM: the loss becomes (1 - alpha) times the above + alpha times a loss of
            the language head on the same hidden states. The model must have such a head
            (``modeling.language_head``). With 0 there is no such loss, and no language head is needed.
        text_form: the loss of the language head, per pair. ``sft``: mean negative log-likelihood per
            token of the better answer (the authors' own code takes -log sigmoid(0.1 log p), summed over
            tokens, instead). ``dpo``: -log sigmoid(0.1 (log p(better) - log p(worse))), DPO without a
            reference. A soft label weighs both answers.
    """

    name = "scalar"
    unit = "pair"
    head = "score"

    def __init__(
        self,
        renderer: Renderer,
        *,
        centring: float = 0.0,
        margin: bool = False,
        text_regulariser: float = 0.0,
        text_form: TextForm = "sft",
        engine: Engine = PLAIN,
    ) -> None:
        super().__init__(engine)
        if not centring >= 0:
            raise ConfigError(f"centring must not be negative, got {centring}")
        if not 0 <= text_regulariser < 1:
            raise ConfigError(f"text_regulariser must be in [0, 1), got {text_regulariser}")
        if text_form not in ("sft", "dpo"):
            raise ConfigError(f"text_form must be sft or dpo, got '{text_form}'")
        self._renderer = renderer
        self._centring = centring
        self._margin = margin
        self._alpha = text_regulariser
        self._form: TextForm = text_form

    def encode(self, examples: Sequence[Preference]) -> list[Sample]:
        prompts = [example.pair.prompt for example in examples]
        first = self._renderer.answers(prompts, [example.pair.a for example in examples])
        second = self._renderer.answers(prompts, [example.pair.b for example in examples])
        samples = []
        for example, a, b in zip(examples, first, second, strict=True):
            rows = tuple(TokenRow(item.ids, (item.scored("a"),) if self._alpha else ()) for item in (a, b))
            samples.append(Sample(rows, example.p_a, example.margin, cut_tokens(a, b), collapsed(a, b)))
        return samples

    def count(self, batch: Batch) -> Tensor:
        return torch.tensor(len(batch["target"]), device=batch["target"].device)

    def loss_sum(self, model: nn.Module, batch: Batch) -> Sums:
        if self._alpha:
            scores, logprobs, scored = self._engine.scores_and_logprobs(model, batch)  # (2m,), 2 of (2m, T)
            text = self._text_loss(logprobs, scored, batch["target"])
        else:
            scores, text = self._engine.scores(model, batch), None
        a, b = scores.view(-1, 2).unbind(dim=1)  # (m,) each
        margin = batch["margin"] if self._margin else None
        loss = bradley_terry_loss(a, b, batch["target"], margin=margin, centring=self._centring)
        lead, target = (a - b).detach(), batch["target"]
        metrics = {"accuracy": correct_sum(lead, target), "margin": lead_sum(lead, target)}
        if text is None:
            return Sums(loss, metrics)
        return Sums((1 - self._alpha) * loss + self._alpha * text, metrics | {"text_loss": text.detach()})

    def _text_loss(self, logprobs: Tensor, scored: Tensor, target: Tensor) -> Tensor:
        """0-dim sum over pairs of the language head's loss.

        The mean over the tokens of one answer is taken inside its pair; there is no mean over pairs, so that
        the result does not depend on how pairs are cut into batches.
        """
        length_power = 1.0 if self._form == "sft" else 0.0
        a, b = answer_scores(logprobs, scored, length_power).view(-1, 2).unbind(dim=1)
        if self._form == "sft":
            return smoothed_answer_cross_entropy(a, b, target, eps=0.0)
        return smoothed_ranking_loss(_DPO_SLOPE * (a - b), target, eps=0.0)
