"""What a training takes: bytes of one device and operations of a step, from the shape of a model alone.

Each quantity is a ``Line``: what it is, the arithmetic in words, and the result. Knows numbers; knows no
model, no file and no device.
"""

from __future__ import annotations

from dataclasses import dataclass

SHARE = 0.4
"""Share of the free memory that one pass is cut to; as ``engine.memory`` does it."""
MOST_TOKENS = 65_536
"""Most tokens of one pass on a GPU."""
_FOUR_BITS = (
    0.516  # bytes per weight in NF4: 0.5, a byte per 64 for its scale, and little for the scales' own
)


@dataclass(frozen=True)
class Shape:
    """A decoder in numbers.

    Attributes:
        layers: how many there are.
        per_layer: weights of each.
        rest: weights of the embeddings, the last norm and the heads; tied ones once.
        linear: weights of each layer's linear maps, with which a token is multiplied.
        edges: sum of the inputs and outputs of each layer's linear maps: weights of an adapter per rank.
        linear_elsewhere: as ``linear``, of all linear maps outside the layers but the output layer.
        edges_elsewhere: as ``edges``, of those.
        beside: weights of the parts that read pictures or sounds: they lie there, and do nothing for text.
        width: of all query heads together.
        kept: bytes that a token in training keeps for the backward pass.
    """

    layers: int
    per_layer: int
    rest: int
    linear: int
    edges: int
    width: int
    kept: int
    linear_elsewhere: int = 0
    edges_elsewhere: int = 0
    beside: int = 0

    @property
    def weights(self) -> int:
        """All weights."""
        return self.layers * self.per_layer + self.rest + self.beside

    @property
    def all_linear(self) -> int:
        """Weights with which a token is multiplied, the output layer's aside."""
        return self.layers * self.linear + self.linear_elsewhere

    @property
    def all_edges(self) -> int:
        """Weights of all adapters, per rank."""
        return self.layers * self.edges + self.edges_elsewhere


@dataclass(frozen=True)
class Way:
    """How it is trained.

    Attributes:
        gpus: how many there are.
        divided: whether weights, gradients and optimizer states are divided among them (FSDP2).
        rank: of the adapters; 0: all weights are trained.
        low: whether products are bf16; frozen weights that are not divided then lie in bf16 too.
        four_bits: whether the frozen linear maps lie in 4 bits.
        checkpointing: whether activations are computed again in the backward pass.
    """

    gpus: int = 1
    divided: bool = False
    rank: int = 0
    low: bool = True
    four_bits: bool = False
    checkpointing: bool = False


@dataclass(frozen=True)
class Line:
    """One quantity: its name, the arithmetic that gives it, and the result (bytes, or operations)."""

    name: str
    formula: str
    value: float


def trained(shape: Shape, way: Way) -> int:
    """Weights in training.

    Example:
        >>> shape = Shape(layers=2, per_layer=100, rest=50, linear=96, edges=40, width=8, kept=1000)
        >>> trained(shape, Way()), trained(shape, Way(rank=4))  # 2 x 100 + 50, and 2 x 4 x 40
        (250, 320)
    """
    return way.rank * shape.all_edges if way.rank else shape.weights - shape.beside


def fixed_memory(shape: Shape, way: Way) -> list[Line]:
    """Bytes of one device that do not depend on the data.

    Example:
        >>> shape = Shape(layers=2, per_layer=100, rest=50, linear=96, edges=40, width=8, kept=1000)
        >>> for line in fixed_memory(shape, Way(gpus=2)):  # 250 weights in training, whole copies
        ...     print(f"{line.name}: {line.formula} = {line.value:g}")
        weights, fp32: 4 bytes x 250 = 1000
        gradients, fp32: 4 bytes x 250 = 1000
        Adam's two moments, fp32: 8 bytes x 250 = 2000
        buckets that gradients are shared in: 4 bytes x 250 = 1000
        bf16 copies for the backward pass: 2 bytes x 2 layers x 96 = 384
    """
    count = trained(shape, way)
    parts = way.gpus if way.divided else 1
    by = f" / {parts}" if parts > 1 else ""
    lines = [_frozen(shape, way, parts, by)] if way.rank else []
    if shape.beside and not way.rank:
        formula = f"4 bytes x {shape.beside:,}{by}"
        lines.append(Line("frozen weights beside text, fp32", formula, 4 * shape.beside / parts))
    lines += [
        Line(f"{'adapters' if way.rank else 'weights'}, fp32", f"4 bytes x {count:,}{by}", 4 * count / parts),
        Line("gradients, fp32", f"4 bytes x {count:,}{by}", 4 * count / parts),
        Line("Adam's two moments, fp32", f"8 bytes x {count:,}{by}", 8 * count / parts),
    ]
    if way.gpus > 1 and not way.divided:
        lines.append(Line("buckets that gradients are shared in", f"4 bytes x {count:,}", 4 * count))
    if way.divided:
        lines += _gathered(shape, way)
    if way.low and (way.divided or not way.rank):
        layers = 2 if way.checkpointing else shape.layers
        more = f" + 2 bytes x {shape.linear_elsewhere:,}" if shape.linear_elsewhere else ""
        formula = f"2 bytes x {layers} layers x {shape.linear:,}{more}"
        copies = layers * shape.linear + shape.linear_elsewhere
        lines.append(Line("bf16 copies for the backward pass", formula, 2 * copies))
    return lines


