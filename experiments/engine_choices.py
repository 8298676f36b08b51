"""The measurements behind the choices of the tree engine, as listed in docs/decisions.md.

Parts, each of which can be run alone:
  losses    the sum of the cross-entropy over a vocabulary, forward and backward: ours (tree/heads.py),
            torch's linear_cross_entropy, and full logits; output layers of both shapes of the benchmark, fp32
  compile   scoring with torch.compile: norms and gated products, or the body around our attention; with the
            time to compile. Needs a C++ compiler
  shared    the shortest run of tokens that is shared (16, 8, 4, 2): scoring W1, W2 and W3, and training steps
            on the short rows of the demonstration
  demo      training on the demonstration's rows: the plain engine and the tree
  tied      a step of stage 2 with tied embeddings: the gradient of the label rows sparse, and whole
  profile   where the time of scoring and of training steps goes

One thread; process CPU seconds; the paths of a part take turns, and a ratio is given as median, lowest and
highest over rounds. The profiler alone counts wall time: run it where nothing else does. Models have random
weights; shapes, workloads and texts are those of ``gram bench``. ``--smoke`` shows in seconds that all runs,
and measures nothing.

Command: OMP_NUM_THREADS=1 python experiments/engine_choices.py [--parts losses profile ...] [--rounds 3]
Each part replaces its entry in experiments/results/engine_choices.json. All parts: about 12 minutes of one
core.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import AttentionInterface

from gram.bench import run, workloads
from gram.bench.measure import Machine, Timing, spread
from gram.bench.report import rounded
from gram.bench.shapes import QUICK, SHAPES, Shape, ShapeName, build, twin
from gram.bench.workloads import Sizes, Workload
from gram.cli.quiet import quiet_libraries
from gram.data.journal import atomic_write
from gram.data.world import World
from gram.demo.lab import LABEL_SMOOTHING, Lab
from gram.demo.recipe import FULL
from gram.modeling.loading import add_score_head
from gram.objectives.base import Objective, Sample
from gram.objectives.language import Language
from gram.objectives.preference import Judge
from gram.objectives.scalar import Scalar
from gram.rendering import Encoded
from gram.scoring.backend import TransformersBackend
from gram.tree import packed, trie
from gram.tree.attention import NAME, tree_attention
from gram.tree.engine import Engine
from gram.tree.heads import cross_entropy_sum
from gram.tree.padded import Plain
from gram.tree.support import choose_engine
from gram.types import Preference, ResponsePair

OUTPUT = Path("experiments/results/engine_choices.json")
RUNS = (16, 8, 4, 2)  # shortest shared runs to try
PAIRS = 4  # in a training step of the benchmark
DEMO_BATCH = 32
DEMO_BATCHES = 3


class Setting:
    """What the parts have in common."""

    def __init__(self, rounds: int, seed: int, smoke: bool) -> None:
        self.rounds, self.seed, self.smoke = rounds, seed, smoke
        self.machine = Machine("cpu")
        self.shapes: Mapping[ShapeName, Shape] = QUICK if smoke else SHAPES
        self.demo_batch = 6 if smoke else DEMO_BATCH
        plan = run.Plan(seed=seed, data=None)
        self.contests, self.data, self.renderer, _ = run.prepared(plan)

    @cached_property
    def workloads(self) -> dict[str, Workload]:
        sizes = Sizes(2, {3: 1}, {3: 1}) if self.smoke else Sizes(best_of={8: 1}, groups={8: 2})
        return {found.name: found for found in workloads.scoring(self.contests, sizes, self.seed)}

    @cached_property
    def best_of(self) -> list[Encoded]:
        """The prompts of W2."""
        return next(self.prompts(found) for name, found in self.workloads.items() if name.startswith("W2"))

    def prompts(self, workload: Workload) -> list[Encoded]:
        pairs = workload.pairs
        return self.renderer.judge([*pairs, *(pair.swapped() for pair in pairs)])

    def model(self, name: ShapeName) -> Any:
        return build(self.shapes[name], dtype=torch.float32, device="cpu", seed=self.seed)

    def stages(self, engine: Engine) -> dict[str, tuple[Objective[Any], list[Sample]]]:
        """The benchmark's training steps: objective and one batch."""
        pairs = workloads.independent_pairs(self.contests, 1 if self.smoke else PAIRS, self.seed)
        judge = Judge(self.renderer, label_smoothing=LABEL_SMOOTHING, engine=engine)
        language = Language(self.renderer, engine=engine)
        unlabeled = [ResponsePair(pair.prompt, pair.a, pair.b) for pair in pairs]
        return {
            "stage 2": (judge, judge.encode([Preference(pair, 1.0) for pair in pairs])),
            "stage 1": (language, language.encode(unlabeled)),
        }

    @cached_property
    def lab(self) -> Lab:
        needed = DEMO_BATCHES * self.demo_batch
        unlabeled = needed if self.smoke else FULL.unlabeled  # the tokenizer learns from these
        return Lab(World(self.seed), replace(FULL, unlabeled=unlabeled, labels=needed), self.seed)

    def in_turn(
        self, paths: Mapping[str, Callable[[], Any]], base: str
    ) -> tuple[dict[str, Any], dict[str, Timing]]:
        """Median seconds per path and its ratios to ``base``, as plain values; and the timings."""
        timings = self.machine.in_turn(paths, self.rounds)
        first = timings[base].seconds
        ratios = {name: spread(found.seconds, first) for name, found in timings.items() if name != base}
        return {
            "seconds": {name: found.median for name, found in timings.items()},
            f"ratio_to_{base}": ratios,
        }, timings


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
    prompts, labels = setting.best_of, setting.renderer.label_ids
    backends = {"eager": TransformersBackend(model)}
    first = {}
    # Dynamo would unroll our loop over nodes anew for every trie: the body is compiled around it.
    AttentionInterface.register(NAME, torch.compiler.disable(tree_attention))
    try:
        for name in ("pieces", "body"):
            other = twin(model)
            backends[name] = TransformersBackend(other)
            for module in _compilable(other, name):
                module.compile(dynamic=True)
            began, began_here = _with_children(), time.perf_counter()
            backends[name].next_logprobs(prompts, labels)
            first[name] = {
                "cpu_seconds": _with_children() - began,
                "wall_seconds": time.perf_counter() - began_here,
            }
        paths = {name: _asked(backend, prompts, labels) for name, backend in backends.items()}
        paths["eager"]()
        row, timings = setting.in_turn(paths, "eager")
    finally:
        AttentionInterface.register(NAME, tree_attention)
        torch.compiler.reset()
    eager = timings["eager"].result
    off = {name: float(abs(found.result - eager).max()) for name, found in timings.items() if name != "eager"}
    return row | {"prompts": len(prompts), "first_pass": first, "logprobs_off_by": off}


