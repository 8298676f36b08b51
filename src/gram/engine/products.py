"""Linear layers as numbers: their products, what adapters add to them, and the gradients of both.

Products are computed in bf16 with sums in fp32. Weights in fp32, which are in training, are rounded to bf16
for the product and get fp32 gradients. On a CPU with oneDNN the gate of an MLP, its other factor and the
residual are applied while a tile of the result is in registers. Knows tensors only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import linear, silu


@dataclass(frozen=True, slots=True)
class Product:
    """``x weight' + bias``, and with an adapter ``+ scale (x a') b'`` (LoRA, arXiv 2106.09685).

    Attributes:
        weight: (out, in).
        bias: (out,).
        a, b: (r, in) and (out, r).
        ordered: the weight in oneDNN's own order, which spares the product from ordering it each time.
    """

    weight: Tensor
    bias: Tensor | None = None
    a: Tensor | None = None
    b: Tensor | None = None
    scale: float = 0.0
    ordered: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """What may be in training: weight, bias, a, b."""
        return self.weight, self.bias, self.a, self.b

    def to(self, dtype: torch.dtype) -> Product:
        """The same numbers, rounded to ``dtype``."""
        weight, bias, a, b = (None if t is None else t.detach().to(dtype) for t in self.tensors)
        assert weight is not None
        return replace(self, weight=weight, bias=bias, a=a, b=b)


def order(weight: Tensor, rows: int) -> Tensor | None:
    """A weight in the order in which oneDNN multiplies it, for so many rows; None without oneDNN."""
    if not _onednn(weight):
        return None
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)


class Fan:
    """Several products of one input, such as those to queries, keys and values; or one.

    Args:
        trained: the products as the optimizer sees them: they say what needs a gradient, and in which dtype.
        dtype: in which they are computed.
    """

    def __init__(self, trained: Sequence[Product], dtype: torch.dtype) -> None:
        self.trained = list(trained)
        self.used = [product.to(dtype) for product in trained]
        ends = [0]
        for product in self.used:
            ends.append(ends[-1] + (0 if product.a is None else len(product.a)))
        self.ranks = [slice(*ends[number : number + 2]) for number in range(len(trained))]
        downs = [product.a for product in self.used if product.a is not None]
        self.down = torch.cat(downs) if len(downs) > 1 else downs[0] if downs else None  # (sum of ranks, in)

    def low(self, x: Tensor) -> Tensor | None:
        """(n, sum of ranks) the input brought down to the ranks of all adapters in one product."""
        return None if self.down is None else x @ self.down.t()

    def multiply(self, x: Tensor, low: Tensor | None, *, plus: Tensor | None = None) -> list[Tensor]:
        """(n, in) to one (n, out) per product, ``plus`` (n, out) added to each."""
        results = []
        for product, ranks in zip(self.used, self.ranks, strict=True):
            y = _product(x, product, plus)
            if product.b is not None and low is not None:
                y.addmm_(low[:, ranks], product.b.t(), alpha=product.scale)
            results.append(y)
        return results


def gated(x: Tensor, fan: Fan) -> Tensor:
    """(n, in) to (n, out): ``silu(gate(x)) * up(x)``, a fan of two products (SwiGLU, arXiv 2002.05202)."""
    if fan.down is not None or not _onednn(x):
        gate, up = fan.multiply(x, fan.low(x))
        return silu(gate).mul_(up)
    gate, up = fan.used
    opened = torch.ops.mkldnn._linear_pointwise(x, _weight(gate), gate.bias, "swish", [], None)
    return torch.ops.mkldnn._linear_pointwise.binary(x, opened, _weight(up), up.bias, "mul")


class Gradients:
    """The gradients of a fan, collected over blocks of rows."""

    def __init__(self, fan: Fan) -> None:
        self._fan = fan
        trains = any(p.a is not None and p.a.requires_grad for p in fan.trained)
        down = fan.down if trains else None
        self._to_down = None if down is None else torch.zeros_like(down, dtype=torch.float32)
        self._to_b = [
            None if p.b is None or not p.b.requires_grad else torch.zeros(p.b.shape[::-1], device=p.b.device)
            for p in fan.trained
        ]  # (r, out)

    @property
    def whole(self) -> bool:
        """Whether ``finish`` needs gradients and inputs of all rows: where a weight or a bias is trained."""
        return any(
            p.weight.requires_grad or (p.bias is not None and p.bias.requires_grad) for p in self._fan.trained
        )

    def through(self, grads: Sequence[Tensor], x: Tensor | None, low: Tensor | None) -> Tensor:
        """(n, in) the gradient of the input, given those of the products, (n, out) each.

        Args:
            x: (n, in) the input; not needed where no adapter is trained.
            low: of the forward pass.
        """
        fan, to_x, to_low = self._fan, None, None
        if fan.down is not None:
            to_low = fan.down.new_empty(len(grads[0]), len(fan.down))  # (n, sum of ranks)
        for number, (grad, product, ranks) in enumerate(zip(grads, fan.used, fan.ranks, strict=True)):
            to_x = grad @ product.weight if to_x is None else to_x.addmm_(grad, product.weight)
            if product.b is None or to_low is None or low is None:
                continue
            to_low[:, ranks] = (grad @ product.b).mul_(product.scale)
            if (to_b := self._to_b[number]) is not None:
                to_b.add_(low[:, ranks].t() @ grad, alpha=product.scale)
        assert to_x is not None
        if to_low is not None and fan.down is not None:
            to_x.addmm_(to_low, fan.down)
            if self._to_down is not None and x is not None:
                self._to_down += to_low.t() @ x
        return to_x

    def finish(self, grads: Sequence[Tensor | None], x: Tensor | None) -> list[Tensor | None]:
        """The gradients of ``Product.tensors``, product by product.

        Args:
            grads: (N, out) each, and x: (N, in), of all rows, where they are needed (``whole``).
        """
        results: list[Tensor | None] = []
        for number, (grad, product) in enumerate(zip(grads, self._fan.trained, strict=True)):
            weight, bias, a, b = product.tensors
            to_weight = to_bias = to_a = to_b = None
            if weight is not None and weight.requires_grad and grad is not None and x is not None:
                to_weight = (grad.t() @ x).to(weight.dtype)
            if bias is not None and bias.requires_grad and grad is not None:
                to_bias = grad.sum(dim=0, dtype=torch.float32).to(bias.dtype)
            if a is not None and a.requires_grad and self._to_down is not None:
                to_a = self._to_down[self._fan.ranks[number]].to(a.dtype)
            if b is not None and (collected := self._to_b[number]) is not None:
                to_b = collected.t().to(b.dtype)
            results += [to_weight, to_bias, to_a, to_b]
        return results


def _product(x: Tensor, product: Product, plus: Tensor | None) -> Tensor:
    if not _onednn(x):
        y = linear(x, product.weight, product.bias)
        return y if plus is None else y.add_(plus)
    if plus is None:
        return torch.ops.mkldnn._linear_pointwise(x, _weight(product), product.bias, "none", [], None)
    return torch.ops.mkldnn._linear_pointwise.binary(x, plus, _weight(product), product.bias, "add")


def _weight(product: Product) -> Tensor:
    return product.weight if product.ordered is None else product.ordered


def _onednn(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.bfloat16 and torch.backends.mkldnn.is_available()
