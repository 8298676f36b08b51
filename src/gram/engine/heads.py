"""From hidden states to numbers: the output layer applied where it is asked for, and nowhere else.

Knows a Hugging Face decoder's body and its output layer. The whole vocabulary is only ever met in chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, linear
from torch.utils.checkpoint import checkpoint

LANGUAGE_HEAD = "language_head"
"""Attribute under which a sequence classifier in training keeps a language head of its own."""

_CHUNK = 1 << 23  # logits made at once: 32 MB of fp32
_FEWEST = 256  # hidden states at once: fewer would add up the large gradient of the layer too often


def core(model: nn.Module) -> Any:
    """The Hugging Face model inside a distributed or an adapter wrapper."""
    while True:
        if isinstance(inner := getattr(model, "module", None), nn.Module):
            model = inner
        elif callable(unwrap := getattr(model, "get_base_model", None)):
            return unwrap()
        else:
            return model


def output_layer(model: nn.Module) -> nn.Module | None:
    """The layer behind the body: a language model's over the vocabulary, or a classifier's score."""
    inner = core(model)
    score = getattr(inner, "score", None)
    found = score if isinstance(score, nn.Module) else inner.get_output_embeddings()
    # Adapters wrap a layer that is trained as a whole.
    wrapped = getattr(found, "modules_to_save", None)
    return wrapped[found.active_adapter] if isinstance(wrapped, nn.ModuleDict) else found  # type: ignore[union-attr]


class TiedHead:
    """A language head that is the input embedding: what of a linear layer its readers use."""

    bias: Tensor | None = None

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def __call__(self, hidden: Tensor) -> Tensor:
        return linear(hidden, self.weight)


def language_layer(model: nn.Module) -> nn.Module | TiedHead:
    """The language head of a sequence classifier: its own, or the input embedding it is tied to.

    Raises:
        ValueError: it has none (``modeling.language_head.keep`` gives it one).
    """
    inner = core(model)
    own = getattr(inner, LANGUAGE_HEAD, None)
    if isinstance(own, nn.Module):
        return own
    if not inner.config.get_text_config().tie_word_embeddings:
        raise ValueError(f"this {type(inner).__name__} has no language head")
    return TiedHead(inner.get_input_embeddings().weight)


def tied(model: nn.Module) -> bool:
    """Whether the output layer's weight is the input embedding's: what has one gradient has the other's."""
    weight = getattr(output_layer(model), "weight", None)
    return weight is not None and getattr(core(model).get_input_embeddings(), "weight", None) is weight


def few_logits(layer: Any, hidden: Tensor, tokens: Sequence[int] | slice, *, sparse: bool = False) -> Tensor:
    """(k, t) fp32 logits of ``tokens`` only, computed in fp32 whatever the model's precision.

    Args:
        sparse: the gradient of the weight holds the rows of ``tokens`` only. For a tied weight, to whose
            dense gradient from the embedding autograd adds it in place: a second one of the whole
            vocabulary is neither made nor added. Optimizers do not take a sparse gradient that stays so.
    """
    chosen = tokens if isinstance(tokens, slice) else list(tokens)
    # A sharded weight (a subclass) knows no sparse gradient.
    if sparse and not isinstance(chosen, slice) and type(layer.weight) is nn.Parameter:
        rows = embedding(torch.tensor(chosen, device=hidden.device), layer.weight, sparse=True)
    else:
        rows = layer.weight[chosen]  # (t, H)
    with torch.autocast(hidden.device.type, enabled=False):
        bias = None if layer.bias is None else layer.bias[chosen].float()
        return linear(hidden.float(), rows.float(), bias)


def log_normaliser(layer: Any, hidden: Tensor, tokens: Sequence[int], logits: Tensor) -> Tensor:
    """(k, 1) fp32 log of the sum over the vocabulary, in which ``tokens`` count with the ``logits`` given."""
    rows = _rows(layer)
    sums = []
    for some, exact in zip(hidden.split(rows), logits.split(rows), strict=True):
        every = layer(some).float()  # (rows, V)
        every[:, list(tokens)] = exact
        sums.append(every.logsumexp(dim=-1, keepdim=True))
    return torch.cat(sums)


def token_logprobs(layer: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """(k,) fp32 log-probabilities of ``targets`` (k,); the logits are made again in the backward pass."""
    rows = _rows(layer)
    parts = []
    for some, wanted in zip(hidden.split(rows), targets.split(rows), strict=True):
        if torch.is_grad_enabled() and len(hidden) > rows:
            part = checkpoint(_logprobs, layer, some, wanted, use_reentrant=False)
        else:
            part = _logprobs(layer, some, wanted)
        parts.append(part)
    return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)


def cross_entropy_sum(layer: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """0-dim fp32 sum of the cross-entropy of ``targets`` (k,), its gradient made in the forward pass.

    The gradient of a sum over tokens is known up to one factor as soon as the logits are: making it chunk
    by chunk then and there keeps no logits, and computes none twice. It can be gone back through once.
    """
    if not torch.is_grad_enabled():
        return -token_logprobs(layer, hidden, targets).sum()
    weight, bias = layer.weight, layer.bias
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    return _CrossEntropySum.apply(hidden, weight, bias, targets, _rows(layer))


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, rows: int
    ) -> Tensor:
        wanted = ctx.needs_input_grad[:3]
        loss = hidden.new_zeros((), dtype=torch.float32)
        to_hidden = torch.empty_like(hidden) if wanted[0] else None
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
        to_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wanted[2] else None
        for start in range(0, len(hidden), rows):
            some, labels = hidden[start : start + rows], targets[start : start + rows, None]
            logits = linear(some, weight, bias).float()  # (rows, V)
            # In place: a second array of this size costs more than the arithmetic on it.
            logits -= logits.amax(dim=-1, keepdim=True)
            own = logits.gather(1, labels)  # (rows, 1)
            total = logits.exp_().sum(dim=-1, keepdim=True)  # (rows, 1)
            loss += (total.log() - own).sum()
            if not any(wanted):
                continue
            gradient = logits.div_(total)  # softmax minus one-hot
            gradient.scatter_add_(1, labels, gradient.new_full(labels.shape, -1.0))
            if to_bias is not None:
                to_bias += gradient.sum(dim=0)
            gradient = gradient.to(hidden.dtype)
            if to_hidden is not None:
                torch.mm(gradient, weight, out=to_hidden[start : start + rows])
            if to_weight is not None:
                _add_product(to_weight, gradient.t(), some)
        ctx.save_for_backward(to_hidden, to_weight, to_bias)
        ctx.dtypes = (hidden.dtype, weight.dtype)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        [grad] = grads
        to_hidden, to_weight, to_bias = ctx.saved_tensors
        hidden_dtype, weight_dtype = ctx.dtypes
        return (
            None if to_hidden is None else (to_hidden * grad).to(hidden_dtype),
            None if to_weight is None else to_weight.mul_(grad).to(weight_dtype),
            None if to_bias is None else to_bias.mul_(grad).to(weight_dtype),
            None,
            None,
        )


def _add_product(total: Tensor, one: Tensor, two: Tensor) -> None:
    if total.dtype == two.dtype:
        total.addmm_(one, two)
    else:
        total.add_(one @ two)


def _logprobs(layer: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    return -nn.functional.cross_entropy(layer(hidden).float(), targets, reduction="none")


def _rows(layer: Any) -> int:
    """Hidden states whose logits are made at once."""
    return max(_FEWEST, _CHUNK // layer.weight.shape[0])
