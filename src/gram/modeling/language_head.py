"""A language head beside a score head, for the training only: GRM's text regulariser (arXiv 2406.10216).

Where input and output embeddings are tied, the body holds the head's weight already and nothing is added.
Otherwise the head becomes one more layer of the classifier, so that checkpoints of a run hold it too. It is
removed before the finished model is saved, which is then an ordinary scalar checkpoint. Knows no objective.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from gram.engine.base import TokenRow
from gram.engine.heads import LANGUAGE_HEAD, core
from gram.engine.plain import Plain
from gram.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOLERANCE = 1e-4  # fp32 rounding, of log-probabilities of a few nats


def keep_language_head(scorer: PreTrainedModel, source: PreTrainedModel) -> None:
    """Give ``scorer`` the language head of ``source``, a language model with the same body.

    Both must be in fp32 and on one device. ``source`` is not needed afterwards.

    Raises:
        ConfigError: the language model does more with its hidden states than one linear layer does (it
            scales or caps its logits), so that the same layer on the scorer would give other probabilities.
    """
    head = source.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ConfigError(f"{type(source).__name__} has no language head that is one linear layer")
    if head.weight is not source.get_input_embeddings().weight:
        setattr(scorer, LANGUAGE_HEAD, head)
    difference = _difference(scorer, source)
    if not difference <= _TOLERANCE:
        raise ConfigError(
            f"{type(source).__name__}: its language head is no plain linear layer "
            f"(log-probabilities would differ by {difference:.2g}), and the text regulariser needs one"
        )


def drop_language_head(model: nn.Module) -> None:
    """Remove the layer that ``keep_language_head`` added, if it added one."""
    decoder = core(model)
    if hasattr(decoder, LANGUAGE_HEAD):
        delattr(decoder, LANGUAGE_HEAD)


@torch.no_grad()
def _difference(scorer: PreTrainedModel, source: PreTrainedModel) -> float:
    """The largest difference between the two models' log-probabilities of a short text, in nats."""
    size: int = source.config.get_text_config().vocab_size
    engine = Plain()
    batch = engine.lay_out([TokenRow([(7 * place + 3) % size for place in range(16)], ((1, 16),))])
    batch = {name: value.to(source.device) for name, value in batch.items()}
    of_scorer, _ = engine.scores_and_logprobs(scorer.eval(), batch)[1:]  # (1, T)
    of_source, _ = engine.token_logprobs(source.eval(), batch)  # (1, T)
    return float((of_scorer - of_source).abs().max())
