"""What all pairs of n answers cost: the sequence tree, the fan, a scalar model, and one prompt after another.

Claim (ours): the whole matrix of verdicts of a fan judge costs little more than scoring each answer once.

All ordered pairs of n made-up answers to one prompt (log-normal lengths), n = 2 to 32, in one run: all paths
in turn on the same texts, which are new in every round, so that nothing is kept from one to the next. Prompts
are rendered before the clock starts. One prompt after another is measured up to ``--most`` answers. Beside
the time: tokens that went through the body, the growth of memory, and the ideal: the useful arithmetic
(products of the body and attention), which a perfect machine would need time for.

Cost: half an hour of one core with the shape real. Command: python -m experiments.fan_cost [--shape real]
[--dtype fp32] [--device cpu] [--n 2 4 8 16 32] [--rounds 3] [--scale 1.0] [--looking 2]
[--paths fan scalar] [--quick]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from torch import nn

from gram.bench.arithmetic import Work, unique
from gram.bench.measure import Machine
from gram.bench.shapes import DTYPES, QUICK, SHAPES, build, tokenizer_for, twin
from gram.bench.workloads import made_up
from gram.engine.base import TokenRow
from gram.engine.runner import Runner
from gram.engine.segments import Segment, forked
from gram.files import atomic_write
from gram.modeling.quiet import quiet_libraries
from gram.plots import MARKERS, PALETTE, canvas, save
from gram.rendering import FanRenderer, Renderer, load_template
from gram.rendering.fan import LOOKING
from gram.types import Contest, Pair

RESULTS = Path("experiments/results/fan_cost.json")
ONE_TOKEN = Path("experiments/results/fan_cost_one_token.json")
"""Of --looking 1 --most 16."""
PICTURE = Path("docs/images/fan-cost.png")
CONTEXT = 4096
NAMES = {
    "one by one": "one prompt after another",
    "tree": "sequence, shared beginnings once",
    "fan": "fan",
    "scalar": "scalar model",
}


class Paths:
    """The same body under each path.

    Args:
        most: most answers for one prompt after another.
        names: of the paths that are timed.
    """

    def __init__(
        self, model: Any, tokenizer: Any, template: str, most: int, names: Sequence[str], looking: int
    ) -> None:
        text = load_template(template)
        self._renderers = {
            "tree": Renderer(tokenizer, text, CONTEXT),
            "fan": FanRenderer(tokenizer, text, CONTEXT, looking=looking),
        }
        models = {"one by one": twin(model), "tree": model, "fan": twin(model)}
        models["scalar"] = twin(model, classifier=True)
        self._runners = {
            "one by one": Runner(models["one by one"], engine="plain", token_budget=1),
            "tree": Runner(models["tree"]),
            "fan": Runner(models["fan"], layout="fan"),
            "scalar": Runner(models["scalar"]),
        }
        self._work, self._most, self._names = Work.of(model), most, names
        self._read = {name: _counted(other) for name, other in models.items()}

    def of(self, contest: Contest) -> dict[str, Callable[[], Any]]:
        """What is timed, by path; each returns tokens read and useful operations."""
        rows = self.rows(contest)
        labels = self._renderers["tree"].label_ids
        paths = {}
        for name, runner in self._runners.items():
            if name not in self._names or (name == "one by one" and len(contest.responses) > self._most):
                continue

            def path(name: str = name, runner: Runner = runner) -> dict[str, float]:
                self._read[name].clear()
                if name == "scalar":
                    runner.scores(rows[name])
                else:
                    runner.next_logprobs(rows[name], labels)
                return {"tokens": sum(self._read[name]), "flops": self._flops(rows[name], name)}

            paths[name] = path
        return paths

    def rows(self, contest: Contest) -> dict[str, list[TokenRow]]:
        """The rows of each path; of the scalar model the prompt and each answer, as the fan reads them."""
        pairs = [Pair(contest.prompt, a, b) for a, b in permutations(contest.responses, 2)]
        sequence = [TokenRow(item.ids) for item in self._renderers["tree"].judge(pairs)]
        items = self._renderers["fan"].judge(pairs)
        fan = [forked(TokenRow(item.ids), item.branches, item.looking) for item in items]
        answers = {tuple(item.ids[: item.branches[0][1]]) for item in items if item.branches is not None}
        return {
            "one by one": sequence,
            "tree": sequence,
            "fan": fan,
            "scalar": [TokenRow(list(ids)) for ids in sorted(answers)],
        }

    def _flops(self, rows: Sequence[TokenRow], name: str) -> float:
        work, segments = self._work, [row for row in rows if isinstance(row, Segment)]
        if name == "one by one":
            return float(sum(work.flops([row.ids]) for row in rows))
        if not segments:
            return float(work.flops([row.ids for row in rows]))
        tokens, seen = unique([part.row for segment in segments for part in segment.parts])
        looking = sum(len(segment.ids) for segment in segments)
        seen += sum(len(segment.ids) * segment.length for segment in segments)
        return float(2 * work.body * (tokens + looking) + work.pair * seen)


def _counted(model: Any) -> list[int]:
    """Filled with the tokens of every forward pass."""
    sizes: list[int] = []

    def note(module: nn.Module, values: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        sizes.append(keywords["input_ids"].numel() if "input_ids" in keywords else values[0].numel())

    model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    return sizes


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that the page shows."""
    shape = (QUICK if options.quick else SHAPES)[options.shape]
    machine = Machine(options.device)
    largest = max(options.n)
    contests = made_up(options.rounds + 1, 0, candidates=largest, scale=options.scale)
    tokenizer = tokenizer_for([text for contest in contests for text in contest.responses])
    model = build(shape, dtype=DTYPES[options.dtype], device=options.device, seed=0)
    paths = Paths(model, tokenizer, options.template, options.most, options.paths, options.looking)
    warm = contests.pop()
    machine.in_turn(paths.of(Contest(warm.prompt, warm.responses[:2])), 1)
    results = []
    for n in options.n:
        runs: dict[str, list[Any]] = {}
        for number, contest in enumerate(contests):
            # Texts of earlier sizes are read already: another prompt voids what was kept.
            prompt = f"{n} {number} {contest.prompt[0].content}"
            for name, one in machine.in_turn(paths.of(Contest(prompt, contest.responses[:n])), 1).items():
                runs.setdefault(name, []).append(one)
        found = {
            name: {
                "seconds": [one.seconds[0] for one in ones],
                "tokens": median(one.result["tokens"] for one in ones),
                "gflop": median(one.result["flops"] for one in ones) / 1e9,
                "memory_mb": max(one.memory or 0.0 for one in ones),
            }
            for name, ones in runs.items()
        }
        results.append({"n": n, "paths": found})
        print(json.dumps(results[-1]), flush=True)
    words = [len(tokenizer(text)["input_ids"]) for contest in contests for text in contest.responses]
    return {
        "shape": options.shape,
        "quick": options.quick,
        "parameters": model.num_parameters(),
        "dtype": options.dtype,
        "device": options.device,
        "unit": machine.unit,
        "template": options.template,
        "looking": options.looking,
        "answer_tokens": float(np.mean(words)),
        "rounds": options.rounds,
        "results": results,
    }


