"""Where the time of a path goes, by kind of operation: what is left to gain, and by what.

Shares of the time that ``torch.profiler`` gives to operations themselves, without those they call: of a CPU
its own time, of a GPU the time of the kernels that an operation has started. Python between operations does
not count. Knows names of operations; knows no path.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.profiler import ProfilerActivity, profile

from gram.bench.tables import KINDS

# Parts of names: the kernels of attention have long names that differ between devices and versions.
_ATTENTION = ("scaled_dot_product", "flash_attn", "flash_attention", "efficient_attention", "flex", "varlen")

# Whole names, without "aten::" and the underscores around them. In these models batched products and softmax
# stand inside attention only: linear layers are mm and addmm, and label losses are a log-softmax.
_NAMES: Mapping[str, str] = {
    "products": "mm addmm linear mkldnn_linear linear_pointwise mv addmv",
    "attention": "bmm baddbmm softmax safe_softmax softmax_backward_data triton_tem_fused",
    "elementwise": """
        abs add addcdiv addcmul amax amin bitwise_and bitwise_not bitwise_or clamp clamp_min cos div eq exp
        foreach_add foreach_mul foreach_norm fused_adamw fused_rms_norm fused_rms_norm_backward ge gelu
        gelu_backward gt le lerp linalg_vector_norm log log_sigmoid_forward log_softmax
        log_softmax_backward_data logsumexp lt masked_fill max maximum mean min minimum mul
        native_layer_norm native_layer_norm_backward ne neg nll_loss_backward nll_loss_forward norm pow
        reciprocal rms_norm rsqrt rsub sigmoid sigmoid_backward silu silu_backward sin sqrt sub sum tanh
        where
    """,
    "copies": """
        cat clone constant_pad_nd copy embedding embedding_dense_backward fill flip gather index index_add
        index_copy index_put index_put_impl index_select masked_select reorder_linear_weight repeat
        repeat_interleave roll scatter scatter_add slice_backward stack to_copy zero
    """,
}
_KIND_OF = {name: kind for kind, names in _NAMES.items() for name in names.split()}


def kind_of(name: str) -> str:
    """The kind of an operation by its name in a profile.

    Example:
        >>> [kind_of(name) for name in ("aten::addmm", "aten::_softmax", "aten::mul_", "aten::view")]
        ['products', 'attention', 'elementwise', 'rest']
    """
    if any(part in name for part in _ATTENTION):
        return "attention"
    return _KIND_OF.get(name.rpartition("::")[2].strip("_"), "rest")


def shares(path: Callable[[], Any], device: str) -> dict[str, float]:
    """The share of each kind in the time of one run of ``path``.

    They add up to 1; all are 0 where a GPU does not tell the times of its kernels.
    """
    kinds: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    for name, time in times(path, device).items():
        kinds[kind_of(name)] += time
    total = sum(kinds.values()) or 1.0
    return {kind: time / total for kind, time in kinds.items()}


def times(path: Callable[[], Any], device: str) -> dict[str, float]:
    """Microseconds of each operation itself, by name, over one run of ``path``."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    trace = profile(activities=activities)
    with _muted():
        trace.start()
    try:
        path()
    finally:
        with _muted():
            trace.stop()
    # Operations only: on a GPU the kernels stand in the list once more, under names of their own.
    operations = [event for event in trace.key_averages() if event.device_type.name == "CPU"]
    return {
        event.key: event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        for event in operations
    }


@contextmanager
def _muted() -> Iterator[None]:
    """Keeps what libraries print past Python off stderr: the profiler tells of its start and its end."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
