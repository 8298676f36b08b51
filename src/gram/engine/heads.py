"""From hidden states to numbers: the output layer applied to those hidden states that are needed.

Knows a Hugging Face decoder's body and its output layer. Logits of the whole vocabulary are computed in
chunks, so that they never fill the memory.
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

_CHUNK = 1 << 23  # logits computed at once: 32 MB of fp32
_FEWEST = 256  # hidden states at once, at least: each chunk adds to the large gradient of the layer


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
    layer = score if isinstance(score, nn.Module) else inner.get_output_embeddings()
    # An adapter wraps a layer that is trained whole, and holds the copy in training.
    copies = getattr(layer, "modules_to_save", None)
    return copies[layer.active_adapter] if isinstance(copies, nn.ModuleDict) else layer  # type: ignore[union-attr]


class TiedHead:
    """A language head whose weight is the input embedding; has what ``heads`` uses of a linear layer.

    Example:
        >>> TiedHead(torch.eye(3, 2))(torch.ones(1, 2)).tolist()  # (1, H) hidden states to (1, V) logits
        [[1.0, 1.0, 0.0]]
    """

    bias: Tensor | None = None

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def __call__(self, hidden: Tensor) -> Tensor:
        return linear(hidden, self.weight)


def language_layer(model: nn.Module) -> nn.Module | TiedHead:
    """The language head of a sequence classifier: its own, or the input embedding it is tied to.

    Raises:
        ValueError: it has none (``modeling.language_head.keep_language_head`` gives it one).
    """
    inner = core(model)
    head = getattr(inner, LANGUAGE_HEAD, None)
    if isinstance(head, nn.Module):
        return head
    if not inner.config.get_text_config().tie_word_embeddings:
        raise ValueError(f"this {type(inner).__name__} has no language head")
    return TiedHead(inner.get_input_embeddings().weight)


def tied(model: nn.Module) -> bool:
    """Whether output layer and input embedding are one weight, so that both add to the same gradient."""
    weight = getattr(output_layer(model), "weight", None)
    return weight is not None and getattr(core(model).get_input_embeddings(), "weight", None) is weight


def few_logits(layer: Any, hidden: Tensor, tokens: Sequence[int] | slice, *, sparse: bool = False) -> Tensor:
    """(k, t) fp32 logits of ``tokens`` only, computed in fp32 whatever the model's precision.

    Args:
        sparse: the gradient of the weight holds the rows of ``tokens`` only. Meant for a tied weight:
            autograd adds it in place to the dense gradient that comes from the embedding, and no second
            gradient of the whole vocabulary is made. An untied weight would keep a sparse gradient, which
            optimizers do not take.

    Example:
        >>> layer = nn.Linear(2, 5)  # H = 2 to a vocabulary of 5
        >>> few_logits(layer, torch.ones(3, 2), [0, 4]).shape
        torch.Size([3, 2])
    """
    index = tokens if isinstance(tokens, slice) else list(tokens)
    # A sharded weight (a subclass of Parameter) supports no sparse gradient.
    if sparse and not isinstance(index, slice) and type(layer.weight) is nn.Parameter:
        rows = embedding(torch.tensor(index, device=hidden.device), layer.weight, sparse=True)
    else:
        rows = layer.weight[index]  # (t, H)
    with torch.autocast(hidden.device.type, enabled=False):
        bias = None if layer.bias is None else layer.bias[index].float()
        return linear(hidden.float(), rows.float(), bias)


def log_normaliser(layer: Any, hidden: Tensor, tokens: Sequence[int], logits: Tensor) -> Tensor:
    """(k, 1) fp32 logarithm of the sum of exp(logit) over the vocabulary.

    Args:
        hidden: (k, H).
        tokens: t tokens whose logits are known more exactly than the layer computes them.
        logits: (k, t) these logits, used in place of the layer's.
    """
    rows = _rows(layer)
    sums = []
    for states, exact in zip(hidden.split(rows), logits.split(rows), strict=True):  # (rows, H), (rows, t)
        all_logits = layer(states).float()  # (rows, V)
        all_logits[:, list(tokens)] = exact
        sums.append(all_logits.logsumexp(dim=-1, keepdim=True))  # (rows, 1)
    return torch.cat(sums)


def token_logprobs(layer: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """(k,) fp32 log-probabilities of ``targets`` (k,) after the hidden states (k, H).

    Many logits are not kept for the backward pass, which computes them again.
    """
    rows = _rows(layer)
    parts = []
    for states, labels in zip(hidden.split(rows), targets.split(rows), strict=True):  # (rows, H), (rows,)
        if torch.is_grad_enabled() and len(hidden) > rows:
            part = checkpoint(_logprobs, layer, states, labels, use_reentrant=False)
        else:
            part = _logprobs(layer, states, labels)
        parts.append(part)
    return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)


def cross_entropy_sum(layer: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """0-dim fp32 sum of the cross-entropy of ``targets`` (k,), its gradient computed in the forward pass.

    Up to the factor that comes from above, the gradient of a sum over tokens follows from the logits alone.
    Computing it chunk by chunk in the forward pass keeps no logits and computes none twice. The result
    allows one backward pass and no second derivative.
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
        needs = ctx.needs_input_grad[:3]  # of hidden, weight, bias
        loss = hidden.new_zeros((), dtype=torch.float32)
        to_hidden = torch.empty_like(hidden) if needs[0] else None
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if needs[1] else None
        to_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and needs[2] else None
        for start in range(0, len(hidden), rows):
            states, labels = hidden[start : start + rows], targets[start : start + rows, None]
            logits = linear(states, weight, bias).float()  # (rows, V)
            # In place: a second array of this size costs more than the arithmetic on it.
            logits -= logits.amax(dim=-1, keepdim=True)
            target_logits = logits.gather(1, labels)  # (rows, 1)
            total = logits.exp_().sum(dim=-1, keepdim=True)  # (rows, 1)
            loss += (total.log() - target_logits).sum()
            if not any(needs):
                continue
            gradient = logits.div_(total)  # softmax minus one-hot
            gradient.scatter_add_(1, labels, gradient.new_full(labels.shape, -1.0))
            if to_bias is not None:
                to_bias += gradient.sum(dim=0)
            gradient = gradient.to(hidden.dtype)
            if to_hidden is not None:
                torch.mm(gradient, weight, out=to_hidden[start : start + rows])
            if to_weight is not None:
                _add_product(to_weight, gradient.t(), states)
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
    """How many hidden states have their logits computed at once."""
    return max(_FEWEST, _CHUNK // layer.weight.shape[0])