def _compilable(model: Any, name: str) -> list[nn.Module]:
    if name == "body":
        return [model.base_model]
    return [part for part in model.modules() if type(part).__name__.endswith(("RMSNorm", "MLP"))]


def _with_children() -> float:
    """CPU seconds of this process and of the compilers it has started and waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def shared(setting: Setting) -> dict[str, Any]:
    """Per workload and shortest shared run: seconds, and what the trie holds."""
    backend = TransformersBackend(setting.model("small"))
    found = {}
    for name, workload in setting.workloads.items():
        prompts = setting.prompts(workload)
        ask = _asked(backend, prompts, setting.renderer.label_ids)
        ask()
        row, _ = setting.in_turn({str(size): _sharing(size, ask) for size in RUNS}, "4")
        rows = [prompt.ids for prompt in prompts]
        found[name] = row | {"packed": {str(size): _packed(size, rows, backend) for size in RUNS}}
    tasks = _demo_tasks(setting, choose_engine(setting.lab.blank.model))
    for name in ("stage 1", "judge"):
        step = _demo_step(setting, *tasks[name])
        row, _ = setting.in_turn({str(size): _sharing(size, step) for size in RUNS}, "4")
        found[f"demonstration, {name}"] = row
    return found


def _asked(backend: TransformersBackend, prompts: list[Encoded], labels: Sequence[int]) -> Callable[[], Any]:
    return lambda: backend.next_logprobs(prompts, labels)


def _sharing(size: int, path: Callable[[], Any]) -> Callable[[], Any]:
    """``path`` with another shortest shared run."""

    def changed() -> Any:
        before = trie.SHORTEST_SHARED
        trie.SHORTEST_SHARED = size
        try:
            return path()
        finally:
            trie.SHORTEST_SHARED = before

    return changed


def _packed(size: int, rows: list[Any], backend: TransformersBackend) -> dict[str, int]:
    def count() -> dict[str, int]:
        packs = [[rows[index] for index in pack] for pack in trie.cut(rows, backend.token_budget)]
        tries = [trie.build(pack) for pack in packs]
        return {"tokens": sum(t.tokens for t in tries), "nodes": sum(len(t.nodes) for t in tries)}

    return _sharing(size, count)()


def demo(setting: Setting) -> dict[str, Any]:
    """Forward and backward of a batch of the demonstration: the plain engine, and the tree."""
    found = {}
    for name in ("stage 1", "judge", "scalar"):
        paths = {}
        for engine in ("plain", "tree"):
            kind = setting.lab.blank.model if name != "scalar" else _scorer(setting).model
            tasks = _demo_tasks(setting, Plain() if engine == "plain" else choose_engine(kind))
            paths[engine] = _demo_step(setting, *tasks[name])
        found[name] = setting.in_turn(paths, "tree")[0] | {"pairs": setting.demo_batch}
    return found


def _scorer(setting: Setting) -> Any:
    return add_score_head(setting.lab.blank, setting.seed)


def _demo_tasks(setting: Setting, engine: Engine) -> dict[str, tuple[Any, Objective[Any], Sequence[Any]]]:
    """Model, objective and examples of each training of the demonstration."""
    lab = setting.lab
    pairs = lab.world.unlabeled_pairs(lab.recipe.labels)
    body = lab.blank.model
    judge = Judge(lab.renderer, label_smoothing=LABEL_SMOOTHING, engine=engine)
    return {
        "stage 1": (body, Language(lab.renderer, engine=engine), pairs),
        "judge": (body, judge, lab.labels),
        "scalar": (_scorer(setting).model, Scalar(lab.renderer, engine=engine), lab.labels),
    }


def _demo_step(
    setting: Setting, model: Any, objective: Objective[Any], examples: Sequence[Any]
) -> Callable[[], float]:
    """Forward and backward of each batch; what runs once only is done. Returns seconds per batch."""
    samples = objective.encode(examples)
    size = setting.demo_batch
    batches = [samples[start : start + size] for start in range(0, len(samples), size)]

    def steps() -> float:
        model.train()
        began = setting.machine.clock()
        for batch in batches:
            _backward(model, objective, batch)
            model.zero_grad()
        return (setting.machine.clock() - began) / len(batches)

    steps()
    return steps


def _backward(model: Any, objective: Objective[Any], samples: Sequence[Sample]) -> None:
    batch = objective.collate(samples)
    (objective.loss_sum(model, batch).loss / objective.count(batch)).backward()


def label_rows(setting: Setting) -> dict[str, Any]:
    """Per shape: seconds and peak memory of a step of stage 2, both ways to a tied weight's gradient."""
    found = {}
    for name in setting.shapes:
        model = setting.model(name).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
        step = _step(model, *setting.stages(choose_engine(model, training=True))["stage 2"], optimizer)
        step()  # the optimizer makes its state
        row, timings = setting.in_turn({"sparse": step, "whole": _untied(step)}, "sparse")
        found[name] = row | {"memory_mb": {way: timing.memory for way, timing in timings.items()}}
    return found


