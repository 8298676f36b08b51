"""The arithmetic of one decoder layer in bf16, a block of rows at a time: what stands around its attention.

A layer is two functions with attention between them: ``before`` (norm, queries, keys and values, rotary) and
``after`` (output product, residual, norm, gated MLP, residual). Both work row by row, so they go through the
rows in blocks that stay in the processor's cache, where passes over memory cost little. What is not a product
is computed in fp32 and rounded once. Both have their own backward pass, which keeps few activations (the
input, attention's output, the middle of the residual stream, gate and up) and computes the norms again.

Knows tensors only; ``fused`` puts it under a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from gram.engine.pool import ACTIVATIONS
from gram.engine.products import Fan, Gradients, Product, gated

ROWS = 512
"""Most rows of a block. 512 rows of 1,536 numbers are 1.6 MB in bf16: what lies between two products of a
model of width 576 stays in a cache of 2 MB. Larger blocks make the products a few percent faster, and what
lies between them slower."""


_LOWS = 3  # tensors that a block of ``after`` keeps beside its rows of the whole ones


@dataclass(frozen=True, slots=True)
class Norm:
    """``x / sqrt(mean(x^2) + eps) * weight`` (arXiv 1910.07467)."""

    weight: Tensor
    eps: float


@dataclass(frozen=True, slots=True)
class Before:
    """What stands before the attention of a layer.

    Attributes:
        norm: of the input.
        parts: the products to queries, keys and values.
        width: of a head.
        head_norms: of each head of queries and of keys, where there are such.
    """

    norm: Norm
    parts: tuple[Product, Product, Product]
    width: int
    head_norms: tuple[Norm, Norm] | None = None

    @property
    def tensors(self) -> list[Tensor | None]:
        """All that may be in training, in the order of the gradients."""
        norms = [self.norm, *(self.head_norms or ())]
        return [*(norm.weight for norm in norms), *(t for part in self.parts for t in part.tensors)]


@dataclass(frozen=True, slots=True)
class After:
    """What stands behind the attention of a layer: ``out``, then the MLP ``down(silu(gate(x)) * up(x))``."""

    norm: Norm
    out: Product
    gate: Product
    up: Product
    down: Product

    @property
    def parts(self) -> tuple[Product, ...]:
        return self.out, self.gate, self.up, self.down

    @property
    def tensors(self) -> list[Tensor | None]:
        """All that may be in training, in the order of the gradients."""
        return [self.norm.weight, *(t for part in self.parts for t in part.tensors)]

    def fans(self, dtype: torch.dtype) -> tuple[Fan, Fan, Fan]:
        """The products by their input: of attention, of the norm, of the open gate."""
        return Fan([self.out], dtype), Fan([self.gate, self.up], dtype), Fan([self.down], dtype)


def before(x: Tensor, cos: Tensor, sin: Tensor, layer: Before) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of N tokens, each (N, heads, width), the first two turned by their positions.

    Args:
        x: (N, H) the residual stream, bf16.
        cos, sin: (N, width / 2) fp32, of each token's angles (arXiv 2104.09864, in the halves of GPT-NeoX).
    """
    return _Before.apply(layer, x, cos, sin, *layer.tensors)


def after(attended: Tensor, x: Tensor, layer: After) -> Tensor:
    """(N, H) the residual stream behind the layer.

    Args:
        attended: (N, heads * width) what attention gives.
        x: (N, H) the residual stream before the layer.
    """
    if torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (attended, x, *layer.tensors)
    ):
        return _After.apply(layer, attended, x, *layer.tensors)
    (first, wide, last), out = layer.fans(x.dtype), torch.empty_like(x)
    for rows in blocks(len(x)):
        [middle] = first.multiply(attended[rows], first.low(attended[rows]), plus=x[rows])
        opened = gated(_normed(middle, layer.norm), wide)
        out[rows] = last.multiply(opened, last.low(opened), plus=middle)[0]
    return out


