"""Choices about the model's layers: the sum of the cross-entropy, compiled pieces, tied rows of labels.

Knows the output layer and modules; does not know how prompts are packed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from typing import Any

import torch
from experiments.engine_choices.setting import Setting, asked, off_by, step, switched, token_rows
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from gram.bench.shapes import Shape, twin
from gram.engine import tree
from gram.engine.attention import NAME, tree_attention
from gram.engine.choose import choose_engine
from gram.engine.heads import cross_entropy_sum
from gram.engine.runner import Runner


def losses(setting: Setting) -> dict[str, Any]:
    """Per shape: seconds, peak memory, and how far torch's and full logits are from ours."""
    return {name: _losses(setting, shape) for name, shape in setting.shapes.items()} | {
        "bf16": _low_precision(setting)
    }


def _losses(setting: Setting, shape: Shape) -> dict[str, Any]:
    tokens = 64 if setting.smoke else 1024
    layer, hidden, targets = _layer(shape.hidden, shape.vocabulary, tokens, setting.seed)

    def path(loss: Callable[[Any, Tensor, Tensor], Tensor]) -> Callable[[], tuple[Tensor, Tensor]]:
        def both_ways() -> tuple[Tensor, Tensor]:
            value = loss(layer, hidden, targets)
            value.backward()
            gradient, hidden.grad, layer.weight.grad = hidden.grad, None, None
            assert gradient is not None
            return value.detach(), gradient

        return both_ways

    row, timings = setting.in_turn({name: path(loss) for name, loss in LOSSES.items()}, "ours")
    loss, gradient = timings["full"].result
    others = {name: found.result for name, found in timings.items() if name != "full"}
    return row | {
        "tokens": tokens,
        "hidden": shape.hidden,
        "vocabulary": shape.vocabulary,
        "memory_mb": {name: found.memory for name, found in timings.items()},
        "loss_off_by": {name: float((found[0] - loss).abs() / loss) for name, found in others.items()},
        "gradient_off_by": {
            name: float((found[1] - gradient).abs().max() / gradient.abs().max())
            for name, found in others.items()
        },
    }


def _low_precision(setting: Setting) -> dict[str, Any]:
    """The sums in bf16, beside full logits in fp32 from the same bf16 values."""
    layer, hidden, targets = _layer(384, 512 if setting.smoke else 8192, 1000, setting.seed)
    layer, hidden = layer.bfloat16(), hidden.detach().bfloat16().requires_grad_()
    found = {name: loss(layer, hidden, targets) for name, loss in LOSSES.items() if name != "full"}
    exact = functional.cross_entropy(hidden.float() @ layer.weight.float().t(), targets, reduction="sum")
    return {
        "sum": {name: value.item() for name, value in found.items()} | {"full, fp32": exact.item()},
        "dtype": {name: str(value.dtype) for name, value in found.items()},
    }


def _layer(hidden: int, vocabulary: int, tokens: int, seed: int) -> tuple[nn.Linear, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    layer = nn.Linear(hidden, vocabulary, bias=False)
    with torch.no_grad():
        layer.weight.normal_(std=hidden**-0.5, generator=draw)
    states = torch.randn(tokens, hidden, generator=draw).requires_grad_()
    return layer, states, torch.randint(vocabulary, (tokens,), generator=draw)


def _torchs(layer: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    chunks: Any = nn.LinearCrossEntropyOptions()
    return functional.linear_cross_entropy(hidden, layer.weight, targets, reduction="sum", options=chunks)


def _full(layer: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(layer(hidden), targets, reduction="sum")


LOSSES = {"ours": cross_entropy_sum, "torch": _torchs, "full": _full}


def compiled(setting: Setting) -> dict[str, Any]:
    """W2 on ``small``: eager, pieces compiled, body compiled; the first pass compiles and is kept apart."""
    if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        return {"skipped": "no C++ compiler is at hand"}
    import torch._inductor.config as inductor

    inductor.compile_threads = 1
    inductor.force_disable_caches = True  # an earlier run must not have compiled for this one
    model = setting.model("small")
    prompts, labels = setting.prompts_of("W2"), setting.renderer.label_ids
    backends = {"eager": Runner(model)}
    first = {}
    # Dynamo would unroll our loop over nodes anew for every trie: the body is compiled around it.
    AttentionInterface.register(NAME, torch.compiler.disable(tree_attention))
    try:
        for name in ("pieces", "body"):
            other = twin(model)
            backends[name] = Runner(other)
            for module in _compilable(other, name):
                module.compile(dynamic=True)
            began, began_here = _with_children(), time.perf_counter()
            backends[name].next_logprobs(token_rows(prompts), labels)
            first[name] = {
                "cpu_seconds": _with_children() - began,
                "wall_seconds": time.perf_counter() - began_here,
            }
        paths = {name: asked(backend, prompts, labels) for name, backend in backends.items()}
        paths["eager"]()
        row, timings = setting.in_turn(paths, "eager")
    finally:
        AttentionInterface.register(NAME, tree_attention)
        torch.compiler.reset()
    found = {"prompts": len(prompts), "first_pass": first, "logprobs_off_by": off_by(timings, "eager")}
    return row | found


def _compilable(model: Any, name: str) -> list[nn.Module]:
    if name == "body":
        return [model.base_model]
    return [part for part in model.modules() if type(part).__name__.endswith(("RMSNorm", "MLP"))]


def _with_children() -> float:
    """CPU seconds of this process and of the compilers it has started and waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def label_rows(setting: Setting) -> dict[str, Any]:
    """Per shape: seconds and peak memory of a step of stage 2, both ways to a tied weight's gradient."""
    found = {}
    for name in setting.shapes:
        model = setting.model(name).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
        once = step(model, *setting.stages(choose_engine(model, training=True))["stage 2"], optimizer)
        once()  # the optimizer makes its state
        whole = switched(tree, "tied", lambda _: False, once)  # as if no weights were tied
        row, timings = setting.in_turn({"sparse": once, "whole": whole}, "sparse")
        found[name] = row | {"memory_mb": {way: timing.memory for way, timing in timings.items()}}
    return found