def ratios(row: dict[str, Any], name: str, base: str, key: str = "seconds") -> list[float]:
    """How many times as much a path takes as another, round by round."""
    one, two = row["paths"][name][key], row["paths"][base][key]
    return [a / b for a, b in zip(one, two, strict=True)] if isinstance(one, list) else [one / two]


def cost_table(costs: dict[str, Any]) -> str:
    """Seconds, tokens and memory by n, and the two targets with the ideal beside them, as Markdown."""
    lines = [
        f"Shape {costs['shape']}{' (quick)' if costs['quick'] else ''}, {costs['parameters'] / 1e6:.0f}M "
        f"parameters, {costs['dtype']}, {costs['device']}, {costs['unit']}, answers of "
        f"{costs['answer_tokens']:.0f} tokens on average, template {costs['template']}, "
        f"{_number_of(costs['looking'], 'looking token')}, {'median of ' if costs['rounds'] > 1 else ''}"
        f"{_number_of(costs['rounds'], 'round')}.",
        "",
        "| n | path | seconds | tokens | memory, MB | times the scalar model | of it by arithmetic |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in costs["results"]:
        for name in NAMES:
            if name not in row["paths"]:
                continue
            found, times = row["paths"][name], ratios(row, name, "scalar")
            lines.append(
                f"| {row['n']} | {NAMES[name]} | {median(found['seconds']):.2f} | {found['tokens']:.0f} | "
                f"{found['memory_mb']:.0f} | {median(times):.2f} ({min(times):.2f} to {max(times):.2f}) | "
                f"{ratios(row, name, 'scalar', 'gflop')[0]:.2f} |"
            )
    return "\n".join(lines)


def _number_of(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def draw(costs: dict[str, Any]) -> None:
    """Seconds over n, and as thin lines what the arithmetic alone would take at the scalar model's pace."""
    figure, ax = canvas()
    for number, (name, title) in enumerate(NAMES.items()):
        rows = [row for row in costs["results"] if name in row["paths"]]
        if not rows:
            continue
        n, colour = [row["n"] for row in rows], PALETTE[number]
        seconds = [median(row["paths"][name]["seconds"]) for row in rows]
        ax.plot(n, seconds, color=colour, marker=MARKERS[number], linewidth=1.8, label=title)
        ideal = [
            median(row["paths"]["scalar"]["seconds"]) * ratios(row, name, "scalar", "gflop")[0]
            for row in rows
        ]
        ax.plot(n, ideal, color=colour, linewidth=0.8, linestyle=":")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks([row["n"] for row in costs["results"]], [str(row["n"]) for row in costs["results"]])
    ax.set_xlabel("answers to one prompt")
    ax.set_ylabel(costs["unit"])
    ax.legend(frameon=False, fontsize=9)
    save(figure, PICTURE)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=list(SHAPES), default="real")
    parser.add_argument("--dtype", choices=list(DTYPES), default="fp32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--template", default="default")
    parser.add_argument("--n", type=int, nargs="+", default=[2, 4, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the lengths of prompt and answers")
    parser.add_argument("--most", type=int, default=8, help="answers for one prompt after another")
    parser.add_argument("--paths", nargs="+", choices=list(NAMES), default=list(NAMES))
    parser.add_argument("--looking", type=int, default=LOOKING, help="tokens that look at both answers")
    parser.add_argument("--quick", action="store_true", help="models that are too small to tell anything")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    quiet_libraries()
    costs = measure(options)
    with atomic_write(options.output) as file:
        file.write(json.dumps(costs, indent=2) + "\n")


if __name__ == "__main__":
    main()