def blocks(length: int) -> Iterator[slice]:
    """The rows in the fewest blocks of at most ROWS, all of about the same size."""
    count = max(1, -(-length // ROWS))
    size = -(-length // count)
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


class _Before(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, layer: Before, x: Tensor, cos: Tensor, sin: Tensor, *weights: Tensor | None
    ) -> tuple[Tensor, ...]:
        fan, n = Fan(layer.parts, x.dtype), len(x)
        shapes = [(len(p.weight) // layer.width, layer.width) for p in layer.parts]
        results = [ACTIVATIONS.rows(n, shape, x.dtype) for shape in shapes]
        projected = results[:2] if layer.head_norms else []
        heads = [ACTIVATIONS.like(part) for part in projected]  # before their norms
        lows = []
        for rows in blocks(n):
            normed = _normed(x[rows], layer.norm)
            lows.append(fan.low(normed))
            for number, y in enumerate(fan.multiply(normed, lows[-1])):
                y = y.view(-1, *results[number].shape[1:])
                if number == 2:
                    results[number][rows] = y
                    continue
                if layer.head_norms:
                    heads[number][rows] = y
                    y = _normed(y, layer.head_norms[number])
                _turn(y, cos[rows], sin[rows], results[number][rows])
        # Whatever is kept goes through here: checkpointing lets go of it, and computes it again.
        ctx.save_for_backward(x, cos, sin, *heads, *lows)
        ctx.layer, ctx.fan, ctx.heads = layer, fan, len(heads)
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, cos, sin, *kept = ctx.saved_tensors
        heads, lows = kept[: ctx.heads], kept[ctx.heads :]
        layer, sums = ctx.layer, Gradients(ctx.fan)
        inputs = torch.empty_like(x) if sums.whole else None
        projected = [x.new_empty(len(x), len(p.weight)) for p in layer.parts] if sums.whole else []
        norms = _NormSums(layer.norm), *(_NormSums(norm) for norm in layer.head_norms or ())
        to_x = ACTIVATIONS.like(x)
        for rows, low in zip(blocks(len(x)), lows, strict=True):
            unit, scale = _unit(x[rows], layer.norm.eps)
            normed = norms[0].normed(unit)
            parts = []
            for number, grad in enumerate(grads):
                grad = grad[rows]
                if number < 2:
                    grad = _turn(grad, cos[rows], -sin[rows], torch.empty(grad.shape, dtype=x.dtype))
                    if layer.head_norms:
                        own = _unit(heads[number][rows], layer.head_norms[number].eps)
                        grad = norms[1 + number].through(grad, *own).to(x.dtype)
                parts.append(grad.reshape(len(normed), -1))
                if sums.whole:
                    projected[number][rows] = parts[-1]
            if inputs is not None:
                inputs[rows] = normed
            to_x[rows] = norms[0].through(sums.through(parts, normed, low), unit, scale)
        to_parts = sums.finish(projected or [None] * 3, inputs)
        return None, to_x, None, None, *(norm.result for norm in norms), *to_parts


class _After(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer: After, attended: Tensor, x: Tensor, *weights: Tensor | None) -> Tensor:
        fans, inner = layer.fans(x.dtype), (len(layer.up.weight),)
        (first, wide, last), out = fans, ACTIVATIONS.like(x)
        # Copied into whole tensors, a pass over memory: many small ones to keep cost more (see ``pool``).
        middles, gates, ups = ACTIVATIONS.like(x), *(ACTIVATIONS.rows(len(x), inner, x.dtype) for _ in "gu")
        kept = []
        for rows in blocks(len(x)):
            low = first.low(attended[rows])
            [middle] = first.multiply(attended[rows], low, plus=x[rows])
            normed = _normed(middle, layer.norm)
            low_wide = wide.low(normed)
            gate, up = wide.multiply(normed, low_wide)
            middles[rows], gates[rows], ups[rows] = middle, gate, up
            opened = silu(gate).mul_(up)
            low_last = last.low(opened)
            out[rows] = last.multiply(opened, low_last, plus=middle)[0]
            kept += [low, low_wide, low_last]
        ctx.save_for_backward(attended, middles, gates, ups, *kept)
        ctx.layer, ctx.fans = layer, fans
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        attended, middles, gates, ups, *saved = ctx.saved_tensors
        layer, sums = ctx.layer, [Gradients(fan) for fan in ctx.fans]
        whole = any(part.whole for part in sums)
        n, norm = len(attended), _NormSums(layer.norm)
        size = n if whole else max(rows.stop - rows.start for rows in blocks(n))
        inner = (len(layer.up.weight),)
        opened, to_gate, to_up = (ACTIVATIONS.rows(size, inner, attended.dtype) for _ in range(3))
        inputs = torch.empty_like(grads[0]) if whole else None
        to_attended, to_x = ACTIVATIONS.like(attended), ACTIVATIONS.like(grads[0])
        for rows, kept in zip(blocks(n), zip(*[iter(saved)] * _LOWS, strict=True), strict=True):
            (low, low_wide, low_last), middle, g, u = kept, middles[rows], gates[rows], ups[rows]
            place = rows if whole else slice(0, rows.stop - rows.start)
            grad = grads[0][rows]
            half_open = silu(g)
            torch.mul(half_open, u, out=opened[place])
            to_opened = sums[2].through([grad], opened[place], low_last)
            torch.mul(half_open, to_opened, out=to_up[place])
            torch.ops.aten.silu_backward.grad_input(to_opened.mul_(u), g, grad_input=to_gate[place])
            unit, scale = _unit(middle, layer.norm.eps)
            normed = norm.normed(unit)
            if inputs is not None:
                inputs[rows] = normed
            to_normed = sums[1].through([to_gate[place], to_up[place]], normed, low_wide)
            to_x[rows] = norm.through(to_normed, unit, scale)
            to_x[rows].add_(grad)
            to_attended[rows] = sums[0].through([to_x[rows]], attended[rows], low)
        to_parts = [
            *sums[0].finish([to_x], attended),
            *sums[1].finish([to_gate, to_up] if whole else [None, None], inputs),
            *sums[2].finish([grads[0]], opened if whole else None),
        ]
        return None, to_attended, to_x, norm.result, *to_parts


class _NormSums:
    """The backward pass of a norm, and the gradient of its weight, collected over blocks of rows."""

    def __init__(self, norm: Norm) -> None:
        self._norm = norm
        self._sum = torch.zeros_like(norm.weight, dtype=torch.float32) if norm.weight.requires_grad else None

    def normed(self, unit: Tensor) -> Tensor:
        """(..., H) bf16, of rows of length one (times the root of H) in fp32."""
        return (unit * self._norm.weight.float()).bfloat16()

    def through(self, grad: Tensor, unit: Tensor, scale: Tensor) -> Tensor:
        """The gradient of the input, (..., H) fp32; ``unit`` is used up.

        Args:
            unit, scale: of the input, from ``_unit``.
        """
        g = grad.float()
        both = g * unit
        if self._sum is not None:
            self._sum += both.flatten(0, -2).sum(dim=0)
        weight = self._norm.weight.float()
        share = both.mul_(weight).mean(dim=-1, keepdim=True)
        return g.mul_(weight).sub_(unit.mul_(share)).mul_(scale)

    @property
    def result(self) -> Tensor | None:
        return None if self._sum is None else self._sum.to(self._norm.weight.dtype)


def _normed(x: Tensor, norm: Norm) -> Tensor:
    """(..., H) the norm of each row."""
    return _unit(x, norm.eps)[0].mul_(norm.weight.float()).to(x.dtype)


def _unit(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(..., H) fp32 each row brought to a mean square of one, and (..., 1) what it was multiplied by."""
    wide = x.float()
    length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    scale = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return wide.mul_(scale), scale


def _turn(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> Tensor:
    """(n, heads, width) into ``out``: every head of row i turned by its angles, (n, width / 2)."""
    half, wide, c, s = x.shape[-1] // 2, x.float(), cos[:, None], sin[:, None]
    first, second = wide[..., :half], wide[..., half:]
    out[..., :half] = (first * c).addcmul_(second, s, value=-1)
    out[..., half:] = (second * c).addcmul_(first, s)
    return out
