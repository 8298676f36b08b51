"""Where the time of scoring and of training steps goes, and the table of it.

Knows names of operations and shapes of tensors; knows no choice. The profiler counts wall time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import torch
from experiments.engine_choices.setting import UPDATE, Setting, asked, step
from torch.profiler import ProfilerActivity, profile, record_function

from gram.engine.choose import choose_engine
from gram.engine.runner import Runner

GROUPS = ("products", "attention", "element-wise", "copying", "vocabulary", UPDATE, "other")
_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}
_COPYING = {
    *("cat", "copy_", "index", "index_select", "gather", "index_put_", "_index_put_impl_", "scatter_add_"),
    *("index_add_", "embedding_dense_backward", "fill_", "zero_"),
}
_ELEMENT_WISE = {
    *("add", "add_", "sub", "sub_", "rsub", "mul", "mul_", "div", "div_", "neg", "pow", "rsqrt", "sqrt"),
    *("exp", "exp_", "log", "silu", "silu_backward", "sigmoid", "sum", "mean", "amax", "cos", "sin"),
    *("logsumexp", "_softmax", "_log_softmax", "where", "masked_fill", "masked_fill_"),
}


def group_of(name: str, shapes: Sequence[Any], above: set[str], vocabulary: int) -> str:
    """The group of an operation: its name, its inputs' shapes, and the names of those it runs under.

    ``vocabulary`` holds whatever touches a tensor with a row per word, outside of the optimizer: the output
    layer, and the gradient of the embedding.
    """
    if UPDATE in above | {name}:
        return UPDATE
    if any("scaled_dot_product" in one for one in above | {name}):
        return "attention"
    if any(isinstance(shape, list) and vocabulary in shape for shape in shapes):
        return "vocabulary"
    bare = name.removeprefix("aten::")
    for group, names in (
        ("products", _PRODUCTS),
        ("copying", _COPYING),
        ("element-wise", _ELEMENT_WISE),
    ):
        if bare in names:
            return group
    return "other"


def profiled(setting: Setting) -> dict[str, Any]:
    """Per shape and task: CPU seconds with the profiler on, and percent of the time in each group."""
    rows: dict[str, dict[str, Any]] = {}
    for name in setting.shapes:
        model = setting.model(name)
        vocabulary = setting.shapes[name].vocabulary
        ask = asked(Runner(model), setting.prompts_of("W2"), setting.renderer.label_ids)
        rows[f"{name}, scoring W2"] = _shares(setting, ask, vocabulary)
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
        for stage, (objective, samples) in setting.stages(choose_engine(model, training=True)).items():
            once = step(model, objective, samples, optimizer)
            rows[f"{name}, {stage} step"] = _shares(setting, once, vocabulary)
    return rows


def _shares(setting: Setting, path: Callable[[], Any], vocabulary: int) -> dict[str, Any]:
    path()
    rounds: list[dict[str, float]] = []
    seconds = []
    for _ in range(setting.rounds):
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as trace, record_function("all"):
            began = setting.machine.clock()
            path()
            seconds.append(setting.machine.clock() - began)
        sums: dict[str, float] = dict.fromkeys(GROUPS, 0.0)
        for event in trace.events() or ():
            above, parent = set(), event.cpu_parent
            while parent is not None:
                above.add(parent.name)
                parent = parent.cpu_parent
            sums[group_of(event.name, event.input_shapes, above, vocabulary)] += event.self_cpu_time_total
        total = sum(sums.values())
        rounds.append({group: 100 * value / total for group, value in sums.items()})
    return {
        "seconds": median(seconds),
        "percent": {
            group: {"median": median(shares), "low": min(shares), "high": max(shares)}
            for group in GROUPS
            if (shares := [one[group] for one in rounds])
        },
    }


def profile_table(rows: Mapping[str, Any]) -> str:
    """Percent of the time, medians, as Markdown."""
    lines = ["| | seconds | " + " | ".join(GROUPS) + " |", "|---" * (len(GROUPS) + 2) + "|"]
    for name, row in rows.items():
        cells = [f"{row['percent'][group]['median']:.0f}" for group in GROUPS]
        lines.append(f"| {name} | {row['seconds']:.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