def _untied(path: Callable[[], Any]) -> Callable[[], Any]:
    """``path`` as if no weights were tied."""

    def changed() -> Any:
        before = packed.tied
        packed.tied = lambda _: False
        try:
            return path()
        finally:
            packed.tied = before

    return changed


# --- Where the time goes ---

UPDATE = "clipping and optimizer"
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
        ask = _asked(TransformersBackend(model), setting.best_of, setting.renderer.label_ids)
        rows[f"{name}, scoring W2"] = _shares(setting, ask, vocabulary)
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
        for stage, (objective, samples) in setting.stages(choose_engine(model, training=True)).items():
            step = _step(model, objective, samples, optimizer)
            rows[f"{name}, {stage} step"] = _shares(setting, step, vocabulary)
    return rows


def _step(
    model: Any, objective: Objective[Any], samples: Sequence[Sample], optimizer: torch.optim.Optimizer
) -> Callable[[], None]:
    def step() -> None:
        _backward(model, objective, samples)
        with record_function(UPDATE):
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return step


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


PARTS = {
    "losses": losses,
    "compile": compiled,
    "shared": shared,
    "demo": demo,
    "tied": label_rows,
    "profile": profiled,
}


def cpu_name() -> str:
    """What the system calls its processor, and its widest vector instructions."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return f"{found[1] if found else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--smoke", action="store_true", help="tiny models, to see that it runs")
    parser.add_argument("--table", action="store_true", help="run nothing: print the profile on file")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.table:
        print(profile_table(json.loads(options.output.read_text())["profile"]["rows"]))
        return
    if options.smoke and options.output == OUTPUT:
        parser.error("--smoke measures nothing: name another --output")
    quiet_libraries()
    setting = Setting(options.rounds, options.seed, options.smoke)
    for part in options.parts:
        began = time.process_time()
        rows = PARTS[part](setting)
        entry = {
            "torch": torch.__version__,
            "cpu": cpu_name(),
            "seed": setting.seed,
            "rounds": setting.rounds,
            "data": setting.data,
            "cpu_seconds": time.process_time() - began,
            "rows": rows,
        }
        known = json.loads(options.output.read_text()) if options.output.exists() else {}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(options.output) as file:
            file.write(json.dumps(known | {part: rounded(entry)}, indent=1) + "\n")
        print(f"{part}: {json.dumps(rounded(rows))}", flush=True)
        if part == "profile":
            print(profile_table(rows))


if __name__ == "__main__":
    main()
