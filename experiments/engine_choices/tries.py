"""Choices about tries: the shortest run that is shared, the size of a pack, the queries attended to together.

Knows how prompts are packed; does not know what a layer computes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from experiments.engine_choices.demonstration import passes, trainings
from experiments.engine_choices.setting import Setting, asked, off_by, switched

from gram.engine import attention, trie
from gram.engine.choose import choose_engine
from gram.engine.runner import Runner

RUNS = (16, 8, 4, 2)  # shortest shared runs to try
BUDGETS = (4096, 2048, 1024, 512)  # tokens of a pack to try
BLOCK = "_BLOCK"  # in the attention over tries: how many queries of a long node go together


def shared(setting: Setting) -> dict[str, Any]:
    """Per workload and shortest shared run: seconds, and what the trie holds."""
    backend = Runner(setting.model("small"))
    found = {}
    for name, workload in setting.workloads.items():
        prompts = setting.prompts(workload)
        ask = asked(backend, prompts, setting.renderer.label_ids)
        ask()
        row, _ = setting.in_turn({str(size): _sharing(size, ask) for size in RUNS}, "4")
        rows = [prompt.ids for prompt in prompts]
        found[name] = row | {"packed": {str(size): _packed(size, rows, backend) for size in RUNS}}
    known = trainings(setting, choose_engine(setting.lab.blank.model))
    for name in ("stage 1", "judge"):
        both_ways = passes(setting, *known[name])
        row, _ = setting.in_turn({str(size): _sharing(size, both_ways) for size in RUNS}, "4")
        found[f"demonstration, {name}"] = row
    return found


def _sharing(size: int, path: Callable[[], Any]) -> Callable[[], Any]:
    """``path`` with another shortest shared run."""
    return switched(trie, "SHORTEST_SHARED", size, path)


def _packed(size: int, rows: Sequence[trie.Ids], backend: Runner) -> dict[str, int]:
    tries = _sharing(size, lambda: _tries(rows, backend.token_budget))()
    return {"tokens": sum(t.tokens for t in tries), "nodes": sum(len(t.nodes) for t in tries)}


def _tries(rows: Sequence[trie.Ids], budget: int) -> list[trie.Trie]:
    """One per pack, as scoring builds them."""
    return [trie.build([rows[index] for index in pack]) for pack in trie.cut(rows, budget)]


def packs(setting: Setting) -> dict[str, Any]:
    """W1 on ``small``, per token budget: seconds, packs, and the tokens that they hold."""
    model, prompts = setting.model("small"), setting.prompts_of("W1")
    backends = {"default": Runner(model)}
    backends |= {str(budget): Runner(model, token_budget=budget) for budget in BUDGETS}
    labels = setting.renderer.label_ids
    paths = {name: asked(backend, prompts, labels) for name, backend in backends.items()}
    paths["default"]()
    row, timings = setting.in_turn(paths, "default")
    rows = [prompt.ids for prompt in prompts]
    tries = {name: _tries(rows, backend.token_budget) for name, backend in backends.items()}
    return row | {
        "prompts": len(prompts),
        "budget": {name: backend.token_budget for name, backend in backends.items()},
        "packs": {name: len(found) for name, found in tries.items()},
        "tokens": {name: sum(t.tokens for t in found) for name, found in tries.items()},
        "logprobs_off_by": off_by(timings, "default"),
    }


def blocks(setting: Setting) -> dict[str, Any]:
    """Per shape, W1 and W2: seconds in blocks and with all queries of a node in one; long nodes."""
    found = {}
    for shape in setting.shapes:
        backend = Runner(setting.model(shape))
        for kind in ("W1", "W2"):
            prompts = setting.prompts_of(kind)
            ask = asked(backend, prompts, setting.renderer.label_ids)
            ask()
            paths = {"blocks": ask, "one": switched(attention, BLOCK, sys.maxsize, ask)}
            row, timings = setting.in_turn(paths, "blocks")
            tries = _tries([prompt.ids for prompt in prompts], backend.token_budget)
            sizes = [node.size for one in tries for node in one.nodes]
            found[f"{shape}, {kind}"] = row | {
                "prompts": len(prompts),
                "block": getattr(attention, BLOCK),
                "nodes": len(sizes),
                "longer_than_a_block": sum(size > getattr(attention, BLOCK) for size in sizes),
                "logprobs_off_by": off_by(timings, "blocks"),
            }
    return found
