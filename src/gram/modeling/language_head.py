"""A language head beside a score head, for the training only: GRM's text regulariser (arXiv 2406.10216).

Where input and output embeddings are tied, the head lives in the body already and nothing is added. Else it
hangs on the classifier as one more layer, so that checkpoints of a run carry it, and is taken off before the
finished model is saved: that is an ordinary scalar checkpoint. Knows no objective.
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

    Both in fp32, on one device; ``source`` may be thrown away afterwards.

    Raises:
        ConfigError: the language model does more with its hidden states than one linear layer does (it
            scales or caps its logits), so that the head on the scorer would speak for another model.
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
    """Take the layer of ``keep_language_head`` off again, if there is one."""
    inner = core(model)
    if hasattr(inner, LANGUAGE_HEAD):
        delattr(inner, LANGUAGE_HEAD)


@torch.no_grad()
def _difference(scorer: PreTrainedModel, source: PreTrainedModel) -> float:
    """How far the two models' log-probabilities of a short text lie apart, at most."""
    size: int = source.config.get_text_config().vocab_size
    engine = Plain()
    batch = engine.lay_out([TokenRow([(7 * place + 3) % size for place in range(16)], ((1, 16),))])
    batch = {name: value.to(source.device) for name, value in batch.items()}
    mine, _ = engine.scores_and_logprobs(scorer.eval(), batch)[1:]
    theirs, _ = engine.token_logprobs(source.eval(), batch)
    return float((mine - theirs).abs().max())
