"""``gram plan``: whether a training fits, and how long it takes, from a model's configuration alone.

Knows configurations and how they are trained; loads no weights and asks no device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from gram.asking import Precision
from gram.bounds import Count, Rank, Within, check_bounds
from gram.errors import ConfigError
from gram.progress import on_stderr
from gram.training.arithmetic import (
    Line,
    Shape,
    Way,
    fixed_memory,
    loading_memory,
    operations,
    tokens_of_a_pass,
    total,
    trained,
)

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig

_GB = 1e9


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Memory, tokens per step and time of a training of judges, from the model's configuration alone.

    Nothing is loaded, and no GPU is needed. The arithmetic goes to stderr, line by line. It counts the work
    of the GPUs, not what goes between them.
    """

    model: str
    """A folder, preset:NAME, the name of a model that gram knows, or a Hub name."""
    revision: str | None = None
    """Branch, tag or commit of a model on the Hub. Default: the newest."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Default: such a model is refused."""
    gpus: Count = 1
    """How many GPUs train together."""
    gpu_memory: Annotated[float, Within(0.1, 100_000)] = 80.0
    """Memory of one, in GB (10^9 bytes)."""
    tflops: Annotated[float, Within(0.001, 100_000)] = 300.0
    """What one does in training, in 10^12 operations a second: about a third of what its maker says."""
    lora: bool = False
    """Train low-rank adapters on a frozen model."""
    lora_rank: Rank = 16
    """Rank of the adapters."""
    quantise: Literal["4bit"] | None = None
    """lora: the frozen base in 4 bits."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    dtype: Precision = "bf16"
    """Precision of the products."""
    batch_size: Count = 32
    """Pairs per optimizer step, over all GPUs."""
    length: Count = 1024
    """Tokens of one judge prompt: template, question and both answers."""
    pairs: Count = 10_000
    """Labeled pairs to train on, once."""

    def __post_init__(self) -> None:
        """Raises a ConfigError for numbers out of range, and for options that do not go together."""
        check_bounds(self)
        if self.quantise and not self.lora:
            raise ConfigError("quantise goes with lora")


def plan(options: PlanOptions, say: Callable[[str], None] = on_stderr) -> dict[str, Any]:
    """Say the arithmetic and return it.

    Returns:
        ``parameters``, ``trained``, ``fits`` (``copies``, ``divided`` or None: what to choose),
        ``memory_gb`` (of one GPU, by part, for either), ``tokens_per_step``, ``tokens_per_pass``, ``steps``,
        ``seconds_per_step`` and ``hours``.

    Raises:
        CheckpointError, ConfigError: no such model or preset, one that is no decoder, or a batch that the
            GPUs cannot share.
    """
    if options.batch_size % options.gpus:
        raise ConfigError(f"batch_size {options.batch_size} cannot be dealt to {options.gpus} GPUs")
    shape = shape_of(options)
    way = Way(
        gpus=options.gpus,
        rank=options.lora_rank if options.lora else 0,
        low=options.dtype == "bf16",
        four_bits=options.quantise is not None,
        checkpointing=options.gradient_checkpointing,
    )
    say(f"{options.model}: {shape.layers} layers x {shape.per_layer:,} weights + {shape.rest:,} elsewhere")
    if shape.beside:
        say(f"  + {shape.beside:,} that read pictures or sounds, which text does not go through")
    say(f"  = {shape.weights:,}, of which {trained(shape, way):,} are trained")
    ways = {"copies": way}
    if options.gpus > 1 and not options.quantise:
        ways["divided"] = replace(way, divided=True)
    found = {name: _memory(name, one, shape, options, say) for name, one in ways.items()}
    fits = next((name for name, memory in found.items() if memory["tokens_per_pass"]), None)
    say(f"choose: {_CHOICE[options.quantise if fits and options.quantise else fits]}")
    return {
        "model": options.model,
        "parameters": shape.weights,
        "trained": trained(shape, way),
        "fits": fits,
        "memory_gb": {name: memory["gb"] for name, memory in found.items()},
        "tokens_per_pass": found[fits]["tokens_per_pass"] if fits else 0,
        **_time(way, shape, options, say),
    }


_WHERE = {"copies": "a whole copy on each", "divided": "one model divided among them"}
_CHOICE = {
    "copies": "a whole copy on each GPU (configs/accelerate/ddp.yaml; one GPU: nothing)",
    "4bit": "a copy in 4 bits on each GPU (configs/accelerate/qlora.yaml; one GPU: nothing)",
    "divided": "one model divided among the GPUs (configs/accelerate/fsdp2.yaml)",
    None: "none of these fits: more GPUs or memory, --lora, --quantise 4bit or --gradient-checkpointing",
}


def _memory(
    name: str, way: Way, shape: Shape, options: PlanOptions, say: Callable[[str], None]
) -> dict[str, Any]:
    say(f"memory of one GPU, {_WHERE[name]}:")
    lines, room = fixed_memory(shape, way), options.gpu_memory * _GB
    # A pass holds a pair in both orders at least, and at most what one GPU reads in a step.
    least, most = 2 * options.length, 2 * options.length * options.batch_size // options.gpus
    tokens = max(least, min(most, tokens_of_a_pass(shape, room - total(lines))))
    activations = f"{shape.kept:,} bytes x {tokens:,} tokens of a pass"
    lines.append(Line("activations", activations, shape.kept * tokens))
    together, loading = Line("together", "", total(lines)), loading_memory(shape, way)
    for line in (*lines, together, loading):
        say(_told(line, _GB, "GB"))
    fits = max(together.value, loading.value) <= room
    if not fits:
        say(f"  which is more than {options.gpu_memory:g} GB")
    parts = {line.name: round(line.value / _GB, 3) for line in (*lines, together, loading)}
    return {"gb": parts, "tokens_per_pass": tokens if fits else 0}


def _time(way: Way, shape: Shape, options: PlanOptions, say: Callable[[str], None]) -> dict[str, Any]:
    tokens = 2 * options.batch_size * options.length
    say(f"a step: {options.batch_size} pairs x 2 orders x {options.length:,} = {tokens:,} tokens at most")
    lines = operations(shape, way, tokens, options.length)
    for line in (*lines, Line("together", "", total(lines))):
        say(_told(line, 1e12, "T"))
    seconds = total(lines) / (options.gpus * options.tflops * 1e12)
    say(f"  divided by {options.gpus} x {options.tflops:g} T a second: {seconds:.3g} s")
    steps = -(-options.pairs // options.batch_size)
    hours = steps * seconds / 3600
    say(f"{options.pairs:,} pairs / {options.batch_size} = {steps:,} such steps: {hours:.3g} hours")
    return {"tokens_per_step": tokens, "steps": steps, "seconds_per_step": seconds, "hours": hours}


def _told(line: Line, unit: float, name: str) -> str:
    return f"  {line.name:<36} {line.formula:<66} {line.value / unit:9.2f} {name}"


def shape_of(options: PlanOptions) -> Shape:
    """The numbers of the model that the configuration describes; its weights are made without values.

    Raises:
        CheckpointError, ConfigError: as ``plan``.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from gram.engine.memory import bytes_per_trained_token
    from gram.engine.shape import head_width, widest
    from gram.modeling.trainable import beside_text, decoder_layers

    config = _config_of(options)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=options.trust_remote_code)
    layers = decoder_layers(model)
    linear = [weight for weight in layers.parameters() if weight.dim() == 2]  # of linear maps, whatever made
    if any(weight.dim() > 2 for weight in layers.parameters()):
        raise ConfigError(
            f"{options.model}: has experts, of which a token meets some; plan knows no such model"
        )
    text: Any = config.get_text_config()
    unread = beside_text(model)
    beside = _linear_beside(model, [*layers, *unread])
    in_layers = sum(weight.numel() for weight in layers.parameters())
    kept = bytes_per_trained_token(
        text, options.dtype, checkpointing=options.gradient_checkpointing, all_logits=False
    )
    unread_weights = sum(weight.numel() for part in unread for weight in part.parameters())
    count = len(layers)
    per_layer, over = divmod(in_layers, count)  # layers may differ: what is over counts as elsewhere
    multiplied, more = divmod(sum(weight.numel() for weight in linear), count)
    edges, more_edges = divmod(sum(sum(weight.shape) for weight in linear), count)
    return Shape(
        layers=count,
        per_layer=per_layer,
        rest=sum(weight.numel() for weight in model.parameters()) - in_layers - unread_weights + over,
        linear=multiplied,
        edges=edges,
        width=widest(text, "num_attention_heads") * head_width(text),
        kept=kept,
        linear_elsewhere=more + sum(weight.numel() for weight in beside),
        edges_elsewhere=more_edges + sum(sum(weight.shape) for weight in beside),
        beside=unread_weights,
    )


def _linear_beside(model: Any, parts: Iterable[nn.Module]) -> list[Tensor]:
    """Weights of the linear maps outside ``parts``, but the output layer's: adapters get there too."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    known = {module for part in parts for module in part.modules()} | {model.get_output_embeddings()}
    return [m.weight for m in model.modules() if isinstance(m, nn.Linear | Conv1D) and m not in known]


def _config_of(options: PlanOptions) -> PreTrainedConfig:
    from gram.modeling.opening import open_config
    from gram.modeling.precision import whole_model
    from gram.modeling.presets import find_preset, is_preset, preset_config
    from gram.modeling.shipped import find_place

    if is_preset(options.model):
        preset = find_preset(options.model)
        return preset_config(preset, preset.vocab_size, end=1, pad=0)
    place = whole_model(find_place(options.model, options.revision))
    return open_config(place, trust_remote_code=options.trust_remote_code)