def _frozen(shape: Shape, way: Way, parts: int, by: str) -> Line:
    if way.four_bits:
        linear = shape.all_linear
        others, size = shape.weights - linear, 2 if way.low else 4
        formula = f"{_FOUR_BITS} bytes x {linear:,} + {size} bytes x {others:,}"
        return Line("frozen weights, 4 bits", formula, _FOUR_BITS * linear + size * others)
    size, name = (2, "bf16") if way.low and not way.divided else (4, "fp32")
    return Line(
        f"frozen weights, {name}", f"{size} bytes x {shape.weights:,}{by}", size * shape.weights / parts
    )


def _gathered(shape: Shape, way: Way) -> list[Line]:
    """What a divided model has whole for a while: two layers, one on its way, and all that is no layer."""
    two = f"4 bytes x (2 x {shape.per_layer:,} + {shape.rest:,})"
    more = f" + 4 bytes x {shape.beside:,}" if shape.beside else ""
    whole = 4 * (2 * shape.per_layer + shape.rest)
    lines = [Line("gathered weights, fp32", two + more, whole + 4 * shape.beside)]
    if not way.rank:
        lines.append(Line("their gradients, fp32", two, whole))
    return lines


def loading_memory(shape: Shape, way: Way) -> Line:
    """Bytes of one device before training begins: the model in fp32, not yet divided or lowered.

    Example:
        >>> shape = Shape(layers=2, per_layer=100, rest=50, linear=96, edges=40, width=8, kept=1000)
        >>> loading_memory(shape, Way(gpus=2, divided=True)).value
        1000.0
        >>> loading_memory(shape, Way(rank=4, four_bits=True)).value  # 0.516 x 192 + 4 x 58
        331.072
    """
    if way.four_bits:  # loaded beside the GPU
        frozen = _frozen(shape, Way(rank=way.rank, four_bits=True, low=False), 1, "")
        return Line("while loading", frozen.formula, frozen.value)
    return Line("while loading, fp32", f"4 bytes x {shape.weights:,}", 4.0 * shape.weights)


def tokens_of_a_pass(shape: Shape, free: float, most: int = MOST_TOKENS) -> int:
    """Tokens that passes are cut to where ``free`` bytes are left: a power of two; 0: not one fits.

    Example:
        >>> shape = Shape(layers=2, per_layer=100, rest=50, linear=96, edges=40, width=8, kept=1000)
        >>> tokens_of_a_pass(shape, 1e6)  # 0.4 x 1,000,000 / 1,000 = 400
        256
    """
    fit = int(SHARE * free / shape.kept)
    return min(most, 1 << (fit.bit_length() - 1)) if fit > 0 else 0


def operations(shape: Shape, way: Way, tokens: int, length: int) -> list[Line]:
    """Floating-point operations of a step, forward, backward and, if so, forward again.

    Two per weight and token forward. Backward as many for the inputs, and as many again for weights that are
    trained: so 6 per weight and token in all, or 4 under adapters. Attention is 2 x width x length per token
    and layer forward (half of all pairs, two products), and twice that backward. The output layer reads
    single tokens and is left out.

    Args:
        tokens: of the step.
        length: of a row, in tokens.

    Example:
        >>> shape = Shape(layers=2, per_layer=100, rest=50, linear=96, edges=40, width=8, kept=1000)
        >>> for line in operations(shape, Way(), tokens=10, length=5):
        ...     print(f"{line.name}: {line.formula} = {line.value:g}")
        linear maps: 6 x 192 weights x 10 tokens = 11520
        attention: 3 x 2 x 8 x 5 x 2 layers x 10 tokens = 4800
    """
    again = 1 if way.checkpointing else 0
    passes = (2 if way.rank else 3) + again  # as multiples of the forward pass
    linear = shape.all_linear
    return [
        Line(
            "linear maps",
            f"{2 * passes} x {linear:,} weights x {tokens:,} tokens",
            2 * passes * linear * tokens,
        ),
        Line(
            "attention",
            f"{3 + again} x 2 x {shape.width:,} x {length:,} x {shape.layers} layers x {tokens:,} tokens",
            (3 + again) * 2 * shape.width * length * shape.layers * tokens,
        ),
    ]


def total(lines: list[Line]) -> float:
    """The sum of the results.

    Example:
        >>> total([Line("one", "1", 1.0), Line("two", "2", 2.0)])
        3.0
    """
    return sum(line.value for line in lines)
